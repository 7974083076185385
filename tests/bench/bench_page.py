"""How soon a reader on a slow line sees the first row, and the film that was clicked.

A Chromium whose line is held to 2 Mbit/s and 40 ms (its own throttling) opens the worklist with an
empty cache, and clicks the first study when its row is there. The times are the page's own: from
the navigation to the first row, and from the click to the first picture, to the stored preview and
to full depth.
"""

import argparse
import statistics
import tempfile
from pathlib import Path

from playwright.sync_api import Browser, Page

from tests.bench.report import CannotMeasure, Report
from tests.films import Films
from tests.system.pages import chromium
from tests.system.peers import Vigil
from tests.system.test_restart import Sender
from vigil.bundle import default_bundle

NAME = "page"
_BYTES_PER_SECOND = 2_000_000 / 8
_LATENCY_MS = 40
_GOAL_SECONDS = 1.0
_STAGES = ("first picture", "preview", "full depth")
# The frame after the one in which the row stands: it is painted then.
_WATCH_ROW = """
const look = () => {
  if (document.querySelector(".row")) requestAnimationFrame((at) => { window.firstRow = at; });
  else requestAnimationFrame(look);
};
requestAnimationFrame(look);
"""
_WATCH = """() => {
  const row = document.querySelector(".row");
  const seen = {};
  window.seen = seen;
  const begun = performance.now();
  const look = () => {
    const stage = document.querySelector(".film")?.dataset.stage;
    const told = (name) => { seen[name] ??= (performance.now() - begun) / 1000; };
    if (["first", "preview", "full"].includes(stage)) told("first picture");
    if (["preview", "full"].includes(stage)) told("preview");
    if (stage === "full") return told("full depth");
    requestAnimationFrame(look);
  };
  (row.matches("a") ? row : row.querySelector("a")).click();
  look();
}"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what this part may be told."""
    parser.add_argument("--page-runs", type=int, default=5, help="page: how often")
    parser.add_argument("--page-films", type=int, default=20, help="page: studies in the list")
    parser.add_argument("--page-rows", type=int, default=2500, help="page: of each film")
    parser.add_argument("--page-dicom", type=Path, help="page: a folder of films of your own")


def measure(options: argparse.Namespace) -> Report:
    """Open the worklist and a study, several times, each with an empty cache."""
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        vigil = Vigil(Path(folder), options.bundle or default_bundle()).start()
        try:
            _send(vigil, Path(folder), options)
            with chromium() as browser:
                runs = [_look(browser, vigil.url) for _ in range(options.page_runs)]
        finally:
            vigil.stop()
    report = Report(
        NAME,
        f"the page over 2 Mbit/s and {_LATENCY_MS} ms, empty cache, {options.page_runs} runs",
        ("seconds", "median", "lowest", "highest", "to reach"),
    )
    for name in ("first row", *_STAGES):
        values = [run[name] for run in runs]
        median = statistics.median(values)
        goal = name in ("first row", "first picture")
        said = f"under {_GOAL_SECONDS:g} {'✓' if median < _GOAL_SECONDS else '✗'}" if goal else ""
        report.rows.append((name, *(f"{v:.2f}" for v in (median, min(values), max(values))), said))
        report.values[name] = {"median": median, "all": values}
    for name in ("kB to the first row", "kB from the click to the preview"):
        values = [run[name] for run in runs]
        report.rows.append((name, *(f"{f(values):.0f}" for f in (statistics.median, min, max)), ""))
        report.values[name] = statistics.median(values)
    return report


def _send(vigil: Vigil, folder: Path, options: argparse.Namespace) -> None:
    if options.page_dicom:
        paths = sorted(path for path in options.page_dicom.iterdir() if path.is_file())
    else:
        size = options.page_rows, options.page_rows * 2048 // 2500
        made = Films(folder / "films", size).write_many(folder / "sent", options.page_films)
        paths = [film.path for film in made]
    if not paths:
        raise CannotMeasure("there is no film to look at")
    sent = len(Sender(vigil.dicom_port, paths).wait())
    vigil.wait_for(sent)


def _look(browser: Browser, url: str) -> dict[str, float]:
    context = browser.new_context(viewport={"width": 1366, "height": 768}, service_workers="block")
    try:
        page = context.new_page()
        page.add_init_script(_WATCH_ROW)
        line = context.new_cdp_session(page)
        line.send("Network.enable")
        line.send(
            "Network.emulateNetworkConditions",
            {
                "offline": False,
                "latency": _LATENCY_MS,
                "downloadThroughput": _BYTES_PER_SECOND,
                "uploadThroughput": _BYTES_PER_SECOND,
            },
        )
        come = [0.0]

        def count(event: dict[str, float]) -> None:
            come[0] += event["encodedDataLength"] / 1000

        line.on("Network.loadingFinished", count)
        page.goto(url, wait_until="commit")
        page.wait_for_function("() => window.firstRow")
        seen = {"first row": float(page.evaluate("window.firstRow")) / 1000}
        seen["kB to the first row"] = come[0]
        page.wait_for_load_state("load")
        page.wait_for_timeout(4000)  # a reader reads; thumbnails have come
        before = come[0]
        page.evaluate(_WATCH)
        page.wait_for_function("() => window.seen.preview", timeout=120_000)
        seen["kB from the click to the preview"] = come[0] - before
        _wait_for_depth(page)
        return seen | dict(page.evaluate("() => window.seen"))
    finally:
        context.close()


def _wait_for_depth(page: Page) -> None:
    page.wait_for_function("() => window.seen['full depth']", timeout=300_000)
