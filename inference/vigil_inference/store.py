"""The service's memory: which pictures were acknowledged and what became of them.

Opening a store brings its schema up to date. Writing transactions are short and, on SQLite, one
after the other under a lock of this process, so that a thread waits for its turn instead of polling
a busy database. On PostgreSQL the study's row is locked first by whoever changes what hangs on it.
"""

import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from sqlalchemy import case, func, select, text, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from vigil.errors import RefusalCode, VigilError
from vigil.triage import Priority
from vigil_inference.database import (
    BUSY_TIMEOUT_SECONDS,
    POSTGRESQL,
    WRITING,
    Clock,
    create_store_engine,
    migrate,
)
from vigil_inference.folding import searchable
from vigil_inference.headers import Header
from vigil_inference.records import AnalysisRecord
from vigil_inference.tables import RANK, Instance, State, Study, StudyFinding

CHANNEL = "vigil"
"""By which PostgreSQL tells the other nodes what changed: ``NODE WORD STUDY``."""
_MOST_COLLISIONS = 3


class StudyUnknown(VigilError):
    """No study with this UID was received."""

    code = "STUDY_UNKNOWN"
    http_status = 404

    def __init__(self) -> None:
        super().__init__("no study with this UID was received")


class Outcome(StrEnum):
    """What became of a picture that was offered to the store."""

    NEW = "new"
    REPEATED = "repeated"
    """The same bytes were held already."""
    DIFFERS = "differs"
    """Other bytes are held under this SOP instance UID; they stay."""
    OTHER_STUDY = "other_study"
    """The SOP instance UID is held in another study; it stays there."""


@dataclass(frozen=True)
class Arrival:
    """A picture whose bytes are durable, to be recorded."""

    header: Header
    file_path: str
    sha256: str
    size_bytes: int
    door: str
    calling_ae_title: str
    received_at: datetime


@dataclass(frozen=True)
class Recorded:
    """The store's answer to an arrival."""

    outcome: Outcome
    instance_id: int
    study_instance_uid: str
    file_path: str
    is_removed: bool = False
    """Whether its bytes were removed by rule."""


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
        self._lock = None if self.is_shared else threading.Lock()

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

    def announce(self, session: Session, study_instance_uid: str, word: str = "changed") -> None:
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
        with self.reading() as session:
            return _held(session, header, sha256)

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
        with self.writing() as session:
            recorded = _add(session, arrival)
            if recorded.outcome is Outcome.NEW:
                self.announce(session, recorded.study_instance_uid, "received")
            return recorded

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
            _settle_state(session, row.study_id)
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
        with self.writing() as session:
            study_id = session.scalar(
                update(Instance)
                .where(
                    Instance.id == instance_id,
                    Instance.state == State.RECEIVED.value,
                    Instance.owner == token,
                )
                .values(
                    state=record.status,
                    code=record.code,
                    reason=record.reason,
                    priority=record.priority.value,
                    result=record.model_dump(mode="json"),
                    has_preview=record.has_preview,
                    bundle_id=record.bundle_id,
                    bundle_digest=record.bundle_digest,
                    milliseconds=record.milliseconds,
                    analysed_at=now,
                    owner="",
                    leased_until=None,
                )
                .returning(Instance.study_id)
            )
            if study_id is None:
                return False
            raise_priority(session, study_id, record.priority, release_due_at=now)
            _settle_state(session, study_id)
            _add_findings(session, study_id, record)
            self._announce_by_id(session, study_id)
            return True

    def _announce_by_id(self, session: Session, study_id: int | None) -> None:
        if self.is_shared and study_id is not None:
            uid = session.scalar(select(Study.study_instance_uid).where(Study.id == study_id))
            self.announce(session, uid or "")


def _held(session: Session, header: Header, sha256: str) -> Recorded | None:
    row = session.execute(
        select(
            Instance.id,
            Instance.sha256,
            Instance.file_path,
            Instance.removed_at,
            Study.study_instance_uid,
        )
        .join(Study, Study.id == Instance.study_id)
        .where(Instance.sop_instance_uid == header.sop_instance_uid)
    ).one_or_none()
    if row is None:
        return None
    if row.sha256 == sha256:
        outcome = Outcome.REPEATED
    elif row.study_instance_uid == header.study_instance_uid:
        outcome = Outcome.DIFFERS
    else:
        outcome = Outcome.OTHER_STUDY
    return Recorded(
        outcome, row.id, row.study_instance_uid, row.file_path, row.removed_at is not None
    )


def _add(session: Session, arrival: Arrival) -> Recorded:
    header = arrival.header
    held = _held(session, header, arrival.sha256)
    if held is not None:
        return held
    study = session.scalars(
        select(Study).where(Study.study_instance_uid == header.study_instance_uid).with_for_update()
    ).one_or_none()
    if study is None:
        study = Study(
            study_instance_uid=header.study_instance_uid,
            patient_name=header.patient_name,
            patient_id=header.patient_id,
            issuer_of_patient_id=header.issuer_of_patient_id,
            patient_sex=header.patient_sex,
            patient_birth_date=header.patient_birth_date,
            patient_age=header.patient_age,
            accession_number=header.accession_number,
            study_description=header.study_description,
            study_date=header.study_date,
            study_time=header.study_time,
            institution_name=header.institution_name,
            source=arrival.calling_ae_title or arrival.door,
            received_at=arrival.received_at,
            state=State.RECEIVED.value,
            priority_rank=0,
            reading_order=Priority.NOT_ANALYSED.reading_order,
            identity_conflict=False,
            search_text=searchable(header.patient_name, header.patient_id, header.accession_number),
        )
        session.add(study)
    else:
        _reopen_reading(study)
        if (study.patient_id, study.patient_name) != (header.patient_id, header.patient_name):
            study.identity_conflict = True
            # Whoever looks for the other patient must find it too.
            study.search_text += searchable(header.patient_name, header.patient_id)
    if study.state == State.NOT_ANALYSED.value:
        study.state = State.RECEIVED.value
    instance = Instance(
        study=study,
        sop_instance_uid=header.sop_instance_uid,
        series_instance_uid=header.series_instance_uid,
        sop_class_uid=header.sop_class_uid,
        transfer_syntax_uid=header.transfer_syntax_uid,
        modality=header.modality,
        file_path=arrival.file_path,
        sha256=arrival.sha256,
        size_bytes=arrival.size_bytes,
        door=arrival.door,
        calling_ae_title=arrival.calling_ae_title,
        received_at=arrival.received_at,
        stored_at=arrival.received_at,
    )
    session.add(instance)
    session.flush()
    return Recorded(Outcome.NEW, instance.id, header.study_instance_uid, arrival.file_path)


def raise_priority(
    session: Session, study_id: int, priority: Priority, *, release_due_at: datetime
) -> None:
    """Raise a study's priority, never lower it: the comparison is made by the database.

    In the same statement the study's results become due to be released (again). The row stays
    locked until the commit, so that nobody settles its state beside us.
    """
    rank = RANK[priority]
    session.execute(
        update(Study)
        .where(Study.id == study_id)
        .values(
            priority_rank=case((Study.priority_rank < rank, rank), else_=Study.priority_rank),
            reading_order=case(
                (Study.priority_rank < rank, priority.reading_order), else_=Study.reading_order
            ),
            release_due_at=release_due_at,
            release_attempts=0,
            release_problem="",
        )
    )


def _reopen_reading(study: Study) -> None:
    # Whoever signed did not see the picture that comes now.
    study.read_at, study.read_by = None, ""


def _add_findings(session: Session, study_id: int, record: AnalysisRecord) -> None:
    """Note a picture's flagged findings; the study's row is locked, so nobody is beside us."""
    flagged = {finding.label for finding in record.findings if finding.flagged}
    if not flagged:
        return
    known = session.scalars(select(StudyFinding.finding).where(StudyFinding.study_id == study_id))
    for finding in sorted(flagged.difference(known)):
        session.add(StudyFinding(study_id=study_id, finding=finding))


def _settle_state(session: Session, study_id: int) -> None:
    """Let a study's state follow its pictures: analysed as soon as one of them is."""
    states = set(
        session.scalars(select(Instance.state).where(Instance.study_id == study_id).distinct())
    )
    if State.ANALYSED.value in states:
        state = State.ANALYSED
    elif State.RECEIVED.value in states:
        state = State.RECEIVED
    else:
        state = State.NOT_ANALYSED
    session.execute(update(Study).where(Study.id == study_id).values(state=state.value))
