"""Pictures that wait for their analysis, and who takes which: rows with leases, nothing in memory.

An attempt is counted when a picture is taken, before anything is done with it. A picture that was
in work when its process ended is a suspect: it may have ended it. Suspects come after all others,
and are refused after a few attempts, which keeps one bad file from stopping the service for good.
"""

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import ColumnElement, Connection, Table, Update, bindparam, func, select, update

from vigil_inference.leases import Lease, Leases, is_free_row, taking
from vigil_inference.store import Store, Task
from vigil_inference.tables import Instance, State, Study, table_of

_INSTANCES: Table = table_of(Instance)
_STUDIES: Table = table_of(Study)


def _taking(condition: ColumnElement[bool]) -> Update:
    """Return the statement that takes the next of the pictures that wait, see :mod:`leases`."""
    free_one = (
        select(_INSTANCES.c.id)
        .where(_INSTANCES.c.state == State.RECEIVED.value, condition, is_free_row(_INSTANCES))
        .order_by(_INSTANCES.c.attempts, _INSTANCES.c.id)
        .limit(1)
        # Where several nodes look at the same moment, each finds another row.
        .with_for_update(skip_locked=True)
        .scalar_subquery()
    )
    return taking(_INSTANCES, _INSTANCES.c.id == free_one, attempts=_INSTANCES.c.attempts + 1)


# Made once: building a statement takes longer than SQLite takes to answer it.
_FRESH = _taking(_INSTANCES.c.attempts == 0)
_SUSPECT = _taking(_INSTANCES.c.attempts > 0)
_TASK = (
    select(
        _STUDIES.c.study_instance_uid,
        _INSTANCES.c.file_path,
        _INSTANCES.c.sha256,
        _INSTANCES.c.attempts,
    )
    .join(_STUDIES, _STUDIES.c.id == _INSTANCES.c.study_id)
    .where(_INSTANCES.c.id == bindparam("picture"))
)


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
        self._has_claimed = False

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
        order: tuple[Update, ...] = (_FRESH, _SUSPECT) if suspects else (_FRESH,)
        if suspects and suspects_first:
            order = order[::-1]

        def work(connection: Connection) -> Claim | None:
            for statement in order:
                lease = self._leases.take_by(connection, Instance, statement)
                if lease is not None:
                    row = connection.execute(_TASK, {"picture": lease.row_id}).one()
                    uid, file_path, sha256, attempts = row
                    return Claim(Task(lease.row_id, uid, file_path, sha256, attempts - 1), lease)
            return None

        # After a power cut nobody has it, and it is taken anew; but the first of a process is kept,
        # so that a picture that takes the whole machine down is known for it the second time.
        claim = self._store.commit(work, is_durable=not self._has_claimed)
        self._has_claimed |= claim is not None
        return claim

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
