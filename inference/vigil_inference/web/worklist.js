// The worklist: what to read first. Rows are kept and mended in place, so nothing jumps or loses
// the focus when a study arrives.

import { ask, make, picturePath } from "./dom.js";
import { dicomDate, moment, t, waiting } from "./i18n.js";
import { badge, chip, identity, nameOf, refused, standing } from "./parts.js";

const PAGE = 100;
const GATHER_MS = 250;
const TICK_MS = 5000;
const PRIORITIES = ["CRITICAL", "URGENT", "ROUTINE", "NOT_ANALYSED"];

export function worklistView(root) {
  const rows = new Map();
  let page = null;
  let offset = 0;
  let order = sessionStorage.getItem("vigil-order") || "priority";
  let clockOffset = 0;
  let timer = null;
  let abort = new AbortController();

  document.title = `${t("worklist")} · Vigil`;
  const counts = make("ul.counts");
  const model = make("div.alert", { role: "status", hidden: true });
  const list = make("ol.rows");
  const empty = make("p.empty", { hidden: true }, t("empty"));
  const failure = make("p.alert", { role: "alert", hidden: true });
  const pager = make("nav.pager", { "aria-label": t("pages") });
  const orders = make("div.segmented", { role: "group", "aria-label": t("order") },
    ["priority", "arrival"].map((name) => make("button", {
      type: "button", "aria-pressed": String(order === name), "data-order": name,
      onclick: () => useOrder(name),
    }, t(`order_${name}`))));
  root.append(
    make("div.tools", {}, make("h1", {}, t("worklist")), counts, orders),
    model, failure,
    make("div.head", { "aria-hidden": "true" },
      make("span", {}, t("priority")), make("span", {}, t("picture")), make("span", {}, t("patient")),
      make("span", {}, t("study")), make("span", {}, t("why")), make("span", {}, t("waiting"))),
    list, empty, pager);

  async function load() {
    abort.abort();
    abort = new AbortController();
    try {
      page = await ask(`/api/worklist?order=${order}&offset=${offset}&limit=${PAGE}`, abort.signal);
      clockOffset = Date.parse(page.generated_at) - Date.now();
      failure.hidden = true;
      draw();
    } catch (error) {
      if (error.name === "AbortError") return;
      failure.textContent = t("failed", { code: error.code || "NETWORK" });
      failure.hidden = false;
    }
  }

  function draw() {
    const seen = new Set();
    let previous = null;
    for (const study of page.studies) {
      const uid = study.study_instance_uid;
      seen.add(uid);
      const text = JSON.stringify({ ...study, waiting_seconds: 0 });
      let entry = rows.get(uid);
      if (!entry) rows.set(uid, (entry = { element: make("li"), text: "" }));
      if (entry.text !== text) {
        const focused = entry.element.contains(document.activeElement);
        entry.element.replaceChildren(row(study));
        if (focused) entry.element.querySelector("a").focus({ preventScroll: true });
        entry.text = text;
      }
      const place = previous ? previous.nextElementSibling : list.firstElementChild;
      if (place !== entry.element) list.insertBefore(entry.element, place);
      previous = entry.element;
    }
    for (const [uid, entry] of rows) {
      if (!seen.has(uid)) {
        entry.element.remove();
        rows.delete(uid);
      }
    }
    empty.hidden = page.total > 0;
    drawCounts();
    drawPager();
    model.hidden = page.model.available;
    model.textContent = page.model.available ? "" : `${t("code.MODEL_UNAVAILABLE")} (${page.model.reason})`;
    tick();
  }

  function drawCounts() {
    counts.replaceChildren(...PRIORITIES.map((priority) => make("li", { "data-priority": priority },
      make("b", {}, page.counts[priority] ?? 0), " ", t(`priority.${priority}`))),
    page.pending > 0 ? make("li", { "data-priority": "WAITING" },
      make("b", {}, page.pending), " ", t("priority.WAITING")) : "");
  }

  function drawPager() {
    const last = Math.min(offset + PAGE, page.total);
    const go = (to) => () => {
      offset = Math.max(0, to);
      load();
      scrollTo(0, 0);
    };
    pager.hidden = page.total <= PAGE && offset === 0;
    pager.replaceChildren(
      make("button", { type: "button", disabled: offset === 0, onclick: go(offset - PAGE) }, t("previous")),
      make("span", {}, t("range", { from: page.total ? offset + 1 : 0, to: last, total: page.total })),
      make("button", { type: "button", disabled: last >= page.total, onclick: go(offset + PAGE) }, t("next")));
  }

  function tick() {
    const now = Date.now() + clockOffset;
    for (const element of list.querySelectorAll("time[data-since]")) {
      const text = waiting((now - Number(element.dataset.since)) / 1000);
      if (element.textContent !== text) element.textContent = text;
    }
  }

  function useOrder(name) {
    order = name;
    offset = 0;
    sessionStorage.setItem("vigil-order", name);
    for (const button of orders.children) {
      button.setAttribute("aria-pressed", String(button.dataset.order === name));
    }
    load();
  }

  const ticking = setInterval(tick, TICK_MS);
  list.addEventListener("keydown", (event) => {
    const step = { ArrowDown: "nextElementSibling", ArrowUp: "previousElementSibling" }[event.key];
    const next = step && event.target.closest("li")?.[step];
    if (!next) return;
    event.preventDefault();
    next.querySelector("a").focus();
  });
  load();
  return {
    changed() {
      timer ??= setTimeout(() => {
        timer = null;
        load();
      }, GATHER_MS);
    },
    close() {
      clearInterval(ticking);
      clearTimeout(timer);
      abort.abort();
    },
  };
}

function row(study) {
  const uid = study.study_instance_uid;
  return make("a.row", {
    href: `/studies/${encodeURIComponent(uid)}`, "data-link": true, "data-priority": standing(study),
  },
  make("span.cell.is-priority", {}, badge(standing(study))),
  make("span.cell.is-picture", {}, thumbnail(study)),
  make("span.cell.is-patient", {},
    make("strong", {}, nameOf(study.patient)), make("small", {}, identity(study.patient)),
    study.identity_conflict && make("small.warning", {}, t("identity_conflict_short"))),
  make("span.cell.is-study", {},
    make("span", {}, study.study_description || t("no_description")),
    make("small", {}, [dicomDate(study.study_date), study.institution_name || study.source]
      .filter(Boolean).join(" · "))),
  make("span.cell.is-why", {}, why(study)),
  make("span.cell.is-waiting", {}, make("time", {
    datetime: study.received_at, title: moment(study.received_at),
    "data-since": Date.parse(study.received_at),
  })));
}

function why(study) {
  const parts = study.flags.map(chip);
  if (study.state === "analysed" && !parts.length) parts.push(make("span.quiet", {}, t("no_flag")));
  if (study.state === "received" && !study.refusals.length) {
    parts.push(make("span.quiet", {}, t("being_analysed")));
  }
  return [make("span.chips", {}, parts), ...study.refusals.map(refused)];
}

function thumbnail(study) {
  const sop = study.preview_sop_instance_uid;
  if (!sop) return make("span.no-picture", { "aria-hidden": "true" });
  return make("img", {
    src: picturePath(study.study_instance_uid, sop, "image.jpg?size=128"),
    alt: "", width: 64, height: 64, loading: "lazy", decoding: "async",
  });
}
