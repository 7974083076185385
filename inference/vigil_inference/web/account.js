// Who is signed in, what that account may do, and its menu in the bar.

import { ask, keepToken, make, send } from "./dom.js";
import { t } from "./i18n.js";

let me = null;

/** Ask who is signed in; null if nobody is. */
export async function whoIsSignedIn() {
  try {
    become(await ask("/api/me"));
  } catch (error) {
    become(null);
    if (error.status !== 401) throw error;
  }
  return me;
}

/** Be somebody from now on: what a sign-in or a new password answered. */
export function become(account) {
  me = account;
  keepToken(me?.csrf_token ?? "");
  // For style sheets: what may not be done is not shown.
  document.documentElement.dataset.may = (me?.permissions ?? []).join(" ");
}

/** Whether the account may do something: `may("read_studies")`. */
export const may = (permission) => me?.permissions.includes(permission) ?? false;

/** The account's name, by which marks and readings are kept. */
export const myName = () => me?.name ?? "";

/** Draw the menu; nothing where nobody is signed in or there are no accounts. */
export function drawAccountMenu(root, hasAccounts, signedOut) {
  root.replaceChildren();
  root.hidden = !hasAccounts || me === null;
  if (root.hidden) return;
  const leave = async () => {
    await send("DELETE", "/api/session").catch(() => {});
    become(null);
    signedOut();
  };
  const shown = me.display_name || me.name;
  const menu = make("details.account", {},
    make("summary", { "aria-label": t("signed_in_as", { name: shown }) }, make("span", {}, shown)),
    make("div.account-menu", {},
      make("p", {}, make("strong", {}, shown),
        make("small", {}, me.roles.map((role) => t(`role.${role}`)).join(", "))),
      [["manage_accounts", "/accounts", "accounts.title"], ["see_audit_trail", "/audit", "audit.title"]]
        .filter(([permission]) => may(permission))
        .map(([, href, words]) => make("a.button", { href, "data-link": true, onclick: () => { menu.open = false; } }, t(words))),
      !me.must_change_password && make("button", { type: "button", onclick: () => {
        menu.open = false;
        askForPassword();
      } }, t("change_password")),
      make("button", { type: "button", onclick: leave }, t("sign_out"))));
  root.append(menu);
}

document.addEventListener("click", (event) => {
  const open = document.querySelector("details.account[open]");
  if (open && !open.contains(event.target)) open.open = false;
});
document.addEventListener("keydown", (event) => {
  const open = document.querySelector("details.account[open]");
  if (event.key !== "Escape" || !open) return;
  open.open = false;
  open.querySelector("summary").focus();
  event.stopPropagation();
}, true);

/** A field with its label. */
export function field(text, attributes) {
  const input = make("input", { required: true, spellcheck: "false", autocapitalize: "none", ...attributes });
  return [make("label", {}, make("span", {}, text), input), input];
}

/** What went wrong, in the reader's language. */
export const sentence = (error) =>
  t(`error.${error.code}`, {}, true) ?? t("failed", { code: error.code || "NETWORK" });

/**
 * A form that replaces the password.
 * @param {string|null} old the password that was typed a moment ago, null to ask for it
 * @param {() => void} done
 * @param {(() => void)|null} cancelled
 */
export function passwordForm(old, done, cancelled = null) {
  const [oldLabel, oldInput] = field(t("old_password"), { type: "password", autocomplete: "current-password" });
  const [newLabel, newInput] = field(t("new_password"), { type: "password", autocomplete: "new-password" });
  const [againLabel, againInput] = field(t("new_password_again"), { type: "password", autocomplete: "new-password" });
  const problem = make("p.problem", { role: "alert" });
  const save = make("button.primary", { type: "submit" }, t("save"));
  const submit = async (event) => {
    event.preventDefault();
    if (newInput.value !== againInput.value) {
      problem.textContent = t("password_differs");
      againInput.select();
      return;
    }
    save.disabled = true;
    try {
      become(await send("PUT", "/api/me/password", {
        old_password: old ?? oldInput.value, new_password: newInput.value,
      }));
      done();
    } catch (error) {
      problem.textContent = sentence(error);
    } finally {
      save.disabled = false;
    }
  };
  return make("form.credentials", { onsubmit: submit },
    // For the browser's own list of passwords.
    make("input.unseen", { type: "text", autocomplete: "username", value: me?.name ?? "", tabindex: "-1", "aria-hidden": "true", readonly: true }),
    old === null && oldLabel, newLabel, make("small", {}, t("password_rule")), againLabel, problem,
    make("div.buttons", {},
      cancelled && make("button", { type: "button", onclick: cancelled }, t("cancel")), save));
}

function askForPassword() {
  const said = make("p", { role: "status" });
  const close = () => dialog.close();
  const form = passwordForm(null, () => {
    said.textContent = t("password_changed");
    form.remove();
    dialog.append(make("div.buttons", {}, make("button.primary", { type: "button", onclick: close }, "OK")));
  }, close);
  const dialog = make("dialog.card", { "aria-label": t("change_password"), onclose: () => dialog.remove() },
    make("h1", {}, t("change_password")), said, form);
  document.body.append(dialog);
  dialog.showModal();
}
