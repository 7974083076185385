"""Rows of the database and what they mean: statements in and out, and what the model had said."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import select
from sqlalchemy.orm import Session

from vigil_inference.reading.statements import (
    Act,
    Confirmed,
    ModelSaid,
    Reading,
    Region,
    Statement,
    fold,
)
from vigil_inference.reading.tables import StatementRow
from vigil_inference.records import AnalysisRecord, FindingRecord
from vigil_inference.tables import UID_LENGTH, Instance

LONGEST_NOTE = 4000
_MOST_REGIONS = 20


class RegionView(BaseModel):
    """A rectangle in fractions of the picture as it was analysed, from its upper left corner."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    x: float = Field(ge=0, le=1)
    y: float = Field(ge=0, le=1)
    width: float = Field(gt=0, le=1)
    height: float = Field(gt=0, le=1)


class NewStatement(BaseModel):
    """What a reader says."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: UUID = Field(description="Made by whoever says it; sent again, it is not said twice.")
    seen_version: int = Field(
        ge=0, description="Version of the own reading that was on the screen; 0 where none was."
    )
    act: Act
    sop_instance_uid: str = Field("", max_length=UID_LENGTH, description="Of which picture.")
    label: str = Field("", max_length=64, description="Which finding, of the vocabulary.")
    instead: str = Field("", max_length=64, description="In a correction: the right finding.")
    regions: tuple[RegionView, ...] = Field((), max_length=_MOST_REGIONS)
    note: str = Field("", max_length=LONGEST_NOTE)
    undoes: UUID | None = Field(None, description="In an undo: the last statement that stands.")
    rest_absent: tuple[str, ...] = Field(
        (),
        max_length=500,
        description="In a sign-off: pictures (SOP instance UIDs) whose other unflagged findings, "
        "shown with their probabilities, the reader looked for and did not find.",
    )
    amendment: bool = Field(False, description="Needed to say more after a sign-off.")


@dataclass(frozen=True)
class ReaderStatements:
    """One reader's statements on a study, and what they come to."""

    reader: str
    reader_name: str
    statements: tuple[Statement, ...]
    reading: Reading


def read_statements(session: Session, study_id: int) -> dict[str, ReaderStatements]:
    """Return what was said of a study by each reader, in the order of their first words."""
    rows = session.scalars(
        select(StatementRow).where(StatementRow.study_id == study_id).order_by(StatementRow.id)
    )
    return by_reader(rows.all())


def by_reader(rows: Sequence[StatementRow]) -> dict[str, ReaderStatements]:
    """Fold one study's rows, which are in the order of their ids, reader by reader."""
    said: dict[str, list[StatementRow]] = defaultdict(list)
    for row in rows:
        said[row.reader].append(row)
    found = {}
    for reader, own in said.items():
        statements = tuple(statement_of(row) for row in sorted(own, key=lambda row: row.version))
        found[reader] = ReaderStatements(
            reader=reader,
            reader_name=own[-1].reader_name,
            statements=statements,
            reading=fold(statements),
        )
    return found


def statement_of(row: StatementRow) -> Statement:
    """Return what a row says."""
    return Statement(
        statement_id=row.statement_id,
        version=row.version,
        act=Act(row.act),
        said_at=row.said_at,
        sop_instance_uid=row.sop_instance_uid,
        label=row.label,
        instead=row.instead,
        regions=tuple(Region(*numbers) for numbers in row.regions),
        note=row.note,
        undoes=row.undoes,
        confirmed=tuple(
            Confirmed(one["sop_instance_uid"], one["label"], ModelSaid(**one["model"]))
            for one in row.confirmed
        ),
        is_amendment=row.is_amendment,
        model=ModelSaid(
            finding_key=row.finding_key,
            bundle_id=row.bundle_id,
            bundle_digest=row.bundle_digest,
            probability=row.probability,
            threshold=row.threshold,
            flagged=row.flagged,
            was_shown=row.was_shown,
        ),
        instead_model=None if row.instead_model is None else ModelSaid(**row.instead_model),
    )


def row_of(statement: Statement, study_id: int, reader: str, reader_name: str) -> StatementRow:
    """Return the row of a statement."""
    return StatementRow(
        study_id=study_id,
        reader=reader,
        reader_name=reader_name,
        version=statement.version,
        statement_id=statement.statement_id,
        act=statement.act.value,
        said_at=statement.said_at,
        sop_instance_uid=statement.sop_instance_uid,
        label=statement.label,
        instead=statement.instead,
        regions=[[one.x, one.y, one.width, one.height] for one in statement.regions],
        note=statement.note,
        undoes=statement.undoes,
        confirmed=[asdict(one) for one in statement.confirmed],
        is_amendment=statement.is_amendment,
        instead_model=None if statement.instead_model is None else asdict(statement.instead_model),
        **asdict(statement.model),
    )


def said_by_model(instance: Instance, label: str, *, was_shown: bool) -> ModelSaid:
    """Return what the model said of a finding in a picture."""
    record = None if instance.result is None else AnalysisRecord.model_validate(instance.result)
    found = next((one for one in record.findings if one.label == label), None) if record else None
    if found is None:
        return ModelSaid(
            bundle_id=instance.bundle_id,
            bundle_digest=instance.bundle_digest,
            was_shown=was_shown,
        )
    return _of_finding(instance, found, was_shown=was_shown)


def unflagged(instance: Instance) -> list[Confirmed]:
    """Return the findings of a picture that the model gave a probability below the threshold."""
    if instance.result is None:
        return []
    record = AnalysisRecord.model_validate(instance.result)
    return [
        Confirmed(instance.sop_instance_uid, one.label, _of_finding(instance, one, was_shown=True))
        for one in record.findings
        if one.probability is not None and not one.flagged
    ]


def _of_finding(instance: Instance, found: FindingRecord, *, was_shown: bool) -> ModelSaid:
    is_known = found.probability is not None
    return ModelSaid(
        finding_key=found.key,
        bundle_id=instance.bundle_id,
        bundle_digest=instance.bundle_digest,
        probability=found.probability,
        threshold=found.threshold,
        flagged=found.flagged if is_known else None,
        was_shown=was_shown,
    )


def moment_of_sign_off(
    readings: dict[str, ReaderStatements], last_picture_at: datetime
) -> tuple[datetime, str] | None:
    """Return when a study was first signed as it now is, of the sign-offs that stand, and by whom.

    Who signed before its last picture came has not seen that one.
    """
    signed = [
        (edition.signed.said_at, reader)
        for reader, reading in readings.items()
        for edition in reading.reading.editions
        if edition.signed.said_at >= last_picture_at
    ]
    return min(signed, default=None)
