"""What a proof says in the end: whether it holds, and what was counted on the way."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

_MOST_TOLD = 12


@dataclass
class Proof:
    """One proof while it runs.

    Attributes
    ----------
    name
        By which it is chosen.
    folder
        For all that it writes.
    broken
        What did not hold; empty at the end if it holds.
    counted
        What was done and seen, by name, for the table.
    """

    name: str
    folder: Path
    broken: list[str] = field(default_factory=list)
    counted: dict[str, int | float | str] = field(default_factory=dict)

    def require(self, holds: object, otherwise: str) -> None:
        """Note what is broken if something does not hold, and go on."""
        if not holds:
            self.broken.append(otherwise)

    def require_equal(self, found: set[str], expected: set[str], what: str) -> None:
        """Note what is missing and what is too much."""
        self.require(not expected - found, f"{what}: {len(expected - found)} are missing")
        self.require(not found - expected, f"{what}: {len(found - expected)} are not expected")

    def count(self, **counted: float | str) -> None:
        """Note figures for the table."""
        self.counted |= counted

    def told(self) -> str:
        """Return what was counted, in a line."""
        return ", ".join(
            f"{name.replace('_', ' ')} {value}" for name, value in self.counted.items()
        )


@dataclass(frozen=True)
class Outcome:
    """A proof's end: ``holds``, ``BROKEN``, or ``not run`` with the reason."""

    name: str
    verdict: str
    detail: str
    seconds: float

    @property
    def failed(self) -> bool:
        """Whether it was broken."""
        return self.verdict == "BROKEN"


def prove(name: str, folder: Path, action: Callable[[Proof], None]) -> Outcome:
    """Run a proof; an error in it, or a wait in vain, breaks it."""
    folder.mkdir(parents=True, exist_ok=True)
    proof = Proof(name, folder)
    start = time.monotonic()
    try:
        action(proof)
    except pytest.skip.Exception as error:
        return Outcome(name, "not run", str(error), time.monotonic() - start)
    except (Exception, pytest.fail.Exception) as error:
        proof.broken.append(f"{type(error).__name__}: {error}"[:2000])
    seconds = time.monotonic() - start
    if proof.broken:
        told = "\n".join(proof.broken[:_MOST_TOLD])
        return Outcome(name, "BROKEN", f"{told}\n({proof.told()})", seconds)
    return Outcome(name, "holds", proof.told(), seconds)
