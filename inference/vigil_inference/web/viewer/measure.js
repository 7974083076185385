// Lengths and angles between places of a picture, given in fractions of its width and height.

/** How long a pixel is: in millimetres where that is known, else one pixel. */
export function scaleOf({ rows, columns, presentation }) {
  const spacing = presentation?.spacing ?? null;
  return {
    across: columns * (spacing?.column_mm ?? 1),
    down: rows * (spacing?.row_mm ?? 1),
    unit: spacing ? "mm" : "px",
    plane: spacing?.plane ?? null,
    magnification: spacing?.magnification ?? null,
  };
}

/** The distance of two places, in the scale's unit. */
export const lengthOf = (scale, [from, to]) =>
  Math.hypot((to[0] - from[0]) * scale.across, (to[1] - from[1]) * scale.down);

/** The angle between two lines as Cobb measured it: 0 to 90 degrees. */
export function angleOf(scale, [a, b, c, d]) {
  const direction = (from, to) =>
    Math.atan2((to[1] - from[1]) * scale.down, (to[0] - from[0]) * scale.across);
  const between = Math.abs(direction(a, b) - direction(c, d)) % Math.PI;
  return (Math.min(between, Math.PI - between) * 180) / Math.PI;
}

/** The box of two corners, inside the picture; null where it is empty. */
export function boxOf([one, two]) {
  const inside = (value) => Math.min(Math.max(value, 0), 1);
  const [left, right] = [one[0], two[0]].map(inside).sort((a, b) => a - b);
  const [top, bottom] = [one[1], two[1]].map(inside).sort((a, b) => a - b);
  return right - left > 0.002 && bottom - top > 0.002 ? [left, top, right, bottom] : null;
}

/** How many places each kind of mark takes. */
export const PLACES = { ruler: 2, angle: 4, region: 2 };
