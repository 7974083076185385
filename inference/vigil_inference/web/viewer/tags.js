// The DICOM attributes of a picture, in a dialog, with a field to find one.

import { ask, make, picturePath } from "../dom.js";
import { refusal, t } from "../i18n.js";

/** Show them; the focus goes back to where it was when the dialog is closed. */
export async function showTags(study, instance) {
  const body = make("div.tags-body", {}, make("p.quiet", {}, t("loading")));
  const search = make("input", { type: "search", placeholder: t("tags.find"), "aria-label": t("tags.find"), autofocus: true });
  const dialog = make("dialog.tags", { "aria-labelledby": "tags-title" },
    make("form", { method: "dialog" }, make("h2", { id: "tags-title" }, t("tags.title")), search,
      make("button", { "aria-label": t("close") }, "×")),
    body);
  document.body.append(dialog);
  dialog.addEventListener("close", () => dialog.remove());
  dialog.showModal();
  try {
    const tags = await ask(picturePath(study, instance.sop_instance_uid, "tags"));
    const rows = tags.map((tag) => make("tr", { "data-level": tag.level },
      make("td", {}, make("code", {}, tag.tag)), make("td", {}, tag.name || t("tags.private")),
      make("td", {}, tag.vr), make("td", {}, tag.value)));
    for (const row of rows) row.style.setProperty("--level", row.dataset.level);
    body.replaceChildren(make("table", {}, make("thead", {}, make("tr", {},
      ["tag", "name", "vr", "value"].map((column) => make("th", { scope: "col" }, t(`tags.${column}`))))),
    make("tbody", {}, rows)));
    body.tabIndex = 0;
    body.setAttribute("role", "region");
    body.setAttribute("aria-label", t("tags.title"));
    search.addEventListener("input", () => {
      const wanted = search.value.trim().toLowerCase();
      for (const row of rows) row.hidden = !row.textContent.toLowerCase().includes(wanted);
    });
  } catch (error) {
    body.replaceChildren(make("p.alert", { role: "alert" },
      t(`depth.${error.code}`, {}, true) ?? refusal(error.code, error.message)));
  }
}
