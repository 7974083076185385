"""The films of one replication, drawn: when they come, what they show, how long they take."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vigil_training.simulation.scenario import DAY_SECONDS, Reading, Scenario


@dataclass(frozen=True, eq=False)
class Films:
    """(n,) films in the order of their arrival.

    Attributes
    ----------
    arrivals
        Seconds from midnight of a Monday.
    groups
        Index in :attr:`Scenario.groups`.
    work
        What reading takes, in units of a reader's mean time.
    draws
        (n, k) uniform in 0…1: what :mod:`operation` makes Vigil's answers of. They are drawn once,
        so that two operating points differ by the points alone.
    shifts
        Index of the shift in which each film came, -1 of none.
    counted
        Whether a film came after the warm-up.
    """

    arrivals: NDArray[np.float64]
    groups: NDArray[np.int8]
    work: NDArray[np.float64]
    draws: NDArray[np.float64]
    shifts: NDArray[np.int8]
    counted: NDArray[np.bool_]


def draw_films(scenario: Scenario, columns: int, random: np.random.Generator) -> Films:
    """Draw a replication's films; ``columns`` is the k of :attr:`Films.draws`."""
    arrivals = _arrivals(scenario, random)
    prevalences = [condition.prevalence for condition in scenario.conditions]
    groups = np.searchsorted(np.cumsum(prevalences), random.random(arrivals.size), side="right")
    return Films(
        arrivals=arrivals,
        groups=groups.astype(np.int8),
        work=_work(scenario.reading, arrivals.size, random),
        draws=random.random((arrivals.size, columns)),
        shifts=_shifts(scenario, arrivals),
        counted=arrivals >= scenario.warm_up_days * DAY_SECONDS,
    )


def _arrivals(scenario: Scenario, random: np.random.Generator) -> NDArray[np.float64]:
    """Draw a Poisson process whose rate is constant within an hour."""
    by_hour = np.asarray(scenario.arrivals.by_hour)
    by_day = np.asarray(scenario.arrivals.by_weekday)
    week = np.outer(by_day / by_day.mean(), by_hour / by_hour.sum()).ravel()
    hours = np.arange(scenario.days * 24)
    counts = random.poisson(scenario.arrivals.films_a_day * week[hours % week.size])
    times: NDArray[np.float64] = np.repeat(hours, counts) + random.random(int(counts.sum()))
    times.sort()
    return times * 3600


def _work(reading: Reading, films: int, random: np.random.Generator) -> NDArray[np.float64]:
    """Draw reading times of mean 1."""
    if reading.distribution == "exponential":
        return random.exponential(1.0, films)
    variance = np.log(1 + reading.coefficient_of_variation**2)
    return random.lognormal(-variance / 2, np.sqrt(variance), films)


def _shifts(scenario: Scenario, arrivals: NDArray[np.float64]) -> NDArray[np.int8]:
    """Return the first shift of each film's hour, by the clock alone."""
    hours = arrivals / 3600 % 24
    found = np.full(arrivals.size, -1, np.int8)
    for index, shift in reversed(list(enumerate(scenario.shifts))):
        found[(hours - shift.start_hour) % 24 < shift.hours] = index
    return found
