// The page `/audit`: who saw and did what, and whether the trail is whole.

import { sentence } from "../account.js";
import { ask, make } from "../dom.js";
import { t } from "../i18n.js";
import { back, table, when } from "./parts.js";

const PAGE = 100;
const ACTIONS = [
  "sign_in", "sign_out", "worklist_seen", "study_opened", "picture_seen", "results_fetched", "dicomweb_searched",
  "dicomweb_retrieved", "post_statement", "post_priority", "put_assignment", "delete_assignment", "put_being_read",
  "delete_being_read", "change_password", "add_account", "set_roles", "set_password", "disable_account",
  "enable_account", "create_token", "revoke_token", "get_export", "get_statistics", "get_audit_trail",
  "get_audit_verification", "store_instances", "retry_deliveries", "cancel_deliveries",
];
const inWords = (action) => t(`audit.${action}`, {}, true) ?? action;

/** The view of those who may see the audit trail. */
export function auditView(root) {
  let abort = new AbortController();
  let events = [];
  document.title = `${t("audit.title")} · Vigil`;
  const failure = make("p.alert", { role: "alert", hidden: true });
  const list = make("div", {}, make("p.empty", {}, t("loading")));
  const more = make("button", { type: "button", hidden: true, onclick: () => load(events.at(-1).id) }, t("audit.older"));
  const given = new URLSearchParams(location.search);
  const account = make("input", { type: "search", maxlength: 80, autocomplete: "off", spellcheck: "false", value: given.get("account") ?? "" });
  const study = make("input", { type: "search", maxlength: 64, autocomplete: "off", spellcheck: "false", value: given.get("study") ?? "" });
  const action = make("select", {}, make("option", { value: "" }, t("any")),
    ACTIONS.map((one) => make("option", { value: one }, inWords(one))));
  const chain = make("p", { role: "status" });
  root.append(make("div.managing", {}, back(), make("h1", {}, t("audit.title")), make("p.quiet", {}, t("audit.meaning")),
    make("form.filters", {
      onsubmit: (event) => {
        event.preventDefault();
        load();
      },
    },
    make("label.field", {}, make("span", {}, t("audit.account")), account),
    make("label.field", {}, make("span", {}, t("audit.study")), study),
    make("label.field", {}, make("span", {}, t("audit.action")), action),
    make("div.filters-end", {}, make("button.primary", { type: "submit" }, t("audit.show")),
      make("button", { type: "button", onclick: verify }, t("audit.verify")))),
    chain, failure, list, make("div.pager", {}, more)));

  async function load(before = null) {
    abort.abort();
    abort = new AbortController();
    const asked = new URLSearchParams({ limit: PAGE });
    if (account.value.trim()) asked.set("account", account.value.trim());
    if (study.value.trim()) asked.set("study_instance_uid", study.value.trim());
    if (action.value) asked.set("action", action.value);
    if (before) asked.set("before", before);
    try {
      const found = await ask(`/api/audit?${asked}`, abort.signal);
      events = before ? [...events, ...found.events] : [...found.events];
      failure.hidden = true;
      more.hidden = found.events.length < PAGE;
      draw();
    } catch (error) {
      if (error.name === "AbortError") return;
      list.querySelector(".empty")?.remove();
      failure.textContent = sentence(error);
      failure.hidden = false;
    }
  }

  function draw() {
    if (!events.length) {
      list.replaceChildren(make("p.empty", {}, t("audit.none")));
      return;
    }
    list.replaceChildren(table(t("audit.title"),
      ["audit.at", "audit.account", "audit.action", "audit.outcome", "audit.about", "audit.address"].map((key) => t(key)),
      events.map((one) => make("tr", { "data-refused": one.outcome >= 400 },
        make("td", { title: `${one.id}` }, when(one.at)),
        make("td", {}, one.account ? narrowed(account, one.account) : "–"),
        make("td", { title: one.action }, inWords(one.action)),
        make("td", {}, outcome(one)),
        make("td.about", {}, one.study_instance_uid && narrowed(study, one.study_instance_uid),
          one.study_instance_uid && one.detail ? " · " : "", one.detail),
        make("td", {}, one.address || "–")))));
  }

  /** A value that is asked for when it is pressed. */
  function narrowed(input, value) {
    return make("button.link", { type: "button", onclick: () => {
      input.value = value;
      load();
      scrollTo(0, 0);
    } }, value);
  }

  function outcome(one) {
    if (one.outcome >= 400) return `✕ ${t("audit.refused")} (${one.outcome})`;
    return `✓ ${t("audit.done")}`;
  }

  async function verify() {
    chain.className = "quiet";
    chain.textContent = t("loading");
    try {
      const found = await ask("/api/audit/verification");
      const isWhole = found.problems.length === 0;
      chain.className = isWhole ? "whole" : "alert";
      chain.replaceChildren(
        isWhole ? `✓ ${t("audit.whole", { n: found.last_id })} ` : `⚠ ${t("audit.broken")} ${found.problems.join("; ")}. `,
        make("code", {}, `${found.last_id}:${found.sha256}`), " ", make("small", {}, t("audit.keep")));
    } catch (error) {
      chain.className = "alert";
      chain.textContent = sentence(error);
    }
  }

  load();
  return { changed() {}, close() { abort.abort(); } };
}
