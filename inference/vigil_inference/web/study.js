// One study: its pictures, what the network says of them and what it does not, and where that is from.

import { ask, make, picturePath } from "./dom.js";
import { currentLanguage, dicomDate, finding, moment, t } from "./i18n.js";
import { badge, identity, nameOf, standing } from "./parts.js";
import { readingPanel } from "./reading.js";
import { bindingsOf } from "./viewer/bindings.js";
import { changes, comparedFilm, nameOfStudy, openOther, otherStudies } from "./viewer/compare.js";
import { explained } from "./viewer/explain.js";
import { cardLink, saidOf, section, waits } from "./viewer/findings.js";
import { filmFrame, sayGate } from "./viewer/frame.js";
import { listenForKeys } from "./viewer/help.js";
import { layers } from "./viewer/layers.js";
import { showTags } from "./viewer/tags.js";
import { toolbar } from "./viewer/toolbar.js";

export function studyView(root, uid, configuration) {
  let page = null; // made when the study is known
  let text = "";
  let timer = null;
  const abort = new AbortController();
  document.title = "Vigil";
  root.append(make("p.empty", {}, t("loading")));

  async function load() {
    let study;
    try {
      study = await ask(`/api/studies/${encodeURIComponent(uid)}`, abort.signal);
    } catch (error) {
      if (error.name === "AbortError") return;
      const known = error.status === 404 ? t("study_unknown") : t("failed", { code: error.code || "NETWORK" });
      if (page && error.status !== 404) return;
      page?.close();
      page = null;
      root.replaceChildren(back(), make("p.alert", { role: "alert" }, known));
      return;
    }
    // Who has it, and for how long it has waited, is not said here: a note that is open stays.
    const now = JSON.stringify({ ...study, waiting_seconds: 0, overdue: false, assigned: null, being_read: null });
    if (now === text) return;
    text = now;
    page ??= studyPage(root, study, configuration, abort.signal);
    page.draw(study);
  }

  load();
  return {
    changed(which) {
      if (which && which !== uid) return;
      page?.changed();
      clearTimeout(timer);
      timer = setTimeout(load, 100);
    },
    close() {
      clearTimeout(timer);
      abort.abort();
      page?.close();
    },
  };
}

/** The page of a study: made once, so that a live update leaves the film as the reader set it. */
function studyPage(root, first, configuration, signal) {
  const uid = first.study_instance_uid;
  let study = first;
  let others = []; // the patient's other studies
  let compared = null; // {other, then, film}
  const { element: film, viewer } = filmFrame(uid, nameOf(first.patient));
  const parts = Object.fromEntries(["pictures", "header", "warnings", "reading", "findings", "changes", "withheld",
    "notes", "provenance"].map((name) => [name, make(`div.part.${name}`)]));
  const stage = make("div.stage", {}, film);
  const compare = make("select.compare", { hidden: true, "aria-label": t("compare.with"), onchange: () => choose() });
  const help = make("button", { type: "button", "data-act": "help", title: t("key.help"), onclick: () => keys.help() }, "?");
  const tags = make("button", { type: "button", "data-act": "tags", onclick: () => page.tags() }, t("tags.short"));
  root.replaceChildren(make("div.study", {},
    make("div.viewer", {}, parts.pictures, stage, toolbar(viewer, compare, tags, help), layers(viewer)),
    make("div.panel", {}, back(), parts.header, parts.warnings, parts.reading, parts.findings, parts.changes,
      parts.withheld, parts.notes, parts.provenance)));

  const page = {
    pictures: () => study.instances.length,
    others: () => others.length,
    tags: () => showTags(uid, viewer.instance),
    compare() {
      compare.focus();
    },
    nextPicture(step) {
      const at = study.instances.findIndex((one) => one.sop_instance_uid === viewer.instance.sop_instance_uid);
      show(study.instances[(at + step + study.instances.length) % study.instances.length]);
    },
  };
  const steered = () => (document.activeElement === compared?.film.viewer.film.canvas ? compared.film.viewer : viewer);
  const reading = readingPanel(parts.reading, study, viewer);
  const keys = listenForKeys([reading.bindings, ...bindingsOf(steered, page)]);
  viewer.listen((what) => what === "map" && markMaps());

  function show(instance) {
    viewer.show(instance);
    part();
    drawPanel();
  }

  function drawPanel() {
    const shown = viewer.instance;
    document.title = `${nameOf(study.patient)} · Vigil`;
    fill(parts.pictures, study.instances.length > 1 && pictures(study, shown, show));
    fill(parts.header, header(study));
    fill(parts.warnings, warnings(study, shown));
    reading.draw(study, shown);
    fill(parts.findings, saidOf(shown, viewer, configuration.case_level));
    fill(parts.changes, compared && changes(shown, compared.then, compared.other));
    fill(parts.withheld, withheld(shown));
    fill(parts.notes, notes(shown, viewer));
    fill(parts.provenance, provenance(study, shown));
  }

  function markMaps() {
    for (const button of parts.findings.querySelectorAll("[data-map]")) {
      button.setAttribute("aria-pressed", String(button.dataset.map === viewer.mapLabel));
    }
  }

  async function choose() {
    const other = others[compare.selectedIndex - 1];
    part();
    if (other) {
      const { study: then, instance } = await openOther(other, viewer.instance, signal);
      if (instance && others[compare.selectedIndex - 1] === other) {
        compared = { other, then: instance, film: comparedFilm(viewer, { study: then, instance }, other, nameOf(then.patient)) };
        stage.append(compared.film.element);
        stage.classList.add("is-compared");
      }
    }
    drawPanel();
  }

  function part() {
    compared?.film.close();
    compared?.film.element.remove();
    compared = null;
    stage.classList.remove("is-compared");
  }

  otherStudies(uid, signal).then((found) => {
    others = found;
    compare.hidden = !found.length;
    compare.replaceChildren(...[t("compare.with"), ...found.map(nameOfStudy)]
      .map((name) => make("option", {}, name)));
  }).catch(() => {}); // the study is there without them

  return {
    draw(next) {
      study = next;
      const known = study.instances.find((one) => one.sop_instance_uid === viewer.instance?.sop_instance_uid);
      const begin = known ?? study.instances.find((one) => one.sop_instance_uid === study.preview_sop_instance_uid)
        ?? study.instances[0];
      const isSame = known && known.has_preview === viewer.instance.has_preview && known.removed_at === viewer.instance.removed_at
        && known.analysed_at === viewer.instance.analysed_at;
      if (isSame) viewer.update(known);
      else viewer.show(begin);
      drawPanel();
    },
    changed: reading.changed,
    close() {
      part();
      reading.close();
      keys.close();
      viewer.close();
    },
  };
}

const fill = (place, ...content) => place.replaceChildren(...content.flat().filter(Boolean));

const back = () => make("a.back", { href: "/", "data-link": true }, `← ${t("back")}`);

function header(study) {
  return make("header.patient", {},
    make("h1", {}, nameOf(study.patient)),
    make("p", {}, identity(study.patient)),
    make("p.quiet", {}, [study.study_description, dicomDate(study.study_date),
      study.institution_name, study.accession_number].filter(Boolean).join(" · ")),
    make("p", {}, explained(badge(standing(study)), () => [t("explain.priority"), study.reason && make("p", { lang: "en" }, study.reason), cardLink()].filter(Boolean)),
      " ", make("span.quiet", {}, t("received", { when: moment(study.received_at), from: study.source }))));
}

function pictures(study, shown, show) {
  return make("div.pictures-strip", { role: "group", "aria-label": t("pictures_of_study") },
    study.instances.map((one, index) => make("button", {
      type: "button", "aria-pressed": String(one.sop_instance_uid === shown.sop_instance_uid), onclick: () => show(one),
    },
    one.has_preview
      ? make("img", { src: picturePath(study.study_instance_uid, one.sop_instance_uid, "image.jpg?size=128"), alt: "", width: 48, height: 48 })
      : make("span.no-picture", {}),
    make("span", {}, `${index + 1}. ${one.view || one.modality}`))));
}

function warnings(study, shown) {
  const said = [];
  if (study.identity_conflict) said.push(t("identity_conflict"));
  if (shown.conflicts) said.push(t("conflict", { n: shown.conflicts }));
  if (shown.is_supervised) said.push(t("supervised"));
  const alerts = said.map((sentence) => make("p.alert", { role: "status" }, sentence));
  if (shown.removed_at) {
    const day = new Intl.DateTimeFormat(currentLanguage(), { dateStyle: "medium" });
    alerts.push(make("div.quiet", {}, make("p", {}, t("original_removed", { day: day.format(new Date(shown.removed_at)) })),
      make("p", { lang: "en" }, shown.removal_reason)));
  }
  return alerts;
}

function withheld(shown) {
  const held = shown.findings.filter((one) => one.withheld !== null);
  if (!held.length) return null;
  const reasons = [...new Set(held.map((one) => one.withheld))];
  return section("withheld", make("p.quiet", {}, t("withheld_meaning")),
    make("ul.plain", {}, reasons.map((reason) => {
      const labels = held.filter((one) => one.withheld === reason).map((one) => finding(one.label));
      const why = make("span", { lang: "en" }, reason);
      if (labels.length === 1) return make("li", {}, make("b", {}, labels[0]), ": ", why);
      return make("li", {}, make("b", {}, t("withheld_together", { n: labels.length })), ": ", why,
        make("p.quiet", {}, labels.join(" · ")));
    })));
}

function notes(shown, viewer) {
  const gate = sayGate(viewer.film.picture?.presentation);
  if (!shown.notes.length && !gate.length) return null;
  return section("notes", gate.length > 0 && make("p", {}, gate.join(" · ")),
    make("ul.plain", { lang: "en" }, shown.notes.map((one) => make("li", {}, one))));
}

/** Links to the study's results as DICOM; empty until the service has answered. */
function downloads(results) {
  const place = make("div.downloads");
  results.then((objects) => {
    if (!objects.length) return;
    place.append(make("p.quiet", {}, t("results_dicom")), make("ul.plain", {}, objects.map((one, index) => make("li", {},
      make("a", { href: one.url, download: true, lang: "en" }, `${index + 1}. ${one.sop_class}`)))));
  }).catch((error) => {
    if (error.status === 409) place.append(make("p.quiet", { lang: "en" }, error.message));
  });
  return place;
}

function provenance(study, shown) {
  const terms = [
    ["bundle", shown.bundle_id], ["digest", shown.bundle_digest], ["software", `Vigil ${shown.software_version}`],
    ["analysed_at", shown.analysed_at && moment(shown.analysed_at)],
    ["duration", shown.milliseconds !== null && t("milliseconds", { n: Math.round(shown.milliseconds) })],
    ["object", [shown.modality, shown.view, shown.rows && `${shown.columns} × ${shown.rows}`].filter(Boolean).join(" · ")],
    ["sop_class", shown.sop_class], ["transfer_syntax", shown.transfer_syntax], ["door", shown.door],
    ["study_uid", study.study_instance_uid], ["sop_uid", shown.sop_instance_uid],
  ].filter(([, value]) => value);
  const details = make("details", {}, make("summary", {}, t("provenance")),
    make("dl", {}, terms.map(([term, value]) => [make("dt", {}, t(term)), make("dd", {}, value)])),
    cardLink(), make("p.quiet", {}, t("notice_long")));
  // They are built when they are asked for, which is not worth every look at a study.
  details.addEventListener("toggle", () => {
    if (!details.open || details.querySelector(".downloads") || study.instances.some(waits)) return;
    details.append(downloads(ask(`/api/studies/${encodeURIComponent(study.study_instance_uid)}/results`)));
  });
  return details;
}
