"""A study with all that is known of its pictures."""

from collections.abc import Mapping
from datetime import UTC, datetime
from types import MappingProxyType

from pydicom.uid import UID
from sqlalchemy import select
from sqlalchemy.orm import selectinload

import vigil
from vigil.errors import RefusalCode
from vigil.triage import Priority
from vigil_inference.analysis import ModelStatus
from vigil_inference.reading.book import raises_of
from vigil_inference.records import AnalysisRecord
from vigil_inference.store import Store
from vigil_inference.tables import Instance, State, Study
from vigil_inference.views import AnatomyView, FindingView, InstanceView, StudyDetail
from vigil_inference.worklist.rows import pictures_of, summary_of


def read_study(
    store: Store,
    status: ModelStatus,
    study_instance_uid: str,
    *,
    heat_maps: bool,
    targets: Mapping[Priority, float] = MappingProxyType({}),
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
        pictures = pictures_of(session, [study.id])
        raises = raises_of(session, [study.id])
    summary = summary_of(study, pictures[study.id], status, now, targets, raises[study.id])
    return StudyDetail(
        **dict(summary),
        instances=tuple(_instance(item, status, heat_maps=heat_maps) for item in study.instances),
        notice=vigil.RESEARCH_USE,
        software_version=vigil.__version__,
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
