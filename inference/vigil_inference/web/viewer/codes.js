// Pictures as codes: 16-bit numbers that a view makes greys of. No page and no canvas here.

/**
 * Undo the prediction of the service's `pixels`; see DepthView in /openapi.json.
 * @param {Uint8Array} planes the high bytes of all residuals, then the low ones
 * @returns {Uint16Array} rows × columns codes
 */
export function unpredict(planes, rows, columns) {
  const count = rows * columns;
  const codes = new Uint16Array(count);
  for (let row = 0, at = 0; row < rows; row += 1) {
    let left = row ? codes[at - columns] : 0;
    let corner = left;
    for (const end = at + columns; at < end; at += 1) {
      const above = row ? codes[at - columns] : left;
      let predicted;
      if (left < above) predicted = corner >= above ? left : corner <= left ? above : left + above - corner;
      else predicted = corner >= left ? above : corner <= above ? left : left + above - corner;
      const folded = (planes[at] << 8) | planes[count + at];
      left = (predicted + ((folded >> 1) ^ -(folded & 1))) & 0xffff;
      codes[at] = left;
      corner = above;
    }
  }
  return codes;
}

/**
 * A picture and its halvings, down to a thumbnail's size.
 * @returns {{codes: Uint16Array, rows: number, columns: number}[]} the whole one first
 */
export function pyramid(codes, rows, columns, hasMask) {
  const levels = [{ codes, rows, columns }];
  while (Math.max(levels.at(-1).rows, levels.at(-1).columns) > 512) levels.push(halved(levels.at(-1), hasMask));
  return levels;
}

function halved({ codes, rows, columns }, hasMask) {
  const [fewerRows, fewerColumns] = [Math.ceil(rows / 2), Math.ceil(columns / 2)];
  const small = new Uint16Array(fewerRows * fewerColumns);
  for (let row = 0, at = 0; row < fewerRows; row += 1) {
    const upper = 2 * row * columns;
    const lower = Math.min(2 * row + 1, rows - 1) * columns;
    for (let column = 0; column < fewerColumns; column += 1, at += 1) {
      const one = 2 * column;
      const two = Math.min(one + 1, columns - 1);
      const [a, b, c, d] = [codes[upper + one], codes[upper + two], codes[lower + one], codes[lower + two]];
      // Code 0 is no value where there is a mask: mixed with one it would make a bright rim.
      if (hasMask && !(a && b && c && d)) {
        const seen = (a > 0) + (b > 0) + (c > 0) + (d > 0);
        small[at] = seen ? Math.round((a + b + c + d) / seen) : 0;
      } else small[at] = (a + b + c + d + 2) >> 2;
    }
  }
  return { codes: small, rows: fewerRows, columns: fewerColumns };
}

/** The grey, 0 to 1, at a place between black (0) and white (1) of a view. */
export function shaped(view, place) {
  if (view.shape === "SIGMOID") return 1 / (1 + Math.exp(-4 * (place - 0.5)));
  const bounded = Math.min(Math.max(place, 0), 1);
  if (view.shape !== "TABLE") return bounded;
  const at = bounded * (view.table.length - 1);
  const below = Math.floor(at);
  const above = Math.min(below + 1, view.table.length - 1);
  return view.table[below] + (at - below) * (view.table[above] - view.table[below]);
}

/**
 * A table from code to a pixel of a canvas.
 * @param {{slope, intercept, hasMask}} space what codes mean
 * @param {{low, high, shape, table}} view
 * @param {boolean} lowIsBright
 */
export function pixelTable(space, view, lowIsBright) {
  const pixels = new Uint32Array(65536);
  const scale = 1 / Math.max(view.high - view.low, 1e-9);
  for (let code = 0; code < 65536; code += 1) {
    let grey = shaped(view, (space.slope * code + space.intercept - view.low) * scale);
    if (lowIsBright) grey = 1 - grey;
    const level = Math.round(255 * grey);
    pixels[code] = 0xff000000 | (level << 16) | (level << 8) | level;
  }
  if (space.hasMask) pixels[0] = 0xff000000;
  return pixels;
}

/** For each of a preview's 256 greys the code that its view would show so. */
export function codesOfGreys(depth) {
  const view = depth.views[0];
  const lowest = depth.has_mask ? 1 : 0;
  const codes = new Uint16Array(256);
  for (let grey = 0; grey < 256; grey += 1) {
    const wanted = depth.is_inverted ? 1 - grey / 255 : grey / 255;
    const value = view.low + placeOf(view, wanted) * (view.high - view.low);
    codes[grey] = Math.min(Math.max(Math.round((value - depth.intercept) / depth.slope), lowest), 65535);
  }
  return codes;
}

function placeOf(view, grey) {
  if (view.shape === "SIGMOID") {
    const bounded = Math.min(Math.max(grey, 0.002), 0.998);
    return 0.5 + Math.log(bounded / (1 - bounded)) / 4;
  }
  if (view.shape !== "TABLE") return grey;
  const falls = view.table[0] > view.table.at(-1);
  let [below, above] = [0, view.table.length - 1];
  while (above - below > 1) {
    const middle = (below + above) >> 1;
    if ((view.table[middle] < grey) !== falls) below = middle;
    else above = middle;
  }
  return above / (view.table.length - 1);
}
