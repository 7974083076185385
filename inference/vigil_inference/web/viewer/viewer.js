// A viewer of one picture: film, tools, window and level, measurements, and what lies over it.

import { picturePath } from "../dom.js";
import { extentOf, fitZoom, movedBy, toPicture, zoomedAt } from "./geometry.js";
import { Film } from "./film.js";
import { boxOf, PLACES } from "./measure.js";
import { watchPointers } from "./pointer.js";
import { loadPicture } from "./source.js";

const DRAG_RANGE = 500; // CSS pixels for as much as the view's width
const KEY_STEP = 0.02;
export const TOOLS = ["window", "move", "zoom", "lens", "ruler", "angle"];

/**
 * Make a viewer.
 * @param {HTMLCanvasElement} canvas
 * @param {string} study UID
 */
export class Viewer {
  constructor(canvas, study) {
    this.film = new Film(canvas);
    this.study = study;
    this.instance = null;
    this.tool = "window";
    this.base = null; // the view that was chosen; film.view is what the reader made of it
    this.isFitted = true;
    this.mapLabel = null;
    this.opacity = 0.6;
    this.isOutlined = false;
    this.state = {}; // of the loading: {progress, code, reason}
    this.hovered = null; // modality value under the pointer
    this.listeners = new Set();
    this.picking = null; // resolves pickRegion
    this.stop = () => {};
    this.resized = new ResizeObserver(() => this.resize());
    this.resized.observe(canvas);
    watchPointers(canvas, this.pointers());
  }

  /** Hear of every change: what is shown, how, and how far its loading is. */
  listen(listener) {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  changed(what = "look") {
    this.film.paint();
    for (const listener of this.listeners) listener(what, this);
  }

  close() {
    this.stop();
    this.resized.disconnect();
    this.cancelPicking();
  }

  /** Show a picture of the study; window, placement and measurements begin anew. */
  show(instance) {
    this.stop();
    this.cancelPicking();
    const { film } = this;
    this.instance = instance;
    [this.base, this.isFitted, this.mapLabel, this.state] = [null, true, null, {}];
    Object.assign(film, {
      picture: null, view: null, isInverted: false, map: null, regions: [], marks: [], crosshair: null, lens: null,
    });
    film.placement = { zoom: 1, x: 0.5, y: 0.5, turns: 0 };
    this.setAnatomy();
    this.stop = loadPicture(this.study, instance, (picture) => this.come(picture), (state) => {
      this.state = state;
      this.changed("loading");
    });
    this.changed("picture");
  }

  /** Take note of what the service says anew of the picture that is shown. */
  update(instance) {
    this.instance = instance;
    this.setAnatomy();
    this.changed();
  }

  come(picture) {
    const { film } = this;
    const before = film.picture;
    film.setPicture(picture);
    if (before) film.placement = { ...film.placement, zoom: (film.placement.zoom * before.columns) / picture.columns };
    if (!before || this.isFitted) this.fit();
    if (picture.views !== before?.views) this.takeViews(picture, before);
    this.changed("picture");
  }

  /** Keep what the reader set when a picture's values become known. */
  takeViews(picture, before) {
    const { view } = this.film;
    const kept = this.base;
    const index = Math.max(0, before ? before.views.indexOf(kept) : 0);
    this.base = picture.views[Math.min(index, picture.views.length - 1)];
    const isTouched = view && kept && (view.low !== kept.low || view.high !== kept.high);
    this.film.view = isTouched ? relative(this.base, fractions(kept, view)) : this.base;
  }

  // ---- window and level

  get views() {
    return this.film.picture?.views ?? [];
  }

  chooseView(index) {
    this.base = this.film.view = this.views[index] ?? this.base;
    this.changed();
  }

  nextView(step) {
    const count = this.views.length;
    if (count) this.chooseView((this.views.indexOf(this.base) + step + count) % count);
  }

  /** Move the window: by so many widths of the chosen view, wider and higher. */
  moveWindow(wider, higher) {
    const { view } = this.film;
    if (!view) return;
    const range = this.base.high - this.base.low;
    const width = Math.max((view.high - view.low) + wider * range, range / 1000);
    const centre = (view.high + view.low) / 2 + higher * range;
    this.film.view = { ...view, low: centre - width / 2, high: centre + width / 2 };
    this.changed();
  }

  invert() {
    this.film.isInverted = !this.film.isInverted;
    this.changed();
  }

  // ---- placement

  get placement() {
    return this.film.placement;
  }

  place(placement, isFitted = false) {
    this.film.placement = placement;
    this.isFitted = isFitted;
    this.changed();
  }

  get fittingZoom() {
    const { film } = this;
    return film.picture ? fitZoom(film.extent, film.placement.turns, film.size) : 1;
  }

  fit() {
    if (!this.film.picture) return;
    this.place({ ...this.placement, x: 0.5, y: 0.5, zoom: this.fittingZoom }, true);
  }

  /** One of the picture's pixels for one of the screen's. */
  oneToOne() {
    const { film } = this;
    if (film.picture) this.zoomTo(1 / Math.min(window.devicePixelRatio || 1, 2));
  }

  zoomTo(zoom, at = [this.film.size.width / 2, this.film.size.height / 2]) {
    const { film } = this;
    if (film.picture) this.place(zoomedAt(film.placement, film.extent, film.size, zoom, at));
  }

  zoomBy(factor, at) {
    this.zoomTo(this.placement.zoom * factor, at);
  }

  move(right, down) {
    const { film } = this;
    if (film.picture) this.place(movedBy(film.placement, film.extent, film.size, right, down));
  }

  turn(quarters) {
    const turns = (this.placement.turns + quarters + 4) % 4;
    const { isFitted } = this;
    this.place({ ...this.placement, turns });
    if (isFitted) this.fit();
  }

  resize() {
    if (this.isFitted && this.film.picture) this.fit();
    else this.changed();
  }

  reset() {
    this.film.isInverted = false;
    this.film.placement = { ...this.placement, turns: 0 };
    this.fit();
    this.chooseView(0);
  }

  // ---- what lies over it

  setAnatomy() {
    this.film.anatomy = this.isOutlined ? this.instance.anatomy : null;
  }

  outline(is) {
    this.isOutlined = is;
    this.setAnatomy();
    this.changed();
  }

  /** Labels of the findings that have a map. */
  get maps() {
    return (this.instance?.findings ?? []).filter((one) => one.heat_map).map((one) => one.label);
  }

  showMap(label) {
    this.mapLabel = label;
    this.film.map = null;
    this.changed("map");
    if (!label) return;
    const image = new Image();
    image.addEventListener("load", () => {
      if (this.mapLabel !== label) return;
      this.film.map = { image, opacity: this.opacity };
      this.changed("map");
    });
    image.src = picturePath(this.study, this.instance.sop_instance_uid, `heatmap/${encodeURIComponent(label)}.png`);
  }

  nextMap() {
    const labels = [...this.maps, null];
    this.showMap(labels[(labels.indexOf(this.mapLabel) + 1) % labels.length]);
  }

  setOpacity(opacity) {
    this.opacity = Math.min(Math.max(opacity, 0), 1);
    if (this.film.map) this.film.map.opacity = this.opacity;
    this.changed("map");
  }

  /** Show regions over the picture: `[{box: [left, top, right, bottom], label}]` in fractions of it. */
  showRegions(regions) {
    this.film.regions = regions;
    this.changed();
  }

  /** Let the reader draw a region: its box in fractions of the picture as analysed, null if not. */
  pickRegion() {
    this.cancelPicking();
    this.film.canvas.focus();
    const before = this.tool;
    this.setTool("region");
    return new Promise((resolve) => {
      this.picking = (box) => {
        this.picking = null;
        this.film.marks = this.film.marks.filter((mark) => mark.kind !== "region");
        this.setTool(before);
        resolve(box);
      };
    });
  }

  cancelPicking() {
    this.picking?.(null);
  }

  // ---- tools

  setTool(tool) {
    if (this.tool === "region" && tool !== "region") this.cancelPicking();
    this.tool = tool;
    this.film.lens = null;
    this.film.crosshair = null;
    this.film.marks = this.film.marks.filter((mark) => mark.isDone);
    this.changed("tool");
  }

  /** The mark that is being made, if one is. */
  get openMark() {
    const last = this.film.marks.at(-1);
    return last && !last.isDone ? last : null;
  }

  /** Set a place of the tool's mark; `isOpen` lets it follow until it is set. */
  setPlace(at, isOpen) {
    const { film } = this;
    const place = toPicture(film.matrix, at);
    let mark = this.openMark;
    if (!mark) {
      mark = { kind: this.tool, places: [place], isDone: false, isFollowing: false };
      film.marks = [...film.marks, mark];
    } else if (mark.isFollowing) mark.places[mark.places.length - 1] = place;
    else mark.places.push(place);
    mark.isFollowing = isOpen;
    if (!isOpen && mark.places.length === PLACES[mark.kind]) {
      mark.isDone = true;
      if (mark.kind === "region") this.picking?.(boxOf(mark.places));
    }
    this.changed("marks");
  }

  removeMark() {
    this.film.marks = this.film.marks.slice(0, -1);
    this.changed("marks");
  }

  removeMarks() {
    this.film.marks = [];
    this.changed("marks");
  }

  setLens(at) {
    const zoom = Math.max(2.5 * this.placement.zoom, 1);
    this.film.lens = at && { at, zoom };
    this.changed("lens");
  }

  pointers() {
    const isMarking = () => PLACES[this.tool] !== undefined;
    return {
      down: (at, button) => {
        if (!this.film.picture || button) return;
        this.film.crosshair = null;
        if (isMarking()) this.setPlace(at, false);
        else if (this.tool === "lens") this.setLens(at);
      },
      drag: (right, down, at, button) => {
        if (!this.film.picture) return;
        if (button || this.tool === "move") this.move(right, down);
        else if (this.tool === "window") {
          const down_ = this.film.picture.lowIsBright !== this.film.isInverted ? -down : down;
          this.moveWindow(right / DRAG_RANGE, down_ / DRAG_RANGE);
        } else if (this.tool === "zoom") this.zoomBy(Math.exp(-down / 150));
        else if (this.tool === "lens") this.setLens(at);
        else if (this.openMark) this.setPlace(at, true);
      },
      up: (at, isStill) => {
        const mark = this.openMark;
        if (!mark || !isMarking()) return;
        // A click sets one end and another click the other; a drag sets both.
        if (mark.isFollowing && !isStill) this.setPlace(at, false);
        else if (mark.isFollowing) {
          mark.places.pop();
          mark.isFollowing = false;
          this.changed("marks");
        }
      },
      hover: (at) => {
        if (!this.film.picture) return;
        if (this.tool === "lens") this.setLens(at);
        else if (this.openMark && this.openMark.places.length % 2) this.setPlace(at, true);
        else if (this.openMark?.isFollowing) this.setPlace(at, true);
        this.hovered = this.film.valueAt(toPicture(this.film.matrix, at));
        this.changed("hover");
      },
      leave: () => {
        this.hovered = null;
        if (this.tool === "lens") this.setLens(null);
        this.changed("hover");
      },
      zoom: (at, factor) => this.zoomBy(factor, at),
      pinch: (right, down, at, factor) => {
        this.film.marks = this.film.marks.filter((mark) => mark.isDone);
        this.move(right, down);
        this.zoomBy(factor, at);
      },
      double: () => PLACES[this.tool] === undefined && this.fit(),
    };
  }

  // ---- by keys

  /** An arrow key: moves the picture, or the crosshair of a tool that needs a place. */
  arrow(right, down, isFine) {
    const { film } = this;
    if (PLACES[this.tool] === undefined && this.tool !== "lens") {
      this.move(-right * 0.05 * film.size.width, -down * 0.05 * film.size.height);
      return;
    }
    const step = isFine ? 1 : KEY_STEP * Math.min(film.size.width, film.size.height);
    const [x, y] = film.crosshair ?? [film.size.width / 2, film.size.height / 2];
    film.crosshair = [
      Math.min(Math.max(x + right * step, 0), film.size.width),
      Math.min(Math.max(y + down * step, 0), film.size.height),
    ];
    if (this.tool === "lens") this.setLens(film.crosshair);
    else if (this.openMark && this.openMark.places.length) this.follow(film.crosshair);
    this.hovered = film.valueAt(toPicture(film.matrix, film.crosshair));
    this.changed("hover");
  }

  follow(at) {
    const mark = this.openMark;
    if (mark.isFollowing || mark.places.length % 2) this.setPlace(at, true);
  }

  /** Enter: sets a place where the crosshair is. */
  enter() {
    if (PLACES[this.tool] === undefined) return false;
    this.film.crosshair ??= [this.film.size.width / 2, this.film.size.height / 2];
    this.setPlace(this.film.crosshair, false);
    return true;
  }

  /** Escape: gives up what is being drawn, then the tool; returns whether there was anything. */
  escape() {
    if (this.picking) this.cancelPicking();
    else if (this.openMark) this.removeMark();
    else if (this.tool !== "window") this.setTool("window");
    else return false;
    return true;
  }
}

/** Where a view lies against another, in parts of the latter's width. */
export function fractions(base, view) {
  const range = base.high - base.low;
  return { low: (view.low - base.low) / range, high: (view.high - base.low) / range };
}

/** A view that lies against another as the fractions say. */
export function relative(base, { low, high }) {
  const range = base.high - base.low;
  return { ...base, low: base.low + low * range, high: base.low + high * range };
}
