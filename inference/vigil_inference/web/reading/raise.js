// Raising a study's priority by hand, and who did so and why.

import { make, send } from "../dom.js";
import { moment, t } from "../i18n.js";

const RANK = ["NOT_ANALYSED", "ROUTINE", "URGENT", "CRITICAL"];

/** The priorities above the study's own. */
export const higher = (priority) => ["URGENT", "CRITICAL"].filter((one) => RANK.indexOf(one) > RANK.indexOf(priority));

/** One line: raised by whom, to what, when and because of what. */
export const raisedLine = (one) => make("p.raised", {}, t("reading.raised", {
  who: one.raised_by_name || one.raised_by, priority: t(`priority.${one.priority}`), when: moment(one.raised_at),
}), " ", make("q", {}, one.reason));

/** Ask for a priority and a reason, and raise; `done` gets the readings that were answered. */
export function raiseDialog(study, done) {
  const id = identity();
  const problem = make("p.alert", { role: "alert", hidden: true });
  const choices = make("select", { "aria-label": t("priority") },
    higher(study.priority).reverse().map((one) => make("option", { value: one }, t(`priority.${one}`))));
  const reason = make("textarea", { required: true, rows: 3, maxlength: 4000, id: "raise-reason" });
  const dialog = make("dialog.raise", { "aria-labelledby": "raise-title" },
    make("form", {
      onsubmit: async (event) => {
        event.preventDefault();
        try {
          const path = `/api/studies/${encodeURIComponent(study.study_instance_uid)}/priority`;
          done(await send("POST", path, { id, priority: choices.value, reason: reason.value }));
          dialog.close();
        } catch (error) {
          problem.hidden = false;
          problem.textContent = t("reading.not_raised", { code: error.code || "NETWORK" });
        }
      },
    },
    make("h2", { id: "raise-title" }, t("reading.raise")),
    make("p.quiet", {}, t("reading.raise_meaning")),
    choices,
    make("label", { for: "raise-reason" }, t("reading.reason")), reason, problem,
    make("div.acts", {},
      make("button.strong", {}, t("reading.raise")),
      make("button", { type: "button", onclick: () => dialog.close() }, t("reading.cancel")))));
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
  reason.focus();
}

/** A random UUID (RFC 9562, version 4); the browser makes them itself on secure pages only. */
export function identity() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
}
