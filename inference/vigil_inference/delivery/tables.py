"""The database's tables of what was released and of where it went."""

from datetime import datetime

from sqlalchemy import (
    JSON,
    BigInteger,
    ForeignKey,
    Index,
    Integer,
    String,
    Text,
    UniqueConstraint,
)
from sqlalchemy.orm import Mapped, mapped_column

from vigil_inference.delivery.states import DeliveryState
from vigil_inference.tables import UID_LENGTH, Base, Leased, UtcDateTime

_Key = BigInteger().with_variant(Integer, "sqlite")
DESTINATION_LENGTH = 64


class ResultSet(Base):
    """One release of a study's results. A later picture makes another, which supersedes it."""

    __tablename__ = "result_sets"
    __table_args__ = (UniqueConstraint("study_id", "number", name="uq_result_sets_number"),)

    id: Mapped[int] = mapped_column(_Key, primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("studies.id"))
    number: Mapped[int] = mapped_column(Integer)
    """From 1, in the order of the study's releases."""
    basis: Mapped[str] = mapped_column(String(64))
    """SHA-256 of which pictures it speaks of, how each was judged, and by what."""
    objects: Mapped[list[str]] = mapped_column(JSON)
    """SOP Instance UIDs of all its objects, those too that an earlier release holds already."""
    message_id: Mapped[str] = mapped_column(String(UID_LENGTH))
    """By which a webhook's receiver knows a repetition."""
    message: Mapped[str] = mapped_column(Text)
    """The webhook's body, the same at every attempt."""
    released_at: Mapped[datetime] = mapped_column(UtcDateTime)


class ResultObject(Base):
    """A result object whose bytes are kept; the first set that built it owns it."""

    __tablename__ = "result_objects"
    __table_args__ = (Index("ix_result_objects_kept", "removed_at"),)

    id: Mapped[int] = mapped_column(_Key, primary_key=True)
    result_set_id: Mapped[int] = mapped_column(ForeignKey("result_sets.id"), index=True)
    kind: Mapped[str] = mapped_column(String(16))
    sop_class_uid: Mapped[str] = mapped_column(String(UID_LENGTH))
    sop_instance_uid: Mapped[str] = mapped_column(String(UID_LENGTH), unique=True)
    series_instance_uid: Mapped[str] = mapped_column(String(UID_LENGTH))
    instance_number: Mapped[int] = mapped_column(Integer)
    file_path: Mapped[str] = mapped_column(Text)
    """Relative to the data folder."""
    sha256: Mapped[str] = mapped_column(String(64))
    """Of the whole file, which is what is sent."""
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    removed_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """When its file was removed by rule; None while it is held."""
    removal_reason: Mapped[str] = mapped_column(Text, default="", server_default="")
    """By which rule, in a sentence."""


class Delivery(Leased, Base):
    """One object, or one study's message, on its way to one destination."""

    __tablename__ = "deliveries"
    __table_args__ = (
        UniqueConstraint("destination", "subject", name="uq_deliveries_subject"),
        Index("ix_deliveries_due", "destination", "state", "due_at"),
        Index("ix_deliveries_delivered_at", "delivered_at"),
        Index("ix_deliveries_sent_at", "sent_at"),
    )

    study_id: Mapped[int] = mapped_column(ForeignKey("studies.id"), index=True)
    result_set_id: Mapped[int] = mapped_column(ForeignKey("result_sets.id"))
    result_object_id: Mapped[int | None] = mapped_column(ForeignKey("result_objects.id"))
    """None for a message."""
    destination: Mapped[str] = mapped_column(String(DESTINATION_LENGTH))
    subject: Mapped[str] = mapped_column(String(UID_LENGTH))
    """The object's SOP Instance UID, or the message's identity: it goes to a place only once."""
    state: Mapped[str] = mapped_column(String(16), default=DeliveryState.PENDING.value)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    due_at: Mapped[datetime] = mapped_column(UtcDateTime)
    """When the next step may be taken: sending while pending, asking for proof while sent."""
    attempts: Mapped[int] = mapped_column(Integer, default=0)
    """How often it was sent, counted before each attempt."""
    checks: Mapped[int] = mapped_column(Integer, default=0)
    """How often proof was asked for since it was last sent."""
    give_up_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    code: Mapped[str] = mapped_column(String(32), default="")
    """What the last step met: a stable word, such as ``C_STORE_A700``."""
    reason: Mapped[str] = mapped_column(Text, default="")
    sent_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    delivered_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    commitment_uid: Mapped[str] = mapped_column(String(UID_LENGTH), default="", index=True)
    """Transaction of the storage commitment that was asked for."""
