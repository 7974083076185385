"""How the service stands: one document of what an administrator asks first.

It names no study and no patient, so it may be kept by a monitoring system.
"""

import shutil
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.exc import SQLAlchemyError

import vigil
from vigil_inference.delivery.states import DeliveryState
from vigil_inference.nodes import NodeRow, read_nodes
from vigil_inference.operations.figures import (
    AnswerFigures,
    DestinationFigures,
    count_conflicts,
    count_unbuilt,
    read_answers,
    read_deliveries,
    read_queue,
)
from vigil_inference.operations.metrics import age_seconds
from vigil_inference.promotion.figures import ModelFigures, read_model_figures
from vigil_inference.service import Service

_DAY = timedelta(days=1)


class _View(BaseModel):
    model_config = ConfigDict(frozen=True)


class ModelView(_View):
    """The bundle that answers."""

    bundle_id: str
    bundle_digest: str
    network: str = Field(description="`float` or `int8`: which of the bundle's networks answers.")


class WorkView(_View):
    """What was received, and what became of it."""

    received: dict[str, int] = Field(description="Objects by door.")
    analysed: int
    not_analysed: dict[str, int] = Field(description="Pictures by refusal code.")


class DoorsView(_View):
    """What this process refused since it started; the senders keep these."""

    refused: dict[str, int] = Field(description="Objects by code.")
    associations_refused: dict[str, int] = Field(description="By reason.")


class ProblemView(_View):
    """What the newest delivery in trouble met last."""

    delivery: int = Field(description="Its number, for `vigil deliveries`.")
    state: DeliveryState
    code: str
    attempts: int


class DestinationView(_View):
    """One destination's deliveries."""

    destination: str
    counts: dict[DeliveryState, int]
    oldest_seconds: float = Field(description="Age of the oldest still on the way; 0 none is.")
    last_problem: ProblemView | None


class NodeView(_View):
    """A node that was heard of within a day."""

    name: str
    kind: str = Field(description="`serve` or `worker`.")
    alive: bool
    silent_seconds: float
    in_work: int = Field(description="Pictures and deliveries that it works on.")
    software_version: str
    bundle_id: str
    bundle_digest: str
    problem: str = Field(description="Why it has no model; empty none.")


class StageView(_View):
    """A bundle that the site's record has at work."""

    bundle_id: str
    bundle_digest: str
    stage: str = Field(description="`shadow`, `supervised` or `live`.")
    since: datetime


class ShadowView(_View):
    """How far shadow work is, over all bundles that were ever in shadow."""

    waiting: int = Field(description="Pictures for the bundle in shadow now.")
    read: int
    failed: int
    dropped: int = Field(description="Passed over, since too many waited.")


class DatabaseView(_View):
    """What all nodes that share the database have done and have to do."""

    last_day: WorkView
    all_time: WorkView
    waiting_pictures: int
    waiting_oldest_seconds: float
    destinations: tuple[DestinationView, ...]
    nodes: tuple[NodeView, ...]
    results_not_built: int = Field(description="Studies whose results could not be built.")
    uid_conflicts: int = Field(description="Objects under whose UID other bytes came too.")
    models: tuple[StageView, ...] = ()
    shadow: ShadowView | None = Field(None, description="Null where nothing was in shadow.")


class DiskView(_View):
    """Room in the data folder."""

    free_bytes: int
    total_bytes: int
    reserve_bytes: int


class ServiceStatus(_View):
    """How the service stands."""

    ready: bool
    checks: dict[str, str]
    software_version: str
    site: str = ""
    started_at: datetime | None = None
    dicom: str = Field(default="", description="`TITLE@HOST:PORT` of the DICOM listener.")
    model: ModelView | None = None
    doors: DoorsView | None = None
    disk: DiskView | None = None
    shadow_problem: str = Field(
        default="",
        description="Why the bundle in shadow does not read at this node; empty: it does.",
    )
    database: DatabaseView | None = Field(default=None, description="Null: no answer.")
    notice: str = vigil.RESEARCH_USE


def opening_status(checks: Mapping[str, str]) -> ServiceStatus:
    """Return the status of a service that is not open."""
    return ServiceStatus(ready=False, checks=dict(checks), software_version=vigil.__version__)


def read_status(service: Service) -> ServiceStatus:
    """Look at everything once."""
    checks = service.checks()
    settings = service.settings
    analysis = service.analysis.status
    model = None
    if analysis.available:
        model = ModelView(
            bundle_id=analysis.bundle_id,
            bundle_digest=analysis.bundle_digest,
            network=service.network,
        )
    refused: dict[str, int] = {}
    for (_, code), count in service.intake.doors.refused.items():
        refused[code] = refused.get(code, 0) + count
    return ServiceStatus(
        ready=all(said == "ok" for said in checks.values()),
        checks=checks,
        software_version=vigil.__version__,
        site=settings.site,
        started_at=service.started_at,
        dicom=f"{settings.dicom_ae_title}@{settings.dicom_host}:{service.listener.port}",
        model=model,
        doors=DoorsView(
            refused=refused, associations_refused=service.intake.doors.associations_refused
        ),
        disk=_disk(settings.data_dir, settings.storage_reserve_bytes),
        shadow_problem=service.shadow.problem,
        database=_database(service),
    )


def _disk(data_dir: Path, reserve_bytes: int) -> DiskView | None:
    try:
        usage = shutil.disk_usage(data_dir)
    except OSError:
        return None
    return DiskView(free_bytes=usage.free, total_bytes=usage.total, reserve_bytes=reserve_bytes)


def _database(service: Service) -> DatabaseView | None:
    settings = service.settings
    now = service.store.now()
    try:
        nodes = read_nodes(service.store, settings.lease_seconds)
        with service.store.reading() as session:
            queue = read_queue(session)
            models = read_model_figures(session)
            return DatabaseView(
                last_day=_work(read_answers(session, now - _DAY)),
                all_time=_work(read_answers(session)),
                waiting_pictures=queue.pictures,
                waiting_oldest_seconds=age_seconds(queue.oldest_received_at, now),
                destinations=tuple(
                    _destination(found, now)
                    for found in read_deliveries(
                        session,
                        [destination.name for destination in settings.destinations],
                        [d.name for d in settings.destinations if d.proof == "none"],
                    )
                ),
                nodes=tuple(_node(node) for node in nodes),
                results_not_built=count_unbuilt(session),
                uid_conflicts=count_conflicts(session),
                models=tuple(
                    StageView(
                        bundle_id=entry.bundle_id,
                        bundle_digest=entry.digest,
                        stage=entry.stage.value,
                        since=entry.since,
                    )
                    for entry in models.at_work
                ),
                shadow=_shadow(models),
            )
    except (SQLAlchemyError, TimeoutError):
        return None


def _shadow(figures: ModelFigures) -> ShadowView | None:
    if figures.shadow is None and not (figures.read or figures.failed or figures.dropped):
        return None
    return ShadowView(
        waiting=figures.backlog, read=figures.read, failed=figures.failed, dropped=figures.dropped
    )


def _work(figures: AnswerFigures) -> WorkView:
    return WorkView(
        received=figures.received, analysed=figures.analysed, not_analysed=figures.not_analysed
    )


def _node(row: NodeRow) -> NodeView:
    return NodeView(
        name=row.name,
        kind=row.kind,
        alive=row.is_alive,
        silent_seconds=row.silent_seconds,
        in_work=row.in_work,
        software_version=row.software_version,
        bundle_id=row.bundle_id,
        bundle_digest=row.bundle_digest,
        problem=row.problem,
    )


def _destination(figures: DestinationFigures, now: datetime) -> DestinationView:
    problem = figures.last_problem
    return DestinationView(
        destination=figures.destination,
        counts=figures.counts,
        oldest_seconds=age_seconds(figures.oldest_created_at, now),
        last_problem=None
        if problem is None
        else ProblemView(
            delivery=problem.delivery,
            state=problem.state,
            code=problem.code,
            attempts=problem.attempts,
        ),
    )
