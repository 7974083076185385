// A worker: fetches a picture at full depth, unpacks it, and makes smaller ones of it.

import { pyramid, unpredict } from "./codes.js";

const REPORT_EVERY_MS = 100;

self.onmessage = async ({ data: { url, rows, columns, bytes, hasMask } }) => {
  try {
    const answer = await fetch(url);
    if (!answer.ok) {
      const problem = await answer.json().catch(() => ({}));
      self.postMessage({ failed: problem.code || "HTTP_ERROR", reason: problem.message || "" });
      return;
    }
    const counted = answer.body.pipeThrough(counter(bytes));
    const planes = await unpack(counted, 2 * rows * columns);
    const levels = pyramid(unpredict(planes, rows, columns), rows, columns, hasMask);
    self.postMessage({ levels }, levels.map((level) => level.codes.buffer));
  } catch (error) {
    self.postMessage({ failed: "NETWORK", reason: String(error) });
  }
};

/** Tells how much has come, now and then. */
function counter(bytes) {
  let come = 0;
  let told = 0;
  return new TransformStream({
    transform(chunk, controller) {
      come += chunk.byteLength;
      const now = performance.now();
      if (now - told > REPORT_EVERY_MS) {
        told = now;
        self.postMessage({ progress: come / bytes });
      }
      controller.enqueue(chunk);
    },
  });
}

/** Ungzip a stream into an array whose length is known. */
async function unpack(stream, length) {
  const whole = new Uint8Array(length);
  let filled = 0;
  const reader = stream.pipeThrough(new DecompressionStream("gzip")).getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    if (filled + value.length > length) throw new RangeError("more pixels than promised");
    whole.set(value, filled);
    filled += value.length;
  }
  if (filled !== length) throw new RangeError("fewer pixels than promised");
  return whole;
}
