"""What signed readings say of findings in pictures: the common ground of statistics and export.

A finding counts as known where a reader spoke of it, or signed the rest of the list as absent.
What nobody spoke of is unknown, never negative.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby

from sqlalchemy import exists, select
from sqlalchemy.orm import Session, aliased

from vigil_inference.reading.records import ReaderStatements, by_reader
from vigil_inference.reading.statements import Act, Edition, ModelSaid, Region
from vigil_inference.reading.tables import StatementRow

_ROWS_AT_A_TIME = 1000


@dataclass(frozen=True)
class Observation:
    """One reader's signed word on one finding in one picture.

    Attributes
    ----------
    signed_at
        When the reader first signed the study; an amendment keeps the reader's turn.
    is_explicit
        Whether the reader spoke of it alone, not with the rest of the list.
    note
        What the reader wrote beside it.
    """

    study_id: int
    sop_instance_uid: str
    label: str
    reader: str
    signed_at: datetime
    is_present: bool
    is_explicit: bool
    model: ModelSaid
    regions: tuple[Region, ...] = ()
    note: str = ""


@dataclass(frozen=True)
class SignedReading:
    """A reader's signed reading of a study."""

    study_id: int
    reader: str
    first_signed_at: datetime
    edition: Edition
    observations: tuple[Observation, ...]
    first_observations: tuple[Observation, ...]
    """What was signed first, before another's reading can have led to an amendment."""


def signed_readings(session: Session) -> Iterator[list[SignedReading]]:
    """Yield the signed readings study by study, who signed first coming first."""
    signs = aliased(StatementRow)
    statement = (
        select(StatementRow)
        .where(
            exists().where(signs.study_id == StatementRow.study_id, signs.act == Act.SIGN_OFF.value)
        )
        .order_by(StatementRow.study_id, StatementRow.id)
        .execution_options(yield_per=_ROWS_AT_A_TIME)
    )
    for study_id, rows in groupby(session.scalars(statement), key=lambda row: row.study_id):
        found = [
            _signed(study_id, own, own.reading.signed)
            for own in by_reader(list(rows)).values()
            if own.reading.signed is not None
        ]
        if found:
            yield sorted(found, key=_turn)


def _turn(reading: SignedReading) -> tuple[datetime, str]:
    return reading.first_signed_at, reading.reader


def _signed(study_id: int, own: ReaderStatements, edition: Edition) -> SignedReading:
    first = own.reading.editions[0]
    return SignedReading(
        study_id,
        own.reader,
        first.signed.said_at,
        edition,
        _observations(study_id, own, edition),
        _observations(study_id, own, first),
    )


def _observations(
    study_id: int, own: ReaderStatements, edition: Edition
) -> tuple[Observation, ...]:
    first = own.reading.editions[0].signed.said_at
    spoken = [
        Observation(
            study_id, sop, label, own.reader, first, said.is_present, True, said.model,
            said.regions, said.statement.note,
        )
        for (sop, label), said in edition.findings.items()
    ]  # fmt: skip
    unspoken = [
        Observation(
            study_id, one.sop_instance_uid, one.label, own.reader, first, False, False, one.model
        )
        for one in edition.confirmed
    ]
    return (*spoken, *unspoken)
