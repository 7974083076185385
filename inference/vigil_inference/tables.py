"""The database's tables: studies and their pictures. Changes go through ``migrations/``."""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    Text,
    TypeDecorator,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from vigil.triage import Priority

UID_LENGTH = 64


class State(StrEnum):
    """How far a picture, and with it its study, has come."""

    RECEIVED = "received"
    ANALYSED = "analysed"
    NOT_ANALYSED = "not_analysed"


# A study's rank only ever rises; study_state.raise_priority is the one place that writes it.
PRIORITY_BY_RANK = (Priority.NOT_ANALYSED, Priority.ROUTINE, Priority.URGENT, Priority.CRITICAL)
RANK = {priority: rank for rank, priority in enumerate(PRIORITY_BY_RANK)}


class UtcDateTime(TypeDecorator[datetime]):
    """A moment in UTC, also where the database keeps no time zone (SQLite)."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Store in UTC."""
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Read as UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Base(DeclarativeBase):
    """The declarative base of all tables."""


def table_of(mapped: type[Base]) -> Table:
    """Return a class's table, for statements that make no objects of rows."""
    table = mapped.__table__
    assert isinstance(table, Table)
    return table


# SQLite numbers rows by itself only in a column declared INTEGER.
_Key = BigInteger().with_variant(Integer, "sqlite")


class Leased:
    """Columns of a row that threads and nodes share; see :mod:`vigil_inference.leases`."""

    id: Mapped[int] = mapped_column(_Key, primary_key=True)
    owner: Mapped[str] = mapped_column(String(32), default="", server_default="")
    """Who works on it now; "" nobody."""
    leased_until: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """Until then nobody else takes it; if the owner is silent after it, it counts as dead."""


class Study(Leased, Base):
    """A study as its first picture described it; patient text is Unicode as DICOM wrote it."""

    __tablename__ = "studies"
    __table_args__ = (
        Index("ix_studies_by_urgency", "reading_order", "received_at", "id"),
        Index("ix_studies_by_arrival", "received_at", "id"),
        Index(
            "ix_studies_unread",
            "reading_order",
            "received_at",
            "id",
            sqlite_where=text("read_at IS NULL"),
            postgresql_where=text("read_at IS NULL"),
        ),
        Index(
            "ix_studies_counted",
            "priority_rank",
            "read_at",
            "state",
            "received_at",
            "being_read_until",
            "assigned_to",
        ),
        Index("ix_studies_patient_id", "patient_id"),
    )

    study_instance_uid: Mapped[str] = mapped_column(String(UID_LENGTH), unique=True)
    patient_name: Mapped[str] = mapped_column(Text, default="")
    """All component groups, as in DICOM: ``Alphabetic=Ideographic=Phonetic``."""
    patient_id: Mapped[str] = mapped_column(Text, default="")
    issuer_of_patient_id: Mapped[str] = mapped_column(Text, default="")
    patient_sex: Mapped[str] = mapped_column(Text, default="")
    patient_birth_date: Mapped[str] = mapped_column(Text, default="")
    patient_age: Mapped[str] = mapped_column(Text, default="")
    accession_number: Mapped[str] = mapped_column(Text, default="")
    study_description: Mapped[str] = mapped_column(Text, default="")
    study_date: Mapped[str] = mapped_column(Text, default="")
    study_time: Mapped[str] = mapped_column(Text, default="")
    institution_name: Mapped[str] = mapped_column(Text, default="")
    source: Mapped[str] = mapped_column(Text, default="")
    """Who sent it: the calling application entity, or the door it came through."""
    received_at: Mapped[datetime] = mapped_column(UtcDateTime)
    state: Mapped[str] = mapped_column(String(16), default=State.RECEIVED.value)
    priority_rank: Mapped[int] = mapped_column(Integer, default=0)
    reading_order: Mapped[int] = mapped_column(Integer, default=Priority.NOT_ANALYSED.reading_order)
    identity_conflict: Mapped[bool] = mapped_column(Boolean, default=False)
    """Whether a later picture of the study named another patient."""
    release_due_at: Mapped[datetime | None] = mapped_column(UtcDateTime, index=True)
    """When its results may be released: set with each picture's result, None when they are."""
    release_attempts: Mapped[int] = mapped_column(Integer, default=0, server_default="0")
    release_problem: Mapped[str] = mapped_column(Text, default="", server_default="")
    """Why its results could not be built; "" no problem."""
    read_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """When its reading was signed; None while nobody has read it, or a picture came after."""
    read_by: Mapped[str] = mapped_column(Text, default="", server_default="")
    """Account of who signed first."""
    assigned_to: Mapped[str] = mapped_column(Text, default="", server_default="")
    """Account of who took it to read it; "" nobody."""
    assigned_name: Mapped[str] = mapped_column(Text, default="", server_default="")
    """The same as people read it."""
    assigned_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    being_read_by: Mapped[str] = mapped_column(Text, default="", server_default="")
    """Account of who has it open for reading; "" nobody."""
    being_read_name: Mapped[str] = mapped_column(Text, default="", server_default="")
    being_read_until: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """Until then it counts as being read, unless that is renewed."""
    search_text: Mapped[str] = mapped_column(Text, default="", server_default="")
    """Name, identifiers and accession number, folded; see ``folding``."""

    instances: Mapped[list["Instance"]] = relationship(
        back_populates="study", order_by="Instance.id"
    )

    @property
    def priority(self) -> Priority:
        """The highest priority that any of its pictures ever had."""
        return PRIORITY_BY_RANK[self.priority_rank]


class StudyFinding(Base):
    """That a picture of a study has a finding at or over its threshold: for the filter by it."""

    __tablename__ = "study_findings"
    __table_args__ = (Index("ix_study_findings_by_finding", "finding", "study_id"),)

    study_id: Mapped[int] = mapped_column(ForeignKey("studies.id"), primary_key=True)
    finding: Mapped[str] = mapped_column(String(64), primary_key=True)
    """Its label: two of a bundle's keys may share it, for two ages."""


class Instance(Leased, Base):
    """A picture (or another object) that was acknowledged, and what became of it."""

    __tablename__ = "instances"
    __table_args__ = (
        Index("ix_instances_state", "state", "attempts", "id"),
        Index("ix_instances_kept", "removed_at", "stored_at"),
        Index("ix_instances_work", "received_at", "door", "state", "code"),
        Index("ix_instances_analysed_at", "analysed_at"),
        Index("ix_instances_conflicts", "conflicts"),
    )

    sop_instance_uid: Mapped[str] = mapped_column(String(UID_LENGTH), unique=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("studies.id"), index=True)
    series_instance_uid: Mapped[str] = mapped_column(String(UID_LENGTH), default="")
    sop_class_uid: Mapped[str] = mapped_column(String(UID_LENGTH))
    transfer_syntax_uid: Mapped[str] = mapped_column(String(UID_LENGTH), default="")
    modality: Mapped[str] = mapped_column(Text, default="")
    file_path: Mapped[str] = mapped_column(Text)
    """Relative to the data folder."""
    sha256: Mapped[str] = mapped_column(String(64), index=True)
    """Of the data set without its file meta information, which differs between senders."""
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    door: Mapped[str] = mapped_column(String(16))
    calling_ae_title: Mapped[str] = mapped_column(Text, default="")
    received_at: Mapped[datetime] = mapped_column(UtcDateTime)
    stored_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """Since when its bytes are held: later than its arrival if they were removed and came again."""
    removed_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """When its pixels were removed by rule; None while they are held. Its header stays."""
    removal_reason: Mapped[str] = mapped_column(Text, default="", server_default="")
    """By which rule, in a sentence."""
    conflicts: Mapped[int] = mapped_column(Integer, default=0)
    """How often other bytes came under the same SOP instance UID; the first are kept."""

    state: Mapped[str] = mapped_column(String(16), default=State.RECEIVED.value)
    attempts: Mapped[int] = mapped_column(Integer, default=0)
    code: Mapped[str | None] = mapped_column(String(32))
    reason: Mapped[str] = mapped_column(Text, default="")
    priority: Mapped[str] = mapped_column(String(16), default=Priority.NOT_ANALYSED.value)
    result: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    """A ``records.AnalysisRecord``."""
    has_preview: Mapped[bool] = mapped_column(Boolean, default=False)
    bundle_id: Mapped[str] = mapped_column(Text, default="")
    bundle_digest: Mapped[str] = mapped_column(String(64), default="")
    milliseconds: Mapped[float | None] = mapped_column(Float)
    analysed_at: Mapped[datetime | None] = mapped_column(UtcDateTime)

    study: Mapped[Study] = relationship(back_populates="instances")


class Node(Base):
    """A process that works on this database, as its own heartbeat tells."""

    __tablename__ = "nodes"

    id: Mapped[str] = mapped_column(String(16), primary_key=True)
    """Its leases' tokens begin with this."""
    name: Mapped[str] = mapped_column(Text)
    kind: Mapped[str] = mapped_column(String(16))
    """``serve`` or ``worker``."""
    address: Mapped[str] = mapped_column(Text, default="")
    """Where its page is, ``HOST:PORT``; "" for a worker."""
    process_id: Mapped[int] = mapped_column(Integer)
    software_version: Mapped[str] = mapped_column(Text)
    bundle_id: Mapped[str] = mapped_column(Text, default="")
    bundle_digest: Mapped[str] = mapped_column(String(64), default="")
    problem: Mapped[str] = mapped_column(Text, default="")
    """Why it cannot analyse; "" if it can."""
    in_work: Mapped[int] = mapped_column(Integer, default=0)
    """How many rows it had leased at its last heartbeat."""
    started_at: Mapped[datetime] = mapped_column(UtcDateTime)
    seen_at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)
    """When its heart last beat. A node that stops takes its row away; one that dies leaves it."""


class Installation(Base):
    """One row: which installation this database belongs to, as its data folder says too."""

    __tablename__ = "installation"

    id: Mapped[int] = mapped_column(_Key, primary_key=True)
    identity: Mapped[str] = mapped_column(String(36))
