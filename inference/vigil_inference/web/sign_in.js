// Signing in, and replacing a one-time password.

import { become, field, passwordForm, sentence } from "./account.js";
import { make, send } from "./dom.js";
import { t } from "./i18n.js";

/**
 * The view that is shown while nobody is signed in.
 * @param {Element} root
 * @param {object} configuration
 * @param {object|null} me somebody whose password must be replaced
 * @param {string} reason a code: why somebody who was signed in no longer is
 * @param {() => void} done called when somebody is
 */
export function signInView(root, configuration, me, reason, done) {
  document.title = `${t("sign_in")} – Vigil`;
  const card = make("section.card.sign-in", {});
  root.append(card);

  const choose = (old) => {
    card.replaceChildren(
      make("h1", {}, t("change_password")),
      make("p", {}, t("password_once")),
      passwordForm(old, done));
    card.querySelector("input[type=password]").focus();
  };

  const enter = () => {
    const [nameLabel, name] = field(t("name"), { type: "text", name: "name", autocomplete: "username", maxlength: 256 });
    const [passwordLabel, password] = field(t("password"), { type: "password", name: "password", autocomplete: "current-password", maxlength: 256 });
    const problem = make("p.problem", { role: "alert" }, reason && sentence({ code: reason }));
    const button = make("button.primary", { type: "submit" }, t("sign_in"));
    const submit = async (event) => {
      event.preventDefault();
      button.disabled = true;
      try {
        const found = await send("POST", "/api/session", { name: name.value, password: password.value });
        become(found);
        if (found.must_change_password) choose(password.value);
        else done();
      } catch (error) {
        problem.textContent = sentence(error);
        password.select();
      } finally {
        button.disabled = false;
      }
    };
    card.replaceChildren(
      make("h1", {}, t("sign_in")),
      configuration.site && make("p.site", {}, configuration.site),
      make("form.credentials", { onsubmit: submit }, nameLabel, passwordLabel, problem, make("div.buttons", {}, button)),
      configuration.oidc_name && make("a.button", { href: "/api/oidc/sign-in" }, t("sign_in_with", { name: configuration.oidc_name })),
      make("p.quiet", {}, t("notice_long")));
    name.focus();
  };

  if (me?.must_change_password) choose(null);
  else enter();
  return { close() {}, changed() {} };
}
