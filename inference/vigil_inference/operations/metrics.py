"""Metrics in Prometheus' form. No label names a study, a patient or a sender.

Doors are counted where they are. Everything else is read from the database when somebody asks, so
that work of nodes without a web server is told too. What a node answered or delivered is looked up
by its moment, each time from a little before the last look on, since a row may be committed after a
later one.
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

import structlog
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector
from sqlalchemy.exc import SQLAlchemyError

import vigil
from vigil.errors import RefusalCode
from vigil_inference.delivery.states import DeliveryState
from vigil_inference.doors import DOORS, TAKEN, DoorBook
from vigil_inference.nodes import read_nodes
from vigil_inference.operations.figures import (
    Answered,
    Arrived,
    answered_since,
    arrived_since,
    read_deliveries,
    read_queue,
)
from vigil_inference.operations.metric_names import (
    ANALYSED,
    ASSOCIATIONS_REFUSED,
    DATABASE_UP,
    DELIVERIES,
    DELIVERY_OLDEST,
    DELIVERY_SECONDS,
    DISK_FREE,
    DISK_RESERVE,
    FINDING_SECONDS,
    MODEL,
    NODES,
    NOT_ANALYSED,
    READY,
    RECEIVED,
    REFUSED,
    SHADOW,
    SHADOW_WAITING,
    SOFTWARE,
    STAGE,
    WAITING,
    WAITING_OLDEST,
    Described,
)
from vigil_inference.promotion.figures import read_model_figures
from vigil_inference.settings import Settings
from vigil_inference.store import Store

log = structlog.get_logger(__name__)

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_LATE = timedelta(seconds=60)
"""No commit is this much later than the moment that its row bears."""


_FINDING_BUCKETS = (0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)
_DELIVERY_BUCKETS = (1, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 21600, 86400)


@dataclass(frozen=True)
class Standing:
    """What the process itself knows of how it stands when it is asked."""

    checks: dict[str, str]
    bundle_id: str
    bundle_digest: str
    network: str
    disk_free_bytes: int | None


class _Moment(Protocol):
    @property
    def id(self) -> int: ...
    @property
    def at(self) -> datetime: ...


class _Tail:
    """Rows in the order of a moment that they bear, each once, though some are seen late."""

    def __init__(self, start: datetime) -> None:
        self._start = self._latest = start
        self._told: dict[int, datetime] = {}

    @property
    def since(self) -> datetime:
        """From when on to look."""
        return max(self._start, self._latest - _LATE)

    def is_fresh(self, row: _Moment) -> bool:
        """Return whether a row was not seen before, and remember it."""
        if self._told.get(row.id) == row.at:
            return False
        self._told[row.id] = row.at
        self._latest = max(self._latest, row.at)
        return True

    def forget(self) -> None:
        """Drop what no later look can find again."""
        since = self.since
        self._told = {number: at for number, at in self._told.items() if at >= since}


class Metrics:
    """The metrics of a process.

    Parameters
    ----------
    store
        The database.
    settings
        Destinations and the disk's reserve.
    doors
        What came through this process's doors.
    standing
        Asked each time for what the process knows of itself.
    """

    def __init__(
        self, store: Store, settings: Settings, doors: DoorBook, standing: Callable[[], Standing]
    ) -> None:
        self._store = store
        self._settings = settings
        self._doors = doors
        self._standing = standing
        self._destinations = [destination.name for destination in settings.destinations]
        self._without_proof = frozenset(
            destination.name for destination in settings.destinations if destination.proof == "none"
        )
        self._lock = threading.Lock()
        now = store.now()
        self._answers, self._arrivals = _Tail(now), _Tail(now)
        self._registry = CollectorRegistry()
        self._analysed = Counter(ANALYSED.name, ANALYSED.meaning, registry=self._registry)
        self._not_analysed = Counter(
            NOT_ANALYSED.name, NOT_ANALYSED.meaning, NOT_ANALYSED.labels, registry=self._registry
        )
        self._finding_seconds = Histogram(
            FINDING_SECONDS.name,
            FINDING_SECONDS.meaning,
            buckets=_FINDING_BUCKETS,
            registry=self._registry,
        )
        self._delivery_seconds = Histogram(
            DELIVERY_SECONDS.name,
            DELIVERY_SECONDS.meaning,
            DELIVERY_SECONDS.labels,
            buckets=_DELIVERY_BUCKETS,
            registry=self._registry,
        )
        # A rate needs a zero to begin at.
        for code in RefusalCode:
            self._not_analysed.labels(code.value)
        for name in self._destinations:
            self._delivery_seconds.labels(name)
        self._families: list[Metric] = []
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def scrape(self) -> bytes:
        """Return all metrics in Prometheus' text form."""
        with self._lock:
            self._families = [*self._of_the_process(), *self._of_the_database()]
            return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """Yield what the last look found: what prometheus-client asks of a collector."""
        yield from self._families

    def _of_the_process(self) -> Iterator[Metric]:
        taken = {(door, outcome): 0 for door in DOORS for outcome in TAKEN} | self._doors.taken
        yield _counter(RECEIVED, {(d, o.value): n for (d, o), n in taken.items()})
        yield _counter(REFUSED, {(d, code): n for (d, code), n in self._doors.refused.items()})
        yield _counter(
            ASSOCIATIONS_REFUSED, {(r,): n for r, n in self._doors.associations_refused.items()}
        )
        standing = self._standing()
        yield _gauge(READY, {(name,): said == "ok" for name, said in standing.checks.items()})
        if standing.bundle_id:
            model = (standing.bundle_id, standing.bundle_digest, standing.network)
            yield _gauge(MODEL, {model: 1})
        yield _gauge(SOFTWARE, {(vigil.__version__,): 1})
        if standing.disk_free_bytes is not None:
            yield _gauge(DISK_FREE, {(): standing.disk_free_bytes})
        yield _gauge(DISK_RESERVE, {(): self._settings.storage_reserve_bytes})

    def _of_the_database(self) -> Iterator[Metric]:
        """Look at the database; where it does not answer, say so and tell nothing that is old."""
        try:
            with self._store.reading() as session:
                queue = read_queue(session)
                deliveries = read_deliveries(session, self._destinations, self._without_proof)
                answered = answered_since(session, self._answers.since)
                arrived = arrived_since(session, self._arrivals.since, self._without_proof)
                models = read_model_figures(session)
            nodes = read_nodes(self._store, self._settings.lease_seconds)
        except (SQLAlchemyError, TimeoutError) as error:
            log.error("metrics_without_database", error=type(error).__name__)
            yield _gauge(DATABASE_UP, {(): 0})
            return
        self._count(answered, arrived)
        now = self._store.now()
        yield _gauge(DATABASE_UP, {(): 1})
        yield _gauge(WAITING, {(): queue.pictures})
        yield _gauge(WAITING_OLDEST, {(): age_seconds(queue.oldest_received_at, now)})
        states: dict[tuple[str, ...], int] = {
            (found.destination, state.value): found.counts.get(state, 0)
            for found in deliveries
            for state in DeliveryState
        }
        yield _gauge(DELIVERIES, states)
        yield _gauge(
            DELIVERY_OLDEST,
            {(f.destination,): age_seconds(f.oldest_created_at, now) for f in deliveries},
        )

        counts: dict[tuple[str, ...], int] = {
            (kind, state): 0 for kind in ("serve", "worker") for state in ("alive", "silent")
        }
        for node in nodes:
            counts[node.kind, "alive" if node.is_alive else "silent"] += 1
        yield _gauge(NODES, counts)
        at_work: dict[tuple[str, ...], float] = {
            (e.bundle_id, e.digest, e.stage.value): 1 for e in models.at_work
        }
        yield _gauge(STAGE, at_work)
        yield _counter(
            SHADOW,
            {
                ("read",): models.read,
                ("failed",): models.failed,
                ("dropped",): models.dropped,
            },
        )
        yield _gauge(SHADOW_WAITING, {(): models.backlog})

    def _count(self, answered: list[Answered], arrived: list[Arrived]) -> None:
        for answer in answered:
            if self._answers.is_fresh(answer):
                self._finding_seconds.observe(max(0.0, _seconds(answer.at, answer.received_at)))
                if answer.code:
                    self._not_analysed.labels(answer.code).inc()
                else:
                    self._analysed.inc()
        for arrival in arrived:
            if self._arrivals.is_fresh(arrival):
                seconds = max(0.0, _seconds(arrival.at, arrival.received_at))
                self._delivery_seconds.labels(arrival.destination).observe(seconds)
        self._answers.forget()
        self._arrivals.forget()


def age_seconds(moment: datetime | None, now: datetime) -> float:
    """Return how long ago a moment was, 0 for none."""
    return 0.0 if moment is None else max(0.0, _seconds(now, moment))


def _seconds(later: datetime, earlier: datetime) -> float:
    return (later - earlier).total_seconds()


_Values = Mapping[tuple[str, ...], float]


def _counter(described: Described, values: _Values) -> Metric:
    family = CounterMetricFamily(described.name, described.meaning, labels=described.labels)
    for labels, value in values.items():
        family.add_metric(labels, value)
    return family


def _gauge(described: Described, values: _Values) -> Metric:
    family = GaugeMetricFamily(described.name, described.meaning, labels=described.labels)
    for labels, value in values.items():
        family.add_metric(labels, value)
    return family
