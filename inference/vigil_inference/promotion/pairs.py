"""Pictures that two bundles read: one of them served, the other read in shadow."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import and_, or_, select
from sqlalchemy.orm import Session

from vigil.triage import Priority
from vigil_inference.promotion.queue import READ
from vigil_inference.promotion.record import Entry, SiteModels
from vigil_inference.promotion.stages import Action, MoveRefused, Stage
from vigil_inference.promotion.tables import ShadowReading
from vigil_inference.tables import Instance, Study

MOST_PAIRS = 20_000
"""The newest so many are compared."""


@dataclass(frozen=True)
class Score:
    """What a bundle said of one finding in one picture."""

    label: str
    probability: float
    threshold: float
    flagged: bool


@dataclass(frozen=True)
class Answer:
    """What a bundle said of one picture; ``code`` is None where it was analysed."""

    code: str | None
    priority: Priority
    scores: Mapping[str, Score]
    milliseconds: float


@dataclass(frozen=True)
class PicturePair:
    """One picture as both bundles read it.

    ``patient`` tells patients apart and is shown nowhere. ``candidate_served`` says which of the
    two answers was shown.
    """

    study_instance_uid: str
    sop_instance_uid: str
    patient: str
    candidate_served: bool
    reference: Answer
    candidate: Answer


@dataclass(frozen=True)
class Compared:
    """The two bundles of a comparison: the one that is or was live, and the newer one."""

    reference: Entry
    candidate: Entry


def compared_of(models: SiteModels) -> Compared:
    """Return which two bundles there are to compare: those at work now, else the last that were.

    Raises
    ------
    MoveRefused
        If no bundle was ever in shadow here.
    """
    serving, shadow = models.serving, models.shadow
    if serving is not None and shadow is not None:
        return (
            Compared(shadow, serving)
            if serving.stage is Stage.SUPERVISED
            else Compared(serving, shadow)
        )
    for change in reversed(models.changes):
        if change.action is Action.SHADOW:
            live = _live_before(models, change.number)
            reference, candidate = models.find(live), models.find(change.digest)
            if reference is not None and candidate is not None:
                return Compared(reference, candidate)
    raise MoveRefused("no bundle was in shadow here: `vigil models shadow` is where it begins")


def _live_before(models: SiteModels, number: int) -> str:
    live = ""
    for change in models.changes:
        if change.number >= number:
            break
        for move in change.moves:
            if move.to_stage is Stage.LIVE:
                live = move.digest
    return live


def read_pairs(session: Session, compared: Compared) -> list[PicturePair]:
    """Return the pictures that both bundles read, the newest :data:`MOST_PAIRS` of them."""
    reference, candidate = compared.reference.digest, compared.candidate.digest
    rows = session.execute(
        select(
            Study.study_instance_uid,
            Study.id,
            Study.patient_id,
            Study.issuer_of_patient_id,
            Instance.sop_instance_uid,
            Instance.result,
            ShadowReading.record,
            ShadowReading.bundle_digest,
        )
        .join(Instance, Instance.id == ShadowReading.instance_id)
        .join(Study, Study.id == Instance.study_id)
        .where(
            ShadowReading.state == READ,
            # A picture that came again after its file was unreadable has another's answer now.
            Instance.bundle_digest == ShadowReading.serving_digest,
            or_(
                and_(
                    ShadowReading.bundle_digest == candidate,
                    ShadowReading.serving_digest == reference,
                ),
                and_(
                    ShadowReading.bundle_digest == reference,
                    ShadowReading.serving_digest == candidate,
                ),
            ),
        )
        .order_by(ShadowReading.id.desc())
        .limit(MOST_PAIRS)
    )
    pairs = []
    for uid, study_id, patient_id, issuer, sop, shown, silent, digest in rows:
        if shown is None or silent is None:
            continue
        served, other = answer_of(shown), answer_of(silent)
        candidate_served = digest == reference
        pairs.append(
            PicturePair(
                uid,
                sop,
                f"{issuer}\n{patient_id}" if patient_id else str(study_id),
                candidate_served,
                reference=other if candidate_served else served,
                candidate=served if candidate_served else other,
            )
        )
    return pairs[::-1]


def answer_of(record: Mapping[str, Any]) -> Answer:
    """Return what a stored :class:`~vigil_inference.records.AnalysisRecord` says."""
    return Answer(
        code=record["code"],
        priority=Priority(record["priority"]),
        scores={
            finding["key"]: Score(
                finding["label"],
                finding["probability"],
                finding["threshold"],
                finding["flagged"],
            )
            for finding in record["findings"]
            if finding["probability"] is not None and finding["threshold"] is not None
        },
        milliseconds=record["milliseconds"],
    )


def served_since(
    session: Session, digest: str, begin: datetime, end: datetime, limit: int
) -> list[Answer]:
    """Return what a bundle answered between two moments, the first ones of them."""
    rows = session.scalars(
        select(Instance.result)
        .where(
            Instance.bundle_digest == digest,
            Instance.analysed_at >= begin,
            Instance.analysed_at < end,
        )
        .order_by(Instance.analysed_at)
        .limit(limit)
    )
    return [answer_of(row) for row in rows if row is not None]
