"""Answers that are text are compressed: a slow line waits for bytes, not for the processor."""

import re

from starlette.middleware.gzip import GZipMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

# Pictures and DICOM hardly shrink, and a stream of events must not be held back.
_TEXT = re.compile(
    r"/(?:|model|accounts|agreement|audit)|/assets/.+|/studies/[^/]+|/api/(?:worklist|studies/[^/]+|openapi|audit)(?:/\w+)?"
    r"|/api/studies/[^/]+/instances/[^/]+/(?:presentation|tags)"
)
_LEAST_BYTES = 600


class Compressed:
    """Compresses the page, its files, the worklist and studies; the rest goes as it is."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._compressing = GZipMiddleware(app, minimum_size=_LEAST_BYTES, compresslevel=6)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        is_text = scope["type"] == "http" and _TEXT.fullmatch(scope["path"]) is not None
        await (self._compressing if is_text else self._app)(scope, receive, send)
