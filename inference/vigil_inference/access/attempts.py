"""Attempts to sign in: after a few wrong ones the next must wait, twice as long each time."""

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from vigil.errors import VigilError

_FREE_BY_ACCOUNT, _FREE_BY_ADDRESS = 5, 20
_MOST_SECONDS = 300.0
_FORGOTTEN_SECONDS = 3600.0
_MOST_REMEMBERED = 10_000


class TooManyAttempts(VigilError):
    """Somebody tries passwords; the next try must wait."""

    code = "TOO_MANY_ATTEMPTS"
    http_status = 429

    def __init__(self, seconds: float) -> None:
        wait = max(1, math.ceil(seconds))
        super().__init__(f"too many attempts; try again in {wait} s")
        self.headers = {"Retry-After": str(wait)}


@dataclass
class _Record:
    failures: int = 0
    last: float = 0.0


class Attempts:
    """Counts wrong attempts by account and by address, in this process.

    An unknown name is counted like a known one, so that waiting tells nothing either. A person
    whose name somebody else tries waits at most five minutes.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._records: dict[tuple[str, str], _Record] = {}

    def check(self, name: str, address: str) -> None:
        """Refuse an attempt that comes too early, and count it as wrong until it proves right.

        Raises
        ------
        TooManyAttempts
            If it must wait.
        """
        now = self._clock()
        with self._lock:
            waits = [
                record.last + _delay(record.failures, free) - now
                for key, free in _keys(name, address)
                if (record := self._records.get(key)) is not None
            ]
            if waits and max(waits) > 0:
                raise TooManyAttempts(max(waits))
            # Counted before it is checked: a hundred at the same moment are a hundred attempts.
            for key, _ in _keys(name, address):
                record = self._records.setdefault(key, _Record())
                if now - record.last > _FORGOTTEN_SECONDS:
                    record.failures = 0
                record.failures += 1
                record.last = now
            if len(self._records) > _MOST_REMEMBERED:
                self._forget_old(now)

    def succeeded(self, name: str, address: str) -> None:
        """Take back what :meth:`check` counted: the password was right."""
        with self._lock:
            self._records.pop(("account", name.strip().casefold()), None)
            if (record := self._records.get(("address", address))) is not None:
                record.failures = max(0, record.failures - 1)

    def _forget_old(self, now: float) -> None:
        recent = sorted(self._records.items(), key=lambda item: item[1].last)
        self._records = {
            key: record
            for key, record in recent[len(recent) // 2 :]
            if now - record.last < _FORGOTTEN_SECONDS
        }


def _keys(name: str, address: str) -> tuple[tuple[tuple[str, str], int], ...]:
    return (
        (("account", name.strip().casefold()), _FREE_BY_ACCOUNT),
        (("address", address), _FREE_BY_ADDRESS),
    )


def _delay(failures: int, free: int) -> float:
    """Return how long the next attempt must wait after the last: 0, 1, 2, 4 … 300 s."""
    return 0.0 if failures < free else min(_MOST_SECONDS, 2.0 ** min(failures - free, 20))
