// A canvas that shows a picture: greys by a table, placed, with what lies over it.

import { pixelTable } from "./codes.js";
import { extentOf, matrixOf, seenPart } from "./geometry.js";
import { scaleOf } from "./measure.js";
import { drawAnatomy, drawCrosshair, drawMap, drawMarks, drawRegions, drawScaleBar } from "./overlay.js";

const MARGIN = 0.15; // of what is seen, so that a small move needs no new greys
const LENS_RADIUS = 120;
const SQUARE_ZOOM = 8; // from here on pixels are shown as the squares they are

export class Film {
  /** @param {HTMLCanvasElement} canvas */
  constructor(canvas) {
    this.canvas = canvas;
    this.picture = null;
    /** What is shown of it: set and then call `paint`. */
    this.placement = { zoom: 1, x: 0.5, y: 0.5, turns: 0 };
    this.view = null;
    this.isInverted = false; // by the reader
    this.map = null; // {image, opacity}
    this.anatomy = null;
    this.regions = [];
    this.marks = [];
    this.crosshair = null; // on the film
    this.lens = null; // {at, zoom}
    this.tiles = new Map();
    this.asked = 0;
    this.table = null;
    this.tableKey = "";
  }

  /** The film's size in CSS pixels. */
  get size() {
    return { width: this.canvas.clientWidth || 1, height: this.canvas.clientHeight || 1 };
  }

  get extent() {
    return extentOf(this.picture);
  }

  get matrix() {
    return matrixOf(this.placement, this.extent, this.size);
  }

  /** Show another picture, or a better one of the same. */
  setPicture(picture) {
    this.picture = picture;
    this.tiles.clear();
    this.tableKey = "";
  }

  /** Paint before the next frame, once however often it is called. */
  paint() {
    if (this.asked) return;
    this.asked = requestAnimationFrame(() => {
      this.asked = 0;
      this.paintNow();
    });
  }

  paintNow() {
    const { canvas, size } = this;
    const ratio = Math.min(window.devicePixelRatio || 1, 2);
    const [width, height] = [Math.round(size.width * ratio), Math.round(size.height * ratio)];
    if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
    const pen = canvas.getContext("2d");
    pen.setTransform(1, 0, 0, 1, 0, 0);
    pen.fillStyle = "#000";
    pen.fillRect(0, 0, width, height);
    if (!this.picture?.levels.length) return;
    this.paintPicture(pen, this.placement, ratio, "film");
    if (this.lens) this.paintLens(pen, ratio);
  }

  paintPicture(pen, placement, ratio, tileName) {
    const { picture, size } = this;
    const matrix = matrixOf(placement, this.extent, size);
    const part = seenPart(matrix, size);
    if (part) {
      const tile = this.tileOf(part, placement.zoom * ratio, tileName);
      const [left, top, right, bottom] = tile.part;
      pen.setTransform(...matrix.map((value) => value * ratio));
      pen.imageSmoothingEnabled = placement.zoom * ratio < SQUARE_ZOOM;
      pen.imageSmoothingQuality = "high";
      pen.drawImage(tile.canvas, left, top, right - left, bottom - top);
    }
    pen.imageSmoothingEnabled = true;
    if (this.map?.image) drawMap(pen, matrix, this.map.image, this.map.opacity, ratio);
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    if (this.anatomy) drawAnatomy(pen, matrix, this.anatomy);
    drawRegions(pen, matrix, this.regions);
    drawMarks(pen, matrix, scaleOf(picture), this.marks);
    const spacing = picture.presentation?.spacing;
    if (tileName === "film") {
      if (spacing) drawScaleBar(pen, size, placement.zoom / spacing.column_mm);
      if (this.crosshair) drawCrosshair(pen, this.crosshair);
    }
  }

  paintLens(pen, ratio) {
    const { at: [x, y], zoom } = this.lens;
    const [px, py] = this.placeUnder([x, y]);
    // The same place under the same point of the film, only larger.
    const placement = { ...this.placement, zoom, x: px, y: py };
    pen.save();
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.beginPath();
    pen.arc(x, y, LENS_RADIUS, 0, 2 * Math.PI);
    pen.fillStyle = "#000";
    pen.fill();
    pen.clip();
    const size = this.size;
    const shift = [x - size.width / 2, y - size.height / 2];
    this.paintShifted(pen, placement, ratio, shift);
    pen.restore();
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.beginPath();
    pen.arc(x, y, LENS_RADIUS, 0, 2 * Math.PI);
    pen.strokeStyle = "#9fb4bb";
    pen.lineWidth = 2;
    pen.stroke();
  }

  paintShifted(pen, placement, ratio, [right, down]) {
    const matrix = matrixOf(placement, this.extent, this.size);
    [matrix[4], matrix[5]] = [matrix[4] + right, matrix[5] + down];
    const around = { width: 2 * LENS_RADIUS, height: 2 * LENS_RADIUS };
    const centred = [...matrix];
    const { at: [x, y] } = this.lens;
    [centred[4], centred[5]] = [matrix[4] - x + LENS_RADIUS, matrix[5] - y + LENS_RADIUS];
    const part = seenPart(centred, around);
    if (!part) return;
    const tile = this.tileOf(part, placement.zoom * ratio, "lens");
    pen.setTransform(...matrix.map((value) => value * ratio));
    pen.imageSmoothingEnabled = placement.zoom * ratio < SQUARE_ZOOM;
    pen.drawImage(tile.canvas, tile.part[0], tile.part[1], tile.part[2] - tile.part[0], tile.part[3] - tile.part[1]);
  }

  /** The place of the picture under a place on the film. */
  placeUnder([left, top]) {
    const [a, b, c, d, e, f] = this.matrix;
    const determinant = a * d - b * c;
    return [(d * (left - e) - c * (top - f)) / determinant, (a * (top - f) - b * (left - e)) / determinant];
  }

  /** A part of the picture as greys, in a canvas of its own; kept until another is needed. */
  tileOf(part, pixelsPerColumn, name) {
    const { levels, columns } = this.picture;
    // The smallest level that still has a pixel for each of the screen's.
    const needed = columns * pixelsPerColumn;
    const level = levels.findLast((each) => each.columns >= needed) ?? levels[0];
    const table = this.greyTable();
    const kept = this.tiles.get(name);
    if (kept && kept.level === level && kept.table === table && contains(kept.part, part)) return kept;
    const [wide, high] = [(part[2] - part[0]) * MARGIN, (part[3] - part[1]) * MARGIN];
    const left = Math.max(0, Math.floor((part[0] - wide) * level.columns));
    const top = Math.max(0, Math.floor((part[1] - high) * level.rows));
    const right = Math.min(level.columns, Math.ceil((part[2] + wide) * level.columns));
    const bottom = Math.min(level.rows, Math.ceil((part[3] + high) * level.rows));
    const canvas = kept?.canvas ?? document.createElement("canvas");
    const [width, height] = [right - left, bottom - top];
    if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
    const pen = canvas.getContext("2d");
    const image = pen.createImageData(width, height);
    const pixels = new Uint32Array(image.data.buffer);
    for (let row = 0, at = 0; row < height; row += 1) {
      let from = (top + row) * level.columns + left;
      for (const end = at + width; at < end; at += 1, from += 1) pixels[at] = table[level.codes[from]];
    }
    pen.putImageData(image, 0, 0);
    const tile = {
      canvas, level, table,
      part: [left / level.columns, top / level.rows, right / level.columns, bottom / level.rows],
    };
    this.tiles.set(name, tile);
    return tile;
  }

  greyTable() {
    const { picture, view, isInverted } = this;
    const key = `${view.low} ${view.high} ${view.shape} ${view.kind} ${view.name} ${isInverted}`;
    if (key !== this.tableKey) {
      this.table = pixelTable(picture.space, view, picture.lowIsBright !== isInverted);
      this.tableKey = key;
    }
    return this.table;
  }

  /** The modality value at a place of the picture, null outside and under a mask. */
  valueAt([x, y]) {
    const level = this.picture?.levels[0];
    if (!level || x < 0 || y < 0 || x >= 1 || y >= 1) return null;
    const code = level.codes[Math.floor(y * level.rows) * level.columns + Math.floor(x * level.columns)];
    const { slope, intercept, hasMask } = this.picture.space;
    return hasMask && !code ? null : slope * code + intercept;
  }
}

const contains = (outer, inner) =>
  outer[0] <= inner[0] && outer[1] <= inner[1] && outer[2] >= inner[2] && outer[3] >= inner[3];
