// Switches for what lies over the film: lungs and heart with the ratio, heat map with its opacity.

import { make } from "../dom.js";
import { finding, percent, t } from "../i18n.js";
import { explained } from "./explain.js";
import { cardLink, ratioOf } from "./findings.js";

/** Make the switches of the picture that a viewer shows; empty where nothing can be shown. */
export function layers(viewer) {
  const place = make("div.layers", { role: "group", "aria-label": t("layers") });
  let instance = null;
  let refresh = () => {};
  viewer.listen(() => {
    if (viewer.instance !== instance) {
      instance = viewer.instance;
      refresh = fill(place, viewer, instance);
    }
    refresh();
  });
  return place;
}

function fill(place, viewer, instance) {
  const box = make("input", { type: "checkbox", onchange: () => viewer.outline(box.checked) });
  const slider = make("input", {
    type: "range", min: 0, max: 100, "aria-label": t("opacity"),
    oninput: () => viewer.setOpacity(slider.value / 100),
  });
  const name = make("span.legend-name", { "aria-live": "polite" });
  const off = make("button", { type: "button", onclick: () => viewer.showMap(null) }, t("map_off"));
  const hasMap = viewer.maps.length > 0;
  place.replaceChildren(...[
    instance.anatomy && make("label.outlines-switch", {}, box, make("span", {}, t("outlines"))),
    instance.anatomy && ratioOf(instance.anatomy, instance.view),
    hasMap && make("label", {}, make("span", {}, t("opacity")), slider),
    hasMap && make("span.legend", { "aria-hidden": "true" }),
    hasMap && explained(name, () => [t("map_meaning"), mapError(instance.localisation), cardLink()], t("map")),
    hasMap && off,
  ].filter(Boolean));
  place.hidden = !place.children.length;
  return () => {
    box.checked = viewer.isOutlined;
    slider.value = Math.round(100 * viewer.opacity);
    slider.disabled = off.hidden = !viewer.mapLabel;
    const said = viewer.mapLabel ? finding(viewer.mapLabel) : t("map_none");
    if (name.textContent !== said) name.textContent = said;
  };
}

/** How far the maps were measured to be from a radiologist's boxes. */
function mapError(measured) {
  if (!measured) return t("map_unmeasured");
  return t("map_error", {
    hits: measured.hits, films: measured.films, distance: percent(measured.centre_distance),
    other: measured.hits_by_other_maps === null ? "?" : Math.round(measured.hits_by_other_maps),
  });
}
