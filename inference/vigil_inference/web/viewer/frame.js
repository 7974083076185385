// A film with a viewer on it, and in its corners what a reader must know of what is shown.

import { make } from "../dom.js";
import { percent, refusal, t } from "../i18n.js";
import { number, sayMark } from "./overlay.js";
import { scaleOf } from "./measure.js";
import { Viewer } from "./viewer.js";

/** Make a film; `title` stands in its corner where two are shown. */
export function filmFrame(study, name, title = "") {
  const canvas = make("canvas", { tabindex: 0, role: "application", "aria-label": t("picture_of", { name }) });
  const corners = {
    upperLeft: make("p.corner.upper.left", {}),
    upperRight: make("p.corner.upper.right", {}),
    lowerLeft: make("p.corner.lower.left", {}),
  };
  const depth = make("span.depth", { role: "status" });
  const empty = make("p.empty", { hidden: true });
  const measured = make("p.unseen", { "aria-live": "polite" });
  const element = make("div.film", {}, canvas, empty, Object.values(corners), measured);
  corners.upperLeft.append(title && make("strong", {}, title), depth);
  const viewer = new Viewer(canvas, study);
  viewer.listen((what) => {
    const { film, state } = viewer;
    const { picture } = film;
    element.dataset.stage = picture?.stage ?? "none";
    element.dataset.tool = viewer.tool;
    const isEmpty = !picture?.levels.length;
    empty.hidden = !isEmpty || (viewer.instance?.has_preview && !state.code);
    if (!empty.hidden) empty.textContent = state.code ? whyNot(state) : t("no_picture");
    setText(depth, isEmpty ? "" : sayDepth(picture, state));
    depth.classList.toggle("is-lacking", Boolean(state.code));
    corners.upperRight.replaceChildren(...sayGate(picture?.presentation).map((line) => make("span", {}, line)));
    corners.lowerLeft.replaceChildren(...(isEmpty ? [] : sayLook(viewer)).map((line) => make("span", {}, line)));
    if (what === "marks" && film.marks.at(-1)?.isDone) {
      setText(measured, sayMark(film.marks.at(-1), scaleOf(picture)));
    }
  });
  return { element, viewer };
}

const setText = (element, text) => element.textContent === text || element.replaceChildren(text);

function sayDepth(picture, state) {
  if (picture.stage === "full") return t("viewer.full", { n: picture.presentation.bits_stored ?? 16 });
  if (state.code) return whyNot(state);
  if (state.progress !== undefined) return t("viewer.coming", { share: percent(Math.min(state.progress, 0.99)) });
  return t("viewer.preview");
}

/** Why there is no full depth: in the page's words where it knows the code. */
function whyNot({ code, reason }) {
  const why = t(`depth.${code}`, {}, true) ?? refusal(code, reason || code);
  return t("viewer.no_depth", { why });
}

/** What was done to the picture before it was analysed. */
export function sayGate(presentation) {
  if (!presentation) return [];
  const { quarter_turns: turns, inverted } = presentation;
  return [turns && t(`viewer.turned_${turns}`), inverted && t("viewer.inverted")].filter(Boolean);
}

function sayLook(viewer) {
  const { film, hovered } = viewer;
  const { view, picture } = film;
  if (!view) return [];
  const width = view.high - view.low;
  const digits = width < 20 ? 2 : 0;
  const lines = [t("viewer.window_level", { w: number(width, digits), l: number((view.high + view.low) / 2, digits) })];
  if (hovered !== null) lines.push(t("viewer.value", { n: number(hovered, digits) }));
  const { zoom, turns } = film.placement;
  lines.push([percentOf(zoom), turns && `${90 * turns}°`, film.isInverted && t("viewer.inverted_now")]
    .filter(Boolean).join(" · "));
  lines.push(saySpacing(scaleOf(picture)));
  return lines;
}

const percentOf = (zoom) => new Intl.NumberFormat(document.documentElement.lang, {
  style: "percent", maximumFractionDigits: 0,
}).format(zoom * Math.min(window.devicePixelRatio || 1, 2));

/** In which plane millimetres hold. */
function saySpacing({ unit, plane, magnification }) {
  if (unit === "px") return t("viewer.no_spacing");
  const said = t(`viewer.plane_${plane}`);
  return magnification ? `${said} ${t("viewer.magnification", { n: number(magnification, 2) })}` : said;
}
