"""The pictures that a bundle in shadow still has to read.

What is to be read follows from what is there: pictures that the serving bundle answered since the
shadow began. None is taken while any picture waits for the serving bundle. A picture's own row is
never written. More than a bounded number are not kept waiting: the oldest are passed over, and
counted.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, false, func, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from vigil_inference.leases import Lease, Leases, is_free
from vigil_inference.promotion.record import Entry
from vigil_inference.promotion.tables import ModelBundle, ShadowReading
from vigil_inference.records import AnalysisRecord
from vigil_inference.store import Store
from vigil_inference.tables import Instance, State

WAITING, READ, FAILED = "waiting", "read", "failed"
_MOST_ATTEMPTS = 3
_LATE = timedelta(seconds=60)
"""No commit is this much later than the moment that its row bears."""


@dataclass(frozen=True)
class ShadowTask:
    """A picture in shadow work; ``attempts`` counts this one too."""

    instance_id: int
    file_path: str
    attempts: int
    lease: Lease


@dataclass(frozen=True)
class Pair:
    """The bundle in shadow, and the one beside which it reads."""

    shadow: Entry
    serving: Entry
    is_supervising: bool


class ShadowQueue:
    """What is to be read in shadow.

    Parameters
    ----------
    store, leases
        Where it stands, and by what pictures are taken.
    most_waiting
        How many pictures may wait.
    """

    def __init__(self, store: Store, leases: Leases, most_waiting: int) -> None:
        self._store = store
        self._leases = leases
        self._most_waiting = most_waiting

    def claim(self, pair: Pair) -> ShadowTask | None:
        """Take the next picture; None while one waits for the serving bundle, or none is left."""
        with self._store.reading() as session:
            if self._is_one_waiting(session):
                return None
            fresh = session.execute(_unread(session, pair).limit(1)).one_or_none()
            if fresh is None and session.scalar(self._next(pair)) is None:
                return None
        with self._store.writing() as session:
            # One may have come since, and must not find this one taken before it.
            if self._is_one_waiting(session):
                return None
            if fresh is not None:
                self._note(session, pair, fresh.id)
                session.execute(
                    update(ModelBundle)
                    .where(
                        ModelBundle.digest == pair.shadow.digest,
                        ModelBundle.shadow_cursor < fresh.analysed_at - _LATE,
                    )
                    .values(shadow_cursor=fresh.analysed_at - _LATE)
                )
            lease = self._leases.take(
                session,
                ShadowReading,
                ShadowReading.id
                == self._next(pair).with_for_update(skip_locked=True).scalar_subquery(),
                attempts=ShadowReading.attempts + 1,
            )
            if lease is None:
                return None
            row = session.execute(
                select(Instance.id, Instance.file_path, ShadowReading.attempts)
                .join(ShadowReading, ShadowReading.instance_id == Instance.id)
                .where(ShadowReading.id == lease.row_id)
            ).one()
        return ShadowTask(row[0], row[1], row[2], lease)

    def keep(self, task: ShadowTask, record: AnalysisRecord) -> bool:
        """Keep what the bundle in shadow said; False if another node took the picture over."""
        document = record.model_dump(mode="json", exclude={"anatomy"})
        return self._finish(task, state=READ, record=document, problem="")

    def fail(self, task: ShadowTask, problem: str) -> bool:
        """Note that the bundle in shadow has no answer; it is tried a few times."""
        if task.attempts < _MOST_ATTEMPTS:
            return self._finish(task, problem=problem, read_at=None)
        return self._finish(task, state=FAILED, problem=problem)

    def put_off(self, task: ShadowTask) -> None:
        """Give a picture back that was not read, without counting the attempt."""
        self._finish(task, attempts=task.attempts - 1, read_at=None)

    def trim(self, pair: Pair) -> int:
        """Pass over the oldest pictures if too many wait; return how many."""
        with self._store.reading() as session:
            waiting = _unread(session, pair).subquery()
            count = session.scalar(select(func.count()).select_from(waiting)) or 0
            if count <= self._most_waiting:
                return 0
            cursor = session.scalar(_cursor(pair))
            oldest_kept = session.scalar(
                select(waiting.c.analysed_at)
                .order_by(waiting.c.analysed_at.desc())
                .offset(self._most_waiting - 1)
                .limit(1)
            )
            older = select(func.count()).where(waiting.c.analysed_at < oldest_kept)
            dropped = session.scalar(older) or 0
        if not dropped:
            return 0
        with self._store.writing() as session:
            trimmed = session.scalar(
                update(ModelBundle)
                # Of two nodes that count the same pictures, one passes over them.
                .where(
                    ModelBundle.digest == pair.shadow.digest, ModelBundle.shadow_cursor == cursor
                )
                .values(
                    shadow_cursor=oldest_kept, shadow_dropped=ModelBundle.shadow_dropped + dropped
                )
                .returning(ModelBundle.digest)
            )
        return dropped if trimmed else 0

    def _is_one_waiting(self, session: Session) -> bool:
        """Whether a picture waits for the serving bundle, at any node."""
        statement = select(Instance.id).where(
            Instance.state == State.RECEIVED.value, is_free(Instance, self._store.now())
        )
        return session.scalar(statement.limit(1)) is not None

    def _next(self, pair: Pair) -> Select[int]:
        return (
            select(ShadowReading.id)
            .where(
                ShadowReading.bundle_digest == pair.shadow.digest,
                ShadowReading.state == WAITING,
                is_free(ShadowReading, self._store.now()),
            )
            .order_by(ShadowReading.attempts, ShadowReading.id)
            .limit(1)
        )

    def _note(self, session: Session, pair: Pair, instance_id: int) -> None:
        """Write a picture's row, unless another node has."""
        insert = postgresql.insert if self._store.is_shared else sqlite.insert
        session.execute(
            insert(ShadowReading)
            .values(
                instance_id=instance_id,
                bundle_digest=pair.shadow.digest,
                serving_digest=pair.serving.digest,
                is_supervising=pair.is_supervising,
                state=WAITING,
                attempts=0,
                problem="",
                owner="",
            )
            .on_conflict_do_nothing(index_elements=["bundle_digest", "instance_id"])
        )

    def _finish(self, task: ShadowTask, **values: Any) -> bool:
        with self._store.writing() as session:
            done = session.scalar(
                update(ShadowReading)
                .where(task.lease.still_stands)
                .values({"owner": "", "leased_until": None, "read_at": self._store.now()} | values)
                .returning(ShadowReading.id)
                .execution_options(synchronize_session=False)
            )
        return done is not None


def count_unread(session: Session, pair: Pair) -> int:
    """Return how many pictures wait to be read in shadow."""
    begun = select(func.count()).where(
        ShadowReading.bundle_digest == pair.shadow.digest, ShadowReading.state == WAITING
    )
    fresh = select(func.count()).select_from(_unread(session, pair).subquery())
    return (session.scalar(begun) or 0) + (session.scalar(fresh) or 0)


def _cursor(pair: Pair) -> Select[datetime | None]:
    return select(ModelBundle.shadow_cursor).where(ModelBundle.digest == pair.shadow.digest)


def _unread(session: Session, pair: Pair) -> Select[int, datetime | None]:
    """Return the pictures without a row yet, in the order in which they were answered."""
    cursor = session.scalar(_cursor(pair))
    known = (
        select(ShadowReading.id)
        .where(
            ShadowReading.instance_id == Instance.id,
            ShadowReading.bundle_digest == pair.shadow.digest,
        )
        .exists()
    )
    conditions: list[ColumnElement[bool]] = [
        Instance.bundle_digest == pair.serving.digest,
        Instance.removed_at.is_(None),
        ~known,
    ]
    # A bundle that was taken out of shadow has none: nothing is left to be read.
    conditions.append(false() if cursor is None else Instance.analysed_at >= cursor)
    return (
        select(Instance.id, Instance.analysed_at)
        .where(and_(*conditions))
        .order_by(Instance.analysed_at, Instance.id)
    )
