// The page `/accounts`: who may sign in, and which machines may ask.

import { field, myName, sentence } from "../account.js";
import { ask, make, send } from "../dom.js";
import { t } from "../i18n.js";
import { back, formDialog, roleBoxes, ROLES, rolesInWords, secretDialog, table, when } from "./parts.js";

const pathOf = (name, what = "") => `/api/accounts/${encodeURIComponent(name)}${what}`;

/** The view of those who manage accounts. */
export function accountsView(root) {
  const abort = new AbortController();
  document.title = `${t("accounts.title")} · Vigil`;
  const failure = make("p.alert", { role: "alert", hidden: true });
  const content = make("div.sections", {}, make("p.empty", {}, t("loading")));
  root.append(make("div.managing", {}, back(), make("h1", {}, t("accounts.title")), failure, content));

  async function load() {
    try {
      const [accounts, tokens] = await Promise.all(
        ["/api/accounts", "/api/tokens"].map((path) => ask(path, abort.signal)));
      failure.hidden = true;
      content.replaceChildren(people(accounts), machines(tokens));
    } catch (error) {
      if (error.name !== "AbortError") fail(error);
    }
  }

  function fail(error) {
    failure.textContent = sentence(error);
    failure.hidden = false;
    content.querySelector(".empty")?.remove();
  }

  const button = (words, about, run) =>
    make("button", { type: "button", "aria-label": `${words}: ${about}`, onclick: run }, words);

  function people(accounts) {
    return make("section", {},
      make("div.tools", {}, make("h2", {}, t("accounts.people")),
        make("button.primary", { type: "button", onclick: add }, t("accounts.add"))),
      table(t("accounts.people"), ["name", "accounts.display_name", "roles", "accounts.last", "accounts.state", "accounts.do"].map((key) => t(key)),
        accounts.map((one) => make("tr", { "data-closed": one.is_disabled },
          make("th", { scope: "row" }, one.name), make("td", {}, one.display_name || "–"),
          make("td", {}, rolesInWords(one.roles)), make("td", {}, when(one.last_sign_in_at)),
          make("td", {}, stateOf(one)), make("td", {}, make("div.acts", {}, acts(one)))))));
  }

  function stateOf(one) {
    const said = [
      one.is_disabled && t("accounts.disabled"), one.must_change_password && t("accounts.one_time"),
      one.is_from_provider && t("accounts.from_provider"),
    ].filter(Boolean);
    return said.join(" · ") || t("accounts.open");
  }

  function acts(one) {
    if (one.name === myName()) return make("span.quiet", {}, t("accounts.own"));
    return [
      !one.is_from_provider && button(t("roles"), one.name, () => changeRoles(one)),
      !one.is_from_provider && button(t("accounts.reset"), one.name, () => reset(one)),
      one.is_disabled
        ? button(t("accounts.enable"), one.name, () => act("POST", pathOf(one.name, "/enable")))
        : button(t("accounts.disable"), one.name, () => formDialog(t("accounts.disable"),
          [make("p", {}, t("accounts.disable_meaning", { name: one.name }))], t("accounts.disable"),
          async () => { await send("POST", pathOf(one.name, "/disable")); await load(); })),
    ];
  }

  async function act(method, path) {
    await send(method, path).catch(fail);
    await load();
  }

  const showPassword = (name, once) => secretDialog(t("accounts.password_of", { name }), t("accounts.once"), once);

  function add() {
    const [nameLabel, name] = field(t("name"), { type: "text", maxlength: 64, autocomplete: "off" });
    const [shownLabel, shown] = field(t("accounts.display_name"), { type: "text", maxlength: 200, autocomplete: "off", required: false });
    const roles = roleBoxes(ROLES, ["radiologist"]);
    formDialog(t("accounts.add"), [nameLabel, make("small", {}, t("accounts.name_rule")), shownLabel, roles.element], t("accounts.add"), async () => {
      const made = await send("POST", "/api/accounts", { name: name.value, display_name: shown.value, roles: roles.chosen() });
      await load();
      showPassword(made.account.name, made.one_time_password);
    });
    name.focus();
  }

  function changeRoles(one) {
    const roles = roleBoxes(ROLES, one.roles);
    formDialog(`${t("roles")}: ${one.name}`, [roles.element], t("save"), async () => {
      await send("PUT", pathOf(one.name, "/roles"), { roles: roles.chosen() });
      await load();
    });
  }

  function reset(one) {
    formDialog(t("accounts.reset"), [make("p", {}, t("accounts.reset_meaning", { name: one.name }))], t("accounts.reset"), async () => {
      const made = await send("POST", pathOf(one.name, "/password"));
      await load();
      showPassword(one.name, made.one_time_password);
    });
  }

  function machines(tokens) {
    return make("section", {},
      make("div.tools", {}, make("h2", {}, t("tokens.title")),
        make("button.primary", { type: "button", onclick: addToken }, t("tokens.add"))),
      make("p.quiet", {}, t("tokens.meaning")),
      tokens.length === 0 ? make("p.quiet", {}, t("tokens.none")) : table(t("tokens.title"),
        ["name", "roles", "tokens.until", "tokens.last", "accounts.do"].map((key) => t(key)),
        tokens.map((one) => make("tr", { "data-closed": isOver(one) },
          make("th", { scope: "row" }, one.name), make("td", {}, rolesInWords(one.roles)),
          make("td", {}, one.revoked_at ? [t("tokens.revoked"), " ", when(one.revoked_at)] : when(one.expires_at)),
          make("td", {}, when(one.last_used_at)),
          make("td", {}, !one.revoked_at && button(t("tokens.revoke"), one.name, () => formDialog(t("tokens.revoke"),
            [make("p", {}, t("tokens.revoke_meaning", { name: one.name }))], t("tokens.revoke"),
            async () => { await send("DELETE", `/api/tokens/${encodeURIComponent(one.name)}`); await load(); })))))));
  }

  const isOver = (one) => one.revoked_at !== null || (one.expires_at !== null && Date.parse(one.expires_at) < Date.now());

  function addToken() {
    const [nameLabel, name] = field(t("name"), { type: "text", maxlength: 64, autocomplete: "off" });
    const [daysLabel, days] = field(t("tokens.days"), { type: "number", min: 1, max: 3650, value: 365 });
    const roles = roleBoxes(ROLES, ["service"]);
    formDialog(t("tokens.add"), [nameLabel, make("small", {}, t("accounts.name_rule")), roles.element, daysLabel], t("tokens.add"), async () => {
      const made = await send("POST", "/api/tokens", { name: name.value, roles: roles.chosen(), days: Number(days.value) });
      await load();
      secretDialog(t("tokens.secret_of", { name: made.name }), t("tokens.once"), made.secret);
    });
    name.focus();
  }

  load();
  return { changed() {}, close() { abort.abort(); } };
}
