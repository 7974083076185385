"""The service's memory: which pictures were acknowledged and what became of them.

Opening a store brings its schema up to date. Writing transactions are short and, on SQLite, one
after the other under a lock of this process, so that a thread waits for its turn instead of polling
a busy database. On PostgreSQL the study's row is locked first by whoever changes what hangs on it.
"""

import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection, Table, bindparam, func, select, text, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from vigil.errors import RefusalCode, VigilError
from vigil_inference.arrivals import Arrival, Outcome, Recorded, find_held, record_arrival
from vigil_inference.commits import Commits
from vigil_inference.database import (
    BUSY_TIMEOUT_SECONDS,
    POSTGRESQL,
    QUICK,
    WRITING,
    Clock,
    create_store_engine,
    migrate,
)
from vigil_inference.headers import Header
from vigil_inference.records import AnalysisRecord
from vigil_inference.study_state import add_findings, raise_priority, settle_state
from vigil_inference.tables import Instance, State, Study, table_of

CHANNEL = "vigil"
"""By which PostgreSQL tells the other nodes what changed: ``NODE WORD STUDY``."""
_MOST_COLLISIONS = 3
_RESULT_COLUMNS = (
    "state",
    "code",
    "reason",
    "priority",
    "result",
    "has_preview",
    "bundle_id",
    "bundle_digest",
    "milliseconds",
    "analysed_at",
)
_INSTANCES: Table = table_of(Instance)
_RESULT = (
    update(_INSTANCES)
    .where(
        _INSTANCES.c.id == bindparam("picture"),
        _INSTANCES.c.state == State.RECEIVED.value,
        _INSTANCES.c.owner == bindparam("token"),
    )
    .values(
        {name: bindparam(f"new_{name}") for name in _RESULT_COLUMNS}
        | {"owner": "", "leased_until": None}
    )
    .returning(_INSTANCES.c.study_id)
)
T = TypeVar("T")


class StudyUnknown(VigilError):
    """No study with this UID was received."""

    code = "STUDY_UNKNOWN"
    http_status = 404

    def __init__(self) -> None:
        super().__init__("no study with this UID was received")


@dataclass(frozen=True)
class Task:
    """A picture that waits for its analysis."""

    instance_id: int
    study_instance_uid: str
    file_path: str
    sha256: str
    attempts: int


class Store:
    """Studies and pictures in a database.

    Raises, from every method, SQLAlchemy's errors when the database cannot be reached or written.
    """

    def __init__(self, url: str) -> None:
        if url.startswith("sqlite:///"):
            Path(url.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
        self.engine = create_store_engine(url)
        self.node_id = uuid.uuid4().hex[:16]
        """By which this process is known to others on the same database."""
        migrate(self.engine)
        self._clock = Clock(self.engine)
        self._writer = self.engine.execution_options(**{WRITING: True})
        self._reader = self.engine
        if self.is_shared:
            # One state for all statements of a session, as on SQLite.
            self._reader = self.engine.execution_options(isolation_level="REPEATABLE READ")
        self._lock: threading.Lock | None = None
        self._commits: Commits | None = None
        if not self.is_shared:
            self._lock = threading.Lock()
            quick = self._writer.execution_options(**{QUICK: True})
            self._commits = Commits(self._writer, quick, self._lock)

    @property
    def is_shared(self) -> bool:
        """Whether other nodes may work on this database too."""
        return self.engine.dialect.name == POSTGRESQL

    def now(self) -> datetime:
        """Return the time that all nodes of this database agree on, in UTC."""
        return self._clock.now()

    def set_clock(self) -> None:
        """Ask the database what time it is."""
        self._clock.set()

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A session on one consistent state of the database."""
        with Session(self._reader, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """A session that is committed at its end, or rolled back on an error."""
        lock = self._lock
        if lock is not None and not lock.acquire(timeout=BUSY_TIMEOUT_SECONDS):
            raise TimeoutError("the database was not free to write in time")
        try:
            with Session(self._writer, expire_on_commit=False) as session, session.begin():
                yield session
        finally:
            if lock is not None:
                lock.release()

    def commit(self, work: Callable[[Connection], T], *, is_durable: bool = True) -> T:
        """Do some work in a transaction of its own or, on SQLite, with what others write now.

        Parameters
        ----------
        work
            It may be called again after a rollback, so it changes nothing but the database.
        is_durable
            Whether a power cut right after it must not undo it; PostgreSQL does not ask.
        """
        if self._commits is not None:
            return self._commits.make(work, is_durable=is_durable)
        with self._writer.begin() as connection:
            return work(connection)

    def announce(
        self, session: Session | Connection, study_instance_uid: str, word: str = "changed"
    ) -> None:
        """Tell other nodes of a study, with the session's commit; within this one, see events.

        ``word`` is ``received`` where there is something to analyse.
        """
        if self.is_shared:
            message = f"{self.node_id} {word} {study_instance_uid}"
            session.execute(select(func.pg_notify(CHANNEL, message)))

    def ping(self) -> None:
        """Ask the database for a sign of life."""
        with self.engine.connect() as connection:
            connection.execute(text("SELECT 1"))

    def find(self, header: Header, sha256: str) -> Recorded | None:
        """Return what is held under a picture's SOP instance UID, if anything."""
        with self._reader.connect() as connection:
            return find_held(connection, header, sha256)

    def add(self, arrival: Arrival) -> Recorded:
        """Record a picture in one transaction; the first bytes under a UID are kept."""
        for _ in range(_MOST_COLLISIONS):
            try:
                return self._add(arrival)
            except IntegrityError:
                # Another node recorded the same picture or study between our look and our insert.
                continue
        return self._add(arrival)

    def _add(self, arrival: Arrival) -> Recorded:
        def work(connection: Connection) -> Recorded:
            recorded = record_arrival(connection, arrival)
            if recorded.outcome is Outcome.NEW:
                self.announce(connection, recorded.study_instance_uid, "received")
            return recorded

        return self.commit(work)

    def note_conflict(self, instance_id: int) -> None:
        """Count that other bytes came for a picture that is held."""
        with self.writing() as session:
            study_id = session.scalar(
                update(Instance)
                .where(Instance.id == instance_id)
                .values(conflicts=Instance.conflicts + 1)
                .returning(Instance.study_id)
            )
            self._announce_by_id(session, study_id)

    def restore(self, instance_id: int, file_path: str) -> bool:
        """Record that a removed picture's bytes came again, and where they are now.

        Returns
        -------
        bool
            False if it is not removed: another sender was faster.
        """
        with self.writing() as session:
            study_id = session.scalar(
                update(Instance)
                .where(Instance.id == instance_id, Instance.removed_at.is_not(None))
                .values(
                    file_path=file_path,
                    stored_at=self.now(),
                    removed_at=None,
                    removal_reason="",
                )
                .returning(Instance.study_id)
            )
            self._announce_by_id(session, study_id)
            return study_id is not None

    def waiting(self) -> list[Task]:
        """Return the pictures that wait for analysis, those that never failed first."""
        statement = (
            select(
                Instance.id,
                Study.study_instance_uid,
                Instance.file_path,
                Instance.sha256,
                Instance.attempts,
            )
            .join(Study, Study.id == Instance.study_id)
            .where(Instance.state == State.RECEIVED.value)
            .order_by(Instance.attempts, Instance.id)
        )
        with self.reading() as session:
            return [Task(*row) for row in session.execute(statement)]

    def reopen(self, instance_id: int) -> Task | None:
        """Let a picture whose file could not be read wait for its analysis again.

        Returns
        -------
        Task or None
            What is to be done; None if the picture has another result, which stays, or waits.
        """
        unreadable = (
            Instance.id == instance_id,
            Instance.state == State.NOT_ANALYSED.value,
            Instance.code == RefusalCode.FILE_UNREADABLE.value,
        )
        with self.reading() as session:
            if session.scalar(select(Instance.id).where(*unreadable)) is None:
                return None
        with self.writing() as session:
            row = session.execute(
                update(Instance)
                .where(*unreadable)
                .values(
                    state=State.RECEIVED.value,
                    code=None,
                    reason="",
                    result=None,
                    attempts=0,
                    owner="",
                    leased_until=None,
                )
                .returning(Instance.study_id, Instance.file_path, Instance.sha256)
            ).one_or_none()
            if row is None:
                return None
            uid = session.scalars(
                select(Study.study_instance_uid).where(Study.id == row.study_id).with_for_update()
            ).one()
            settle_state(session, row.study_id)
            self.announce(session, uid, "received")
            return Task(instance_id, uid, row.file_path, row.sha256, attempts=0)

    def record_result(self, instance_id: int, record: AnalysisRecord, token: str = "") -> bool:
        """Store a picture's result and raise its study's priority, in one transaction.

        Parameters
        ----------
        instance_id, record
            Which picture, and its result.
        token
            Of the lease under which it was analysed; "" of one that nobody has leased.

        Returns
        -------
        bool
            False if the picture had a result already, which stays, or another took it over.
        """
        now = self.now()
        values = {
            "state": record.status,
            "code": record.code,
            "reason": record.reason,
            "priority": record.priority.value,
            "result": record.model_dump(mode="json"),
            "has_preview": record.has_preview,
            "bundle_id": record.bundle_id,
            "bundle_digest": record.bundle_digest,
            "milliseconds": record.milliseconds,
            "analysed_at": now,
        }
        parameters = {f"new_{name}": values[name] for name in _RESULT_COLUMNS}
        parameters |= {"picture": instance_id, "token": token}

        def work(connection: Connection) -> bool:
            study_id = connection.execute(_RESULT, parameters).scalar_one_or_none()
            if study_id is None:
                return False
            raise_priority(connection, study_id, record.priority, release_due_at=now)
            settle_state(connection, study_id)
            add_findings(connection, study_id, record)
            self._announce_by_id(connection, study_id)
            return True

        return self.commit(work)

    def _announce_by_id(self, session: Session | Connection, study_id: int | None) -> None:
        if self.is_shared and study_id is not None:
            uid = session.scalar(select(Study.study_instance_uid).where(Study.id == study_id))
            self.announce(session, uid or "")
