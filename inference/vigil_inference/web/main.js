// The page: which view is shown, and what is true of all of them.

import { ask } from "./dom.js";
import { chooseLanguage, currentLanguage, t, useLanguage } from "./i18n.js";
import { listen } from "./live.js";
import { studyView } from "./study.js";
import { worklistView } from "./worklist.js";

const content = document.getElementById("content");
const THEME = "vigil-theme";
let configuration = { site: "", language: "auto", heat_maps: true };
let view = null;
let connected = null;

function show() {
  view?.close();
  const study = /^\/studies\/([^/]+)$/.exec(location.pathname);
  content.replaceChildren();
  view = study
    ? studyView(content, decodeURIComponent(study[1]), configuration)
    : worklistView(content);
}

function sayConnection() {
  const live = document.getElementById("live");
  const lost = document.getElementById("lost");
  live.className = `live ${connected === null ? "" : connected ? "is-on" : "is-off"}`;
  live.textContent = connected === null ? t("connecting") : t(connected ? "live" : "lost_short");
  lost.hidden = connected !== false;
  lost.textContent = connected === false ? t("lost") : "";
}

function applyTexts() {
  document.getElementById("notice").textContent = t("notice");
  document.getElementById("site").textContent = configuration.site;
  document.getElementById("language").value = currentLanguage();
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

try {
  configuration = await ask("/api/configuration");
} catch {
  // The live connection says below that there is no service.
}
await chooseLanguage(configuration.language);
applyTexts();
show();
listen(
  (study) => view?.changed(study),
  (is) => {
    connected = is;
    sayConnection();
  },
);
