"""What the HTTP interface says of readings, as typed documents."""

from datetime import datetime
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from vigil.findings import CONCEPTS
from vigil.triage import Priority
from vigil_inference.access.account import Account
from vigil_inference.access.roles import Permission
from vigil_inference.reading.book import Raise, StudyReadings
from vigil_inference.reading.records import LONGEST_NOTE, ReaderStatements, RegionView
from vigil_inference.reading.statements import (
    Act,
    ModelSaid,
    Region,
    Said,
    Standing,
    Statement,
    fold,
)
from vigil_inference.reading.vocabulary import VOCABULARY


class _View(BaseModel):
    model_config = ConfigDict(frozen=True)


class WordView(_View):
    """A word for what a reader may see, with its code."""

    label: str
    code: str
    scheme: str
    meaning: str
    in_manifest: bool = Field(description="Whether the training manifest has this label.")


class ModelSaidView(_View):
    """What the model had said of a finding when the reader spoke of it."""

    finding_key: str
    bundle_id: str
    bundle_digest: str
    probability: float | None
    threshold: float | None
    flagged: bool | None = Field(description="None where it had said nothing.")


class FindingSaid(_View):
    """What stands of a finding in a picture."""

    sop_instance_uid: str
    label: str
    present: bool
    act: Act
    corrects: str = Field(description="The finding that this one was put in place of, or empty.")
    regions: tuple[RegionView, ...]
    note: str
    said_at: datetime
    amendment: bool
    model: ModelSaidView | None = Field(
        description="None where the reader was not shown it, or it said nothing."
    )


class StatementView(_View):
    """One statement of the history; none is ever changed."""

    id: UUID
    version: int
    act: Act
    said_at: datetime
    sop_instance_uid: str
    label: str
    instead: str
    regions: tuple[RegionView, ...]
    note: str
    undoes: UUID | None
    confirmed: int = Field(description="How many findings a sign-off called absent unspoken.")
    amendment: bool


class EditionView(_View):
    """A reading as it was signed: the first edition, or an amended one."""

    number: int
    signed_at: datetime
    confirmed: int


class ReadingView(_View):
    """One reader's reading of a study."""

    reader: str
    reader_name: str
    version: int = Field(description="A new statement says which version its reader saw.")
    standing: Standing
    findings: tuple[FindingSaid, ...]
    note: str
    editions: tuple[EditionView, ...]
    to_undo: UUID | None = Field(description="The statement that an undo would take back.")
    statements: tuple[StatementView, ...]


class RaiseView(_View):
    """That somebody raised the study's priority by hand, and why."""

    priority_before: Priority
    priority: Priority
    reason: str
    raised_by: str
    raised_by_name: str
    raised_at: datetime


class StudyReadingsView(_View):
    """All readings of a study; readers are kept apart."""

    study_instance_uid: str
    mine: ReadingView
    others: tuple[ReadingView, ...]
    hidden_others: int = Field(
        description="Readings of others that are shown once the own one is signed; "
        "`second_reading_blind`."
    )
    raises: tuple[RaiseView, ...]


class NextUnread(_View):
    """Where to go on."""

    study_instance_uid: str | None = Field(description="None where all studies are read.")


class NewRaise(_View):
    """To raise a priority by hand."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: UUID = Field(description="Made by whoever asks; sent again, it is not done twice.")
    priority: Priority
    reason: str = Field(min_length=1, max_length=LONGEST_NOTE)


def vocabulary() -> tuple[WordView, ...]:
    """Return all that a reader may speak of."""
    return tuple(
        WordView(
            label=label,
            code=concept.code.value,
            scheme=concept.code.scheme,
            meaning=concept.code.meaning,
            in_manifest=label in CONCEPTS,
        )
        for label, concept in VOCABULARY.items()
    )


def readings_view(
    study_instance_uid: str, found: StudyReadings, account: Account, *, is_blind: bool = False
) -> StudyReadingsView:
    """Return a study's readings as the account's own and those of others.

    Parameters
    ----------
    study_instance_uid, found, account
        Whose, what was said, and who asks.
    is_blind
        Whether who reads studies is shown others' readings only once the own one is signed.
    """
    empty = ReaderStatements(
        reader=account.name, reader_name=account.display_name, statements=(), reading=fold(())
    )
    mine = found.readings.get(account.name, empty)
    others = [own for reader, own in found.readings.items() if reader != account.name]
    hides = is_blind and account.may(Permission.READ_STUDIES) and not mine.reading.editions
    return StudyReadingsView(
        study_instance_uid=study_instance_uid,
        mine=_reading(mine),
        others=() if hides else tuple(_reading(own) for own in others),
        hidden_others=len(others) if hides else 0,
        raises=tuple(raise_view(one) for one in found.raises),
    )


def raise_view(one: Raise) -> RaiseView:
    """Return a raised priority as the interface says it."""
    return RaiseView.model_validate(one, from_attributes=True)


def _reading(own: ReaderStatements) -> ReadingView:
    reading = own.reading
    return ReadingView(
        reader=own.reader,
        reader_name=own.reader_name,
        version=reading.version,
        standing=reading.standing,
        findings=tuple(
            _finding(sop, label, said) for (sop, label), said in reading.findings.items()
        ),
        note=reading.note,
        editions=tuple(
            EditionView(
                number=one.number, signed_at=one.signed.said_at, confirmed=len(one.confirmed)
            )
            for one in reading.editions
        ),
        to_undo=None if reading.to_undo is None else UUID(reading.to_undo.statement_id),
        statements=tuple(_statement(one) for one in own.statements),
    )


def _finding(sop_instance_uid: str, label: str, said: Said) -> FindingSaid:
    one = said.statement
    is_replacement = one.act is Act.CORRECT and label == one.instead
    return FindingSaid(
        sop_instance_uid=sop_instance_uid,
        label=label,
        present=said.is_present,
        act=one.act,
        corrects=one.label if is_replacement else "",
        regions=_regions(said.regions),
        note=one.note,
        said_at=one.said_at,
        amendment=one.is_amendment,
        model=_model(said.model),
    )


def _model(model: ModelSaid) -> ModelSaidView | None:
    if model.flagged is None or not model.was_shown:
        return None
    return ModelSaidView.model_validate(model, from_attributes=True)


def _statement(one: Statement) -> StatementView:
    return StatementView(
        id=UUID(one.statement_id),
        version=one.version,
        act=one.act,
        said_at=one.said_at,
        sop_instance_uid=one.sop_instance_uid,
        label=one.label,
        instead=one.instead,
        regions=_regions(one.regions),
        note=one.note,
        undoes=UUID(one.undoes) if one.undoes else None,
        confirmed=len(one.confirmed),
        amendment=one.is_amendment,
    )


def _regions(regions: tuple[Region, ...]) -> tuple[RegionView, ...]:
    return tuple(RegionView.model_validate(one, from_attributes=True) for one in regions)
