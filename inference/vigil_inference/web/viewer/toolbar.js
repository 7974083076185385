// The buttons around a film.

import { make } from "../dom.js";
import { t } from "../i18n.js";
import { number } from "./overlay.js";
import { TOOLS } from "./viewer.js";

/**
 * Make the toolbar of a viewer.
 * @param {import("./viewer.js").Viewer} viewer
 * @param {Node[]} more what else belongs there
 */
export function toolbar(viewer, ...more) {
  const tools = TOOLS.map((tool) => make("button", {
    type: "button", "data-tool": tool, "aria-pressed": "false", title: t(`key.${tool}`),
    onclick: () => viewer.setTool(tool),
  }, icon(tool), make("span", {}, t(`tool.${tool}`))));
  const views = make("select", { "aria-label": t("viewer.views"), onchange: () => viewer.chooseView(views.selectedIndex) });
  const act = (name, run) => make("button", { type: "button", "data-act": name, title: t(`key.${name}`), onclick: run },
    icon(name), make("span", {}, t(`tool.${name}`)));
  const invert = act("invert", () => viewer.invert());
  const clear = act("clear", () => viewer.removeMarks());
  const bar = make("div.toolbar", { role: "toolbar", "aria-label": t("viewer.tools") },
    make("div.tools-group", { role: "group", "aria-label": t("viewer.drag") }, tools),
    make("div.tools-group", {}, act("fit", () => viewer.fit()), act("one_to_one", () => viewer.oneToOne()),
      act("smaller", () => viewer.zoomBy(0.8)), act("larger", () => viewer.zoomBy(1.25)),
      act("turn_left", () => viewer.turn(3)), act("turn_right", () => viewer.turn(1))),
    make("div.tools-group", {}, views, invert, act("reset", () => viewer.reset()), clear),
    make("div.tools-group", {}, ...more));
  let shown = null;
  viewer.listen(() => {
    for (const button of tools) button.setAttribute("aria-pressed", String(button.dataset.tool === viewer.tool));
    invert.setAttribute("aria-pressed", String(viewer.film.isInverted));
    clear.hidden = !viewer.film.marks.length;
    if (shown !== viewer.views) {
      shown = viewer.views;
      views.replaceChildren(...shown.map((view, index) => make("option", { value: index }, nameOfView(view))));
      views.disabled = shown.length < 2;
    }
    views.selectedIndex = viewer.views.indexOf(viewer.base);
  });
  return bar;
}

/** A view's name: what the header calls it, else what it is. */
export function nameOfView(view) {
  if (view.kind !== "HEADER_WINDOW" && view.kind !== "HEADER_TABLE") return t(`view.${view.kind}`);
  const numbers = `${number(view.high - view.low, 0)} / ${number((view.high + view.low) / 2, 0)}`;
  return `${view.name || t(`view.${view.kind}`)} (${numbers})`;
}

// 16 × 16, lines only; drawn here so that no picture has to be fetched.
const ICONS = {
  window: "M8 2a6 6 0 1 0 0 12zM8 2a6 6 0 0 1 0 12",
  move: "M8 1v14M1 8h14M8 1L6 3M8 1l2 2M8 15l-2-2M8 15l2-2M1 8l2-2M1 8l2 2M15 8l-2-2M15 8l-2 2",
  zoom: "M7 2a5 5 0 1 0 0 10a5 5 0 0 0 0-10M10.5 10.5L15 15M5 7h4M7 5v4",
  lens: "M7 2a5 5 0 1 0 0 10a5 5 0 0 0 0-10M10.5 10.5L15 15",
  ruler: "M2 11L11 2l3 3l-9 9zM5 8l1.5 1.5M7 6l1.5 1.5M9 4l1.5 1.5",
  angle: "M3 2v11h11M3 7a6 6 0 0 1 6 6",
  fit: "M2 6V2h4M10 2h4v4M14 10v4h-4M6 14H2v-4",
  one_to_one: "M3 5l2-1v8M11 5l2-1v8M8 6v.5M8 10v.5",
  smaller: "M3 8h10",
  larger: "M3 8h10M8 3v10",
  turn_left: "M3 3v4h4M3.5 7a5.5 5.5 0 1 1 .5 5",
  turn_right: "M13 3v4h-4M12.500 7a5.500 5.500 0 1 0-.5 5",
  invert: "M2 2h12v12H2zM2 14L14 2",
  reset: "M8 2.500a5.500 5.500 0 1 1-5.500 5.500M2.500 3v5h5",
  clear: "M4 4l8 8M12 4l-8 8",
};

function icon(name) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  made.setAttribute("viewBox", "0 0 16 16");
  made.setAttribute("aria-hidden", "true");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", ICONS[name]);
  made.append(path);
  return made;
}
