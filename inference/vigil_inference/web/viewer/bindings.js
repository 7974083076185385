// The keys of a study's page.

/**
 * @param {() => import("./viewer.js").Viewer} viewer the one that keys steer
 * @param {object} page what the page does: nextPicture, tags, compare, back
 */
export function bindingsOf(viewer, page) {
  const on = (keys, name, run, when, shown = keys) => ({ keys, shown, say: `key.${name}`, run, when });
  const tool = (key, name) => on([key], name, () => {
    viewer().setTool(name);
    viewer().film.canvas.focus({ preventScroll: true });
  });
  const onFilm = (run) => (event) => (event.target === viewer().film.canvas ? run(event) : false);
  const arrows = [["ArrowLeft", -1, 0], ["ArrowRight", 1, 0], ["ArrowUp", 0, -1], ["ArrowDown", 0, 1]];
  const pressed = (event) => arrows.find(([key]) => key === event.key);
  const hasMaps = () => viewer().maps.length > 0;
  return [
    {
      title: "keys.look",
      bindings: [
        tool("w", "window"), tool("v", "move"), tool("z", "zoom"), tool("m", "lens"),
        on(["Shift+ArrowLeft", "Shift+ArrowRight", "Shift+ArrowUp", "Shift+ArrowDown"], "window_by_keys",
          onFilm((event) => {
            const [, right, down] = pressed(event);
            viewer().moveWindow(right * 0.05, -down * 0.05);
          }), undefined, ["Shift", ...arrows.map(([key]) => key)]),
        on(["p", "P"], "next_view", (event) => viewer().nextView(event.key === "p" ? 1 : -1)),
        on(["i"], "invert", () => viewer().invert()),
        on(["+", "=", "-"], "zoom_by_keys", (event) => viewer().zoomBy(event.key === "-" ? 0.8 : 1.25),
          undefined, ["+", "−"]),
        on(arrows.map(([key]) => key), "arrows", onFilm((event) => {
          const [, right, down] = pressed(event);
          viewer().arrow(right, down, false);
        })),
        on(["f"], "fit", () => viewer().fit()),
        on(["1"], "one_to_one", () => viewer().oneToOne()),
        on([",", "."], "turn", (event) => viewer().turn(event.key === "." ? 1 : 3)),
        on(["0"], "reset", () => viewer().reset()),
      ],
    },
    {
      title: "keys.measure",
      bindings: [
        tool("r", "ruler"), tool("a", "angle"),
        on(["Enter"], "set_place", onFilm(() => viewer().enter())),
        on(["Delete", "Backspace"], "remove_mark", () => viewer().film.marks.length > 0 && viewer().removeMark(),
          undefined, ["Delete"]),
        on(["Escape"], "escape", () => viewer().escape()),
      ],
    },
    {
      title: "keys.model",
      bindings: [
        on(["h"], "next_map", () => viewer().nextMap(), hasMaps),
        on(["H"], "map_off", () => viewer().showMap(null), hasMaps),
        on(["[", "]"], "opacity", (event) => viewer().setOpacity(viewer().opacity + (event.key === "]" ? 0.1 : -0.1)), hasMaps),
        on(["o"], "outlines", () => viewer().outline(!viewer().isOutlined), () => Boolean(viewer().instance?.anatomy)),
      ],
    },
    {
      title: "keys.study",
      bindings: [
        on(["n", "N"], "next_picture", (event) => page.nextPicture(event.key === "n" ? 1 : -1), () => page.pictures() > 1),
        on(["c"], "compare", () => page.compare(), () => page.others() > 0),
        on(["t"], "tags", () => page.tags()),
        on(["?"], "help", () => {}),
      ],
    },
  ];
}
