"""What one reader said of one study, in the order in which it was said, and what that comes to.

Nothing that was said is changed or taken away: an undo is one more statement. What stands is found
by folding them all, so the history is the record and the present state is only a view of it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


class Act(StrEnum):
    """What a statement does."""

    AGREE = "agree"
    """The model is right about this finding, flagged or not."""
    DISAGREE = "disagree"
    """The model is wrong about it."""
    ADD = "add"
    """It is there; the model said nothing of it, or the reader was not shown what it said."""
    RULE_OUT = "rule_out"
    """It is not there; otherwise as with ``ADD``."""
    CORRECT = "correct"
    """Not this finding, that one instead."""
    WITHDRAW = "withdraw"
    """The reader says nothing of this finding any more."""
    NOTE = "note"
    """A text about the study; it replaces the one before."""
    SIGN_OFF = "sign_off"
    UNDO = "undo"
    """Takes back the last of the reader's statements that still stands."""


ON_FINDINGS = frozenset({Act.AGREE, Act.DISAGREE, Act.ADD, Act.RULE_OUT, Act.CORRECT, Act.WITHDRAW})
"""Acts that speak of one finding in one picture."""


@dataclass(frozen=True)
class Region:
    """A rectangle in fractions of the picture's width and height, as it was analysed: upright."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class ModelSaid:
    """What the model said of a finding in a picture when the reader spoke of it.

    Attributes
    ----------
    finding_key
        The bundle's finding; "" if it has none of this label.
    bundle_id, bundle_digest
        Which bundle; "" where the picture was not analysed.
    probability, threshold, flagged
        None where nothing was said, which is not a negative.
    was_shown
        Whether the reader saw it: the profile ``cadt`` shows a flag for the study only.
    """

    finding_key: str = ""
    bundle_id: str = ""
    bundle_digest: str = ""
    probability: float | None = None
    threshold: float | None = None
    flagged: bool | None = None
    was_shown: bool = True


@dataclass(frozen=True)
class Confirmed:
    """A finding of the list that a reader signed as absent without a word on it alone."""

    sop_instance_uid: str
    label: str
    model: ModelSaid


@dataclass(frozen=True)
class Statement:
    """One thing that was said; which fields count depends on the act.

    Attributes
    ----------
    statement_id
        Made by whoever says it, so that a repetition is known.
    version
        Its place among the reader's statements on the study, from 1.
    sop_instance_uid, label
        Of which picture and finding; "" where it is about the study.
    instead, instead_model
        The right finding in a correction, and what the model had said of it.
    regions
        Where the finding is that is there.
    undoes
        Identity of the statement that is taken back.
    confirmed
        What a sign-off says is absent beside what was spoken of.
    is_amendment
        Said after the reading had been signed.
    """

    statement_id: str
    version: int
    act: Act
    said_at: datetime
    sop_instance_uid: str = ""
    label: str = ""
    instead: str = ""
    regions: tuple[Region, ...] = ()
    note: str = ""
    undoes: str = ""
    confirmed: tuple[Confirmed, ...] = ()
    is_amendment: bool = False
    model: ModelSaid = field(default_factory=ModelSaid)
    instead_model: ModelSaid | None = None


FindingPlace = tuple[str, str]
"""SOP instance UID and label."""


@dataclass(frozen=True)
class Said:
    """What stands of a finding in a picture: whether it is there, and the statement that says so.

    ``model`` is what the model had said of this finding, when the statement was made.
    """

    is_present: bool
    statement: Statement
    model: ModelSaid

    @property
    def regions(self) -> tuple[Region, ...]:
        """Where it is; nowhere if it is not there."""
        return self.statement.regions if self.is_present else ()


@dataclass(frozen=True)
class Edition:
    """A reading as it was signed: the first, or an amended one."""

    number: int
    signed: Statement
    findings: Mapping[FindingPlace, Said]
    note: str

    @property
    def confirmed(self) -> tuple[Confirmed, ...]:
        """What was signed as absent, of what was not spoken of."""
        return self.signed.confirmed


class Standing(StrEnum):
    """How far a reading has come."""

    EMPTY = "empty"
    DRAFT = "draft"
    SIGNED = "signed"
    AMENDING = "amending"
    """Signed, and something was said since that is not signed yet."""


@dataclass(frozen=True)
class Reading:
    """What one reader's statements on a study come to.

    Attributes
    ----------
    version
        How many statements there are: whoever adds one says which version was seen.
    findings, note
        What stands now, signed or not.
    editions
        What was signed, the newest last; a sign-off that was undone is not among them.
    to_undo
        The statement that an undo would take back.
    """

    version: int
    standing: Standing
    findings: Mapping[FindingPlace, Said]
    note: str
    editions: tuple[Edition, ...]
    to_undo: Statement | None

    @property
    def signed(self) -> Edition | None:
        """What counts: the newest edition that was signed."""
        return self.editions[-1] if self.editions else None


def fold(statements: Iterable[Statement]) -> Reading:
    """Return what a reader's statements on a study come to.

    Parameters
    ----------
    statements
        All of them, in the order of their versions.
    """
    said = list(statements)
    standing = _not_undone(said)
    findings: dict[FindingPlace, Said] = {}
    note = ""
    editions: list[Edition] = []
    for one in standing:
        if one.act is Act.SIGN_OFF:
            editions.append(Edition(len(editions) + 1, one, dict(findings), note))
        elif one.act is Act.NOTE:
            note = one.note
        else:
            _apply(findings, one)
    return Reading(
        version=said[-1].version if said else 0,
        standing=_standing(standing, editions),
        findings=findings,
        note=note,
        editions=tuple(editions),
        to_undo=standing[-1] if standing else None,
    )


def _not_undone(said: Sequence[Statement]) -> list[Statement]:
    kept: list[Statement] = []
    for one in said:
        if one.act is not Act.UNDO:
            kept.append(one)
        elif kept and kept[-1].statement_id == one.undoes:
            kept.pop()
    return kept


def _standing(standing: Sequence[Statement], editions: Sequence[Edition]) -> Standing:
    if not standing:
        return Standing.EMPTY
    if standing[-1].act is Act.SIGN_OFF:
        return Standing.SIGNED
    return Standing.AMENDING if editions else Standing.DRAFT


def _apply(findings: dict[FindingPlace, Said], one: Statement) -> None:
    place = (one.sop_instance_uid, one.label)
    if one.act is Act.WITHDRAW:
        findings.pop(place, None)
        return
    findings[place] = Said(is_there(one.act, one.model), one, one.model)
    if one.act is Act.CORRECT:
        findings[one.sop_instance_uid, one.instead] = Said(
            is_present=True, statement=one, model=one.instead_model or ModelSaid()
        )


def is_there(act: Act, model: ModelSaid) -> bool:
    """Return whether a statement on a finding says that it is there."""
    if act is Act.AGREE:
        return model.flagged is True
    if act is Act.DISAGREE:
        return model.flagged is False
    return act is Act.ADD
