// Mouse, pen and fingers on a film, told as drags, places and pinches.

const STILL = 4; // CSS pixels that a hand trembles

/**
 * @param {HTMLElement} film
 * @param {object} on
 * @param {(at, button) => void} on.down
 * @param {(right, down, at, button) => void} on.drag
 * @param {(at, isStill) => void} on.up
 * @param {(at) => void} on.hover
 * @param {() => void} on.leave
 * @param {(at, factor) => void} on.zoom
 * @param {(right, down, at, factor) => void} on.pinch
 * @param {(at) => void} on.double
 */
export function watchPointers(film, on) {
  const pointers = new Map();
  let start = null;
  let button = 0;
  let wasPinched = false;
  const at = (event) => {
    const box = film.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };

  film.addEventListener("pointerdown", (event) => {
    film.focus({ preventScroll: true });
    try {
      film.setPointerCapture(event.pointerId);
    } catch {
      // A pointer that a program made up cannot be captured.
    }
    pointers.set(event.pointerId, at(event));
    event.preventDefault();
    if (pointers.size > 1) {
      wasPinched = true;
      return;
    }
    [start, button, wasPinched] = [at(event), event.button, false];
    on.down(start, button);
  });
  film.addEventListener("pointermove", (event) => {
    const before = pointers.get(event.pointerId);
    const now = at(event);
    if (!before) return on.hover(now);
    if (pointers.size === 1) {
      if (!wasPinched) on.drag(now[0] - before[0], now[1] - before[1], now, button);
    } else if (pointers.size === 2) {
      const other = [...pointers].find(([id]) => id !== event.pointerId)[1];
      const [old, next] = [distance(before, other), distance(now, other)];
      const middle = [(now[0] + other[0]) / 2, (now[1] + other[1]) / 2];
      on.pinch((now[0] - before[0]) / 2, (now[1] - before[1]) / 2, middle, old > 1 ? next / old : 1);
    }
    pointers.set(event.pointerId, now);
    return undefined;
  });
  const end = (event) => {
    if (!pointers.delete(event.pointerId) || pointers.size) return;
    if (!wasPinched) on.up(at(event), distance(start, at(event)) < STILL);
  };
  film.addEventListener("pointerup", end);
  film.addEventListener("pointercancel", end);
  film.addEventListener("pointerleave", () => pointers.size || on.leave());
  film.addEventListener("dblclick", (event) => on.double(at(event)));
  film.addEventListener("contextmenu", (event) => event.preventDefault());
  film.addEventListener("wheel", (event) => {
    event.preventDefault();
    const lines = event.deltaMode === 1 ? 32 : 1;
    on.zoom(at(event), Math.exp(-Math.min(Math.max(event.deltaY * lines, -240), 240) / 500));
  }, { passive: false });
}

const distance = ([a, b], [c, d]) => Math.hypot(a - c, b - d);
