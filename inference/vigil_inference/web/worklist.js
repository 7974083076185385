// The worklist: what to read first. Rows are kept and mended in place, and nothing moves under a
// reader who is among them: what would move waits behind a button that says how much is new.

import { ask, make } from "./dom.js";
import { t } from "./i18n.js";
import { browserId, giveBack, isMine, take } from "./marks.js";
import { listenForKeys } from "./viewer/help.js";
import { filterBar } from "./worklist/bar.js";
import { askedOf, belongs, countDetails, inOrder, readQuery, writeQuery } from "./worklist/query.js";
import { drawRow, tick } from "./worklist/row.js";

const PAGE = 50;
const TICK_MS = 5000;
const POINTER_MS = 4000;
const RETRY_MS = 5000;

let expected = null; // the first answer, asked for before it was known who asks

const askFor = (query, signal) => ask(`/api/worklist?${askedOf(query, PAGE, browserId())}`, signal);

/** Ask for the list that will most likely be shown, before there is a view to show it. */
export function expectWorklist() {
  const query = readQuery();
  expected = { asked: JSON.stringify(query), page: askFor(query) };
  expected.page.catch(() => {}); // nobody is signed in, it may be
}

function takeExpected(query) {
  const found = expected?.asked === JSON.stringify(query) ? expected.page.catch(() => null) : null;
  expected = null;
  return found;
}

export function worklistView(root) {
  const rows = new Map(); // study UID to { element, text, study }
  let query = readQuery();
  let page = null;
  let clockOffset = 0;
  let timer = null;
  let pointed = -Infinity;
  let abort = new AbortController();
  let isAsking = false;
  let isStale = false; // something may have changed since it was asked

  document.title = `${t("worklist")} · Vigil`;
  const bar = filterBar(() => query, change, () => keys.help());
  const model = make("div.alert", { role: "status", hidden: true });
  const failure = make("p.alert", { role: "alert", hidden: true });
  const shown = make("p.shown");
  const news = make("button.news", { type: "button", hidden: true, onclick: showNews });
  const spoken = make("p.unseen", { role: "status", "aria-live": "polite" });
  const list = make("ol.rows", { "aria-label": t("worklist") });
  const empty = make("p.empty", { hidden: true });
  const pager = make("nav.pager", { "aria-label": t("pages"), hidden: true });
  root.append(bar.element, model, failure, make("div.summary", {}, shown, news), spoken,
    make("div.head", { "aria-hidden": "true" },
      ["priority", "picture", "patient", "study", "why", "waiting", "reader"].map((name) => make("span", {}, t(name)))),
    list, empty, pager);

  function change(changes) {
    query = { ...query, offset: 0, ...changes };
    writeQuery(query);
    bar.show();
    load({ moves: true });
  }

  async function load({ moves = false } = {}) {
    clearTimeout(timer);
    timer = null;
    abort.abort();
    abort = new AbortController();
    const { signal } = abort;
    isAsking = true;
    isStale = false;
    try {
      const found = await takeExpected(query) ?? await askFor(query, signal);
      if (signal.aborted) return;
      if (found.offset && found.offset >= found.total) { // the page is not there any more
        change({ offset: Math.max(0, Math.ceil(found.total / PAGE) - 1) * PAGE });
        return;
      }
      page = found;
      clockOffset = Date.parse(page.generated_at) - Date.now();
      failure.hidden = true;
      draw(moves);
    } catch (error) {
      if (error.name === "AbortError" || error.status === 401) return;
      failure.textContent = t("failed", { code: error.code || "NETWORK" });
      failure.hidden = false;
      loadSoon(RETRY_MS);
    } finally {
      if (!signal.aborted) isAsking = false;
    }
    if (isStale) loadSoon(1000);
  }

  /** Ask again in a while: many readers must not ask at the same moment. */
  function loadSoon(least) {
    timer ??= setTimeout(load, least * (1 + Math.random()));
  }

  /** Whether something that moves would move under the reader's eyes or hands. */
  const isAmongRows = () => list.contains(document.activeElement)
    || scrollY > 40 || performance.now() - pointed < POINTER_MS;

  function draw(moves) {
    const wanted = page.studies.map((study) => study.study_instance_uid);
    const there = [...list.children].map((element) => element.dataset.uid);
    const moved = there.join() !== wanted.join();
    const holds = moved && there.length > 0 && !moves && isAmongRows();
    for (const study of page.studies) mend(study);
    if (!holds) arrange(wanted);
    const fresh = wanted.filter((uid) => !there.includes(uid)).length;
    news.hidden = !holds;
    if (holds) {
      const said = fresh ? t("new_studies", { n: fresh }) : t("order_changed");
      if (news.textContent !== said) spoken.textContent = news.textContent = said;
    } else if (fresh && there.length && !moves) {
      spoken.textContent = t("new_studies", { n: fresh });
    }
    drawAround();
  }

  /** Draw what changed of a row, in its place. */
  function mend(study) {
    const uid = study.study_instance_uid;
    const text = JSON.stringify({ ...study, waiting_seconds: 0, overdue: false });
    let entry = rows.get(uid);
    if (!entry) rows.set(uid, (entry = { element: make("li", { "data-uid": uid }), text: "" }));
    entry.study = study;
    if (entry.text === text) return;
    const focused = entry.element.contains(document.activeElement) && document.activeElement.className;
    entry.element.replaceChildren(drawRow(study, press));
    tick(entry.element, Date.now() + clockOffset);
    if (focused) entry.element.querySelector(`.${focused}`)?.focus({ preventScroll: true });
    entry.text = text;
  }

  function arrange(wanted) {
    const focused = document.activeElement?.closest?.(".rows > li");
    const neighbour = focused && (focused.nextElementSibling ?? focused.previousElementSibling);
    let previous = null;
    for (const uid of wanted) {
      const { element } = rows.get(uid);
      const place = previous ? previous.nextElementSibling : list.firstElementChild;
      if (place !== element) list.insertBefore(element, place);
      previous = element;
    }
    const kept = new Set(wanted);
    for (const [uid, entry] of rows) {
      if (kept.has(uid)) continue;
      entry.element.remove();
      rows.delete(uid);
    }
    if (focused && !document.activeElement?.closest?.(".rows > li")) {
      (focused.isConnected ? focused : neighbour)?.querySelector(".row-link")?.focus({ preventScroll: true });
    }
  }

  function drawAround() {
    bar.count(page);
    const hidden = page.everything - page.total;
    shown.replaceChildren(
      t("shown_of", { n: page.total, all: page.everything }), " ",
      hidden > 0 ? t("hidden_by_filters", { n: hidden }) : "", " ",
      hidden > 0 ? make("button.link", {
        type: "button", onclick: () => change({
          status: "all", priority: "", text: "", finding: "", institution: "", source: "", modality: "", patient_id: "",
          received_from: "", received_to: "",
        }),
      }, t("show_all")) : "");
    empty.hidden = page.total > 0;
    empty.textContent = page.everything ? t("none_match") : t("empty");
    model.hidden = page.model.available;
    model.textContent = page.model.available ? "" : `${t("code.MODEL_UNAVAILABLE")} (${page.model.reason})`;
    drawPager();
  }

  function drawPager() {
    const last = Math.min(query.offset + PAGE, page.total);
    const go = (to) => () => {
      change({ offset: Math.max(0, to) });
      scrollTo(0, 0);
    };
    pager.hidden = page.total <= PAGE && query.offset === 0;
    pager.replaceChildren(
      make("button", { type: "button", disabled: query.offset === 0, onclick: go(query.offset - PAGE) }, t("previous")),
      make("span", {}, t("range", { from: page.total ? query.offset + 1 : 0, to: last, total: page.total })),
      make("button", { type: "button", disabled: last >= page.total, onclick: go(query.offset + PAGE) }, t("next")));
  }

  function showNews() {
    news.hidden = true;
    scrollTo(0, 0);
    arrange(page.studies.map((study) => study.study_instance_uid));
    list.querySelector(".row-link")?.focus({ preventScroll: true });
    drawAround();
  }

  /** Take what changed into the list without asking, where the page can tell what belongs in it. */
  function takeRows({ detail }) {
    if (!page) return;
    clockOffset = Date.parse(detail.generated_at) - Date.now();
    const told = new Map(detail.rows.map((row) => [row.study_instance_uid, row]));
    const unsure = query.offset > 0 || detail.rows.some((row) => belongs(row, query) === null);
    const studies = page.studies.filter((one) => !detail.gone.includes(one.study_instance_uid))
      .map((one) => told.get(one.study_instance_uid) ?? one);
    if (unsure) {
      page = { ...page, studies };
      for (const study of studies) if (told.has(study.study_instance_uid)) mend(study);
      loadSoon(1000);
      return;
    }
    const have = new Set(studies.map((one) => one.study_instance_uid));
    const all = [...studies, ...detail.rows.filter((row) => !have.has(row.study_instance_uid))]
      .filter((row) => belongs(row, query)).sort(inOrder(query.order));
    const statuses = { ...page.statuses, ...detail.statuses, mine: page.statuses.mine };
    page = { ...page, everything: detail.everything, model: detail.model, pending: detail.pending };
    if (query.status === "unread") page.counts = detail.counts;
    if (!query.priority) page.statuses = statuses;
    page.total = query.priority ? page.counts[query.priority] : page.statuses[query.status];
    page.studies = all.slice(0, PAGE);
    draw(false);
    // Another came up from the next page, or this filter's counts were not among those told.
    if (all.length < Math.min(PAGE, page.total) || query.priority || query.status !== "unread") loadSoon(1000);
  }

  async function press(study) {
    const uid = study.study_instance_uid;
    try {
      if (study.assigned && isMine(study.assigned)) await giveBack(uid);
      else await take(uid, study.assigned !== null);
    } catch {
      // Somebody was faster: the list says who.
    }
    load();
  }

  function step(event, by) {
    const links = [...list.querySelectorAll(".row-link")];
    const at = links.findIndex((link) => link.closest("li").contains(document.activeElement));
    const next = links[at < 0 ? 0 : at + by];
    if (!next) return false;
    next.focus({ preventScroll: true });
    next.closest("li").scrollIntoView({ block: "nearest" });
    return true;
  }

  const current = () => rows.get(document.activeElement?.closest?.(".rows > li")?.dataset.uid)?.study;
  const keys = listenForKeys([{
    title: "worklist",
    bindings: [
      { keys: ["/"], say: "key.search", run: () => { bar.search.focus(); bar.search.select(); } },
      { keys: ["j"], shown: ["j", "ArrowDown"], say: "key.next_row", run: (event) => step(event, 1) },
      { keys: ["k"], shown: ["k", "ArrowUp"], say: "key.previous_row", run: (event) => step(event, -1) },
      { keys: ["Enter"], say: "key.open", run: () => false },
      { keys: ["t"], say: "key.take", run: () => current() && press(current()) },
      { keys: ["n"], say: "key.show_new", run: () => (news.hidden ? false : showNews()) },
      { keys: ["?"], say: "key.help", run: () => false },
    ],
  }]);
  list.addEventListener("keydown", (event) => {
    const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (by && step(event, by)) event.preventDefault();
  });
  list.addEventListener("pointermove", () => { pointed = performance.now(); }, { passive: true });
  const ticking = setInterval(() => {
    for (const { element } of rows.values()) tick(element, Date.now() + clockOffset);
  }, TICK_MS);
  document.addEventListener("worklist-rows", takeRows);
  load({ moves: true });
  return {
    changed(uid) {
      if (uid !== null) return;
      if (isAsking) isStale = true; // what is on its way is shown first
      else loadSoon(page ? 200 : 0);
    },
    close() {
      clearInterval(ticking);
      clearTimeout(timer);
      bar.close();
      keys.close();
      abort.abort();
      document.removeEventListener("worklist-rows", takeRows);
    },
  };
}
