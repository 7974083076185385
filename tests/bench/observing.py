"""What a running service says of itself to a measurement: its rows, its memory, its time."""

import contextlib
import os
import statistics
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import create_engine, func, select
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from tests.system.peers import wait_until
from vigil_inference.database import normal_url
from vigil_inference.tables import Instance, State

_TICKS = os.sysconf("SC_CLK_TCK")
_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


class Findings(NamedTuple):
    """Seconds from each picture's arrival to its finding, and milliseconds of each analysis."""

    waits: list[float]
    analyses: list[float]


@contextlib.contextmanager
def _asking(folder: Path, url: str) -> Iterator[Session]:
    place = url or f"sqlite:///{folder / 'data' / 'vigil.sqlite3'}"
    engine = create_engine(normal_url(place), poolclass=NullPool)
    with Session(engine) as session:
        yield session
    engine.dispose()


def wait_for_findings(folder: Path, url: str = "", timeout_seconds: float = 1800) -> None:
    """Wait until no picture waits for its analysis; ``url`` of a database other than its own."""
    waiting = select(func.count()).where(Instance.state == State.RECEIVED.value)
    with _asking(folder, url) as session:

        def is_done() -> bool:
            session.rollback()  # what a transaction has seen stays as it was
            return session.scalar(waiting) == 0

        wait_until(is_done, "all is analysed", timeout_seconds)


def last_finding(folder: Path) -> datetime:
    """Return when the latest finding was committed."""
    return analysed_at(folder)[-1]


def findings(folder: Path, since: datetime = _LONG_AGO, url: str = "") -> Findings:
    """Return how long pictures took that arrived since a moment."""
    statement = select(Instance).where(
        Instance.received_at > since, Instance.analysed_at.is_not(None)
    )
    with _asking(folder, url) as session:
        found = session.scalars(statement).all()
        waits = [
            (row.analysed_at - row.received_at).total_seconds() for row in found if row.analysed_at
        ]
        return Findings(sorted(waits), [row.milliseconds or 0.0 for row in found])


def analysed_at(folder: Path, url: str = "") -> list[datetime]:
    """Return when each finding was committed, in order."""
    with _asking(folder, url) as session:
        moments = session.scalars(select(Instance.analysed_at).order_by(Instance.analysed_at))
        return [moment for moment in moments if moment is not None]


def quantiles(waits: Sequence[float]) -> dict[str, float]:
    """Return p50, p95, p99 and the slowest."""
    cuts = statistics.quantiles(waits, n=100, method="inclusive")
    return {"p50": cuts[49], "p95": cuts[94], "p99": cuts[98], "slowest": max(waits)}


def processor_seconds(pid: int) -> float:
    """Return what a process has used, in user and system time."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def resident_mib(pid: int) -> float:
    """Return a process's memory."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024
