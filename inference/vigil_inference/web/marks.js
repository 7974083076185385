// Marks on a study: who took it, and who has it open, so that two people do not read one study.

import { may, myName } from "./account.js";
import { ask, make, send } from "./dom.js";
import { t } from "./i18n.js";

const STORED = "vigil-reader";
const RENEW_MS = 50_000;

/** What tells this browser from others where nobody signs in. */
export function browserId() {
  let id = localStorage.getItem(STORED);
  if (!id) {
    const bytes = crypto.getRandomValues(new Uint8Array(8));
    id = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
    localStorage.setItem(STORED, id);
  }
  return id;
}

const path = (uid, what) => `/api/studies/${encodeURIComponent(uid)}/${what}`;

/** Take a study, or give it back. */
export const take = (uid, takeOver = false) =>
  send("PUT", path(uid, "assignment"), { reader: browserId(), take_over: takeOver });
export const giveBack = (uid) => send("DELETE", path(uid, "assignment"), { reader: browserId() });

/** Whose mark it is, in words. */
export const markName = (mark) => mark.name || (mark.account.startsWith("local") ? t("another_reader") : mark.account);

/** Whether a mark is this reader's own. */
export const isMine = (mark) => mark.account === (myName() === "local" ? `local ${browserId()}` : myName());

/**
 * Say that a study is open for reading until the function that is returned is called.
 * Where another reads it already, say so, and take it over only if the reader wants to.
 */
export function beingRead(uid) {
  if (!may("read_studies")) return () => {};
  let closed = false;
  let timer = null;
  const banner = make("div.alert.being-read", { role: "status", hidden: true });
  document.getElementById("content").before(banner);

  async function say(takeOver = false) {
    clearTimeout(timer);
    try {
      await send("PUT", path(uid, "being-read"), { reader: browserId(), take_over: takeOver });
      if (closed) end();
      banner.hidden = true;
    } catch (error) {
      if (error.code === "MARKED_BY_OTHER") await sayWho();
    }
    if (!closed) timer = setTimeout(say, RENEW_MS);
  }

  async function sayWho() {
    const study = await ask(path(uid, "").slice(0, -1)).catch(() => null);
    if (closed || !study?.being_read) return;
    banner.replaceChildren(
      make("span", {}, t("reading_now", { name: markName(study.being_read) })), " ",
      make("button", { type: "button", onclick: () => say(true) }, t("take_over")));
    banner.hidden = false;
  }

  const end = () => send("DELETE", path(uid, "being-read"), { reader: browserId() }).catch(() => {});
  const stop = () => {
    if (closed) return;
    closed = true;
    clearTimeout(timer);
    removeEventListener("pagehide", stop);
    banner.remove();
    end();
  };
  addEventListener("pagehide", stop);
  say();
  return stop;
}
