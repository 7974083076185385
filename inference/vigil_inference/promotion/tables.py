"""The database's tables of the site's bundles, and of what was read in shadow."""

from datetime import datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    ForeignKey,
    Index,
    Integer,
    String,
    Text,
    UniqueConstraint,
)
from sqlalchemy.orm import Mapped, mapped_column

from vigil_inference.tables import Base, Leased, UtcDateTime

_Key = BigInteger().with_variant(Integer, "sqlite")


class ModelBundle(Base):
    """A bundle that this site knows, and its stage now."""

    __tablename__ = "model_bundles"

    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    bundle_id: Mapped[str] = mapped_column(Text)
    stage: Mapped[str] = mapped_column(String(16))
    since: Mapped[datetime] = mapped_column(UtcDateTime)
    source: Mapped[str] = mapped_column(Text, default="")
    """The folder that it was first taken from."""
    calibration_name: Mapped[str] = mapped_column(Text, default="")
    calibration_digest: Mapped[str] = mapped_column(String(64), default="")
    """Of its site calibration; "" the bundle's own thresholds."""
    calibration_source: Mapped[str] = mapped_column(Text, default="")
    shadow_cursor: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """Pictures that were answered before this are not read in shadow any more."""
    shadow_dropped: Mapped[int] = mapped_column(Integer, default=0)
    """How many were passed over, since too many waited."""


class ModelChange(Base):
    """A change of the record. Rows are only ever added."""

    __tablename__ = "model_changes"

    number: Mapped[int] = mapped_column(_Key, primary_key=True, autoincrement=False)
    """From 1 without a gap: of two changes at once one finds its number taken."""
    made_at: Mapped[datetime] = mapped_column(UtcDateTime)
    made_by: Mapped[str] = mapped_column(Text)
    action: Mapped[str] = mapped_column(String(16))
    digest: Mapped[str] = mapped_column(String(64))
    bundle_id: Mapped[str] = mapped_column(Text)
    calibration_name: Mapped[str] = mapped_column(Text, default="")
    reason: Mapped[str] = mapped_column(Text)
    set_aside: Mapped[str] = mapped_column(Text, default="")
    """What spoke against it and was set aside on request; "" nothing did."""
    moves: Mapped[list[dict[str, str]]] = mapped_column(JSON)
    """Every bundle that moved: digest, bundle_id, from_stage ("" it is new), to_stage."""


class ShadowReading(Leased, Base):
    """One picture as a bundle in shadow reads it. Nothing but the comparison looks at it."""

    __tablename__ = "shadow_readings"
    __table_args__ = (
        UniqueConstraint("bundle_digest", "instance_id", name="uq_shadow_readings_picture"),
        Index("ix_shadow_readings_state", "bundle_digest", "state", "attempts", "id"),
    )

    instance_id: Mapped[int] = mapped_column(ForeignKey("instances.id"), index=True)
    bundle_digest: Mapped[str] = mapped_column(String(64))
    serving_digest: Mapped[str] = mapped_column(String(64))
    """The bundle whose result stands in the picture's own row."""
    is_supervising: Mapped[bool] = mapped_column(Boolean, default=False)
    """Whether the former bundle reads beside its successor, which serves under supervision."""
    state: Mapped[str] = mapped_column(String(16))
    """``waiting``, ``read`` or ``failed``."""
    attempts: Mapped[int] = mapped_column(Integer, default=0)
    problem: Mapped[str] = mapped_column(Text, default="")
    """Why it failed, without a word of the picture."""
    record: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    """A ``records.AnalysisRecord`` without outlines."""
    read_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
