// Pieces of the administrator's pages.

import { sentence } from "../account.js";
import { make } from "../dom.js";
import { moment, t } from "../i18n.js";

export const ROLES = ["technician", "radiologist", "researcher", "administrator", "service"];

/** The way back to the list. */
export const back = () => make("a.back", { href: "/", "data-link": true }, `← ${t("back")}`);

/** A moment, or that there was none. */
export const when = (iso) => (iso ? make("time", { datetime: iso }, moment(iso)) : t("never"));

export const rolesInWords = (roles) => roles.map((role) => t(`role.${role}`)).join(", ") || t("no_role");

/** A table that is scrolled by itself where it is wider than the page. */
export function table(caption, heads, rows) {
  // On a phone a row is a block, and each value stands with its column's head.
  for (const row of rows) {
    [...row.children].forEach((cell, at) => {
      if (cell.tagName === "TD" && !cell.querySelector("button:not(.link)")) cell.dataset.head = heads[at];
    });
  }
  return make("div.scrolled", { tabindex: 0, role: "region", "aria-label": caption }, make("table", {},
    make("caption", {}, caption),
    make("thead", {}, make("tr", {}, heads.map((head) => make("th", { scope: "col" }, head)))),
    make("tbody", {}, rows)));
}

/** Boxes of roles; `chosen()` gives those that are ticked. */
export function roleBoxes(roles, given) {
  const boxes = roles.map((role) => make("input", { type: "checkbox", value: role, checked: given.includes(role) }));
  const element = make("fieldset.roles", {}, make("legend", {}, t("roles")),
    boxes.map((box) => make("label", {}, box, make("span", {}, t(`role.${box.value}`)))));
  return { element, chosen: () => boxes.filter((box) => box.checked).map((box) => box.value) };
}

/**
 * A dialog with a form.
 * @param {string} title
 * @param {Node[]} fields
 * @param {string} word what its button says
 * @param {() => Promise<void>} act what is done; an error is said, and the dialog stays
 */
export function formDialog(title, fields, word, act) {
  const problem = make("p.problem", { role: "alert" });
  const button = make("button.primary", { type: "submit" }, word);
  const dialog = make("dialog.card", { "aria-label": title, onclose: () => dialog.remove() },
    make("h1", {}, title),
    make("form.credentials", {
      onsubmit: async (event) => {
        event.preventDefault();
        button.disabled = true;
        try {
          await act();
          dialog.close();
        } catch (error) {
          problem.textContent = error.code === "NAME_TAKEN" ? t("name_taken") : sentence(error);
        } finally {
          button.disabled = false;
        }
      },
    }, fields, problem, make("div.buttons", {},
      make("button", { type: "button", onclick: () => dialog.close() }, t("cancel")), button)));
  document.body.append(dialog);
  dialog.showModal();
}

/** Show a secret, this once. */
export function secretDialog(title, meaning, secret) {
  const dialog = make("dialog.card", { "aria-label": title, onclose: () => dialog.remove() },
    make("h1", {}, title), make("p", {}, meaning), make("code.secret", { tabindex: 0 }, secret),
    make("div.buttons", {}, make("button.primary", { type: "button", onclick: () => dialog.close() }, t("noted"))));
  document.body.append(dialog);
  dialog.showModal();
}
