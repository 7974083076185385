// Elements made of data. Text only ever goes in as text, so what a sender wrote can never run.

/**
 * Make an element.
 * @param {string} tag "name.class.class"
 * @param {object} attributes an attribute is set, `on…` is listened to; null and false are left out
 * @param {...(Node|string|number|null|false)} children
 */
export function make(tag, attributes = {}, ...children) {
  const [name, ...classes] = tag.split(".");
  const element = document.createElement(name);
  if (classes.length) element.className = classes.join(" ");
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else element.setAttribute(key, value === true ? "" : value);
  }
  for (const child of children.flat(Infinity)) {
    if (child !== null && child !== undefined && child !== false) element.append(child);
  }
  return element;
}

let token = "";
let touched = performance.now();
const IDLE_MILLISECONDS = 60_000;
for (const sign of ["pointerdown", "pointermove", "keydown", "wheel"]) {
  addEventListener(sign, () => { touched = performance.now(); }, { capture: true, passive: true });
}

/** Keep the session's token, which goes with each change; a foreign page does not know it. */
export function keepToken(given) {
  token = given;
}

/** Ask the service; an error carries the service's own code. */
export async function ask(path, signal) {
  const headers = { Accept: "application/json" };
  // A list that renews itself before an empty chair must not keep the session open.
  if (performance.now() - touched > IDLE_MILLISECONDS) headers["X-Background"] = "1";
  return receive(await fetch(path, { signal, headers }));
}

/** Tell the service something: `send("PUT", path, {…})`. Everything that changes goes this way. */
export async function send(method, path, body = {}) {
  return receive(await fetch(path, {
    method,
    headers: {
      Accept: "application/json", "Content-Type": "application/json", ...(token && { "X-CSRF-Token": token }),
    },
    body: JSON.stringify(body),
  }));
}

async function receive(answer) {
  if (answer.ok) return answer.status === 204 ? null : answer.json();
  const problem = await answer.json().catch(() => ({}));
  // Not a wrong password: whoever was signed in no longer is.
  if (["SIGN_IN_REQUIRED", "SESSION_EXPIRED", "PASSWORD_CHANGE_REQUIRED"].includes(problem.code)) {
    document.dispatchEvent(new CustomEvent("signed-out", { detail: problem.code }));
  }
  throw Object.assign(new Error(problem.message || answer.statusText), {
    code: problem.code || "HTTP_ERROR",
    status: answer.status,
  });
}

/** The path of a picture of a study. */
export function picturePath(study, sop, file) {
  const [one, two] = [study, sop].map(encodeURIComponent);
  return `/api/studies/${one}/instances/${two}/${file}`;
}
