"""A row of the worklist: what a study's pictures say, taken together."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from sqlalchemy import JSON, case, null, select, type_coerce
from sqlalchemy.orm import Session

from vigil.errors import RefusalCode
from vigil.triage import Priority
from vigil_inference.analysis import ModelStatus
from vigil_inference.reading.book import Raise
from vigil_inference.records import AnalysisRecord
from vigil_inference.tables import RANK, Instance, State, Study
from vigil_inference.views import (
    FlagView,
    MarkView,
    PatientView,
    RaisedView,
    RefusalView,
    StudySummary,
)
from vigil_inference.worklist.patients import age_of, display_name


class Picture:
    """What a row of the worklist needs of one picture."""

    def __init__(self, row: Sequence[object]) -> None:
        _, sop, modality, state, code, reason, priority, has_preview, conflicts, result = row
        self.sop_instance_uid = str(sop)
        self.modality = str(modality)
        self.state = State(str(state))
        self.code = None if code is None else str(code)
        self.reason = str(reason)
        self.rank = RANK[Priority(str(priority))]
        self.has_preview = bool(has_preview)
        self.conflicts = int(str(conflicts))
        self.record = None if result is None else AnalysisRecord.model_validate(result)


def pictures_of(session: Session, study_ids: list[int]) -> dict[int, list[Picture]]:
    """Return what rows need of the pictures of some studies, by study."""
    # A refused picture's document says no more than its columns do.
    result = type_coerce(
        case((Instance.state == State.ANALYSED.value, Instance.result), else_=null()), JSON
    )
    rows = session.execute(
        select(
            Instance.study_id,
            Instance.sop_instance_uid,
            Instance.modality,
            Instance.state,
            Instance.code,
            Instance.reason,
            Instance.priority,
            Instance.has_preview,
            Instance.conflicts,
            result,
        )
        .where(Instance.study_id.in_(study_ids))
        .order_by(Instance.id)
    )
    pictures: dict[int, list[Picture]] = defaultdict(list)
    for row in rows:
        pictures[row[0]].append(Picture(row))
    return pictures


def summary_of(
    study: Study,
    pictures: list[Picture],
    status: ModelStatus,
    now: datetime,
    targets: Mapping[Priority, float],
    raises: Sequence[Raise] = (),
) -> StudySummary:
    """Return a study's row, as it stands at a moment."""
    pending = sum(picture.state is State.RECEIVED for picture in pictures)
    shown = _most_pressing(picture for picture in pictures if picture.has_preview)
    refusals = _refusals(pictures)
    if pending and not status.available:
        unavailable = RefusalCode.MODEL_UNAVAILABLE.value
        refusals = (
            RefusalView(code=unavailable, reason=status.reason, pictures=pending),
            *refusals,
        )
    target = target_of(study.priority, targets)
    # Of a study that was read it is how long it had to wait.
    waiting = max(0.0, ((study.read_at or now) - study.received_at).total_seconds())
    return StudySummary(
        study_instance_uid=study.study_instance_uid,
        patient=PatientView(
            name=study.patient_name,
            display_name=display_name(study.patient_name),
            id=study.patient_id,
            sex=study.patient_sex,
            birth_date=study.patient_birth_date,
            age=age_of(study.patient_age, study.patient_birth_date, study.study_date),
        ),
        accession_number=study.accession_number,
        study_description=study.study_description,
        study_date=study.study_date,
        institution_name=study.institution_name,
        source=study.source,
        received_at=study.received_at,
        waiting_seconds=waiting,
        state=State(study.state),
        priority=study.priority,
        pictures=len(pictures),
        pending=pending,
        flags=_flags(pictures),
        reason=_reason(pictures),
        refusals=refusals,
        identity_conflict=study.identity_conflict,
        conflicts=sum(picture.conflicts for picture in pictures),
        preview_sop_instance_uid=shown.sop_instance_uid if shown else None,
        raised=_raised(raises),
        modalities=tuple(dict.fromkeys(p.modality for p in pictures if p.modality)),
        reading_order=study.reading_order,
        target_seconds=target,
        overdue=study.read_at is None and target is not None and waiting > target,
        read_at=study.read_at,
        read_by=study.read_by,
        assigned=mark(study.assigned_to, study.assigned_name, study.assigned_at),
        being_read=(
            mark(study.being_read_by, study.being_read_name, study.being_read_until)
            if study.being_read_until is not None and study.being_read_until > now
            else None
        ),
    )


def _raised(raises: Sequence[Raise]) -> RaisedView | None:
    if not raises:
        return None
    last = raises[-1]
    by = last.raised_by_name or last.raised_by
    return RaisedView(priority=last.priority, reason=last.reason, by=by, at=last.raised_at)


def _most_pressing(pictures: Iterable[Picture]) -> Picture | None:
    """Return the picture with the highest priority, the first that came among equals."""
    return max(pictures, key=lambda picture: picture.rank, default=None)


def _reason(pictures: list[Picture]) -> str:
    analysed = _most_pressing(p for p in pictures if p.state is State.ANALYSED)
    if analysed is not None:
        return analysed.reason
    return next((p.reason for p in pictures if p.state is State.NOT_ANALYSED), "")


def _refusals(pictures: list[Picture]) -> tuple[RefusalView, ...]:
    refused = [picture for picture in pictures if picture.code is not None]
    counts = Counter(picture.code for picture in refused)
    return tuple(
        RefusalView(
            code=code or "",
            reason=next(picture.reason for picture in refused if picture.code == code),
            pictures=count,
        )
        for code, count in counts.items()
    )


def _flags(pictures: list[Picture]) -> tuple[FlagView, ...]:
    """Return each flagged finding once, as in the picture where it is most probable."""
    best: dict[str, FlagView] = {}
    for picture in pictures:
        for finding in picture.record.findings if picture.record else ():
            if not finding.flagged or finding.probability is None:
                continue
            if finding.key in best and best[finding.key].probability >= finding.probability:
                continue
            best[finding.key] = FlagView(
                key=finding.key,
                label=finding.label,
                probability=finding.probability,
                threshold=finding.threshold,
                priority=finding.priority,
                experimental=finding.experimental,
                uncertain=finding.uncertain is not None
                and finding.uncertain[0] <= finding.probability <= finding.uncertain[1],
            )
    return tuple(
        sorted(
            best.values(), key=lambda flag: (-RANK[flag.priority], -flag.probability, flag.label)
        )
    )


def mark(account: str, name: str, moment: datetime | None) -> MarkView | None:
    """Return who marked a study, None where nobody did."""
    if not account or moment is None:
        return None
    return MarkView(account=account, name=name, moment=moment)


def target_of(priority: Priority, targets: Mapping[Priority, float]) -> float | None:
    """Return within how many seconds a study is to be read, None where the site sets no target.

    What was not analysed may be anything, and waits no longer than a routine study.
    """
    asked = Priority.ROUTINE if priority is Priority.NOT_ANALYSED else priority
    minutes = targets.get(asked)
    return None if minutes is None else minutes * 60
