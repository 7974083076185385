// What lies over a picture: heat map, lungs and heart, regions, and what was measured.

import { t } from "../i18n.js";
import { toFilm } from "./geometry.js";
import { angleOf, boxOf, lengthOf } from "./measure.js";

const COLOURS = { lung: "#56b4e9", heart: "#e69f00", diameter: "#fff", mark: "#ffe14d", region: "#7df0a8" };
const DARK = "rgba(0, 0, 0, .75)";

/** Draw a heat map, an image of the picture's proportions. */
export function drawMap(pen, matrix, image, opacity, ratio) {
  pen.save();
  pen.globalAlpha = opacity;
  pen.setTransform(...matrix.map((value) => value * ratio));
  pen.drawImage(image, 0, 0, 1, 1);
  pen.restore();
}

/** Draw lungs, heart and the two diameters. */
export function drawAnatomy(pen, matrix, anatomy) {
  for (const lung of anatomy.lungs) trace(pen, matrix, lung, COLOURS.lung, 1.75, true);
  if (anatomy.heart) trace(pen, matrix, anatomy.heart, COLOURS.heart, 1.75, true);
  for (const line of [anatomy.thorax_line, anatomy.heart_line]) {
    if (line) trace(pen, matrix, line, COLOURS.diameter, 1.75);
  }
}

/** Draw regions: `[{box: [left, top, right, bottom], label}]`. */
export function drawRegions(pen, matrix, regions) {
  for (const { box: [left, top, right, bottom], label } of regions) {
    const corners = [[left, top], [right, top], [right, bottom], [left, bottom]];
    trace(pen, matrix, corners, COLOURS.region, 1.75, true);
    if (label) write(pen, toFilm(matrix, [left, top]), label, COLOURS.region);
  }
}

/** Draw marks: `{kind, places, isDone}`, the places in the picture's fractions. */
export function drawMarks(pen, matrix, scale, marks) {
  for (const { kind, places, isDone } of marks) {
    if (kind === "region") {
      const box = places.length > 1 && boxOf(places);
      if (box) drawRegions(pen, matrix, [{ box }]);
      continue;
    }
    for (let at = 0; at + 1 < places.length; at += 2) {
      trace(pen, matrix, places.slice(at, at + 2), COLOURS.mark, 1.75);
    }
    for (const place of places) cross(pen, toFilm(matrix, place));
    const said = sayMark({ kind, places }, scale);
    if (said) write(pen, toFilm(matrix, places.at(-1)), said, COLOURS.mark);
    else if (!isDone && kind === "angle" && places.length === 2) {
      write(pen, toFilm(matrix, places[1]), "1 / 2", COLOURS.mark);
    }
  }
}

/** A mark in words, for the film and for the list beside it; "" while it is not complete. */
export function sayMark({ kind, places }, scale) {
  if (kind === "ruler" && places.length === 2) {
    const length = lengthOf(scale, places);
    return scale.unit === "mm" ? t("viewer.mm", { n: number(length, 1) }) : t("viewer.px", { n: number(length, 0) });
  }
  if (kind === "angle" && places.length === 4) return `${number(angleOf(scale, places), 1)}°`;
  return "";
}

/** The mark for a place that is steered by keys. */
export function drawCrosshair(pen, [x, y]) {
  for (const [colour, width] of [[DARK, 3], [COLOURS.mark, 1]]) {
    pen.beginPath();
    for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
      pen.moveTo(x + 4 * dx, y + 4 * dy);
      pen.lineTo(x + 16 * dx, y + 16 * dy);
    }
    pen.strokeStyle = colour;
    pen.lineWidth = width;
    pen.stroke();
  }
}

/** The scale's bar: as long as a round number of millimetres. */
export function drawScaleBar(pen, film, pixelsPerMm) {
  const wanted = film.height / 4 / pixelsPerMm;
  const length = [1, 2, 5, 10, 20, 50, 100, 200].findLast((each) => each <= wanted) ?? 1;
  const [right, bottom, height] = [film.width - 14, film.height - 40, length * pixelsPerMm];
  for (const [colour, width] of [[DARK, 4], ["#fff", 1.5]]) {
    pen.beginPath();
    pen.moveTo(right - 6, bottom - height);
    pen.lineTo(right, bottom - height);
    pen.lineTo(right, bottom);
    pen.lineTo(right - 6, bottom);
    pen.strokeStyle = colour;
    pen.lineWidth = width;
    pen.stroke();
  }
  pen.textAlign = "right";
  write(pen, [right - 8, bottom + 26], t("viewer.mm", { n: number(length, 0) }), "#fff");
  pen.textAlign = "left";
}

function trace(pen, matrix, places, colour, width, isClosed = false) {
  pen.beginPath();
  for (const place of places) pen.lineTo(...toFilm(matrix, place));
  if (isClosed) pen.closePath();
  pen.lineJoin = "round";
  // A dark rim, so that a line is seen on bone and on air.
  for (const [stroke, weight] of [[DARK, width + 2], [colour, width]]) {
    pen.strokeStyle = stroke;
    pen.lineWidth = weight;
    pen.stroke();
  }
}

function cross(pen, [x, y]) {
  for (const [colour, width] of [[DARK, 3.5], [COLOURS.mark, 1.5]]) {
    pen.beginPath();
    pen.arc(x, y, 4, 0, 2 * Math.PI);
    pen.strokeStyle = colour;
    pen.lineWidth = width;
    pen.stroke();
  }
}

function write(pen, [x, y], text, colour) {
  pen.font = "600 14px system-ui, sans-serif";
  pen.lineWidth = 4;
  pen.lineJoin = "round";
  pen.strokeStyle = DARK;
  pen.strokeText(text, x + 8, y - 8);
  pen.fillStyle = colour;
  pen.fillText(text, x + 8, y - 8);
}

/** A number with so many digits after the point, as the reader's language writes it. */
export const number = (value, digits) => new Intl.NumberFormat(document.documentElement.lang, {
  minimumFractionDigits: digits, maximumFractionDigits: digits,
}).format(value);
