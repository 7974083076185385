"""What a simulation says, as figures with intervals over its replications."""

from collections.abc import Sequence
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from vigil_training.figures import Figures
from vigil_training.simulation.scenario import Scenario

ANY_TIME = "any time"
ALL_CONDITIONS = "all conditions"
PERCENTILES = tuple(range(100))
SHARE = (0.0, 1.0)
_MINUTES = (0.0, np.inf)
_EDGES = (60.0, 240.0)


class Order(StrEnum):
    """Which film is read next."""

    ARRIVAL = "first come, first served"
    VIGIL = "Vigil"
    PERFECT = "perfect"


class Estimate(Figures):
    """A mean over replications with its 95 % interval (Student's t); none with one replication."""

    mean: float
    low: float | None = None
    high: float | None = None


class Waiting(Figures):
    """How long the films of one group waited until their reading began, in minutes.

    ``arrived`` names a shift or any time; ``films`` is the mean count of a replication.
    ``over_target`` is the part that waited longer than the condition's target. ``percentiles``
    holds the 0th to the 99th, averaged over replications.
    """

    group: str
    arrived: str
    films: float
    mean: Estimate
    median: Estimate
    p95: Estimate
    over_one_hour: Estimate
    over_four_hours: Estimate
    over_target: Estimate | None = None
    percentiles: tuple[float, ...] = ()


class Gain(Figures):
    """Minutes by which a group is read sooner than by arrival, in the mean; below 0 is later.

    Film by film over the same films, so that what they share is no uncertainty. ``possible`` is
    what the perfect order would gain.
    """

    group: str
    arrived: str
    vigil: Estimate
    possible: Estimate


class OrderOutcome(Figures):
    """The waiting under one order."""

    order: Order
    waiting: tuple[Waiting, ...]


class VariantOutcome(Figures):
    """A scenario or one of its variants.

    ``load`` is work over capacity in a week. ``raised`` is the part of all films that Vigil puts
    before the routine ones, ``raised_rest`` of those without any of the conditions.
    """

    name: str
    operation: str
    load: float
    raised: Estimate
    raised_rest: Estimate
    seen: dict[str, Estimate]
    """Of each condition, the part of its films that Vigil puts before the routine ones."""
    orders: tuple[OrderOutcome, ...]
    gains: tuple[Gain, ...]
    notes: tuple[str, ...] = ()

    def gain(self, group: str, arrived: str = ANY_TIME) -> Gain:
        """Return a group's gain."""
        return next(g for g in self.gains if (g.group, g.arrived) == (group, arrived))

    def waiting(self, order: Order, group: str, arrived: str = ANY_TIME) -> Waiting:
        """Return a group's waiting under an order."""
        own = next(outcome for outcome in self.orders if outcome.order is order)
        return next(w for w in own.waiting if (w.group, w.arrived) == (group, arrived))


class SimulationReport(Figures):
    """What ``vigil simulate`` writes as JSON."""

    scenario: Scenario
    bundle: str
    digest: str
    software: str
    created: str
    seconds: float
    variants: tuple[VariantOutcome, ...]
    notice: str


Column = tuple[str, str]
"""A group, and when its films arrived."""


def summary(waits: NDArray[np.float64], target: float | None) -> NDArray[np.float64]:
    """Return one replication's figures of one group; NaN where there is no film."""
    if not waits.size:
        return np.full(7 + len(PERCENTILES), np.nan)
    percentiles = np.percentile(waits, (50, 95, *PERCENTILES))
    over = [float((waits > edge).mean()) for edge in _EDGES]
    late = float((waits > target).mean()) if target is not None else np.nan
    return np.asarray([waits.size, waits.mean(), *percentiles[:2], *over, late, *percentiles[2:]])


def waiting_of(column: Column, summaries: NDArray[np.float64]) -> Waiting | None:
    """Combine (replications, figures) of one group; None if no replication had such a film."""
    kept = summaries[~np.isnan(summaries[:, 1])]
    if not kept.size:
        return None
    mean, median, p95 = (estimate(kept[:, index], _MINUTES) for index in (1, 2, 3))
    hour, hours = (estimate(kept[:, index], SHARE) for index in (4, 5))
    late = kept[:, 6]
    return Waiting(
        group=column[0],
        arrived=column[1],
        films=float(np.nansum(kept[:, 0]) / len(summaries)),
        mean=mean,
        median=median,
        p95=p95,
        over_one_hour=hour,
        over_four_hours=hours,
        over_target=None if np.isnan(late).all() else estimate(late, SHARE),
        percentiles=(tuple(kept[:, 7:].mean(0).round(3).tolist()) if column[1] == ANY_TIME else ()),
    )


def estimate(
    values: Sequence[float] | NDArray[np.float64], bounds: tuple[float, float] = (-np.inf, np.inf)
) -> Estimate:
    """Return the mean of independent values with its 95 % interval; NaN says nothing.

    The interval is cut at the ``bounds`` that the values cannot leave.
    """
    known = np.asarray(values, np.float64)
    known = known[~np.isnan(known)]
    mean = float(known.mean()) if known.size else 0.0
    if known.size < 2:
        return Estimate(mean=mean)
    half = float(stats.t.ppf(0.975, known.size - 1) * known.std(ddof=1) / np.sqrt(known.size))
    low, high = bounds
    return Estimate(mean=mean, low=max(mean - half, low), high=min(mean + half, high))
