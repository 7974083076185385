// An earlier study beside this one: on the same scale, moved together, and what changed.

import { ask, make } from "../dom.js";
import { dicomDate, finding, moment, percent, ratio, t } from "../i18n.js";
import { isUncertain, section } from "./findings.js";
import { fitZoom } from "./geometry.js";
import { filmFrame } from "./frame.js";
import { fractions, relative } from "./viewer.js";

/** The patient's other studies; none where there is no number to find them by. */
export async function otherStudies(study, signal) {
  return (await ask(`/api/studies/${encodeURIComponent(study)}/others`, signal)).studies;
}

/** A study in a list: its date, and what is odd about it. */
export function nameOfStudy(other) {
  const when = other.study_date ? dicomDate(other.study_date) : moment(other.received_at);
  return [when, !other.is_earlier && t("compare.later"), other.study_description,
    other.name_differs && `⚠ ${other.patient_name}`].filter(Boolean).join(" · ");
}

/** Fetch a study and its picture that suits the one shown: the same view, else the one to show. */
export async function openOther(other, shown, signal) {
  const study = await ask(`/api/studies/${encodeURIComponent(other.study_instance_uid)}`, signal);
  const pictures = study.instances.filter((one) => one.has_preview);
  const instance = pictures.find((one) => one.view && one.view === shown.view)
    ?? pictures.find((one) => one.sop_instance_uid === other.preview_sop_instance_uid) ?? pictures[0] ?? null;
  return { study, instance };
}

/** A film of it, linked to a viewer; call `close` to part them. */
export function comparedFilm(viewer, { study, instance }, other, name) {
  const frame = filmFrame(study.study_instance_uid, name, nameOfStudy(other));
  const scale = make("span", {});
  frame.element.querySelector(".corner.upper.left").append(scale);
  let isFollowing = false;
  const follow = (from, to) => {
    if (isFollowing || !from.film.view || !to.film.view) return;
    isFollowing = true;
    adopt(from, to);
    isFollowing = false;
    scale.textContent = t(isSameScale(from, to) ? "compare.same_scale" : "compare.fitted");
  };
  const isSteered = () => frame.element.matches(":hover, :focus-within");
  const parts = [
    viewer.listen(() => isSteered() || follow(viewer, frame.viewer)),
    // What comes of its loading follows this study's film; what a reader does there leads it.
    frame.viewer.listen((what) => {
      if (what === "picture" || what === "loading") follow(viewer, frame.viewer);
      else if (isSteered()) follow(frame.viewer, viewer);
    }),
  ];
  frame.viewer.show(instance);
  return {
    ...frame,
    close() {
      parts.forEach((part) => part());
      frame.viewer.close();
    },
  };
}

/** Give a viewer the placement and the window of another. */
function adopt(from, to) {
  const zoom = zoomLike(from, to);
  const { x, y, turns } = from.placement;
  const now = to.placement;
  if (zoom !== now.zoom || x !== now.x || y !== now.y || turns !== now.turns) to.place({ zoom, x, y, turns });
  const [index, isInverted] = [from.views.indexOf(from.base), from.film.isInverted];
  const like = to.views.find((view) => view.kind === from.base.kind) ?? to.views[index] ?? to.base;
  const view = relative(like, fractions(from.base, from.film.view));
  const { film } = to;
  if (view.low !== film.view.low || view.high !== film.view.high || film.isInverted !== isInverted) {
    to.base = like;
    Object.assign(film, { view, isInverted });
    to.changed();
  }
  if (to.tool !== from.tool && from.tool !== "region") to.setTool(from.tool);
}

/** Millimetre on millimetre where both know it, else as large against their films. */
function zoomLike(from, to) {
  const [mm, otherMm] = [from, to].map((one) => one.film.picture.presentation?.spacing?.column_mm);
  if (mm && otherMm) return (from.placement.zoom / mm) * otherMm;
  const fit = (one) => fitZoom(one.film.extent, from.placement.turns, one.film.size);
  return (from.placement.zoom / fit(from)) * fit(to);
}

/** Whether two pictures are shown on the same scale. */
const isSameScale = (one, two) =>
  [one, two].every((viewer) => viewer.film.picture?.presentation?.spacing);

/** What changed in each finding. */
export function changes(shown, then, other) {
  const warnings = [
    other.name_differs && t("compare.name_differs", { name: other.patient_name }),
    other.birth_date_differs && t("compare.birth_date_differs"),
  ].filter(Boolean).map((sentence) => make("p.alert", { role: "status" }, sentence));
  const isSameBundle = shown.bundle_digest && shown.bundle_digest === then.bundle_digest;
  const pairs = shown.findings.map((now) => [now, then.findings.find((one) => one.label === now.label)])
    .filter(([now, before]) => now.probability !== null && before && before.probability !== null)
    .sort(([one], [two]) => two.flagged - one.flagged || two.probability - one.probability);
  const rows = pairs.map(([now, before]) => row(finding(now.label), value(before), value(now),
    isSameBundle ? difference(now.probability - before.probability) : "–"));
  const [ratioNow, ratioThen] = [shown, then].map((one) => one.anatomy?.cardiothoracic_ratio ?? null);
  if (ratioNow !== null && ratioThen !== null) {
    rows.push(row(t("ratio_name"), ratio(ratioThen), ratio(ratioNow),
      isSameBundle ? signed(ratioNow - ratioThen, ratio) : "–"));
  }
  return section("compare.title",
    make("p.quiet", {}, nameOfStudy(other)), warnings,
    !isSameBundle && rows.length > 0 && make("p.alert", {},
      t("compare.bundles", { then: then.bundle_id || "?", now: shown.bundle_id || "?" })),
    rows.length
      ? make("table.changes", {}, make("thead", {}, make("tr", {},
        ["finding", "then", "now", "change"].map((name) => make("th", { scope: "col" }, t(`compare.${name}`))))),
      make("tbody", {}, rows))
      : make("p", {}, t("compare.nothing")),
    rows.length > 0 && make("p.quiet", {}, t("compare.meaning")));
}

const row = (name, ...cells) => make("tr", {}, make("th", { scope: "row" }, name), cells.map((cell) => make("td", {}, cell)));

function value(one) {
  const band = one.flagged ? t(`priority.${one.priority}`) : isUncertain(one) ? t("uncertain") : "";
  return [make("b", {}, percent(one.probability)), band && make("small", {}, band)];
}

const signed = (change, format) => `${change < 0 ? "−" : "+"}${format(Math.abs(change))}`;

/** A change in percentage points. */
function difference(change) {
  const count = Math.round(100 * Math.abs(change));
  const points = new Intl.NumberFormat(document.documentElement.lang).format(count);
  return count === 0 ? "0" : t("compare.points", { n: `${change < 0 ? "−" : "+"}${points}`, count });
}
