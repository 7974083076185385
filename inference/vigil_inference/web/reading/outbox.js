// What was said and is not acknowledged yet: kept in this browser, and sent again until it is.

import { ask, send } from "../dom.js";

const STORED = "vigil-unsaved";
const FIRST_RETRY_MS = 2000;
const LONGEST_RETRY_MS = 30000;
const listeners = new Set();
let reader = null; // whose statements may be sent: whoever the service says we are
let timer = null;
let wait = FIRST_RETRY_MS;
let isSending = false;

const pathOf = (uid) => `/api/studies/${encodeURIComponent(uid)}/readings`;

function stored() {
  try {
    return JSON.parse(localStorage.getItem(STORED)) ?? [];
  } catch {
    return [];
  }
}

function change(how) {
  const items = how(stored());
  if (items.length) localStorage.setItem(STORED, JSON.stringify(items));
  else localStorage.removeItem(STORED);
}

const replace = (id, fields) => change((items) =>
  items.map((item) => (item.statement.id === id ? { ...item, ...fields } : item)));
const remove = (id) => change((items) => items.filter((item) => item.statement.id !== id));

/** Statements on a study that the service has not acknowledged, in the order of saying. */
export const unsaved = (uid) => stored().filter((item) => item.uid === uid && item.reader === reader);

/** Send from now on as this reader: what another account left in this browser stays there. */
export function sendAs(name) {
  reader = name;
  flush();
}

/** Hear of each answer: `(uid, readings)`; without readings only what is unsaved has changed. */
export function listen(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

const tell = (uid, readings = null) => {
  for (const listener of listeners) listener(uid, readings);
};

/** Say something: it is kept first, and sent then. */
export function say(uid, statement) {
  change((items) => [...items, { reader, uid, statement, held: "" }]);
  tell(uid);
  flush();
}

/** Say what was held back all the same, with what stands now before the reader's eyes. */
export function sayAnyway(id, seenVersion, amendment) {
  const item = stored().find((one) => one.statement.id === id);
  if (!item) return;
  replace(id, { held: "", statement: { ...item.statement, seen_version: seenVersion, amendment } });
  flush();
}

/** Do not say what was held back, nor what was said after it on the same study. */
export function drop(id) {
  const items = stored();
  const item = items.find((one) => one.statement.id === id);
  if (!item) return;
  const after = items.slice(items.indexOf(item)).filter((one) => one.uid === item.uid && one.reader === item.reader);
  for (const one of after) remove(one.statement.id);
  tell(item.uid);
}

/** Send what waits, study by study in the order of saying. */
export async function flush() {
  if (isSending || reader === null) return;
  isSending = true;
  clearTimeout(timer);
  const stuck = new Set();
  let item;
  const next = () => stored().find((one) => one.reader === reader && !one.held && !stuck.has(one.uid)
    && unsaved(one.uid)[0].statement.id === one.statement.id);
  while ((item = next())) {
    if (!await deliver(item)) stuck.add(item.uid);
  }
  isSending = false;
  if (stuck.size) {
    timer = setTimeout(flush, wait);
    wait = Math.min(wait * 2, LONGEST_RETRY_MS);
  } else wait = FIRST_RETRY_MS;
}

async function deliver({ uid, statement }) {
  try {
    const answer = await send("POST", `${pathOf(uid)}/statements`, statement);
    remove(statement.id);
    // What was said on top of it was said with it in mind, if nothing came in between.
    const version = statement.seen_version + 1;
    if (answer.mine.version === version) {
      for (const later of unsaved(uid)) {
        if (later.statement.seen_version <= version) {
          replace(later.statement.id, { statement: { ...later.statement, seen_version: version } });
        }
      }
    }
    tell(uid, answer);
    return true;
  } catch (error) {
    if (error.code === "READING_CHANGED" || error.code === "READING_SIGNED") return lookAgain(uid, statement, error.code);
    const isRefused = error.status >= 400 && error.status < 500 && ![401, 408, 429].includes(error.status);
    replace(statement.id, isRefused ? { held: error.code } : { isLate: true });
    tell(uid);
    return isRefused;
  }
}

/** Say it on top of what came meanwhile, unless that is about the same thing: then ask. */
async function lookAgain(uid, statement, code) {
  let answer;
  try {
    answer = await ask(pathOf(uid));
  } catch {
    tell(uid);
    return false;
  }
  const since = answer.mine.statements.filter((one) => one.version > statement.seen_version);
  if (code === "READING_SIGNED" || since.some((one) => isAboutTheSame(one, statement))) {
    replace(statement.id, { held: code });
  } else {
    replace(statement.id, { statement: { ...statement, seen_version: answer.mine.version } });
  }
  tell(uid, answer);
  return true;
}

export function isAboutTheSame(one, other) {
  const whole = ["sign_off", "undo"];
  if (whole.includes(one.act) || whole.includes(other.act)) return true;
  if (one.act === "note" || other.act === "note") return one.act === other.act;
  const labels = [other.label, other.instead].filter(Boolean);
  return one.sop_instance_uid === other.sop_instance_uid
    && [one.label, one.instead].some((label) => labels.includes(label));
}

addEventListener("online", flush);
