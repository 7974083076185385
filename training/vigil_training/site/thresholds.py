"""What each threshold would give at a site: sensitivity, specificity, yield and cost."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from vigil_training.figures import Figures, Group
from vigil_training.manifest import ManifestRow
from vigil_training.merits import parts_of
from vigil_training.statistics import wilson

_MOST_ROWS = 200
_LEAST_PART = 5


class Workload(Figures):
    """What a site does with its films; costs are in its own currency.

    ``prevalence`` is that of the people who will be filmed, which is seldom that of the films that
    set the threshold.
    """

    films_a_day: float
    prevalence: float
    film_cost: float = 0.0
    """Of one film and its reading."""
    test_cost: float = 0.0
    """Of the confirmatory test of one flagged patient, such as a molecular test of sputum."""


class ThresholdFigures(Figures):
    """One threshold. ``tests_per_found`` and ``cost_per_found`` are None where none is found."""

    threshold: float
    sensitivity: float
    sensitivity_interval: tuple[float, float]
    specificity: float
    specificity_interval: tuple[float, float]
    positive_predictive_value: float | None
    negative_predictive_value: float | None
    flagged_a_day: float
    found_a_day: float
    missed_a_day: float
    tests_per_found: float | None
    cost_a_day: float
    cost_per_found: float | None


class SubgroupFigures(Figures):
    """The chosen threshold in one sex, age group or view.

    ``differs`` says that an interval does not hold the figure of all films.
    """

    group: Group
    part: str
    films: int
    positive_patients: int
    negative_patients: int
    sensitivity: float | None
    sensitivity_interval: tuple[float, float] | None
    specificity: float | None
    specificity_interval: tuple[float, float] | None
    differs: bool


def figures_at(
    threshold: float,
    probability: NDArray[np.float64],
    truth: NDArray[np.bool_],
    patients: NDArray[np.str_],
    workload: Workload,
) -> ThresholdFigures:
    """Return what one threshold gives on films of both classes."""
    over = probability >= threshold
    seen, spared = float(over[truth].mean()), float((~over[~truth]).mean())
    share = workload.prevalence
    flagged = share * seen + (1 - share) * (1 - spared)
    found, films = share * seen * workload.films_a_day, workload.films_a_day
    cost = films * (workload.film_cost + flagged * workload.test_cost)
    silent = 1 - flagged
    return ThresholdFigures(
        threshold=threshold,
        sensitivity=seen,
        sensitivity_interval=wilson(seen, _people(patients[truth])),
        specificity=spared,
        specificity_interval=wilson(spared, _people(patients[~truth])),
        positive_predictive_value=share * seen / flagged if flagged else None,
        negative_predictive_value=(1 - share) * spared / silent if silent else None,
        flagged_a_day=films * flagged,
        found_a_day=found,
        missed_a_day=films * share * (1 - seen),
        tests_per_found=films * flagged / found if found else None,
        cost_a_day=cost,
        cost_per_found=cost / found if found else None,
    )


def threshold_table(
    probability: NDArray[np.float64],
    truth: NDArray[np.bool_],
    patients: NDArray[np.str_],
    workload: Workload,
) -> tuple[ThresholdFigures, ...]:
    """Return the figures between every two films, at most about 200, the lowest first.

    Where films are thinned out, thresholds keep even steps of the films' order.
    """
    scores = np.unique(probability)
    middles = (scores[1:] + scores[:-1]) / 2
    if middles.size > _MOST_ROWS:
        middles = middles[np.linspace(0, middles.size - 1, _MOST_ROWS).round().astype(int)]
    return tuple(
        figures_at(float(threshold), probability, truth, patients, workload)
        for threshold in middles
    )


def subgroups(
    overall: ThresholdFigures,
    probability: NDArray[np.float64],
    truth: NDArray[np.bool_],
    patients: NDArray[np.str_],
    rows: Sequence[ManifestRow],
) -> Iterator[SubgroupFigures]:
    """Yield the chosen threshold in each sex, age group and view with a few patients at least."""
    over = probability >= overall.threshold
    parts = [set(parts_of(row)) for row in rows]
    for group, part in sorted(set().union(*parts)):
        own = np.asarray([(group, part) in each for each in parts])
        sick, well = own & truth, own & ~truth
        ill, healthy = _people(patients[sick]), _people(patients[well])
        if ill < _LEAST_PART and healthy < _LEAST_PART:
            continue
        seen = float(over[sick].mean()) if ill >= _LEAST_PART else None
        spared = float((~over[well]).mean()) if healthy >= _LEAST_PART else None
        of_seen = None if seen is None else wilson(seen, ill)
        of_spared = None if spared is None else wilson(spared, healthy)
        yield SubgroupFigures(
            group=group,
            part=part,
            films=int(own.sum()),
            positive_patients=ill,
            negative_patients=healthy,
            sensitivity=seen,
            sensitivity_interval=of_seen,
            specificity=spared,
            specificity_interval=of_spared,
            differs=_outside(overall.sensitivity, of_seen)
            or _outside(overall.specificity, of_spared),
        )


def _outside(value: float, interval: tuple[float, float] | None) -> bool:
    return interval is not None and not interval[0] <= value <= interval[1]


def _people(patients: NDArray[np.str_]) -> int:
    return int(np.unique(patients).size)
