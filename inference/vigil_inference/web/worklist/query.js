// What the list shows: filters and order, as they stand in the address.

export const STATUSES = ["unread", "mine", "overdue", "being_read", "waiting", "refused", "read", "all"];
export const DETAILS = [
  "text", "finding", "institution", "source", "modality", "patient_id", "received_from", "received_to",
];
const DEFAULTS = { status: "unread", priority: "", order: "priority", offset: 0 };
const SAVED = "vigil-worklist-default";
const LAST = "vigil-worklist-last";

/** Read the address; where it says nothing, what was shown last here, else the reader's default. */
export function readQuery() {
  const given = location.search || sessionStorage.getItem(LAST) || localStorage.getItem(SAVED) || "";
  const said = new URLSearchParams(given);
  const query = { ...DEFAULTS };
  for (const name of DETAILS) query[name] = said.get(name) ?? "";
  for (const name of ["status", "priority", "order"]) query[name] = said.get(name) ?? query[name];
  if (!STATUSES.includes(query.status)) query.status = DEFAULTS.status;
  if (query.order !== "arrival") query.order = "priority";
  query.offset = Math.max(0, Number.parseInt(said.get("offset") ?? "0", 10) || 0);
  return query;
}

/** Write it into the address, so that it can be kept and sent. */
export function writeQuery(query) {
  const text = `?${parametersOf(query)}`;
  sessionStorage.setItem(LAST, text);
  history.replaceState(history.state, "", `/${text === "?" ? "" : text}`);
}

/** Let a reader's own filters be there at the next start. */
export const saveDefault = (query) => localStorage.setItem(SAVED, `?${parametersOf({ ...query, offset: 0 })}`);

function parametersOf(query) {
  const said = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (String(value) !== String(DEFAULTS[name] ?? "")) said.set(name, value);
  }
  return said;
}

/** What the service is asked; days begin and end by the reader's own clock. */
export function askedOf(query, limit, reader) {
  const asked = new URLSearchParams({ order: query.order, status: query.status, offset: query.offset, limit, reader });
  if (query.priority) asked.set("priority", query.priority);
  for (const name of DETAILS) {
    if (query[name]) asked.set(name, name.startsWith("received_") ? day(query[name], name) : query[name]);
  }
  return asked;
}

function day(text, name) {
  const moment = new Date(`${text}T00:00:00`);
  if (name === "received_to") moment.setDate(moment.getDate() + 1);
  return Number.isNaN(moment.getTime()) ? "" : moment.toISOString();
}

/** How many filters are set beside priority and status. */
export const countDetails = (query) => DETAILS.filter((name) => query[name]).length;

/**
 * Whether a row belongs in the list, as far as the page can tell; null where only the service can.
 * @param {object} row a row as the service tells it
 */
export function belongs(row, query) {
  if (countDetails(query)) return null;
  if (query.priority && row.priority !== query.priority) return false;
  switch (query.status) {
    case "all": return true;
    case "read": return row.read_at !== null;
    case "unread": return row.read_at === null;
    case "waiting": return row.read_at === null && row.state === "received";
    case "refused": return row.read_at === null && row.state === "not_analysed";
    default: return null;
  }
}

/** Which of two rows stands first. */
export function inOrder(order) {
  const arrival = (one, two) => Date.parse(one.received_at) - Date.parse(two.received_at);
  return order === "arrival" ? arrival : (one, two) => one.reading_order - two.reading_order || arrival(one, two);
}
