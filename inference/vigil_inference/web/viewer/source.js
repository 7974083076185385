// Where a picture comes from: small preview, preview, full depth, each as soon as it is there.

import { ask, picturePath } from "../dom.js";
import { codesOfGreys, pyramid } from "./codes.js";

const FIRST_SIDE = 512;
const BUSY_WAIT_MS = 3000;
const PREVIEW_SPACE = { slope: 257, intercept: 0, hasMask: false };
const PREVIEW_VIEW = { kind: "PREVIEW", name: "", low: 0, high: 65535, shape: "LINEAR", table: [] };

/**
 * Load a picture in steps.
 * @param {string} study
 * @param {object} instance as the service tells of it
 * @param {(picture: object) => void} come called with each better picture:
 *   `{levels, space, views, lowIsBright, rows, columns, presentation, stage}`
 * @param {(state: {progress?: number, code?: string, reason?: string}) => void} say
 * @returns {() => void} stops it
 */
export function loadPicture(study, instance, come, say) {
  const stop = new AbortController();
  const path = (file) => picturePath(study, instance.sop_instance_uid, file);
  let presentation = null;
  let greys = null; // the best preview so far: {bytes, rows, columns}
  let best = 0; // 1 small preview, 2 preview, 3 full depth
  let worker = null;

  const show = () => {
    if (best === 3 || !greys) return;
    come(ofPreview(greys, presentation, best));
  };
  const preview = async (file, rank) => {
    const answer = await fetch(path(file), { signal: stop.signal });
    if (!answer.ok) throw new Error(String(answer.status));
    const read = await greysOf(await answer.blob());
    if (rank <= best) return;
    [best, greys] = [rank, read];
    show();
  };
  const previews = async () => {
    if (!instance.has_preview) return;
    // A small one is there in a tenth of a second also on a slow line.
    await preview(`image.jpg?size=${FIRST_SIDE}`, 1).catch(() => {});
    await preview("image.jpg", 2).catch(() => {});
  };
  const header = async () => {
    presentation = await withPatience(() => ask(path("presentation"), stop.signal), stop.signal);
    show();
  };
  const fullDepth = () => {
    const { depth } = presentation;
    if (!depth) {
      say({ code: presentation.code, reason: presentation.reason });
      if (!greys) come({ ...ofNothing(presentation), stage: "none" });
      return;
    }
    say({ progress: 0 });
    worker = new Worker("/assets/viewer/depth_worker.js", { type: "module" });
    stop.signal.addEventListener("abort", () => worker.terminate());
    worker.onerror = () => say({ code: "PAGE_ERROR", reason: "" });
    worker.onmessage = ({ data }) => {
      if (data.progress !== undefined) return say({ progress: data.progress });
      worker.terminate();
      if (data.failed) return say({ code: data.failed, reason: data.reason });
      best = 3;
      come({
        levels: data.levels,
        space: { slope: depth.slope, intercept: depth.intercept, hasMask: depth.has_mask },
        views: depth.views,
        lowIsBright: depth.is_inverted,
        rows: depth.rows,
        columns: depth.columns,
        presentation,
        stage: "full",
      });
      return say({});
    };
    worker.postMessage({
      url: new URL(path("pixels"), location.href).href,
      rows: depth.rows,
      columns: depth.columns,
      bytes: depth.bytes,
      hasMask: depth.has_mask,
    });
  };

  // The line is the preview's until it has come: full depth is for later.
  Promise.all([previews(), header()]).then(fullDepth).catch((error) => {
    if (error.name !== "AbortError") say({ code: error.code || "NETWORK", reason: error.message });
  });
  return () => stop.abort();
}

/** A service that decodes for others asks to wait. */
async function withPatience(attempt, signal) {
  for (;;) {
    try {
      return await attempt();
    } catch (error) {
      if (error.code !== "BUSY") throw error;
      await new Promise((resolve) => setTimeout(resolve, BUSY_WAIT_MS));
      signal.throwIfAborted();
    }
  }
}

async function greysOf(blob) {
  const picture = await createImageBitmap(blob);
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [picture.width, picture.height];
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  pen.drawImage(picture, 0, 0);
  picture.close();
  const { data } = pen.getImageData(0, 0, canvas.width, canvas.height);
  const bytes = new Uint8Array(canvas.width * canvas.height);
  for (let at = 0; at < bytes.length; at += 1) bytes[at] = data[4 * at];
  return { bytes, rows: canvas.height, columns: canvas.width };
}

/** A preview in the codes of the picture that will follow, so that nothing jumps when it does. */
function ofPreview({ bytes, rows, columns }, presentation, rank) {
  const depth = presentation?.depth;
  const codes = new Uint16Array(bytes.length);
  const table = depth ? codesOfGreys(depth) : null;
  for (let at = 0; at < codes.length; at += 1) codes[at] = table ? table[bytes[at]] : bytes[at];
  return {
    levels: pyramid(codes, rows, columns, false),
    space: depth ? { slope: depth.slope, intercept: depth.intercept, hasMask: false } : PREVIEW_SPACE,
    views: depth ? depth.views : [PREVIEW_VIEW],
    lowIsBright: depth ? depth.is_inverted : false,
    rows: depth?.rows ?? presentation?.rows ?? rows,
    columns: depth?.columns ?? presentation?.columns ?? columns,
    presentation,
    stage: rank === 1 ? "first" : "preview",
  };
}

const ofNothing = (presentation) => ({
  levels: [],
  space: PREVIEW_SPACE,
  views: [PREVIEW_VIEW],
  lowIsBright: false,
  rows: presentation.rows ?? 1,
  columns: presentation.columns ?? 1,
  presentation,
});
