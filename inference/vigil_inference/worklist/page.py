"""A page of the worklist: which studies, in which order, and how many there are beside them."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Literal

from sqlalchemy import case, func, select
from sqlalchemy.orm import Session

from vigil.errors import RefusalCode
from vigil.triage import Priority
from vigil_inference.analysis import ModelStatus
from vigil_inference.reading.book import raises_of
from vigil_inference.store import Store
from vigil_inference.tables import PRIORITY_BY_RANK, RANK, Instance, State, Study, StudyFinding
from vigil_inference.views import ChoicesView, ModelView, StudySummary, WorklistPage
from vigil_inference.worklist.filters import Filters, Status, status_condition
from vigil_inference.worklist.rows import pictures_of, summary_of

Order = Literal["priority", "arrival"]

_ORDERS = {
    "priority": (Study.reading_order, Study.received_at, Study.id),
    "arrival": (Study.received_at, Study.id),
}
_NO_TARGETS: Mapping[Priority, float] = MappingProxyType({})
_MOST_CHOICES = 500


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
    filters: Filters | None = None,
    reader: str = "",
    targets: Mapping[Priority, float] = _NO_TARGETS,
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
    filters
        Which studies; left out: all.
    reader
        The account that asks, for what is assigned to it.
    targets
        Within how many minutes the site wants studies read, by priority.
    order
        ``priority``: by priority, then the longest waiting first. ``arrival``: as they came.
    offset, limit
        Which of them.
    now
        When waiting is counted; the present.
    """
    now = now or datetime.now(UTC)
    filters = filters or Filters()
    wanted = (
        *filters.details(),
        *filters.priority_condition(),
        status_condition(filters.status, now, targets, reader),
    )
    with store.reading() as session:
        counted = _count(session, filters, now, targets, reader)
        everything = _everything(session) if filters.has_detail else None
        pending = session.scalar(
            select(func.count(func.distinct(Instance.study_id))).where(
                Instance.state == State.RECEIVED.value
            )
        )
        studies = session.scalars(
            select(Study).where(*wanted).order_by(*_ORDERS[order]).offset(offset).limit(limit)
        ).all()
        rows = _rows(session, studies, status, now, targets)
    chosen = [p for p in counted if filters.priority in (None, p)]
    return WorklistPage(
        order=order,
        total=sum(counted[priority][filters.status] for priority in chosen),
        everything=_sum(counted, Status.ALL) if everything is None else everything,
        offset=offset,
        limit=limit,
        counts={
            priority: counted[priority][filters.status] for priority in reversed(PRIORITY_BY_RANK)
        },
        statuses={one: sum(counted[priority][one] for priority in chosen) for one in Status},
        pending=pending or 0,
        generated_at=now,
        model=model_view(status),
        studies=rows,
    )


def read_rows(
    store: Store,
    status: ModelStatus,
    study_instance_uids: Sequence[str],
    *,
    targets: Mapping[Priority, float] = _NO_TARGETS,
    now: datetime | None = None,
) -> tuple[StudySummary, ...]:
    """Return the rows of some studies, as far as they are known, in no order."""
    now = now or datetime.now(UTC)
    with store.reading() as session:
        studies = session.scalars(
            select(Study).where(Study.study_instance_uid.in_(study_instance_uids))
        ).all()
        return _rows(session, studies, status, now, targets)


def read_choices(store: Store) -> ChoicesView:
    """Return what there is to filter by."""
    columns = (
        StudyFinding.finding, Study.institution_name, Study.source, Instance.modality,
    )  # fmt: skip
    with store.reading() as session:
        findings, institutions, sources, modalities = (
            tuple(
                session.scalars(
                    select(column)
                    .where(column != "")
                    .distinct()
                    .order_by(column)
                    .limit(_MOST_CHOICES)
                )
            )
            for column in columns
        )
    return ChoicesView(
        findings=findings, institutions=institutions, sources=sources, modalities=modalities
    )


_Counted = dict[Priority, dict[Status, int]]


def _count(
    session: Session,
    filters: Filters,
    now: datetime,
    targets: Mapping[Priority, float],
    reader: str,
) -> _Counted:
    """Return how many studies there are of each priority in each status, in one pass."""
    sums = [
        func.sum(case((status_condition(one, now, targets, reader), 1), else_=0))
        for one in Status
        if one is not Status.ALL
    ]
    found = session.execute(
        select(Study.priority_rank, *sums, func.count())
        .where(*filters.details())
        .group_by(Study.priority_rank)
    )
    by_rank = {row[0]: dict(zip(Status, map(int, row[1:]), strict=True)) for row in found}
    nothing = dict.fromkeys(Status, 0)
    return {priority: by_rank.get(RANK[priority], nothing) for priority in PRIORITY_BY_RANK}


def _sum(counted: _Counted, status: Status) -> int:
    return sum(by_status[status] for by_status in counted.values())


def _everything(session: Session) -> int:
    return session.scalar(select(func.count(Study.priority_rank))) or 0


def _rows(
    session: Session,
    studies: Sequence[Study],
    status: ModelStatus,
    now: datetime,
    targets: Mapping[Priority, float],
) -> tuple[StudySummary, ...]:
    pictures = pictures_of(session, [study.id for study in studies])
    raises = raises_of(session, [study.id for study in studies])
    return tuple(
        summary_of(study, pictures[study.id], status, now, targets, raises[study.id])
        for study in studies
    )
