"""Commits of threads that come at the same time, made together: one sync of the disk for all.

On SQLite one transaction writes after the other, and each commit waits for the disk. Whoever waits
for its turn leaves word of what it has to write; whoever has the turn writes all of that in one
transaction. Nobody hears that something is recorded before the commit that it is part of.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine

from vigil_inference.database import BUSY_TIMEOUT_SECONDS

T = TypeVar("T")


@dataclass(eq=False)
class _Job:
    work: Callable[[Connection], Any]
    is_durable: bool
    value: Any = None
    error: BaseException | None = None
    done: threading.Event = field(default_factory=threading.Event)


class Commits:
    """Writing transactions of one process on one SQLite database.

    Parameters
    ----------
    engine
        One whose transactions write, and whose commits survive a power cut.
    quick_engine
        One whose commits survive the end of the process, and a power cut once a later one does.
    turn
        Held by whoever writes, here or elsewhere in the process.
    """

    def __init__(self, engine: Engine, quick_engine: Engine, turn: threading.Lock) -> None:
        self._engine = engine
        self._quick_engine = quick_engine
        self._turn = turn
        self._lock = threading.Lock()
        self._waiting: list[_Job] = []

    def make(self, work: Callable[[Connection], T], *, is_durable: bool = True) -> T:
        """Do some work in a transaction, with others' or alone, and return its value.

        Parameters
        ----------
        work
            It may be called again after a rollback, so it changes nothing but the database.
        is_durable
            Whether a power cut right after it must not undo it.

        Raises
        ------
        TimeoutError
            If the database was not free in time; the work was not done then.
        """
        job = _Job(work, is_durable)
        with self._lock:
            self._waiting.append(job)
        if self._turn.acquire(timeout=BUSY_TIMEOUT_SECONDS):
            try:
                if not job.done.is_set():
                    self._write(self._take())
            finally:
                self._turn.release()
        elif self._withdraw(job):
            raise TimeoutError("the database was not free to write in time")
        else:
            job.done.wait()  # somebody is at it, and it may be recorded
        if job.error is not None:
            raise job.error
        value: T = job.value
        return value

    def _take(self) -> list[_Job]:
        with self._lock:
            jobs, self._waiting = self._waiting, []
        return jobs

    def _withdraw(self, job: _Job) -> bool:
        with self._lock:
            if job not in self._waiting:
                return False
            self._waiting.remove(job)
            return True

    def _write(self, jobs: list[_Job]) -> None:
        """Do all jobs; where one of them fails, each by itself, so that none pays for another."""
        try:
            if not self._try_together(jobs):
                for job in jobs:
                    self._try_together([job])
        except BaseException as error:
            for job in jobs:
                if not job.done.is_set():
                    job.error = error
            raise
        finally:
            for job in jobs:
                job.done.set()

    def _try_together(self, jobs: list[_Job]) -> bool:
        """Return whether it is settled what became of the jobs: False asks for each alone."""
        engine = self._engine if any(job.is_durable for job in jobs) else self._quick_engine
        is_working = False
        try:
            with engine.begin() as connection:
                is_working = True
                for job in jobs:
                    job.value = job.work(connection)
                is_working = False
        except Exception as error:
            if is_working and len(jobs) > 1:
                return False
            # The database was not free, the commit itself failed, or the only job did.
            for job in jobs:
                job.error = error
        return True
