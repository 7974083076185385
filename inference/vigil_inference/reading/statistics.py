"""How far readers and the model agree, and readers among each other, with what these figures miss.

Every figure is of a two by two table of pictures; what it is worth is said by its interval and by
the caveats, which belong to the answer and not to a footnote.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import func, select

import vigil
from vigil_inference.reading.observations import Observation, SignedReading, signed_readings
from vigil_inference.store import Store
from vigil_inference.tables import Study

_Z = 1.959964
"""Of the normal distribution, for 95 %."""
_FEW = 30


class _View(BaseModel):
    model_config = ConfigDict(frozen=True)


class Figure(_View):
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float


class Table(_View):
    """How often two judges of the same pictures said yes and no: first and second."""

    both_positive: int
    first_only: int
    second_only: int
    both_negative: int

    @property
    def total(self) -> int:
        """All pictures."""
        return self.both_positive + self.first_only + self.second_only + self.both_negative


class Agreement(_View):
    """Agreement of two judges; a figure of nothing is None.

    `overall` is the share of pictures on which they agree; `positive` and `negative` are the
    agreement on what at least one of them called present, or absent.
    """

    table: Table
    pictures: int
    patients: int = Field(description="The intervals take films of one patient as one film.")
    overall: Figure | None
    positive: Figure | None
    negative: Figure | None
    kappa: Figure | None = Field(description="Cohen's.")


class FindingAgreement(Agreement):
    """The model's flag (first) and the first signed reading (second) of a finding of one bundle."""

    label: str
    finding_key: str
    bundle_id: str
    bundle_digest: str
    explicit: int = Field(description="Pictures in which the reader spoke of this finding alone.")
    shown: int = Field(description="Pictures in which the reader saw the model's answer.")
    sensitivity: Figure | None = Field(description="Of the flag, the reading being right.")
    specificity: Figure | None
    positive_predictive_value: Figure | None
    negative_predictive_value: Figure | None


class ReaderAgreement(Agreement):
    """The first and the second reader of the same pictures, of one finding."""

    label: str


class Caveat(_View):
    """What the figures do not say, as a stable word and a sentence."""

    code: str
    sentence: str


class ReadingStatistics(_View):
    """Agreement of readings with the model and with each other."""

    generated_at: datetime
    studies: int = Field(description="Studies that were received.")
    signed_studies: int
    twice_signed_studies: int
    readers: int
    findings: tuple[FindingAgreement, ...]
    between_readers: tuple[ReaderAgreement, ...]
    caveats: tuple[Caveat, ...]
    notice: str


@dataclass(frozen=True)
class Judged:
    """A picture that two judges spoke of."""

    patient: str
    first: bool
    second: bool


def read_statistics(store: Store) -> ReadingStatistics:
    """Count all signed readings; of an amended one the newest edition."""
    with store.reading() as session:
        studies = session.scalar(select(func.count()).select_from(Study)) or 0
        readings = list(signed_readings(session))
        patients = _patients(store, [one[0].study_id for one in readings])
    firsts = [one for own in readings for one in _first_words(own)]
    findings = _findings(firsts, patients)
    between = _between(readings, patients)
    return ReadingStatistics(
        generated_at=store.now(),
        studies=studies,
        signed_studies=len(readings),
        twice_signed_studies=sum(len(own) > 1 for own in readings),
        readers=len({one.reader for own in readings for one in own}),
        findings=findings,
        between_readers=between,
        caveats=tuple(_caveats(studies, len(readings), findings, between)),
        notice=vigil.RESEARCH_USE,
    )


def _patients(store: Store, study_ids: Sequence[int]) -> dict[int, str]:
    wanted = set(study_ids)
    with store.reading() as session:
        rows = session.execute(select(Study.id, Study.patient_id, Study.issuer_of_patient_id))
        return {
            row.id: f"{row.issuer_of_patient_id}\n{row.patient_id}"
            if row.patient_id
            else str(row.id)
            for row in rows
            if row.id in wanted
        }


def _first_words(readings: Sequence[SignedReading]) -> Iterable[Observation]:
    """Yield, of each finding in each picture, the word of whoever signed first."""
    seen = set()
    for one in readings:
        for word in one.observations:
            place = (word.sop_instance_uid, word.label)
            if place not in seen:
                seen.add(place)
                yield word


def _findings(
    words: Iterable[Observation], patients: dict[int, str]
) -> tuple[FindingAgreement, ...]:
    groups: dict[tuple[str, str, str, str], list[Observation]] = defaultdict(list)
    for word in words:
        if word.model.flagged is not None:
            said = word.model
            key = (word.label, said.finding_key, said.bundle_id, said.bundle_digest)
            groups[key].append(word)
    return tuple(_finding(key, groups[key], patients) for key in sorted(groups))


def _finding(
    key: tuple[str, str, str, str], words: Sequence[Observation], patients: dict[int, str]
) -> FindingAgreement:
    label, finding_key, bundle_id, bundle_digest = key
    judged = [
        Judged(patients[word.study_id], word.model.flagged is True, word.is_present)
        for word in words
    ]
    return FindingAgreement(
        **dict(agreement(judged)),
        label=label,
        finding_key=finding_key,
        bundle_id=bundle_id,
        bundle_digest=bundle_digest,
        explicit=sum(word.is_explicit for word in words),
        shown=sum(word.model.was_shown for word in words),
        sensitivity=_share([(one.patient, one.first) for one in judged if one.second]),
        specificity=_share([(one.patient, not one.first) for one in judged if not one.second]),
        positive_predictive_value=_share([(o.patient, o.second) for o in judged if o.first]),
        negative_predictive_value=_share(
            [(o.patient, not o.second) for o in judged if not o.first]
        ),
    )


def _between(
    readings: Iterable[Sequence[SignedReading]], patients: dict[int, str]
) -> tuple[ReaderAgreement, ...]:
    pairs: dict[str, list[Judged]] = defaultdict(list)
    for own in readings:
        words: dict[tuple[str, str], list[Observation]] = defaultdict(list)
        for one in own:
            for word in one.first_observations:
                words[word.sop_instance_uid, word.label].append(word)
        for (_, label), said in words.items():
            if len(said) > 1:
                first, second = said[:2]
                patient = patients[first.study_id]
                pairs[label].append(Judged(patient, first.is_present, second.is_present))
    return tuple(
        ReaderAgreement(**dict(agreement(pairs[label])), label=label) for label in sorted(pairs)
    )


def agreement(judged: Sequence[Judged]) -> Agreement:
    """Return how far two judges agree.

    Positive and negative agreement are those of Cicchetti and Feinstein (1990), 2a / (2a + b + c);
    they rise with a / (a + b + c), whose Wilson interval becomes theirs.
    """
    a = sum(one.first and one.second for one in judged)
    b = sum(one.first and not one.second for one in judged)
    c = sum(one.second and not one.first for one in judged)
    table = Table(
        both_positive=a, first_only=b, second_only=c, both_negative=len(judged) - a - b - c
    )
    patients = len({one.patient for one in judged})
    return Agreement(
        table=table,
        pictures=len(judged),
        patients=patients,
        overall=_share([(one.patient, one.first == one.second) for one in judged]),
        positive=_doubled(
            _share([(o.patient, o.first and o.second) for o in judged if o.first or o.second])
        ),
        negative=_doubled(
            _share(
                [
                    (o.patient, not (o.first or o.second))
                    for o in judged
                    if not (o.first and o.second)
                ]
            )
        ),
        kappa=kappa(table, patients),
    )


def _share(cases: Sequence[tuple[str, bool]]) -> Figure | None:
    """Return a share of pictures, with an interval as wide as that of so many patients."""
    if not cases:
        return None
    share = sum(hit for _, hit in cases) / len(cases)
    return wilson(share, len({patient for patient, _ in cases}))


def _doubled(share: Figure | None) -> Figure | None:
    if share is None:
        return None
    value, low, high = (2 * x / (1 + x) for x in (share.value, share.low, share.high))
    return Figure(value=value, low=low, high=high)


def wilson(share: float, n: int) -> Figure:
    """Return a share that was seen on ``n`` independent cases with Wilson's (1927) interval."""
    centre = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z / (1 + _Z**2 / n) * math.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
    return Figure(
        value=share,
        low=centre - half if share > 0 else 0.0,
        high=centre + half if share < 1 else 1.0,
    )


def kappa(table: Table, n: int) -> Figure | None:
    """Return Cohen's kappa, with the interval of Fleiss, Cohen and Everitt (1969) for ``n`` cases.

    None where chance alone would agree on everything.
    """
    if not table.total:
        return None
    cells = [
        [table.both_positive / table.total, table.first_only / table.total],
        [table.second_only / table.total, table.both_negative / table.total],
    ]
    rows = [sum(row) for row in cells]
    columns = [cells[0][i] + cells[1][i] for i in range(2)]
    by_chance = sum(r * c for r, c in zip(rows, columns, strict=True))
    if by_chance >= 1:
        return None
    value = (cells[0][0] + cells[1][1] - by_chance) / (1 - by_chance)
    rest = 1 - value
    agreed = sum(cells[i][i] * (1 - (rows[i] + columns[i]) * rest) ** 2 for i in range(2))
    apart = sum(cells[i][1 - i] * (columns[i] + rows[1 - i]) ** 2 for i in range(2))
    variance = agreed + rest**2 * apart - (value - by_chance * rest) ** 2
    half = _Z * math.sqrt(max(0.0, variance) / n) / (1 - by_chance)
    return Figure(value=value, low=max(-1.0, value - half), high=min(1.0, value + half))


def _caveats(
    studies: int,
    signed: int,
    findings: Sequence[FindingAgreement],
    between: Sequence[ReaderAgreement],
) -> Iterable[Caveat]:
    if any(one.shown for one in findings):
        yield Caveat(
            code="SAW_THE_MODEL",
            sentence="Readers saw the model's answer before they gave their own. Agreement, "
            "sensitivity and specificity come out higher than a blind reading would give.",
        )
    yield Caveat(
        code="ONLY_SIGNED",
        sentence=f"{signed} of {studies} studies have a signed reading. What was read first is "
        "what stood on top: flagged studies are over-represented, and unread ones are not here.",
    )
    yield Caveat(
        code="UNSPOKEN_IS_UNKNOWN",
        sentence="A finding counts where a reader spoke of it, or signed the unflagged rest of the "
        "list as absent. A miss that no reader noticed counts as right.",
    )
    if between:
        yield Caveat(
            code="SECOND_READER_NOT_BLIND",
            sentence="A second reader could look up the first reading.",
        )
    if any(one.patients < _FEW for one in (*findings, *between)):
        yield Caveat(
            code="FEW",
            sentence=f"Some rows rest on fewer than {_FEW} patients: read their intervals, not "
            "their figures.",
        )
