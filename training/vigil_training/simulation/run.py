"""Runs a scenario: replications, each with the same films under every order."""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing import get_context

import numpy as np
from numpy.typing import NDArray

from vigil import RESEARCH_USE, __version__
from vigil.bundle import BundleManifest
from vigil.triage import Priority
from vigil_training.simulation.films import Films, draw_films
from vigil_training.simulation.operation import Operation, point_operation
from vigil_training.simulation.outcome import (
    ALL_CONDITIONS,
    ANY_TIME,
    SHARE,
    Column,
    Estimate,
    Gain,
    Order,
    OrderOutcome,
    SimulationReport,
    VariantOutcome,
    estimate,
    summary,
    waiting_of,
)
from vigil_training.simulation.room import reading_starts
from vigil_training.simulation.scenario import THE_REST, Scenario

_AS_DESCRIBED = "as described"
_OVERLOADED = 0.98


@dataclass(frozen=True, eq=False)
class _Case:
    """A variant, ready to run; ``base`` says whose orders without Vigil it shares."""

    name: str
    scenario: Scenario
    operation: Operation
    base: int


@dataclass(frozen=True, eq=False)
class _Replication:
    """One replication of one case: figures by order and column, and what was raised."""

    summaries: dict[Order, dict[Column, NDArray[np.float64]]]
    raised: dict[str, float]


def simulate(
    scenario: Scenario,
    manifest: BundleManifest,
    operation: Operation | None = None,
    *,
    jobs: int = 1,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> SimulationReport:
    """Simulate a scenario and its variants.

    Parameters
    ----------
    scenario
        The reading room.
    manifest
        The bundle whose operating points are used.
    operation
        What takes the place of the operating points, such as answers on labelled films. Variants
        with a sensitivity or a specificity of their own use points all the same.
    jobs
        How many replications run at the same time, each in a process of its own. The figures do
        not depend on it.
    progress
        Called with the replications done and their total.

    Raises
    ------
    ConfigurationError
        If a condition has no figures, see :func:`point_operation`.
    """
    started = time.monotonic()
    cases = tuple(_cases(scenario, manifest, operation))
    done: list[list[_Replication]] = [[] for _ in range(scenario.replications)]
    for number, (index, found) in enumerate(_replicate(cases, scenario.replications, jobs), 1):
        done[index] = found
        progress(number, scenario.replications)
    outcomes = [
        _outcome(case, [replication[index] for replication in done])
        for index, case in enumerate(cases)
    ]
    return SimulationReport(
        scenario=scenario,
        bundle=manifest.id,
        digest=manifest.digest,
        software=__version__,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=round(time.monotonic() - started, 1),
        variants=tuple(outcomes),
        notice=RESEARCH_USE,
    )


def _cases(
    scenario: Scenario, manifest: BundleManifest, operation: Operation | None
) -> Iterator[_Case]:
    own = operation or point_operation(manifest, scenario)
    yield _Case(_AS_DESCRIBED, scenario, own, 0)
    for index, variant in enumerate(scenario.variants, 1):
        changes_points = variant.sensitivity is not None or variant.specificity is not None
        points = point_operation(manifest, scenario, variant) if changes_points else own
        base = index if variant.changes_the_room else 0
        yield _Case(variant.name, scenario.with_variant(variant), points, base)


def _replicate(
    cases: Sequence[_Case], replications: int, jobs: int
) -> Iterator[tuple[int, list[_Replication]]]:
    if jobs <= 1 or replications == 1:
        for index in range(replications):
            yield index, _replication(cases, index)
        return
    # Fork would copy the threads' locks of a notebook or of onnxruntime.
    with ProcessPoolExecutor(min(jobs, replications), get_context("spawn")) as pool:
        futures = {pool.submit(_replication, cases, index): index for index in range(replications)}
        for future in as_completed(futures):
            yield futures[future], future.result()


def _replication(cases: Sequence[_Case], index: int) -> list[_Replication]:
    scenario = cases[0].scenario
    columns = max(case.operation.columns for case in cases)
    of_films, of_answers = np.random.SeedSequence((scenario.seed, index)).spawn(2)
    films = draw_films(scenario, columns, np.random.default_rng(of_films))
    found: list[_Replication] = []
    waits: list[dict[Order, NDArray[np.float64]]] = []
    for number, case in enumerate(cases):
        # The same seed, so that variants which share an operation share what is uncertain of it.
        ranks = case.operation.ranks(films, np.random.default_rng(of_answers))
        if case.base == number:
            own = {
                Order.ARRIVAL: _waits(films, np.zeros_like(ranks), case.scenario, 0.0),
                Order.PERFECT: _waits(films, _true_ranks(films, scenario), case.scenario, 0.0),
            }
        else:
            own = dict(waits[case.base])
        own[Order.VIGIL] = _waits(films, ranks, case.scenario, scenario.analysis_seconds)
        waits.append(own)
        found.append(
            _Replication(_summaries(films, own, scenario), _raised(films, ranks, scenario))
        )
    return found


def _true_ranks(films: Films, scenario: Scenario) -> NDArray[np.int8]:
    orders = [Priority(condition.order).reading_order for condition in scenario.conditions]
    places = np.asarray([*orders, Priority.ROUTINE.reading_order], np.int8)
    true: NDArray[np.int8] = places[films.groups]
    return true


def _waits(
    films: Films, ranks: NDArray[np.int8], scenario: Scenario, delay_seconds: float
) -> NDArray[np.float64]:
    starts = reading_starts(films.arrivals, ranks, films.work, scenario.shifts, delay_seconds)
    return (starts - films.arrivals) / 60


def _columns(films: Films, scenario: Scenario) -> Iterator[tuple[Column, NDArray[np.bool_]]]:
    """Yield each group at any time and in each shift, with the films that it counts."""
    rest = len(scenario.conditions)
    groups = {name: films.groups == index for index, name in enumerate(scenario.groups)}
    groups[ALL_CONDITIONS] = films.groups != rest
    for name, member in groups.items():
        own = member & films.counted
        yield (name, ANY_TIME), own
        for index, shift in enumerate(scenario.shifts):
            yield (name, shift.name), own & (films.shifts == index)


def _summaries(
    films: Films, waits: dict[Order, NDArray[np.float64]], scenario: Scenario
) -> dict[Order, dict[Column, NDArray[np.float64]]]:
    targets = {condition.name: condition.target_minutes for condition in scenario.conditions}
    found: dict[Order, dict[Column, NDArray[np.float64]]] = {order: {} for order in Order}
    for column, own in _columns(films, scenario):
        for order, minutes in waits.items():
            found[order][column] = summary(minutes[own], targets.get(column[0]))
    return found


def _raised(films: Films, ranks: NDArray[np.int8], scenario: Scenario) -> dict[str, float]:
    """Return the part of each group's films that is put before the routine ones, and of all."""
    before = ranks < Priority.ROUTINE.reading_order
    members = {name: films.groups == index for index, name in enumerate(scenario.groups)}
    members[ANY_TIME] = np.ones_like(before)
    return {
        name: float(before[own].mean()) if own.any() else np.nan for name, own in members.items()
    }


def _outcome(case: _Case, replications: Sequence[_Replication]) -> VariantOutcome:
    columns = list(replications[0].summaries[Order.ARRIVAL])
    stacked = {
        order: {
            column: np.stack([found.summaries[order][column] for found in replications])
            for column in columns
        }
        for order in Order
    }
    orders = tuple(
        OrderOutcome(
            order=order,
            waiting=tuple(
                waiting
                for column in columns
                if (waiting := waiting_of(column, stacked[order][column])) is not None
            ),
        )
        for order in Order
    )
    present = {(w.group, w.arrived) for w in orders[0].waiting}
    gains = tuple(
        Gain(
            group=column[0],
            arrived=column[1],
            vigil=_sooner(stacked, Order.VIGIL, column),
            possible=_sooner(stacked, Order.PERFECT, column),
        )
        for column in columns
        if column in present
    )
    raised = {
        name: estimate([found.raised[name] for found in replications], SHARE)
        for name in replications[0].raised
    }
    return VariantOutcome(
        name=case.name,
        operation=case.operation.source,
        load=case.scenario.load,
        raised=raised.pop(ANY_TIME),
        raised_rest=raised.pop(THE_REST),
        seen=raised,
        orders=orders,
        gains=gains,
        notes=(*case.operation.notes, *_warnings(case.scenario)),
    )


def _sooner(
    stacked: dict[Order, dict[Column, NDArray[np.float64]]], order: Order, column: Column
) -> Estimate:
    mean = 1
    return estimate(stacked[Order.ARRIVAL][column][:, mean] - stacked[order][column][:, mean])


def _warnings(scenario: Scenario) -> Iterator[str]:
    if scenario.load >= _OVERLOADED:
        yield (
            f"{scenario.load:.0%} of what the readers can read comes in: the list grows, and how "
            "long films wait depends on how many days are simulated; add readers or hours"
        )
