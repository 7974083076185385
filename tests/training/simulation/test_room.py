"""The room against queueing theory: the closed form lies in the simulation's 99.9 % interval."""

import numpy as np
import pytest
from scipy import stats

from vigil_training.simulation.queueing import (
    mean_wait,
    mean_waits_by_priority,
    part_waiting_over,
    waits_at_all,
)
from vigil_training.simulation.room import reading_starts
from vigil_training.simulation.scenario import Shift

REPLICATIONS = 12
FILMS = 25_000
WARM_UP = 3_000


def _round_the_clock(readers: int) -> tuple[Shift, ...]:
    return (Shift(name="all", start_hour=0, end_hour=24, readers=readers, films_an_hour=60),)


def _waits(
    seed: int, rate: float, readers: int, parts: tuple[float, ...] = (1.0,)
) -> tuple[np.ndarray, np.ndarray]:
    """Return waits in minutes and classes of Poisson films read in one minute each on average."""
    random = np.random.default_rng(seed)
    arrivals = np.cumsum(random.exponential(60 / rate, FILMS))
    ranks = np.searchsorted(np.cumsum(parts), random.random(FILMS)).astype(np.int8)
    work = random.exponential(1.0, FILMS)
    starts = reading_starts(arrivals, ranks, work, _round_the_clock(readers))
    return (starts - arrivals)[WARM_UP:-500] / 60, ranks[WARM_UP:-500]


def _interval(values: list[float]) -> tuple[float, float]:
    half = stats.t.ppf(0.9995, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values))
    return np.mean(values) - half, np.mean(values) + half


@pytest.mark.parametrize(("rate", "readers"), [(0.5, 1), (0.8, 1), (1.6, 2), (3.4, 4)])
def test_first_come_first_served_waits_as_erlang_says(rate: float, readers: int) -> None:
    means, nobody, long = [], [], []
    for seed in range(REPLICATIONS):
        waits, _ = _waits(seed, rate, readers)
        means.append(waits.mean())
        nobody.append((waits > 1e-9).mean())
        long.append((waits > 2).mean())
    low, high = _interval(means)
    assert low < mean_wait(rate, 1, readers) < high
    assert high - low < 0.35 * mean_wait(rate, 1, readers)  # else anything would lie within
    low, high = _interval(nobody)
    assert low < waits_at_all(rate, 1, readers) < high
    low, high = _interval(long)
    assert low < part_waiting_over(2, rate, 1, readers) < high


@pytest.mark.parametrize(("rate", "readers"), [(0.8, 1), (1.7, 2), (2.6, 3)])
def test_priorities_wait_as_cobham_says(rate: float, readers: int) -> None:
    parts = (0.1, 0.3, 0.6)
    expected = mean_waits_by_priority([rate * part for part in parts], 1, readers)
    found: list[list[float]] = [[], [], []]
    for seed in range(REPLICATIONS):
        waits, ranks = _waits(seed, rate, readers, parts)
        for rank in range(3):
            found[rank].append(waits[ranks == rank].mean())
    for means, closed_form in zip(found, expected, strict=True):
        low, high = _interval(means)
        assert low < closed_form < high
        assert high - low < 0.4 * closed_form


def test_the_closed_forms_agree_with_each_other_and_with_textbook_values() -> None:
    assert mean_wait(0.5, 1, 1) == pytest.approx(1.0)  # rho / (mu - lambda)
    assert waits_at_all(0.75, 1, 1) == pytest.approx(0.75)
    # Two readers: C = 2 rho^2 / (1 + rho).
    assert waits_at_all(1.2, 1, 2) == pytest.approx(2 * 0.36 / 1.6)
    assert mean_waits_by_priority([0.7], 1, 1)[0] == pytest.approx(mean_wait(0.7, 1, 1))
    # Kleinrock's conservation law: the order moves waiting about and makes none.
    rates = [0.1, 0.3, 0.4]
    waits = mean_waits_by_priority(rates, 1, 2)
    total = sum(rate * wait for rate, wait in zip(rates, waits, strict=True))
    assert total == pytest.approx(0.8 * mean_wait(0.8, 1, 2))
    with pytest.raises(ValueError, match="no steady state"):
        mean_wait(2.0, 1, 2)


def test_nobody_breaks_off_a_film_and_the_pressing_one_is_next() -> None:
    arrivals = np.asarray([0.0, 1.0, 2.0, 3.0])
    starts = reading_starts(
        arrivals, np.asarray([2, 2, 0, 1], np.int8), np.ones(4), _round_the_clock(1)
    )
    assert starts.tolist() == [0, 180, 60, 120]


def test_films_of_the_night_wait_for_the_morning_and_a_begun_film_is_finished() -> None:
    hour = 3600.0
    shift = Shift(name="day", start_hour=8, end_hour=10, readers=1, films_an_hour=1)
    arrivals = np.asarray([7.0, 7.5, 9.5, 9.6]) * hour
    starts = reading_starts(arrivals, np.zeros(4, np.int8), np.full(4, 0.9), (shift,)) / hour
    # 8.0 and 8.9; at 9.8 the third is begun before the shift ends; the fourth waits a night.
    assert starts == pytest.approx([8.0, 8.9, 9.8, 32.0])


def test_an_idle_reader_leaves_at_the_end_of_the_shift_and_comes_on_working_days_only() -> None:
    hour, day = 3600.0, 24.0
    shift = Shift(
        name="day", start_hour=8, end_hour=10, readers=2, films_an_hour=60, weekdays=(0, 4)
    )
    arrivals = np.asarray([8.5, 10.0, 12.0]) * hour
    starts = reading_starts(arrivals, np.zeros(3, np.int8), np.ones(3), (shift,)) / hour
    assert starts == pytest.approx([8.5, 4 * day + 8, 4 * day + 8])


def test_a_shift_over_midnight_and_films_listed_late() -> None:
    hour = 3600.0
    shift = Shift(name="night", start_hour=22, end_hour=6, readers=1, films_an_hour=60)
    arrivals = np.asarray([22.5, 29.0]) * hour
    starts = reading_starts(arrivals, np.zeros(2, np.int8), np.ones(2), (shift,), 30.0)
    assert starts == pytest.approx(arrivals + 30)
    assert reading_starts(np.zeros(0), np.zeros(0, np.int8), np.zeros(0), (shift,)).size == 0
