// The bar over the list: search, status, priority, order, and the other filters.

import { ask, make } from "../dom.js";
import { finding, t } from "../i18n.js";
import { countDetails, DETAILS, saveDefault, STATUSES } from "./query.js";

const PRIORITIES = ["CRITICAL", "URGENT", "ROUTINE", "NOT_ANALYSED"];
const SEARCH_MS = 250;

/**
 * @param {() => object} current the query
 * @param {(changes: object) => void} change
 * @param {() => void} help shows the keys
 */
export function filterBar(current, change, help) {
  let typing = null;
  const search = make("input", {
    type: "search", id: "search", maxlength: 256, placeholder: t("search_hint"), "aria-keyshortcuts": "/",
    autocomplete: "off", spellcheck: "false", value: current().text,
    oninput: () => {
      clearTimeout(typing);
      typing = setTimeout(() => change({ text: search.value }), SEARCH_MS);
    },
  });
  const pressed = (name, value, words) => make("button", {
    type: "button", "data-value": value, "data-priority": name === "priority" && value,
    onclick: () => change({ [name]: name === "priority" && current().priority === value ? "" : value }),
  }, make("span", {}, words), name !== "order" && make("b", {}, "–"));
  const group = (name, label, values, word) => make(`div.choices.is-${name}`, { role: "group", "aria-label": t(label) },
    values.map((value) => pressed(name, value, t(word + value))));
  const groups = {
    status: group("status", "status", STATUSES, "status."),
    priority: group("priority", "priority", PRIORITIES, "priority."),
    order: group("order", "order", ["priority", "arrival"], "order_"),
  };
  const fields = Object.fromEntries(DETAILS.filter((name) => name !== "text").map((name) => [name, field(name)]));
  const saved = make("span.quiet", { role: "status" });
  const panel = make("div.filters", { id: "filters", hidden: true },
    Object.entries(fields).map(([name, element]) => make("label.field", {}, make("span", {}, t(`filter.${name}`)), element)),
    make("div.filters-end", {},
      make("button", {
        type: "button", onclick: () => {
          saveDefault(current());
          saved.textContent = t("default_saved");
        },
      }, t("save_default")), saved));
  const more = make("button", {
    type: "button", "aria-expanded": "false", "aria-controls": "filters", onclick: () => open(panel.hidden),
  });

  function field(name) {
    const onchange = (event) => change({ [name]: event.target.value });
    if (name.startsWith("received_")) return make("input", { type: "date", onchange });
    if (name === "patient_id") return make("input", { type: "text", maxlength: 256, autocomplete: "off", onchange });
    return make("select", { onchange }, make("option", { value: "" }, t("any")));
  }

  async function open(is) {
    panel.hidden = !is;
    more.setAttribute("aria-expanded", String(is));
    if (!is) return;
    const there = await ask("/api/worklist/choices").catch(() => null);
    if (!there) return;
    fill(fields.finding, there.findings, finding);
    fill(fields.institution, there.institutions);
    fill(fields.source, there.sources);
    fill(fields.modality, there.modalities);
    show();
  }

  function fill(select, values, word = (value) => value) {
    select.replaceChildren(make("option", { value: "" }, t("any")),
      ...values.map((value) => make("option", { value }, word(value))));
  }

  function show() {
    const query = current();
    if (document.activeElement !== search) search.value = query.text;
    for (const [name, element] of Object.entries(groups)) {
      for (const button of element.children) button.setAttribute("aria-pressed", String(button.dataset.value === query[name]));
    }
    for (const [name, element] of Object.entries(fields)) {
      const value = query[name];
      if (element.tagName === "SELECT" && value && ![...element.options].some((one) => one.value === value)) {
        element.append(make("option", { value }, name === "finding" ? finding(value) : value));
      }
      element.value = value;
    }
    const set = countDetails(query) - (query.text ? 1 : 0);
    more.textContent = set ? t("filters_set", { n: set }) : t("filters");
    more.setAttribute("aria-pressed", String(set > 0));
  }

  function count(page) {
    for (const button of groups.status.children) say(button, page.statuses[button.dataset.value]);
    for (const button of groups.priority.children) say(button, page.counts[button.dataset.value]);
  }

  function say(button, number) {
    if (number !== undefined) button.querySelector("b").textContent = number;
  }

  show();
  return {
    element: make("div.worklist-bar", {},
      make("div.tools", {}, make("h1", {}, t("worklist")),
        make("label.search", {}, make("span.unseen", {}, t("search")), search, make("kbd", { "aria-hidden": "true" }, "/")),
        more, make("button", { type: "button", title: t("keys"), "aria-label": t("keys"), onclick: help }, "?"), groups.order),
      make("div.tools", {}, groups.status),
      make("div.tools", {}, groups.priority),
      panel),
    search, show, count,
    close: () => clearTimeout(typing),
  };
}
