// Where a picture lies on the screen. Places in the picture are fractions of its width and height,
// as it was analysed; places on the screen are CSS pixels from the film's upper left corner.

export const LEAST_ZOOM = 0.02;
export const MOST_ZOOM = 40;

/**
 * @typedef {object} Placement
 * @property {number} zoom CSS pixels for one of the picture's columns
 * @property {number} x which fraction of the picture is in the film's middle
 * @property {number} y
 * @property {number} turns quarter turns clockwise, for the eye only
 */

/** A picture's extent: its size in columns, and how high a row is against a column. */
export function extentOf({ rows, columns, presentation }) {
  const spacing = presentation?.spacing;
  return { columns, rows, aspect: spacing ? spacing.row_mm / spacing.column_mm : 1 };
}

/** The affine map from the picture's fractions to the film: `[a, b, c, d, e, f]` as canvases take it. */
export function matrixOf(placement, extent, film) {
  const width = placement.zoom * extent.columns;
  const height = placement.zoom * extent.rows * extent.aspect;
  const [cosine, sine] = [[1, 0], [0, 1], [-1, 0], [0, -1]][placement.turns % 4];
  const [a, b, c, d] = [cosine * width, sine * width, -sine * height, cosine * height];
  return [a, b, c, d,
    film.width / 2 - a * placement.x - c * placement.y,
    film.height / 2 - b * placement.x - d * placement.y];
}

/** A place of the picture on the film. */
export const toFilm = ([a, b, c, d, e, f], [x, y]) => [a * x + c * y + e, b * x + d * y + f];

/** A place on the film in the picture. */
export function toPicture([a, b, c, d, e, f], [left, top]) {
  const determinant = a * d - b * c;
  const [x, y] = [left - e, top - f];
  return [(d * x - c * y) / determinant, (a * y - b * x) / determinant];
}

/** The zoom at which all of a picture is seen. */
export function fitZoom(extent, turns, film) {
  const [width, height] = [extent.columns, extent.rows * extent.aspect];
  const [across, down] = turns % 2 ? [height, width] : [width, height];
  return bounded(Math.min(film.width / across, film.height / down));
}

/** The same placement with another zoom, so that a place on the film stays where it is. */
export function zoomedAt(placement, extent, film, zoom, at) {
  const kept = toPicture(matrixOf(placement, extent, film), at);
  const next = { ...placement, zoom: bounded(zoom) };
  const [x, y] = toPicture(matrixOf(next, extent, film), at);
  return within({ ...next, x: next.x + kept[0] - x, y: next.y + kept[1] - y });
}

/** The same placement moved by so many CSS pixels. */
export function movedBy(placement, extent, film, right, down) {
  const matrix = matrixOf(placement, extent, film);
  const [x, y] = toPicture(matrix, [film.width / 2 - right, film.height / 2 - down]);
  return within({ ...placement, x, y });
}

// The middle of the film never leaves the picture, so it cannot be lost.
const within = (placement) => ({
  ...placement, x: Math.min(Math.max(placement.x, 0), 1), y: Math.min(Math.max(placement.y, 0), 1),
});
const bounded = (zoom) => Math.min(Math.max(zoom, LEAST_ZOOM), MOST_ZOOM);

/** The part of the picture that a film shows: `[left, top, right, bottom]` in fractions, or null. */
export function seenPart(matrix, film) {
  const corners = [[0, 0], [film.width, 0], [0, film.height], [film.width, film.height]]
    .map((corner) => toPicture(matrix, corner));
  const sides = [0, 1].map((axis) => corners.map((corner) => corner[axis]));
  const part = [Math.max(0, Math.min(...sides[0])), Math.max(0, Math.min(...sides[1])),
    Math.min(1, Math.max(...sides[0])), Math.min(1, Math.max(...sides[1]))];
  return part[0] < part[2] && part[1] < part[3] ? part : null;
}
