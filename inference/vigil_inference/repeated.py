"""Small jobs that a service does again and again."""

import threading
from collections.abc import Callable

import structlog

log = structlog.get_logger(__name__)


class Repeated:
    """Calls a function at intervals, in a thread of its own, until it is stopped.

    Parameters
    ----------
    name
        Of the thread, for logs.
    action
        What is done; an error of it is told, and it is called again after the interval.
    interval_seconds
        From the end of a call to the beginning of the next.
    """

    def __init__(self, name: str, action: Callable[[], object], interval_seconds: float) -> None:
        self._name = name
        self._action = action
        self._interval_seconds = interval_seconds
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin with a first call at once."""
        self._thread.start()

    def stop(self, timeout_seconds: float = 30.0) -> None:
        """Call no more, and wait for the call that is under way."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(timeout_seconds)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._action()
            except Exception as error:  # the next call may succeed
                log.error("repeated_job_failed", job=self._name, error=type(error).__name__)
            self._stopping.wait(self._interval_seconds)
