"""OHIF as hospitals run it: its published build, served beside a DICOMweb server on one origin."""

import contextlib
import json
import mimetypes
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import httpx
import pytest
import uvicorn
from playwright.sync_api import ConsoleMessage, Page
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from tests.conftest import PROJECT
from tests.system.peers import HOST, free_port, wait_until

_BUILD = Path(os.environ.get("VIGIL_OHIF", PROJECT / "var/peers/ohif"))
"""Where `.ci/install-peers` puts the npm package `@ohif/app`."""
CRASH = "Something went wrong"
"""What OHIF says where a part of it has ended with an error."""
Outline = list[tuple[float, float]]
_OF_ONE_HOP = frozenset(
    {"connection", "content-encoding", "content-length", "host", "transfer-encoding"}
)


# The darkest and the brightest grey of what cornerstone has drawn, null while that is nothing.
_GREYS = """
(() => {
  const canvas = document.querySelector('canvas.cornerstone-canvas');
  if (!canvas || !canvas.width) return null;
  const context = canvas.getContext('2d');
  const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
  let low = 255, high = 0;
  for (let i = 0; i < data.length; i += 4) {
    low = Math.min(low, data[i]);
    high = Math.max(high, data[i]);
  }
  return high > low ? [low, high] : null;
})()
"""
_THUMBNAILS = """
[...document.querySelectorAll('img')].filter(
  image => image.src.startsWith('data:image') && image.naturalWidth > 16
).length
"""
# What is drawn over the picture, and the size of what it is drawn on. Finely dotted lines join a
# shape to its words.
_SHAPES = """
(() => {
  const canvas = document.querySelector('canvas.cornerstone-canvas');
  const number = text => text.trim().split(/[ ,]+/).map(Number);
  const pairs = numbers =>
    numbers.filter((_, i) => i % 2 === 0).map((x, i) => [x, numbers[2 * i + 1]]);
  const shapes = [...document.querySelectorAll('svg.svg-layer KIND')]
    .filter(shape => shape.getAttribute('stroke-dasharray') !== '2,3')
    .map(shape => shape.tagName === 'line'
      ? number(['x1', 'y1', 'x2', 'y2'].map(name => shape.getAttribute(name)).join(' '))
      : number(shape.getAttribute('points')))
    .map(pairs);
  return [canvas?.clientWidth ?? 0, canvas?.clientHeight ?? 0, shapes];
})()
"""


def _configuration() -> str:
    """Return OHIF's settings, as its documentation has them for Orthanc behind a proxy."""
    source = {
        "namespace": "@ohif/extension-default.dataSourcesModule.dicomweb",
        "sourceName": "pacs",
        "configuration": {
            "friendlyName": "PACS of the tests",
            "name": "pacs",
            "wadoUriRoot": "/dicom-web",
            "qidoRoot": "/dicom-web",
            "wadoRoot": "/dicom-web",
            "qidoSupportsIncludeField": False,
            "supportsReject": False,
            "imageRendering": "wadors",
            "thumbnailRendering": "wadors",
            "enableStudyLazyLoad": True,
            "supportsFuzzyMatching": False,
            "supportsWildcard": True,
            "staticWado": False,
            "singlepart": "bulkdata,video",
            "bulkDataURI": {"enabled": True},
            "omitQuotationForMultipartRequest": True,
        },
    }
    settings = {
        "routerBasename": None,
        "extensions": [],
        "modes": [],
        "showStudyList": True,
        "maxNumberOfWebWorkers": 2,
        "showWarningMessageForCrossOrigin": False,
        "showCPUFallbackMessage": False,
        "showLoadingIndicator": True,
        "showErrorDetails": "always",
        "investigationalUseDialog": {"option": "never"},
        "defaultDataSourceName": "pacs",
        "dataSources": [source],
    }
    # The page explains itself at the first visit, over the picture.
    tours = "localStorage.setItem('shownTours', JSON.stringify(['basicViewerTour']));"
    return f"{tours}\nwindow.config = {json.dumps(settings)};\n"


class OhifServer:
    """Serves OHIF's files, and passes ``/dicom-web`` on to a DICOMweb server.

    Parameters
    ----------
    dicomweb
        The root of that server.
    """

    def __init__(self, dicomweb: str) -> None:
        self.dist = _BUILD / "dist"
        if not (self.dist / "index.html").is_file():
            pytest.skip("OHIF (npm package @ohif/app, by `.ci/install-peers`) is not installed")
        self._dicomweb = dicomweb
        self._client = httpx.Client(timeout=60, trust_env=False)
        self.answers: list[tuple[str, int]] = []
        """What the DICOMweb server was asked, and with which status it answered."""
        routes = [
            Route("/dicom-web/{path:path}", self._pass_on, methods=["GET", "HEAD"]),
            Route("/app-config.js", self._settings),
            # Nothing is kept from one page to the next.
            Route("/init-service-worker.js", lambda _: Response(media_type="text/javascript")),
            Route("/{path:path}", self._file),
        ]
        port = free_port()
        self.url = f"http://{HOST}:{port}"
        config = uvicorn.Config(
            Starlette(routes=routes), host=HOST, port=port, log_level="critical", lifespan="off",
            timeout_graceful_shutdown=1,
        )  # fmt: skip
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run)

    def __enter__(self) -> Self:
        self._thread.start()
        wait_until(lambda: self._server.started, "OHIF is served")
        return self

    def __exit__(self, *_exception: object) -> None:
        self._server.should_exit = True
        self._thread.join(20)
        self._client.close()

    def _pass_on(self, request: Request) -> Response:
        url = f"{self._dicomweb}/{request.path_params['path']}"
        headers = {k: v for k, v in request.headers.items() if k not in _OF_ONE_HOP}
        answer = self._client.request(
            request.method, url, params=dict(request.query_params), headers=headers
        )
        self.answers.append((request.url.path, answer.status_code))
        kept = {k: v for k, v in answer.headers.items() if k not in _OF_ONE_HOP}
        return Response(answer.content, answer.status_code, kept)

    def _settings(self, _request: Request) -> Response:
        return Response(_configuration(), media_type="text/javascript")

    def _file(self, request: Request) -> Response:
        path = self.dist / request.path_params["path"]
        # Its routes are one page's own.
        if not path.is_file():
            path = self.dist / "index.html"
        return FileResponse(path, media_type=mimetypes.guess_type(path.name)[0])


class Reader:
    """Somebody who opens a study in OHIF and looks at it.

    Parameters
    ----------
    page
        An empty page of a browser.
    server
        Where OHIF is served.
    screenshots
        A folder that keeps what was seen, for people.
    """

    def __init__(self, page: Page, server: OhifServer, screenshots: Path) -> None:
        self._page, self._server, self._screenshots = page, server, screenshots
        self.complaints: list[str] = []
        """What the browser complained of: what OHIF itself logs is not among it."""
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", self._hear)

    def _hear(self, message: ConsoleMessage) -> None:
        # A page's own `console.error` has arguments, the browser's words have none.
        if message.type == "error" and not message.args:
            self.complaints.append(f"{message.text} {message.location['url']}")

    def open(self, study: str, series: str = "") -> None:
        """Open a study, with one of its series on the screen."""
        self.complaints.clear()
        self._server.answers.clear()
        query = f"StudyInstanceUIDs={study}"
        if series:
            query += f"&initialSeriesInstanceUID={series}"
        self._page.goto(f"{self._server.url}/viewer?{query}", wait_until="commit")

    def list_studies(self) -> None:
        """Open the list of studies."""
        self.complaints.clear()
        self._server.answers.clear()
        self._page.goto(self._server.url, wait_until="commit")

    def wait_for(self, *words: str) -> str:
        """Wait until these words are on the page, and return all its words."""

        def shown() -> str | None:
            text = self._page.inner_text("body")
            return text if CRASH in text or all(word in text for word in words) else None

        with self._keeping("waited in vain"):
            text = wait_until(shown, f"OHIF shows {words}")
        assert CRASH not in text, text[:2000]
        return text

    @contextlib.contextmanager
    def _keeping(self, name: str) -> Iterator[None]:
        """Keep what is on the page, if it is not what was waited for."""
        try:
            yield
        except BaseException:
            self._page.screenshot(path=self._screenshots / f"{name}.png")
            print(self._page.inner_text("body")[:2000], self.complaints, self._server.answers)
            raise

    def picture(self) -> tuple[int, int]:
        """Wait until a picture is drawn, and return the darkest and the brightest grey in it."""
        with self._keeping("no picture"):
            low, high = wait_until(lambda: self._page.evaluate(_GREYS), "a picture is drawn")
        return low, high

    def wait_for_thumbnails(self, count: int) -> None:
        """Wait until so many series have a picture beside their names."""
        with self._keeping("no thumbnails"):
            wait_until(lambda: self._page.evaluate(_THUMBNAILS) >= count, f"{count} thumbnails")

    def wait_for_crash(self) -> None:
        """Wait until OHIF says that a part of it has ended."""
        with self._keeping("no crash"):
            wait_until(lambda: CRASH in self._page.inner_text("body"), "OHIF ends with an error")

    def drawn(self, kind: str, size: tuple[int, int], count: int = 1) -> list[Outline]:
        """Wait until so many shapes are drawn over the picture, and return them.

        Parameters
        ----------
        kind
            ``polyline`` or ``line``, as scalable vector graphics call them.
        size
            The picture's (rows, columns). It is laid whole into the middle.
        count
            How many.

        Returns
        -------
        list
            Each shape's points (column, row) in the picture's own pixels.
        """

        def found() -> tuple[float, float, list[Outline]] | None:
            width, height, shapes = self._page.evaluate(_SHAPES.replace("KIND", kind))
            return (width, height, shapes) if len(shapes) >= count else None

        with self._keeping("nothing drawn"):
            width, height, shapes = wait_until(found, f"{count} of {kind} are drawn")
        rows, columns = size
        scale = min(width / columns, height / rows)
        left, top = (width - columns * scale) / 2, (height - rows * scale) / 2
        return [[((x - left) / scale, (y - top) / scale) for x, y in shape] for shape in shapes]

    def check(self, name: str) -> None:
        """Keep a screenshot, and find nothing that failed."""
        self._page.screenshot(path=self._screenshots / f"{name}.png")
        assert CRASH not in self._page.inner_text("body")
        assert self.complaints == []
        assert [answer for answer in self._server.answers if answer[1] >= 400] == []
