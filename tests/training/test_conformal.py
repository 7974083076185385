import numpy as np
import pytest

from vigil_training.conformal import (
    Ends,
    cross_conformal,
    ends_of,
    highest_usual,
    sets_of,
    uncertain_band,
)


def _drawn(n: int, seed: int, shift: float = 1.5) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    truth = random.random(n) < 0.3
    return 1 / (1 + np.exp(-random.normal(truth * shift, 1))), truth


def _people(n: int) -> np.ndarray:
    return np.asarray([f"p{i}" for i in range(n)])


def test_an_end_is_the_finite_samples_quantile() -> None:
    scores = np.arange(1.0, 20.0)  # 19 patients: ceil(20 × 0.9) = the 18th
    assert highest_usual(scores, _people(19), 0.9) == 18
    assert highest_usual(scores[:9], _people(9), 0.9) == 9
    assert highest_usual(scores[:8], _people(8), 0.9) is None
    assert highest_usual(np.zeros(0), _people(0), 0.9) is None


def test_a_patient_counts_once_however_many_films_there_are() -> None:
    scores = np.r_[np.arange(1.0, 20.0), np.full(200, 100.0)]
    patients = np.r_[_people(18), np.full(201, "often")]
    # "often" is one of 19; its films at 100 are the highest, and one patient in ten may be missed.
    assert highest_usual(scores, patients, 0.9) == 18


def test_a_new_patients_truth_is_in_the_set_as_often_as_promised_in_each_class() -> None:
    covered = {True: [], False: []}
    for seed in range(400):
        scores, truth = _drawn(120, seed)
        new, new_truth = _drawn(50, 10_000 + seed)
        ends = ends_of(scores, truth, _people(120), 0.9)
        assert ends is not None
        held = sets_of(new, new_truth, ends).covered
        for kind in (True, False):
            covered[kind] += held[new_truth == kind].tolist()
    for kind in (True, False):
        # By the theory at least 0.9 and at most 0.9 + 1 / (patients of the class + 1).
        assert 0.89 < np.mean(covered[kind]) < 0.95


def test_the_band_is_where_the_sets_overlap_or_neither_holds() -> None:
    scores = np.asarray([0.1, 0.3, 0.5, 0.7, 0.9])
    truth = np.asarray([False, True, True, True, True])
    overlap = sets_of(scores, truth, Ends(present=0.3, absent=0.7))
    assert overlap.uncertain.tolist() == [False, True, True, True, False]
    assert overlap.covered.tolist() == [True, True, True, True, True]
    gap = sets_of(scores, truth, Ends(present=0.7, absent=0.3))
    assert gap.uncertain.tolist() == [False, False, True, False, False]
    assert gap.covered.tolist() == [True, False, False, True, True]


def test_a_band_carries_its_ends_and_the_coverage_that_other_patients_ends_gave() -> None:
    scores, truth = _drawn(400, 1)
    band = uncertain_band(scores, truth, _people(400), np.full(400, "nih"))
    ends = ends_of(scores, truth, _people(400), 0.9)
    assert band is not None
    assert ends is not None
    assert (band.low, band.high) == (min(ends), max(ends))
    assert band.target_coverage == 0.9
    assert band.coverage_present == pytest.approx(0.9, abs=0.04)
    assert band.coverage_absent == pytest.approx(0.9, abs=0.04)
    # A finding that is seen well leaves less in doubt.
    better = uncertain_band(*_drawn(400, 1, shift=3), _people(400), np.full(400, "nih"))
    assert better is not None
    assert better.high - better.low < band.high - band.low


def test_no_patient_chooses_the_end_that_judges_it() -> None:
    truth = np.arange(100) < 30
    scores = np.where(truth, 0.9, 0.1) + np.linspace(0, 0.01, 100)
    # Three ill patients that the network misses: each, left out, lies beyond the others' end.
    scores[:3] = [0.01, 0.02, 0.03]
    sets = cross_conformal(scores, truth, _people(100), np.full(100, "nih"))
    assert sets is not None
    assert not sets.covered[:2].any()
    # With few patients the end is the others' lowest: a second film of one's own would cover one.
    pairs = np.asarray([f"p{i // 2}" for i in range(100)])
    scores[:3] = [0.01, 0.01, 0.91]
    both = cross_conformal(scores, truth, pairs, np.full(100, "nih"))
    assert both is not None
    assert both.covered[:4].tolist() == [False, False, True, True]


def test_too_few_patients_of_a_class_have_no_band() -> None:
    truth = np.arange(60) < 8
    scores = np.linspace(1, 0, 60)
    assert uncertain_band(scores, truth, _people(60), np.full(60, "nih")) is None
    nine = np.arange(60) < 9
    band = uncertain_band(scores, nine, _people(60), np.full(60, "nih"))
    assert band is not None
    assert band.coverage_present is None  # a fold leaves eight
    # Forty films of five patients are five patients.
    patients = np.asarray([f"p{i % 5}" if i < 40 else f"q{i}" for i in range(100)])
    many = np.arange(100) < 40
    assert uncertain_band(np.linspace(1, 0, 100), many, patients, np.full(100, "x")) is None
