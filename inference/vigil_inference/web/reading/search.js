// Choosing a finding by a few letters, in the reader's language or in English, with or without marks.

import { make } from "../dom.js";
import { finding, t } from "../i18n.js";

const SHOWN = 7;
const plain = (text) => text.normalize("NFD").replace(/\p{M}/gu, "").replaceAll("đ", "d").replaceAll("Đ", "D").toLowerCase();

/**
 * Ask for a finding; `done` gets its label, or null if the reader gives up.
 * @param {{label: string, meaning: string}[]} words
 */
export function findingSearch(words, done) {
  let at = 0;
  let found = [];
  const list = make("ul.found", { id: "reading-found", role: "listbox", "aria-label": t("reading.add") });
  const input = make("input.search", {
    type: "text", role: "combobox", "aria-expanded": "true", "aria-controls": "reading-found", autocomplete: "off",
    "aria-label": t("reading.add"), placeholder: t("reading.search"), oninput: () => draw(0),
    onkeydown: (event) => {
      const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
      if (step) draw((at + step + found.length) % Math.max(found.length, 1));
      else if (event.key === "Enter" && found.length) done(found[at].label);
      else if (event.key === "Escape") done(null);
      else return;
      event.preventDefault();
      event.stopPropagation();
    },
  });
  function draw(choice) {
    const asked = plain(input.value).split(/\s+/).filter(Boolean);
    found = words.filter((word) => {
      const text = plain(`${finding(word.label)} ${word.label} ${word.meaning}`);
      return asked.every((part) => text.includes(part));
    }).slice(0, SHOWN);
    at = Math.min(choice, Math.max(found.length - 1, 0));
    list.replaceChildren(...found.map((word, index) => make("li", {
      id: `reading-found-${index}`, role: "option", "aria-selected": String(index === at),
      onpointerdown: (event) => {
        event.preventDefault();
        done(word.label);
      },
    }, finding(word.label))));
    if (!found.length) list.append(make("li.quiet", {}, t("reading.nothing_found")));
    input.setAttribute("aria-activedescendant", found.length ? `reading-found-${at}` : "");
  }
  draw(0);
  const element = make("div.finding-search", {}, input, list,
    make("button", { type: "button", onclick: () => done(null) }, t("reading.cancel")));
  return { element, focus: () => input.focus() };
}
