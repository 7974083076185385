// One study: the picture, what the network says of it and what it does not, and where that is from.

import { outlines, outlinesSwitch } from "./anatomy.js";
import { ask, make, picturePath } from "./dom.js";
import { currentLanguage, dicomDate, finding, moment, percent, refusal, t } from "./i18n.js";
import { badge, explain, identity, nameOf, refused, standing } from "./parts.js";

const DEFAULT_OPACITY = 60;

export function studyView(root, uid, configuration) {
  let chosen = null; // SOP instance UID of the picture shown
  let map = null; // label of the heat map shown
  let opacity = DEFAULT_OPACITY;
  let outlined = false; // whether lungs and heart are drawn over the picture
  let text = "";
  let timer = null;
  let results = null; // what was asked for the study as it is drawn: its results as DICOM
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
      if (!text || error.status === 404) root.replaceChildren(back(), make("p.alert", { role: "alert" }, known));
      return;
    }
    const now = JSON.stringify({ ...study, waiting_seconds: 0 });
    if (now === text) return;
    text = now;
    // While a picture waits there are none, and to ask would be answered with a refusal.
    results = study.instances.some(waits) ? null : ask(`/api/studies/${encodeURIComponent(uid)}/results`, abort.signal);
    draw(study);
  }

  function draw(study) {
    document.title = `${nameOf(study.patient)} · Vigil`;
    const shown = study.instances.find((one) => one.sop_instance_uid === chosen)
      ?? study.instances.find((one) => one.sop_instance_uid === study.preview_sop_instance_uid)
      ?? study.instances[0];
    const film = drawFilm(study, shown);
    root.replaceChildren(
      make("div.study", {},
        make("div.viewer", {},
          study.instances.length > 1 && pictures(study, shown),
          film.element,
          film.controls),
        make("div.panel", {},
          back(),
          make("header.patient", {},
            make("h1", {}, nameOf(study.patient)),
            make("p", {}, identity(study.patient)),
            make("p.quiet", {}, [study.study_description, dicomDate(study.study_date),
              study.institution_name, study.accession_number].filter(Boolean).join(" · ")),
            make("p", {}, badge(standing(study)), " ",
              make("span.quiet", {}, t("received", { when: moment(study.received_at), from: study.source })))),
          warnings(study, shown),
          said(shown, film),
          withheld(shown),
          notes(shown),
          provenance(study, shown, results && downloads(results)))));
  }

  function drawFilm(study, shown) {
    const sop = shown.sop_instance_uid;
    if (!shown.findings.some((one) => one.label === map && one.heat_map)) map = null;
    const overlay = make("img.overlay", { alt: "", hidden: true });
    overlay.style.opacity = opacity / 100;
    const picture = shown.has_preview && make("img.picture", {
      src: picturePath(uid, sop, "image.jpg"), alt: t("picture_of", { name: nameOf(study.patient) }),
    });
    const anatomy = picture && shown.anatomy;
    const drawn = anatomy && outlines(anatomy, picture);
    const film = make("div.film", {},
      picture || make("p.empty", {}, t("no_picture")), picture && overlay, drawn);
    const legend = make("span.legend-name", { "aria-live": "polite" });
    const slider = make("input", {
      type: "range", min: 0, max: 100, value: opacity, "aria-label": t("opacity"),
      oninput: (event) => {
        opacity = Number(event.target.value);
        overlay.style.opacity = opacity / 100;
      },
    });
    const off = make("button", { type: "button", onclick: () => showMap(null) }, t("map_off"));
    const hasMap = configuration.heat_maps && shown.findings.some((one) => one.heat_map);
    const controls = (hasMap || anatomy) && make("div.controls", {},
      anatomy && outlinesSwitch(drawn, anatomy, shown.view, outlined, (is) => { outlined = is; }),
      hasMap && [
        make("label", {}, make("span", {}, t("opacity")), slider),
        make("span.legend", { "aria-hidden": "true" }), legend, off,
        make("p.quiet", {}, t("map_meaning"), " ", mapError(shown.localisation)),
      ]);
    const listeners = [];
    function showMap(label) {
      map = label;
      if (label) overlay.src = picturePath(uid, sop, `heatmap/${encodeURIComponent(label)}.png`);
      overlay.hidden = !label;
      off.hidden = !label;
      slider.disabled = !label;
      legend.textContent = label ? finding(label) : t("map_none");
      for (const listener of listeners) listener(label);
    }
    const connect = (listener) => {
      listeners.push(listener);
      listener(map);
    };
    showMap(map);
    return { element: film, controls, showMap, connect };
  }

  function pictures(study, shown) {
    return make("div.pictures", { role: "group", "aria-label": t("pictures_of_study") },
      study.instances.map((one, index) => make("button", {
        type: "button", "aria-pressed": String(one === shown),
        onclick: () => {
          chosen = one.sop_instance_uid;
          draw(study);
        },
      },
      one.has_preview
        ? make("img", { src: picturePath(uid, one.sop_instance_uid, "image.jpg?size=128"), alt: "", width: 48, height: 48 })
        : make("span.no-picture", {}),
      make("span", {}, `${index + 1}. ${one.view || one.modality}`))));
  }

  load();
  return {
    changed(which) {
      if (which && which !== uid) return;
      clearTimeout(timer);
      timer = setTimeout(load, 100);
    },
    close() {
      clearTimeout(timer);
      abort.abort();
    },
  };
}

/** How far the maps were measured to be from a radiologist's boxes, beside the map's switch. */
function mapError(measured) {
  if (!measured) return t("map_unmeasured");
  return t("map_error", {
    hits: measured.hits, films: measured.films, distance: percent(measured.centre_distance),
    other: measured.hits_by_other_maps === null ? "?" : Math.round(measured.hits_by_other_maps),
  });
}

const back = () => make("a.back", { href: "/", "data-link": true }, `← ${t("back")}`);

function warnings(study, shown) {
  const said = [];
  if (study.identity_conflict) said.push(t("identity_conflict"));
  if (shown.conflicts) said.push(t("conflict", { n: shown.conflicts }));
  const alerts = said.map((sentence) => make("p.alert", { role: "status" }, sentence));
  if (shown.removed_at) {
    const day = new Intl.DateTimeFormat(currentLanguage(), { dateStyle: "medium" });
    alerts.push(make("p.quiet", { title: shown.removal_reason },
      t("original_removed", { day: day.format(new Date(shown.removed_at)) })));
  }
  return alerts;
}

/** Whether a picture has not been analysed yet. */
const waits = (one) => one.state === "received" && !one.code;

/** What the network says: every finding with its probability and threshold. */
function said(shown, film) {
  if (waits(shown)) return section("findings", make("p", {}, t("being_analysed")));
  if (shown.code) {
    return section("not_analysed_title", refused({ ...shown, pictures: 1 }),
      shown.reason !== refusal(shown.code, shown.reason) && make("p.quiet", { lang: "en" }, shown.reason));
  }
  const told = shown.findings.filter((one) => one.probability !== null)
    .sort((one, two) => two.flagged - one.flagged || two.probability - one.probability);
  return section("findings",
    !told.some((one) => one.flagged) && make("p", {}, t("no_flag")),
    make("ul.findings", {}, told.map((one) => line(one, film))),
    make("p.quiet", {}, t("probability_meaning")));
}

function line(one, film) {
  const bar = make("span.meter", { "aria-hidden": "true" }, make("span.value"), make("span.mark"));
  bar.style.setProperty("--value", one.probability);
  bar.style.setProperty("--threshold", one.threshold ?? 1);
  const name = make("span.name", {}, finding(one.label),
    one.experimental && make("span.experimental", { title: t("experimental_long") }, t("experimental")));
  const numbers = make("span.numbers", {}, make("b", {}, percent(one.probability)),
    one.threshold !== null && make("small", {}, t("over", { threshold: percent(one.threshold) })));
  const figures = one.sensitivity === null ? "" : ` ${t("operating_point", {
    sensitivity: percent(one.sensitivity), specificity: one.specificity === null ? "?" : percent(one.specificity),
  })}`;
  const button = one.heat_map && make("button.map", { type: "button", title: t("map_show") }, t("map"));
  if (button) {
    button.addEventListener("click", () => {
      film.showMap(button.getAttribute("aria-pressed") === "true" ? null : one.label);
    });
    film.connect((label) => button.setAttribute("aria-pressed", String(label === one.label)));
    button.setAttribute("aria-label", `${t("map_show")}: ${finding(one.label)}`);
  }
  return make("li", {
    "data-flagged": String(one.flagged), "data-priority": one.flagged ? one.priority : "ROUTINE",
    title: explain(one) + figures,
  }, name, bar, numbers, button || make("span"));
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

function notes(shown) {
  if (!shown.notes.length) return null;
  return section("notes", make("ul.plain", { lang: "en" }, shown.notes.map((one) => make("li", {}, one))));
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

function provenance(study, shown, links) {
  const terms = [
    ["bundle", shown.bundle_id], ["digest", shown.bundle_digest], ["software", `Vigil ${shown.software_version}`],
    ["analysed_at", shown.analysed_at && moment(shown.analysed_at)],
    ["duration", shown.milliseconds !== null && t("milliseconds", { n: Math.round(shown.milliseconds) })],
    ["object", [shown.modality, shown.view, shown.rows && `${shown.columns} × ${shown.rows}`].filter(Boolean).join(" · ")],
    ["sop_class", shown.sop_class], ["transfer_syntax", shown.transfer_syntax], ["door", shown.door],
    ["study_uid", study.study_instance_uid], ["sop_uid", shown.sop_instance_uid],
  ].filter(([, value]) => value);
  return make("details", { open: true }, make("summary", {}, t("provenance")),
    make("dl", {}, terms.map(([term, value]) => [make("dt", {}, t(term)), make("dd", {}, value)])),
    links,
    make("p.quiet", {}, t("notice_long")));
}

function section(title, ...children) {
  return make("section", {}, make("h2", {}, t(title)), ...children);
}
