"""The end of a process that was told to stop, in bounded time whatever hangs."""

import os
import threading

import structlog

log = structlog.get_logger(__name__)

GRACE_SECONDS = 15.0
"""Beyond ``stop_seconds``: for open requests, the database's close, and what may not be waited for.

With the default it is less than a minute, after which service managers kill."""


def end_in_time(stop_seconds: float) -> None:
    """See to it that the process ends: what is acknowledged is safe at any moment."""
    timer = threading.Timer(stop_seconds + GRACE_SECONDS, _end_at_once)
    timer.daemon = True
    timer.start()


def _end_at_once() -> None:
    log.error("stopped_at_once", reason="a part of the service did not stop in time")
    os._exit(1)
