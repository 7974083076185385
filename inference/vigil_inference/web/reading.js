// What the radiologist says of the study: one key a finding, a note, the signature, the next study.

import { ask, make } from "./dom.js";
import { finding, moment, percent, t } from "./i18n.js";
import { fold, placeOf } from "./reading/folding.js";
import { drop, flush, listen, say, sayAnyway, sendAs, unsaved } from "./reading/outbox.js";
import { higher, identity, raiseDialog, raisedLine } from "./reading/raise.js";
import { findingSearch } from "./reading/search.js";

const NOTE = "vigil-note";
const GO_ON_WITHIN_MS = 5000;
let words = null; // the vocabulary, asked for once

/** Whether the account may do this; without accounts everybody may do all. */
const may = (permission) => document.documentElement.dataset.may?.split(" ").includes(permission) ?? true;

/**
 * The reading's part of a study's page: made once for a study, drawn at each change.
 * @param {Element} parent
 * @param {object} first the study
 * @param {object} viewer shows regions and lets one be picked
 */
export function readingPanel(parent, first, viewer) {
  const uid = first.study_instance_uid;
  const noteKey = `${NOTE}:${uid}`;
  let study = first;
  let shown = null; // the picture that is looked at
  let readings = null; // what the service says
  let current = ""; // label of the finding that keys speak of
  let isAmending = false;
  let restAbsent = false;
  let search = null; // {element, focus, corrects}
  let signedAt = 0; // when the reader asked to sign and go on
  let isClosed = false;
  let noteTimer = null;
  const status = make("span.standing", { role: "status" });
  const alerts = make("div.alerts");
  const rows = make("ol.says", { "aria-label": t("reading.findings") });
  const searchPlace = make("div");
  const rest = make("input", { type: "checkbox", onchange: () => { restAbsent = rest.checked; } });
  const restText = make("span");
  const restLine = make("label.rest", {}, rest, restText);
  const note = make("textarea", {
    rows: 2, maxlength: 4000, id: "reading-note", onblur: () => keepNote(),
    oninput: () => {
      localStorage.setItem(noteKey, note.value);
      clearTimeout(noteTimer);
      noteTimer = setTimeout(keepNote, 4000);
    },
    onkeydown: (event) => {
      if (event.key !== "Escape" && !(event.key === "Enter" && event.ctrlKey)) return;
      event.preventDefault();
      event.stopPropagation();
      note.blur();
      rows.querySelector("li")?.focus();
    },
  });
  const act = (name, key, run, kind = "") => make(`button${kind}`, { type: "button", onclick: run, title: `${t(name)} (${key})` },
    t(name), make("kbd", { "aria-hidden": "true" }, key));
  const add = act("reading.add", "e", () => openSearch(""));
  const sign = act("reading.sign", "s", () => signOff(), ".strong");
  const undoing = act("reading.undo", "u", () => undo());
  const amend = act("reading.amend", "y", () => startAmending());
  const raising = act("reading.raise", "!", () => openRaise());
  const raised = make("div");
  const others = make("div");
  const history = make("details.history");
  const agreement = may("export_readings") && make("a.back", { href: "/agreement", "data-link": true }, t("agreement.title"));
  const form = make("div.reading-form", {}, rows, searchPlace, restLine,
    make("label", { for: "reading-note" }, t("reading.note")), note);
  const acts = make("div.acts", {}, sign, add, undoing, amend, raising);
  const element = make("section.reading", { "aria-labelledby": "reading-title" },
    make("h2", { id: "reading-title" }, t("reading.title"), " ", status), alerts, raised, form, acts, others, history, agreement);
  parent.replaceChildren(element);

  const modelSays = (sop, label) => {
    const found = study.instances.find((one) => one.sop_instance_uid === sop)?.findings.find((one) => one.label === label);
    return found && found.probability !== null ? found : null;
  };
  const flagged = (sop, label) => modelSays(sop, label)?.flagged ?? null;
  const now = () => fold([...(readings?.mine.statements ?? []), ...unsaved(uid).map((item) => item.statement)], flagged);
  const isLocked = (state) => state.isSigned && !isAmending;

  /** The rows: what the model flags in this picture, and what the reader spoke of. */
  function listed(state) {
    const labels = shown.findings.filter((one) => one.flagged).map((one) => one.label);
    for (const said of state.findings.values()) {
      if (said.sop === shown.sop_instance_uid && !labels.includes(said.label)) labels.push(said.label);
    }
    return labels;
  }

  const unspokenOf = (state) => shown.findings.filter((one) => one.probability !== null && !one.flagged
    && !state.findings.has(placeOf(shown.sop_instance_uid, one.label)));

  function draw() {
    if (isClosed || !shown) return;
    const state = now();
    const labels = listed(state);
    if (!labels.includes(current)) current = labels[0] ?? "";
    const isReader = may("read_studies") && readings !== null;
    const waiting = unsaved(uid);
    const late = waiting.filter((item) => item.isLate || item.held);
    const standing = state.isSigned ? "signed" : state.editions ? "amending" : state.last ? "draft" : "empty";
    element.dataset.standing = standing;
    status.textContent = [t(`reading.standing.${standing}`),
      late.length && t("reading.unsaved", { n: waiting.length })].filter(Boolean).join(" · ");
    status.classList.toggle("is-unsaved", late.length > 0);
    drawAlerts(waiting, late, state);
    const hadFocus = rows.contains(document.activeElement);
    rows.replaceChildren(...labels.map((label, index) => row(label, index, state)));
    if (hadFocus) rows.querySelector("[aria-current]")?.focus({ preventScroll: true });
    const open = isReader && !isLocked(state);
    const unspoken = unspokenOf(state);
    restLine.hidden = !unspoken.length || !open;
    restText.textContent = t("reading.rest", { n: unspoken.length });
    restText.title = unspoken.map((one) => finding(one.label)).join(" · ");
    form.hidden = readings === null || (!isReader && !state.last);
    form.toggleAttribute("data-locked", !open);
    if (document.activeElement !== note) note.value = localStorage.getItem(noteKey) ?? state.note;
    note.readOnly = !open;
    for (const [button, is] of [[sign, open], [add, open], [undoing, isReader && state.last !== null],
      [amend, isReader && isLocked(state)], [raising, may("raise_priority") && higher(study.priority).length > 0]]) button.hidden = !is;
    raised.replaceChildren(...(readings?.raises ?? []).map(raisedLine));
    drawOthers();
    drawHistory();
    viewer?.showRegions?.([...state.findings.values()].filter((one) => one.sop === shown.sop_instance_uid)
      .flatMap((one) => one.regions.map((r) => ({ box: [r.x, r.y, r.x + r.width, r.y + r.height], label: finding(one.label) }))));
  }

  function row(label, index, state) {
    const sop = shown.sop_instance_uid;
    const model = modelSays(sop, label);
    const said = state.findings.get(placeOf(sop, label));
    const isCurrent = label === current;
    const open = may("read_studies") && readings !== null && !isLocked(state);
    const press = (name, key, is, run) => make("button", { type: "button", "aria-pressed": String(is), disabled: !open, onclick: run },
      t(name), make("kbd", { "aria-hidden": "true" }, key));
    const answer = said ? t(said.present ? "reading.present" : "reading.absent") : t("reading.open");
    const is = (present) => Boolean(said) && said.present === present;
    const names = model ? ["reading.agree", "reading.disagree"] : ["reading.present", "reading.absent"];
    const yes = model ? model.flagged : true;
    return make("li", {
      tabindex: isCurrent ? 0 : -1, "aria-current": isCurrent && "true", "data-label": label, "data-said": said ? (said.present ? "present" : "absent") : "",
      onfocus: () => { if (current !== label) { current = label; draw(); } },
    },
    make("span.name", {}, make("kbd", { "aria-hidden": "true" }, index + 1), finding(label),
      model && make("small", {}, t(model.flagged ? "reading.model_flags" : "reading.model_does_not", { n: percent(model.probability) })),
      said?.said.act === "correct" && said.said.instead === label && make("small", {}, t("reading.instead_of", { name: finding(said.said.label) }))),
    make("span.answer", {}, answer, said?.regions.length ? ` · ${t("reading.regions", { n: said.regions.length })}` : ""),
    make("span.answers", {},
      press(names[0], "y", is(yes), () => judge(label, true)),
      press(names[1], "x", is(!yes), () => judge(label, false)),
      viewer?.pickRegion && make("button", { type: "button", disabled: !open, onclick: () => mark(label), title: `${t("reading.mark")} (b)` }, t("reading.mark_short")),
      model?.flagged && make("button", { type: "button", disabled: !open, onclick: () => openSearch(label), title: `${t("reading.correct")} (g)` }, t("reading.correct_short"))));
  }

  function drawAlerts(waiting, late, state) {
    const held = waiting.find((item) => item.held);
    const parts = [];
    if (held) {
      const { statement } = held;
      const what = statement.label ? `${finding(statement.label)}: ${t(`reading.act.${statement.act}`)}` : t(`reading.act.${statement.act}`);
      const isChange = ["READING_CHANGED", "READING_SIGNED"].includes(held.held);
      parts.push(make("div.alert", { role: "alert" },
        make("p", {}, isChange ? t("reading.changed", { what }) : t("reading.refused", { what, code: held.held })),
        statement.note && make("q", {}, statement.note),
        make("div.acts", {},
          isChange && make("button", { type: "button", onclick: () => {
            sayAnyway(statement.id, readings.mine.version, readings.mine.editions.length > 0);
            draw();
          } }, t("reading.say_anyway")),
          make("button", { type: "button", onclick: () => drop(statement.id) }, t("reading.drop")))));
    } else if (late.length) {
      parts.push(make("p.alert", { role: "status" }, t("reading.not_saved")));
    }
    if (element.dataset.done === "true" && state.isSigned) parts.push(make("p.quiet", { role: "status" }, t("reading.none_left")));
    alerts.replaceChildren(...parts);
  }

  function drawOthers() {
    const found = readings?.others.filter((one) => one.standing !== "empty") ?? [];
    const wasOpen = others.querySelector("details")?.open ?? false;
    others.replaceChildren(...(readings?.hidden_others ? [make("p.quiet", {}, t("reading.blind"))] : []), ...(found.length ? [make("details", { open: wasOpen }, make("summary", {}, t("reading.others", { n: found.length })),
      found.map((one) => make("div.other", {}, make("strong", {}, one.reader_name || one.reader), " ", t(`reading.standing.${one.standing}`),
        make("ul.plain", {}, one.findings.map((said) => make("li", {}, `${finding(said.label)}: ${t(said.present ? "reading.present" : "reading.absent")}`))),
        one.note && make("q", {}, one.note))))] : []));
  }

  function drawHistory() {
    const said = readings?.mine.statements ?? [];
    history.hidden = !said.length;
    history.replaceChildren(make("summary", {}, t("reading.history", { n: said.length })),
      make("ol", {}, said.map((one) => make("li", {}, moment(one.said_at), " ", t(`reading.act.${one.act}`), " ",
        [one.label, one.instead].filter(Boolean).map(finding).join(" → "), one.amendment && ` (${t("reading.amendment")})`))));
  }

  // ---- what the reader does

  function tell(fields) {
    const state = now();
    const pending = unsaved(uid);
    const seen = pending.length ? pending.at(-1).statement.seen_version : readings.mine.version;
    const statement = { id: identity(), seen_version: seen, amendment: state.editions > 0, ...fields };
    element.dataset.done = "false";
    say(uid, statement);
  }

  const isOpen = () => readings !== null && may("read_studies") && !isLocked(now());

  function judge(label, agrees) {
    if (!label || !isOpen()) return;
    const sop = shown.sop_instance_uid;
    const model = modelSays(sop, label);
    const name = model ? (agrees ? "agree" : "disagree") : (agrees ? "add" : "rule_out");
    const before = now().findings.get(placeOf(sop, label));
    const present = model ? model.flagged === agrees : agrees;
    if (before && before.present === present && before.said.label === label) return;
    tell({ act: name, sop_instance_uid: sop, label, regions: present && before ? before.regions : [] });
    step(1, false);
  }

  /** Say that a finding is there, in whatever words fit what the model says of it. */
  function saysPresent(label, regions) {
    const model = modelSays(shown.sop_instance_uid, label);
    const name = model === null ? "add" : model.flagged ? "agree" : "disagree";
    current = label;
    tell({ act: name, sop_instance_uid: shown.sop_instance_uid, label, regions });
  }

  async function mark(label) {
    if (!label || !isOpen() || !viewer?.pickRegion) return;
    const sop = shown.sop_instance_uid;
    const box = await viewer.pickRegion();
    if (!box || isClosed || shown.sop_instance_uid !== sop) return;
    const [left, top, right, bottom] = box.map((one) => Math.min(1, Math.max(0, one)));
    if (right - left < 0.001 || bottom - top < 0.001) return;
    const before = now().findings.get(placeOf(sop, label));
    saysPresent(label, [...(before?.regions ?? []), { x: left, y: top, width: right - left, height: bottom - top }]);
    focusCurrent();
  }

  function openSearch(corrects) {
    if (!isOpen() || (corrects && !modelSays(shown.sop_instance_uid, corrects)?.flagged)) return;
    if (words === null) return; // asked for with the readings: letters that follow must not be lost
    search?.element.remove();
    search = findingSearch(words.filter((word) => word.label !== corrects), (label) => {
      search?.element.remove();
      search = null;
      if (label && corrects) {
        current = label;
        tell({ act: "correct", sop_instance_uid: shown.sop_instance_uid, label: corrects, instead: label });
      } else if (label) saysPresent(label, []);
      focusCurrent();
    });
    searchPlace.append(search.element);
    search.focus();
  }

  function keepNote() {
    clearTimeout(noteTimer);
    const typed = localStorage.getItem(noteKey);
    if (typed === null || isClosed || !isOpen()) return;
    localStorage.removeItem(noteKey);
    if (typed.trim() !== now().note) tell({ act: "note", note: typed.trim() });
  }

  function signOff() {
    if (!isOpen()) return;
    keepNote();
    signedAt = Date.now();
    isAmending = false;
    tell({ act: "sign_off", rest_absent: restAbsent ? [shown.sop_instance_uid] : [] });
  }

  function undo() {
    const { last } = now();
    if (!last || readings === null || !may("read_studies")) return;
    isAmending = false;
    tell({ act: "undo", undoes: last.id, amendment: false });
  }

  function startAmending() {
    isAmending = true;
    draw();
    focusCurrent();
  }

  function openRaise() {
    if (!may("raise_priority") || !higher(study.priority).length) return;
    raiseDialog(study, (answer) => take(uid, answer));
  }

  const focusCurrent = () => rows.querySelector("[aria-current]")?.focus({ preventScroll: true });

  function step(by, wraps = true) {
    const labels = listed(now());
    if (!labels.length) return;
    const at = labels.indexOf(current) + by;
    current = labels[wraps ? (at + labels.length) % labels.length : Math.min(at, labels.length - 1)];
    draw();
    focusCurrent();
  }

  async function goOn() {
    const answer = await ask(`/api/readings/next?after=${encodeURIComponent(uid)}`).catch(() => null);
    if (answer === null || isClosed) return;
    if (answer.study_instance_uid === null) {
      element.dataset.done = "true";
      draw();
      return;
    }
    goTo(`/studies/${encodeURIComponent(answer.study_instance_uid)}`);
  }

  function take(which, answer) {
    if (which !== uid || isClosed) return;
    if (answer !== null) readings = answer;
    draw();
    const isSigned = readings?.mine.standing === "signed" && !unsaved(uid).length;
    if (isSigned && signedAt && Date.now() - signedAt < GO_ON_WITHIN_MS) goOn();
    if (isSigned) signedAt = 0;
  }

  async function load() {
    try {
      const answer = await ask(`/api/studies/${encodeURIComponent(uid)}/readings`);
      words ??= await ask("/api/readings/vocabulary");
      sendAs(answer.mine.reader);
      take(uid, answer);
    } catch (error) {
      if (readings === null && !isClosed) status.textContent = t("failed", { code: error.code || "NETWORK" });
    }
  }

  const stopListening = listen(take);
  load();

  // Only while the focus is here: elsewhere these keys steer the film.
  const here = (run) => (event) => (element.contains(document.activeElement) ? run(event) : false);
  const on = (keys, name, run) => ({ keys, say: `key.reading.${name}`, run });
  return {
    bindings: {
      title: "reading.title",
      bindings: [
        on(["j"], "next_finding", () => step(1)),
        on(["k"], "previous_finding", () => step(-1)),
        on(["1", "2", "3", "4", "5", "6", "7", "8", "9"], "number", here((event) => {
          const label = listed(now())[Number(event.key) - 1];
          if (!label) return false;
          current = label;
          draw();
          focusCurrent();
          return true;
        })),
        on(["y"], "agree", () => (isLocked(now()) ? startAmending() : judge(current, true))),
        on(["x"], "disagree", () => judge(current, false)),
        on(["a"], "agree_here", here(() => judge(current, true))),
        on(["d"], "disagree_here", here(() => judge(current, false))),
        on(["e"], "add", () => { openSearch(""); }),
        on(["g"], "correct", () => { openSearch(current); }),
        on(["b"], "mark", () => { mark(current); }),
        on(["l"], "rest", () => { if (!restLine.hidden) rest.click(); }),
        on(["q"], "note", () => { if (!note.readOnly) note.focus(); }),
        on(["s"], "sign", () => signOff()),
        on(["u"], "undo", () => undo()),
        on(["z"], "undo_here", here(() => undo())),
        on(["!"], "raise", () => openRaise()),
      ],
    },
    draw(next, picture) {
      study = next;
      if (shown?.sop_instance_uid !== picture.sop_instance_uid) {
        restAbsent = false;
        rest.checked = false;
      }
      shown = picture;
      draw();
    },
    changed() {
      load();
      flush();
    },
    close() {
      keepNote();
      isClosed = true;
      stopListening();
    },
  };
}

function goTo(path) {
  window.history.pushState(null, "", path);
  dispatchEvent(new PopStateEvent("popstate"));
}
