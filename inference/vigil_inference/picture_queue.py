"""Pictures that wait for their analysis, and who takes which: rows with leases, nothing in memory.

An attempt is counted when a picture is taken, before anything is done with it. A picture that was
in work when its process ended is a suspect: it may have ended it. Suspects come after all others,
and are refused after a few attempts, which keeps one bad file from stopping the service for good.
"""

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import ColumnElement, func, select, update

from vigil_inference.leases import Lease, Leases, is_free
from vigil_inference.store import Store, Task
from vigil_inference.tables import Instance, State, Study


@dataclass(frozen=True)
class Claim:
    """A picture in work; ``task.attempts`` counts the attempts before this one."""

    task: Task
    lease: Lease


class PictureQueue:
    """The pictures that are still to be answered.

    Parameters
    ----------
    store, leases
        Where they stand, and by what they are taken.
    """

    def __init__(self, store: Store, leases: Leases) -> None:
        self._store = store
        self._leases = leases

    def claim(self, *, suspects: bool = True, suspects_first: bool = False) -> Claim | None:
        """Take the picture that is next, None if there is none that is free.

        Parameters
        ----------
        suspects
            Whether one may be taken that was in work when a process ended.
        suspects_first
            Whether such a one goes before the others: while pictures come without a pause, "after
            all others" would be never.
        """
        fresh, suspect = Instance.attempts == 0, Instance.attempts > 0
        order = (
            (fresh,) if not suspects else (suspect, fresh) if suspects_first else (fresh, suspect)
        )
        with self._store.writing() as session:
            for condition in order:
                lease = self._leases.take(
                    session,
                    Instance,
                    Instance.id == self._next(condition),
                    attempts=Instance.attempts + 1,
                )
                if lease is not None:
                    break
            if lease is None:
                return None
            row = session.execute(
                select(
                    Study.study_instance_uid,
                    Instance.file_path,
                    Instance.sha256,
                    Instance.attempts,
                )
                .join(Study, Study.id == Instance.study_id)
                .where(Instance.id == lease.row_id)
            ).one()
        uid, file_path, sha256, attempts = row
        return Claim(Task(lease.row_id, uid, file_path, sha256, attempts - 1), lease)

    def put_off(self, claim: Claim, seconds: float) -> None:
        """Give a picture back that could not even be tried; nobody takes it before the wait ends.

        The attempt is not counted: a disk that is late says nothing against the picture.
        """
        with self._store.writing() as session:
            session.execute(
                update(Instance)
                .where(claim.lease.still_stands)
                .values(
                    owner="",
                    leased_until=self._store.now() + timedelta(seconds=seconds),
                    attempts=claim.task.attempts,
                )
            )

    def count(self) -> int:
        """Return how many pictures are still to be answered."""
        with self._store.reading() as session:
            statement = select(func.count()).where(Instance.state == State.RECEIVED.value)
            return session.scalar(statement) or 0

    def _next(self, condition: ColumnElement[bool]) -> ColumnElement[int]:
        return (
            select(Instance.id)
            .where(
                Instance.state == State.RECEIVED.value,
                condition,
                is_free(Instance, self._store.now()),
            )
            .order_by(Instance.attempts, Instance.id)
            .limit(1)
            # Where several nodes look at the same moment, each finds another row.
            .with_for_update(skip_locked=True)
            .scalar_subquery()
        )
