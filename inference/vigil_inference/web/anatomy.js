// Lungs and heart over the picture, the two diameters, and the cardiothoracic ratio.

import { make } from "./dom.js";
import { ratio, t } from "./i18n.js";

const COLOURS = { lung: "#56b4e9", heart: "#e69f00", diameter: "#fff" };

/** An overlay for a picture; it is drawn once the picture's size is known. */
export function outlines(anatomy, picture) {
  const overlay = make("canvas.outlines", { "aria-hidden": "true" });
  const draw = () => {
    const [width, height] = [picture.naturalWidth, picture.naturalHeight];
    if (!width) return;
    [overlay.width, overlay.height] = [width, height];
    const pen = overlay.getContext("2d");
    pen.lineJoin = "round";
    const trace = (points, kind) => {
      pen.beginPath();
      for (const [x, y] of points) pen.lineTo(x * width, y * height);
      // A dark rim, so that a line is seen on bone and on air.
      for (const [colour, weight] of [["rgba(0, 0, 0, .7)", 2], [COLOURS[kind], 1]]) {
        pen.strokeStyle = colour;
        pen.lineWidth = (weight * Math.max(width, height)) / 400;
        pen.stroke();
      }
    };
    for (const lung of anatomy.lungs) trace(lung, "lung");
    if (anatomy.heart) trace(anatomy.heart, "heart");
    for (const line of [anatomy.thorax_line, anatomy.heart_line]) if (line) trace(line, "diameter");
  };
  picture.addEventListener("load", draw);
  draw();
  return overlay;
}

/** The ratio in words, or why there is none. */
export function ratioText(anatomy, view) {
  if (anatomy.cardiothoracic_ratio === null) return t("ratio_none", { why: t(`no_ratio.${anatomy.no_ratio}`) });
  const number = t("ratio", { n: ratio(anatomy.cardiothoracic_ratio) });
  return view === "AP" ? `${number} · ${t("ratio_ap")}` : number;
}

/** The switch that shows and hides the overlay, with the ratio beside it. */
export function outlinesSwitch(overlay, anatomy, view, isShown, onChange) {
  overlay.toggleAttribute("hidden", !isShown);
  const box = make("input", {
    type: "checkbox", checked: isShown,
    onchange: (event) => {
      overlay.toggleAttribute("hidden", !event.target.checked);
      onChange(event.target.checked);
    },
  });
  return [
    make("label.outlines-switch", {}, box, make("span", {}, t("outlines"))),
    make("strong.ratio", { title: t("ratio_meaning") }, ratioText(anatomy, view)),
  ];
}
