"""Log lines: what happened, to standard error, without patient data.

Events carry the database's own numbers of pictures, never a UID, a name or a file's path.
"""

import contextlib
import logging
import sys
from typing import Literal, TextIO

import structlog


def configure_logs(log_format: Literal["console", "json"]) -> None:
    """Send this program's events, and the warnings of its libraries, to standard error."""
    renderer: structlog.typing.Processor
    if log_format == "json":
        renderer = structlog.processors.JSONRenderer()
    else:
        renderer = structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            # Traceback lines, never the values of variables: those may be patient data.
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=lambda *_: _Lines(sys.stderr),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(name)s: %(message)s")
    # pynetdicom and pydicom quote values of data sets in their messages. A level would not do:
    # pydicom sets its own when it is imported, which is later.
    for library in ("pydicom", "pynetdicom"):
        logger = logging.getLogger(library)
        logger.propagate = False
        logger.addHandler(logging.NullHandler())


class _Lines:
    """Writes lines, where they can be written.

    On a full disk, or after the reader of a pipe has gone, a line is lost: the refusal or the
    result that it speaks of must not be lost with it.
    """

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def msg(self, message: str) -> None:
        """Write a line at once."""
        with contextlib.suppress(OSError):
            self._file.write(message + "\n")
            self._file.flush()

    debug = info = warn = warning = error = critical = exception = fatal = log = msg
