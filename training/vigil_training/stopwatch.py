"""Where the time of a training step goes."""

import time
from collections.abc import Callable


class Stopwatch:
    """Adds up laps: the time since the last lap belongs to a name.

    Attributes
    ----------
    seconds
        By name.
    """

    def __init__(self, settle: Callable[[], None] = lambda: None) -> None:
        """Start.

        Parameters
        ----------
        settle
            Waits until what was begun has ended. A GPU works on while the program goes on: without
            it, laps there are those of giving orders.
        """
        self.seconds: dict[str, float] = {}
        self._settle = settle
        self._started = self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        """Count the time since the last lap for ``name``."""
        self._settle()
        now = time.perf_counter()
        self.seconds[name] = self.seconds.get(name, 0.0) + now - self._last
        self._last = now

    def skip(self) -> None:
        """Let the time since the last lap belong to nothing."""
        self._settle()
        now = time.perf_counter()
        self._started += now - self._last
        self._last = now

    @property
    def total(self) -> float:
        """The seconds until the last lap, but those that were skipped."""
        return self._last - self._started

    def share(self, name: str) -> float:
        """Return the part of all time that belongs to a name, 0 to 1."""
        return self.seconds.get(name, 0.0) / max(self.total, 1e-9)
