"""The worklist: studies in the order in which a radiologist should read them.

Nothing is left out and nothing is hidden: a study that could not be analysed stands among the
routine ones by its arrival, with its code and its sentence.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime
from typing import Literal

from pydicom.uid import UID
from sqlalchemy import JSON, case, func, null, select, type_coerce
from sqlalchemy.orm import Session, selectinload

import vigil
from vigil.errors import RefusalCode
from vigil.triage import Priority
from vigil_inference.analysis import ModelStatus
from vigil_inference.records import AnalysisRecord
from vigil_inference.store import Store
from vigil_inference.tables import PRIORITY_BY_RANK, RANK, Instance, State, Study
from vigil_inference.views import (
    AnatomyView,
    FindingView,
    FlagView,
    InstanceView,
    ModelView,
    PatientView,
    RefusalView,
    StudyDetail,
    StudySummary,
    WorklistPage,
)

Order = Literal["priority", "arrival"]

_ORDERS = {
    "priority": (Study.reading_order, Study.received_at, Study.id),
    "arrival": (Study.received_at, Study.id),
}


def model_view(status: ModelStatus) -> ModelView:
    """Return the model's status as the interface says it."""
    return ModelView(
        available=status.available,
        code=None if status.available else RefusalCode.MODEL_UNAVAILABLE.value,
        reason=status.reason,
        bundle_id=status.bundle_id,
        bundle_digest=status.bundle_digest,
    )


def read_worklist(
    store: Store,
    status: ModelStatus,
    *,
    order: Order = "priority",
    offset: int = 0,
    limit: int = 100,
    now: datetime | None = None,
) -> WorklistPage:
    """Return a page of studies.

    Parameters
    ----------
    store, status
        Where they are, and whether they can be analysed.
    order
        ``priority``: by priority, then the longest waiting first. ``arrival``: as they came.
    offset, limit
        Which of them.
    now
        When waiting is counted; the present.
    """
    now = now or datetime.now(UTC)
    with store.reading() as session:
        ranks = select(Study.priority_rank, func.count()).group_by(Study.priority_rank)
        by_rank = {row[0]: row[1] for row in session.execute(ranks)}
        pending = session.scalar(
            select(func.count(func.distinct(Instance.study_id))).where(
                Instance.state == State.RECEIVED.value
            )
        )
        studies = session.scalars(
            select(Study).order_by(*_ORDERS[order]).offset(offset).limit(limit)
        ).all()
        pictures = _pictures_of(session, [study.id for study in studies])
    return WorklistPage(
        order=order,
        total=sum(by_rank.values()),
        offset=offset,
        limit=limit,
        counts={
            priority: by_rank.get(RANK[priority], 0) for priority in reversed(PRIORITY_BY_RANK)
        },
        pending=pending or 0,
        generated_at=now,
        model=model_view(status),
        studies=tuple(_summary(study, pictures[study.id], status, now) for study in studies),
    )


def read_study(
    store: Store,
    status: ModelStatus,
    study_instance_uid: str,
    *,
    heat_maps: bool,
    now: datetime | None = None,
) -> StudyDetail | None:
    """Return a study with its pictures, or None if it is not known."""
    now = now or datetime.now(UTC)
    with store.reading() as session:
        study = session.scalars(
            select(Study)
            .where(Study.study_instance_uid == study_instance_uid)
            .options(selectinload(Study.instances))
        ).one_or_none()
        if study is None:
            return None
        pictures = _pictures_of(session, [study.id])
    summary = _summary(study, pictures[study.id], status, now)
    return StudyDetail(
        **dict(summary),
        instances=tuple(_instance(item, status, heat_maps=heat_maps) for item in study.instances),
        notice=vigil.RESEARCH_USE,
        software_version=vigil.__version__,
    )


def display_name(person_name: str) -> str:
    """Return a DICOM person name for reading: the alphabetic group, then another in brackets.

    ``Yamada^Tarou=山田^太郎`` becomes ``Yamada Tarou (山田 太郎)`` (DICOM PS3.5 section 6.2.1).
    """
    groups = [" ".join(group.replace("^", " ").split()) for group in person_name.split("=")]
    first, *others = [group for group in groups if group] or [""]
    return f"{first} ({others[0]})" if others else first


def age_of(patient_age: str, birth_date: str, study_date: str) -> str:
    """Return a patient's age in DICOM's form, from the birth date where it is not given."""
    if patient_age:
        return patient_age
    born, seen = _date(birth_date), _date(study_date) or datetime.now(UTC).date()
    if born is None or seen < born:
        return ""
    years = seen.year - born.year - ((seen.month, seen.day) < (born.month, born.day))
    if years >= 2:
        return f"{years:03d}Y" if years < 150 else ""
    months = 12 * (seen.year - born.year) + seen.month - born.month - (seen.day < born.day)
    return f"{months:03d}M"


def _date(text: str) -> date | None:
    try:
        return datetime.strptime(text.replace(".", ""), "%Y%m%d").replace(tzinfo=UTC).date()
    except ValueError:
        return None


class _Picture:
    """What a row of the worklist needs of one picture."""

    def __init__(self, row: Sequence[object]) -> None:
        _, sop, state, code, reason, priority, has_preview, conflicts, result = row
        self.sop_instance_uid = str(sop)
        self.state = State(str(state))
        self.code = None if code is None else str(code)
        self.reason = str(reason)
        self.rank = RANK[Priority(str(priority))]
        self.has_preview = bool(has_preview)
        self.conflicts = int(str(conflicts))
        self.record = None if result is None else AnalysisRecord.model_validate(result)


def _pictures_of(session: Session, study_ids: list[int]) -> dict[int, list[_Picture]]:
    # A refused picture's document says no more than its columns do.
    result = type_coerce(
        case((Instance.state == State.ANALYSED.value, Instance.result), else_=null()), JSON
    )
    rows = session.execute(
        select(
            Instance.study_id,
            Instance.sop_instance_uid,
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
    pictures: dict[int, list[_Picture]] = defaultdict(list)
    for row in rows:
        pictures[row[0]].append(_Picture(row))
    return pictures


def _summary(
    study: Study, pictures: list[_Picture], status: ModelStatus, now: datetime
) -> StudySummary:
    pending = sum(picture.state is State.RECEIVED for picture in pictures)
    shown = _most_pressing(picture for picture in pictures if picture.has_preview)
    refusals = _refusals(pictures)
    if pending and not status.available:
        unavailable = RefusalCode.MODEL_UNAVAILABLE.value
        refusals = (
            RefusalView(code=unavailable, reason=status.reason, pictures=pending),
            *refusals,
        )
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
        waiting_seconds=max(0.0, (now - study.received_at).total_seconds()),
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
    )


def _most_pressing(pictures: Iterable[_Picture]) -> _Picture | None:
    """Return the picture with the highest priority, the first that came among equals."""
    return max(pictures, key=lambda picture: picture.rank, default=None)


def _reason(pictures: list[_Picture]) -> str:
    analysed = _most_pressing(p for p in pictures if p.state is State.ANALYSED)
    if analysed is not None:
        return analysed.reason
    return next((p.reason for p in pictures if p.state is State.NOT_ANALYSED), "")


def _refusals(pictures: list[_Picture]) -> tuple[RefusalView, ...]:
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


def _flags(pictures: list[_Picture]) -> tuple[FlagView, ...]:
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
            )
    return tuple(
        sorted(
            best.values(), key=lambda flag: (-RANK[flag.priority], -flag.probability, flag.label)
        )
    )


def _instance(item: Instance, status: ModelStatus, *, heat_maps: bool) -> InstanceView:
    record = AnalysisRecord.model_validate(item.result) if item.result else None
    code, reason = item.code, item.reason
    if item.state == State.RECEIVED.value and not status.available:
        code, reason = RefusalCode.MODEL_UNAVAILABLE.value, status.reason
    return InstanceView(
        sop_instance_uid=item.sop_instance_uid,
        series_instance_uid=item.series_instance_uid,
        sop_class=UID(item.sop_class_uid).name,
        modality=item.modality,
        transfer_syntax=UID(item.transfer_syntax_uid).name if item.transfer_syntax_uid else "",
        received_at=item.received_at,
        door=item.door,
        size_bytes=item.size_bytes,
        conflicts=item.conflicts,
        removed_at=item.removed_at,
        removal_reason=item.removal_reason,
        state=State(item.state),
        code=code,
        reason=reason,
        priority=Priority(item.priority),
        findings=tuple(
            FindingView(
                **finding.model_dump(exclude={"has_map"}),
                heat_map=heat_maps and finding.has_map and item.has_preview,
            )
            for finding in (record.findings if record else ())
        ),
        notes=record.notes if record else (),
        is_supervised=record is not None and record.is_supervised,
        rows=record.rows if record else None,
        columns=record.columns if record else None,
        view=record.view if record else "",
        has_preview=item.has_preview,
        bundle_id=item.bundle_id,
        bundle_digest=item.bundle_digest,
        bundle_notice=record.bundle_notice if record else "",
        software_version=record.software_version if record else vigil.__version__,
        milliseconds=item.milliseconds,
        analysed_at=item.analysed_at,
        # Another bundle's figures say nothing of this picture's maps.
        localisation=status.localisation if item.bundle_digest == status.bundle_digest else None,
        anatomy=_anatomy(record) if heat_maps else None,
    )


def _anatomy(record: AnalysisRecord | None) -> AnatomyView | None:
    if record is None or record.anatomy is None:
        return None
    found = record.anatomy
    return AnatomyView(
        lungs=found.lungs,
        heart=found.heart,
        heart_line=found.heart_line,
        thorax_line=found.thorax_line,
        cardiothoracic_ratio=found.ratio,
        no_ratio=found.no_ratio,
    )
