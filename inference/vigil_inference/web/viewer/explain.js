// What a number means, on hover, on focus and by tap: a button and a note that it opens.

import { make } from "../dom.js";
import { t } from "../i18n.js";

const GAP = 6;
let open = null; // {button, note, isPinned}
let count = 0;

/**
 * Make something explain itself.
 * @param {Node|string} content what is seen: the number
 * @param {() => (Node|string)[]} words paragraphs, made when they are wanted
 * @param {string} label what a screen reader says before "explanation"
 */
export function explained(content, words, label) {
  const button = make("button.explained", {
    type: "button", "aria-expanded": "false", "aria-label": label && `${label}: ${t("explanation")}`,
  }, content);
  button.addEventListener("pointerenter", (event) => event.pointerType === "mouse" && show(button, words, false));
  button.addEventListener("pointerleave", (event) => {
    // A mouse on its way to a link in the note must not lose it.
    if (event.pointerType === "mouse") setTimeout(() => leave(button), 120);
  });
  button.addEventListener("focus", () => button.matches(":focus-visible") && show(button, words, false));
  button.addEventListener("blur", (event) => {
    if (open?.button === button && !open.note.contains(event.relatedTarget)) hide();
  });
  button.addEventListener("click", () => {
    if (open?.button === button && open.isPinned) hide();
    else show(button, words, true);
  });
  return button;
}

function show(button, words, isPinned) {
  if (open?.button === button) {
    open.isPinned ||= isPinned;
    return;
  }
  hide();
  count += 1;
  const note = make("div.note", { id: `note-${count}`, role: "note" },
    words().map((part) => (typeof part === "string" ? make("p", {}, part) : part)));
  note.addEventListener("pointerleave", () => setTimeout(() => leave(button), 120));
  // Beside its button, so that Tab goes from one to the other.
  button.after(note);
  button.setAttribute("aria-expanded", "true");
  button.setAttribute("aria-controls", note.id);
  open = { button, note, isPinned };
  place(button, note);
}

function place(button, note) {
  const at = button.getBoundingClientRect();
  const size = note.getBoundingClientRect();
  const left = Math.min(Math.max(at.left, GAP), document.documentElement.clientWidth - size.width - GAP);
  const below = at.bottom + GAP;
  const top = below + size.height < innerHeight ? below : Math.max(GAP, at.top - size.height - GAP);
  note.style.setProperty("left", `${left}px`);
  note.style.setProperty("top", `${top}px`);
}

function leave(button) {
  if (open?.button !== button || open.isPinned) return;
  if (open.note.matches(":hover") || button.matches(":hover") || button.matches(":focus-visible")) return;
  hide();
}

function hide() {
  if (!open) return;
  open.button.setAttribute("aria-expanded", "false");
  open.button.removeAttribute("aria-controls");
  open.note.remove();
  open = null;
}

document.addEventListener("pointerdown", (event) => {
  if (open && !open.note.contains(event.target) && !open.button.contains(event.target)) hide();
});
// It stays by its number: what was reached by Tab is scrolled into view after the focus came.
addEventListener("scroll", () => {
  if (!open) return;
  const at = open.button.getBoundingClientRect();
  if (at.bottom < 0 || at.top > innerHeight) hide();
  else place(open.button, open.note);
}, { passive: true, capture: true });
addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || !open) return;
  event.stopImmediatePropagation();
  hide();
}, { capture: true });
