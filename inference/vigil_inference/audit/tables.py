"""The audit trail's tables. Triggers of the database refuse to change or remove a row."""

from datetime import datetime

from sqlalchemy import BigInteger, Index, Integer, String
from sqlalchemy.orm import Mapped, mapped_column

from vigil_inference.tables import UID_LENGTH, Base, UtcDateTime

_Key = BigInteger().with_variant(Integer, "sqlite")


class AuditRow(Base):
    """Something that somebody saw or did. It names a study by its UID and never a patient."""

    __tablename__ = "audit_events"
    __table_args__ = (
        Index("ix_audit_events_study", "study_instance_uid", "id"),
        Index("ix_audit_events_account", "account", "id"),
    )

    id: Mapped[int] = mapped_column(_Key, primary_key=True, autoincrement=False)
    """Its place in the chain: 1, 2, 3 … without a gap."""
    at: Mapped[datetime] = mapped_column(UtcDateTime)
    account: Mapped[str] = mapped_column(String(80))
    """Whose doing: an account, ``token:NAME``, ``dicomweb:ADDRESS``, ``cli:USER``, ``local``."""
    action: Mapped[str] = mapped_column(String(64))
    study_instance_uid: Mapped[str] = mapped_column(String(UID_LENGTH), default="")
    outcome: Mapped[int] = mapped_column(Integer, default=0)
    """The HTTP status of the answer; 0 for a command."""
    detail: Mapped[str] = mapped_column(String(200), default="")
    address: Mapped[str] = mapped_column(String(64), default="")
    sha256: Mapped[str] = mapped_column(String(64))
    """Over the previous row's and everything above."""


class AuditHead(Base):
    """One row: the last of the chain. Who appends locks it, so that nodes take turns."""

    __tablename__ = "audit_head"

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    last_id: Mapped[int] = mapped_column(_Key)
    sha256: Mapped[str] = mapped_column(String(64))
