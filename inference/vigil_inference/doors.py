"""What came through the doors of this process, counted for those who watch it."""

import threading
from collections import Counter
from typing import Literal

from vigil_inference.arrivals import Outcome

Door = Literal["C-STORE", "STOW-RS", "FOLDER"]
DOORS: tuple[Door, ...] = ("C-STORE", "STOW-RS", "FOLDER")
TAKEN = (Outcome.NEW, Outcome.REPEATED, Outcome.DIFFERS)
"""Outcomes that are acknowledged."""


class DoorBook:
    """Counts since the start of the process; any thread may count and look."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken: Counter[tuple[str, Outcome]] = Counter()
        self._refused: Counter[tuple[str, str]] = Counter()
        self._associations: Counter[str] = Counter()

    def take(self, door: str, outcome: Outcome) -> None:
        """Count an object that was acknowledged."""
        with self._lock:
            self._taken[door, outcome] += 1

    def refuse(self, door: str, code: str) -> None:
        """Count an object that its sender keeps, by the stable code of the reason."""
        with self._lock:
            self._refused[door, code] += 1

    def refuse_association(self, reason: str) -> None:
        """Count an association that was rejected."""
        with self._lock:
            self._associations[reason] += 1

    @property
    def taken(self) -> dict[tuple[str, Outcome], int]:
        """Acknowledged objects by door and outcome."""
        with self._lock:
            return dict(self._taken)

    @property
    def refused(self) -> dict[tuple[str, str], int]:
        """Refused objects by door and code."""
        with self._lock:
            return dict(self._refused)

    @property
    def associations_refused(self) -> dict[str, int]:
        """Rejected associations by reason."""
        with self._lock:
            return dict(self._associations)
