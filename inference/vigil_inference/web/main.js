// The page: which view is shown, and what is true of all of them.

import { drawAccountMenu, whoIsSignedIn } from "./account.js";
import { ask } from "./dom.js";
import { chooseLanguage, currentLanguage, expectLanguage, t, useLanguage } from "./i18n.js";
import { listen } from "./live.js";
import { beingRead } from "./marks.js";
import { signInView } from "./sign_in.js";
import { expectWorklist, worklistView } from "./worklist.js";

const content = document.getElementById("content");
const STUDY = "./study.js";
const APART = { // by path: which script, and which of its views
  "/agreement": ["./reading/agreement.js", "agreementView"],
  "/accounts": ["./access/accounts.js", "accountsView"],
  "/audit": ["./access/audit.js", "auditView"],
};
const fetched = {}; // views that are fetched when they are wanted: the first row need not wait for them
const THEME = "vigil-theme";
let configuration = { site: "", language: "auto", heat_maps: true, accounts: "off" };
const UNKNOWN = { name: "", roles: [], permissions: [], must_change_password: false }; // no answer yet
let me = null; // who is signed in; where there are no accounts, everybody
let endedBecause = new URLSearchParams(location.search).get("sign-in") ?? ""; // the code of why whoever was signed in no longer is
let stopListening = null;
let view = null;
let stopReading = null;
let connected = null;

function show() {
  view?.close();
  stopReading?.();
  stopReading = null;
  if (me === null || me.must_change_password) {
    content.replaceChildren();
    view = signInView(content, configuration, me, endedBecause, () => enter());
    return;
  }
  const study = /^\/studies\/([^/]+)$/.exec(location.pathname);
  content.replaceChildren();
  const [apart, name] = study ? [STUDY, "studyView"] : APART[location.pathname] ?? [null];
  if (apart && !fetched[apart]) {
    view = null;
    fetchView(apart).then(show, () => content.replaceChildren(t("lost")));
    return;
  }
  if (study) view = fetched[STUDY][name](content, decodeURIComponent(study[1]), configuration);
  else if (apart) view = fetched[apart][name](content);
  else {
    view = worklistView(content);
    setTimeout(() => fetchView(STUDY).catch(() => {}), 1500);
  }
  if (study) stopReading = beingRead(decodeURIComponent(study[1]));
}

async function fetchView(path) {
  fetched[path] = await import(path);
}

/** Show what the account may see, now that there is one. */
async function enter(asked = whoIsSignedIn().catch(() => UNKNOWN)) {
  me = await asked;
  if (me !== null) endedBecause = "";
  stopListening?.();
  connected = null;
  if (me !== null && !me.must_change_password) {
    stopListening = listen((study) => view?.changed(study), (is) => {
      connected = is;
      sayConnection();
      if (is && me === UNKNOWN) enter();
    });
  }
  applyTexts();
  show();
}

/** Take what is shown off the screen: whoever was signed in no longer is. */
function leave(reason) {
  if (me === null) return;
  me = null;
  endedBecause = reason;
  stopListening?.();
  connected = null;
  document.title = "Vigil";
  for (const dialog of document.querySelectorAll("dialog")) dialog.close();
  applyTexts();
  show();
}

document.addEventListener("signed-out", (event) => {
  if (event.detail === "PASSWORD_CHANGE_REQUIRED") enter();
  else leave("SESSION_EXPIRED");
});

function sayConnection() {
  const live = document.getElementById("live");
  const lost = document.getElementById("lost");
  live.hidden = me === null;
  live.className = `live ${connected === null ? "" : connected ? "is-on" : "is-off"}`;
  live.textContent = connected === null ? t("connecting") : t(connected ? "live" : "lost_short");
  lost.hidden = connected !== false;
  lost.textContent = connected === false ? t("lost") : "";
}

function applyTexts() {
  document.getElementById("notice").textContent = t("notice");
  document.getElementById("site").textContent = configuration.site;
  document.getElementById("language").value = currentLanguage();
  drawAccountMenu(document.getElementById("account"), configuration.accounts !== "off", () => leave(""));
  sayConnection();
}

document.addEventListener("click", (event) => {
  const link = event.target.closest?.("a[data-link]");
  const plain = !(event.ctrlKey || event.metaKey || event.shiftKey || event.button);
  if (!link || !plain) return;
  event.preventDefault();
  const { pathname, search } = new URL(link.href);
  history.pushState(null, "", pathname + search);
  show();
  content.focus({ preventScroll: true });
  scrollTo(0, 0);
});

window.addEventListener("popstate", show);
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || location.pathname === "/") return;
  history.pushState(null, "", "/");
  show();
});

document.getElementById("language").addEventListener("change", async (event) => {
  await useLanguage(event.target.value, true);
  applyTexts();
  show();
});

const theme = document.getElementById("theme");
theme.value = localStorage.getItem(THEME) || "auto";
document.documentElement.dataset.theme = theme.value;
theme.addEventListener("change", () => {
  localStorage.setItem(THEME, theme.value);
  document.documentElement.dataset.theme = theme.value;
});

/** Ask for all that the first view needs at the same time: a line may be slow. */
async function start() {
  expectLanguage();
  const asked = whoIsSignedIn().catch(() => UNKNOWN);
  if (location.pathname === "/") expectWorklist();
  try {
    configuration = await ask("/api/configuration");
  } catch {
    // The live connection says below that there is no service.
  }
  await chooseLanguage(configuration.language);
  await enter(asked);
}

start();
