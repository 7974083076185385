"""The tables of what readers said, of priorities that people raised, and of pseudonyms' key."""

from datetime import datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Text,
    UniqueConstraint,
)
from sqlalchemy.orm import Mapped, mapped_column

from vigil_inference.tables import UID_LENGTH, Base, UtcDateTime

_Key = BigInteger().with_variant(Integer, "sqlite")
_Json = JSON()


class StatementRow(Base):
    """A :class:`~vigil_inference.reading.statements.Statement`. Rows are added, never changed."""

    __tablename__ = "reading_statements"
    __table_args__ = (
        # Two pages of one reader that saw the same version cannot both add the next.
        UniqueConstraint("study_id", "reader", "version", name="uq_reading_statements_version"),
        UniqueConstraint("statement_id", name="uq_reading_statements_statement_id"),
        Index("ix_reading_statements_act", "act", "study_id"),
    )

    id: Mapped[int] = mapped_column(_Key, primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("studies.id"))
    reader: Mapped[str] = mapped_column(Text)
    """The account's name."""
    reader_name: Mapped[str] = mapped_column(Text, default="")
    """As people read it, at that time."""
    version: Mapped[int] = mapped_column(Integer)
    statement_id: Mapped[str] = mapped_column(String(36))
    act: Mapped[str] = mapped_column(String(16))
    said_at: Mapped[datetime] = mapped_column(UtcDateTime)
    sop_instance_uid: Mapped[str] = mapped_column(String(UID_LENGTH), default="")
    label: Mapped[str] = mapped_column(String(64), default="")
    instead: Mapped[str] = mapped_column(String(64), default="")
    regions: Mapped[list[list[float]]] = mapped_column(_Json)
    """Each as x, y, width, height."""
    note: Mapped[str] = mapped_column(Text, default="")
    undoes: Mapped[str] = mapped_column(String(36), default="")
    confirmed: Mapped[list[dict[str, Any]]] = mapped_column(_Json)
    """Each a :class:`~vigil_inference.reading.statements.Confirmed`."""
    is_amendment: Mapped[bool] = mapped_column(Boolean, default=False)
    finding_key: Mapped[str] = mapped_column(Text, default="")
    bundle_id: Mapped[str] = mapped_column(Text, default="")
    bundle_digest: Mapped[str] = mapped_column(String(64), default="")
    probability: Mapped[float | None] = mapped_column(Float)
    threshold: Mapped[float | None] = mapped_column(Float)
    flagged: Mapped[bool | None] = mapped_column(Boolean)
    was_shown: Mapped[bool] = mapped_column(Boolean, default=True)
    instead_model: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    """In a correction, what the model had said of the right finding."""


class PriorityRaise(Base):
    """That somebody raised a study's priority by hand, and why. Rows are added, never changed."""

    __tablename__ = "priority_raises"

    id: Mapped[int] = mapped_column(_Key, primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("studies.id"), index=True)
    request_id: Mapped[str] = mapped_column(String(36), unique=True)
    """Made by whoever asks, so that a repetition is known."""
    priority_before: Mapped[str] = mapped_column(String(16))
    priority: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str] = mapped_column(Text)
    raised_by: Mapped[str] = mapped_column(Text)
    raised_by_name: Mapped[str] = mapped_column(Text, default="")
    raised_at: Mapped[datetime] = mapped_column(UtcDateTime)


class PseudonymKey(Base):
    """One row: the key by which patients and pictures are renamed in exports."""

    __tablename__ = "pseudonym_keys"

    id: Mapped[int] = mapped_column(_Key, primary_key=True)
    secret: Mapped[bytes] = mapped_column(LargeBinary(32))
