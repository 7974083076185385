// Keys: what they do, and the list of them that `?` shows.

import { make } from "../dom.js";
import { t } from "../i18n.js";

const STORED = "vigil-letter-keys";

/** Whether keys of a single character do something: who dictates, or trembles, switches them off. */
const lettersAreOn = () => localStorage.getItem(STORED) !== "off"; // WCAG 2.1.4

function setLetters(areOn) {
  if (areOn) localStorage.removeItem(STORED);
  else localStorage.setItem(STORED, "off");
  document.documentElement.dataset.letters = areOn ? "on" : "off";
}
setLetters(lettersAreOn());

/**
 * @typedef {object} Binding
 * @property {string[]} keys as KeyboardEvent.key says them, "Shift+ArrowUp" with its modifier
 * @property {string[]} [shown] how the list writes them
 * @property {string} say the key of its words
 * @property {(event: KeyboardEvent) => (boolean|void)} run false: it was not for us after all
 * @property {() => boolean} [when] whether it is offered
 */

/**
 * Listen for keys while a view is open.
 * @param {{title: string, bindings: Binding[]}[]} groups
 * @returns {{help: () => void, close: () => void}}
 */
export function listenForKeys(groups) {
  let dialog = null;
  const help = () => {
    dialog?.remove();
    dialog = helpDialog(groups);
    document.body.append(dialog);
    dialog.showModal();
    dialog.addEventListener("close", () => dialog.remove());
  };
  const onKey = (event) => {
    if (document.querySelector("dialog[open]")) {
      // It closes the dialog, and must not leave the study as well.
      if (event.key === "Escape") event.stopImmediatePropagation();
      return;
    }
    if (event.ctrlKey || event.metaKey || event.altKey || isForAnother(event)) return;
    const name = nameOf(event);
    if (name.length === 1 && name !== " " && !lettersAreOn()) return;
    if (name === "?") {
      event.preventDefault();
      help();
      return;
    }
    for (const { bindings } of groups) {
      for (const binding of bindings) {
        if (!binding.keys.includes(name) || binding.when?.() === false) continue;
        if (binding.run(event) === false) continue;
        event.preventDefault();
        event.stopImmediatePropagation();
        return;
      }
    }
  };
  // Before the page's own listener, for which Escape leaves the study.
  addEventListener("keydown", onKey, { capture: true });
  return {
    help,
    close() {
      removeEventListener("keydown", onKey, { capture: true });
      dialog?.remove();
    },
  };
}

function nameOf(event) {
  const shifted = event.shiftKey && (event.key.length > 1);
  return `${shifted ? "Shift+" : ""}${event.key}`;
}

/** Whether a key is meant for what has the focus: a field, a list, a button. */
function isForAnother(event) {
  const { target } = event;
  if (!(target instanceof Element)) return false;
  if (target.closest("textarea, select, [contenteditable], input:not([type=range], [type=checkbox], [type=radio])")) return true;
  const steers = event.key.startsWith("Arrow") || ["Enter", " ", "Home", "End"].includes(event.key);
  return steers && target.closest("button, a, input, summary, [role=tab]") !== null;
}

function helpDialog(groups) {
  const dialog = make("dialog.help", { "aria-labelledby": "help-title" },
    make("form", { method: "dialog" }, make("h2", { id: "help-title" }, t("keys")),
      make("button", { "aria-label": t("close") }, "×")),
    make("label.letters", {},
      make("input", {
        type: "checkbox", checked: lettersAreOn(), "aria-describedby": "letters-meaning",
        onchange: (event) => setLetters(event.target.checked),
      }), make("span", {}, t("keys_on")), make("small", { id: "letters-meaning" }, t("keys_on_meaning"))),
    make("div.help-groups", { tabindex: 0, role: "region", "aria-label": t("keys") }, groups.map(({ title, bindings }) => make("section", {}, make("h3", {}, t(title)),
      make("dl", {}, bindings.filter((one) => one.when?.() !== false).map(({ keys, shown, say }) => [
        make("dt", {}, (shown ?? keys).map((key) => make("kbd", {}, written(key)))), make("dd", {}, t(say)),
      ]))))));
  return dialog;
}

const SIGNS = {
  ArrowUp: "↑", ArrowDown: "↓", ArrowLeft: "←", ArrowRight: "→", Escape: "Esc", Delete: "Del", Enter: "↵",
};
const written = (key) => key.split("+").map((part) => SIGNS[part] ?? part).join(" ").trim() || "+";
