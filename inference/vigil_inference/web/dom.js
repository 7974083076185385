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

/** Ask the service; an error carries the service's own code. */
export async function ask(path, signal) {
  return receive(await fetch(path, { signal, headers: { Accept: "application/json" } }));
}

/** Tell the service something: `send("PUT", path, {…})`. Everything that changes goes this way. */
export async function send(method, path, body = {}) {
  return receive(await fetch(path, {
    method,
    headers: { Accept: "application/json", "Content-Type": "application/json" },
    body: JSON.stringify(body),
  }));
}

async function receive(answer) {
  if (answer.ok) return answer.status === 204 ? null : answer.json();
  const problem = await answer.json().catch(() => ({}));
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
