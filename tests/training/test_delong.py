import numpy as np
import pytest

from vigil_training.delong import area_covariance, compare_areas, holm

# DeLong, DeLong and Clarke-Pearson 1988: 43 patients, albumin, total protein, K-G score, benefit.
_TABLE = """
    3.0 5.8 10 0 3.2 6.3 5 1 3.9 6.8 3 1 2.8 4.8 6 0 3.2 5.8 3 1 0.9 4.0 5 0 2.5 5.7 8 0
    1.6 5.6 5 1 3.8 5.7 5 1 3.7 6.7 6 1 3.2 5.4 4 1 3.8 6.6 6 1 4.1 6.6 5 1 3.6 5.7 5 1 4.3 7.0 4 1
    3.6 6.7 4 0 2.3 4.4 6 1 4.2 7.6 4 0 4.0 6.6 6 0 3.5 5.8 6 1 3.8 6.8 7 1 3.0 4.7 8 0 4.5 7.4 5 1
    3.7 7.4 5 1 3.1 6.6 6 1 4.1 8.2 6 1 4.3 7.0 5 1 4.3 6.5 4 1 3.2 5.1 5 1 2.6 4.7 6 1 3.3 6.8 6 0
    1.7 4.0 7 0 3.7 6.1 5 1 3.3 6.3 7 1 4.2 7.7 6 1 3.5 6.2 5 1 2.9 5.7 9 0 2.1 4.8 7 1 2.8 6.2 8 0
    4.0 7.0 7 1 3.3 5.7 6 1 3.7 6.9 5 1 3.6 6.6 5 1"""
_CANCER = np.asarray(_TABLE.split(), np.float64).reshape(-1, 4)


def _brute_force(
    truth: np.ndarray, scores: list[np.ndarray], patients: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The covariance by every pair, written down as Obuchowski 1997 defines it."""
    ill, well = np.flatnonzero(truth), np.flatnonzero(~truth)
    people = sorted(set(patients))
    areas, own, other = [], [], []
    for score in scores:
        wins = np.asarray(
            [[(score[i] > score[j]) + 0.5 * (score[i] == score[j]) for j in well] for i in ill]
        )
        area = wins.mean()
        areas.append(area)
        own.append([sum(wins[k].mean() - area for k, i in enumerate(ill) if patients[i] == person)
                    for person in people])  # fmt: skip
        other.append([sum(wins[:, k].mean() - area for k, j in enumerate(well)
                          if patients[j] == person) for person in people])  # fmt: skip
    own, other = np.asarray(own), np.asarray(other)
    with_it = len({patients[i] for i in ill})
    without = len({patients[j] for j in well})
    m, n, all_ = len(ill), len(well), len(people)
    cross = all_ / (all_ - 1) * (own @ other.T + other @ own.T) / (m * n)
    covariance = with_it / (with_it - 1) * own @ own.T / m**2
    return np.asarray(areas), covariance + without / (without - 1) * other @ other.T / n**2 + cross


def test_the_published_example_of_1988_comes_out() -> None:
    """Area 0.7258 (0.1028) for the K-G score, and chi squared 2.5340 for all three (SAS/STAT)."""
    truth = _CANCER[:, 3] == 1
    scores = [10 - _CANCER[:, 2], _CANCER[:, 0], _CANCER[:, 1]]
    patients = np.arange(43).astype(np.str_)
    areas, covariance = area_covariance(truth, scores, patients)
    assert areas[0] == pytest.approx(0.7258, abs=5e-5)
    assert np.sqrt(covariance[0, 0]) == pytest.approx(0.1028, abs=5e-5)
    contrast = np.asarray([[-1, 1, 0], [-1, 0, 1]])
    difference = contrast @ areas
    spread = contrast @ covariance @ contrast.T
    assert difference @ np.linalg.solve(spread, difference) == pytest.approx(2.5340, abs=5e-5)


def test_midranks_give_what_every_pair_gives_with_ties_and_with_several_films_a_patient() -> None:
    random = np.random.default_rng(3)
    truth = random.random(60) < 0.4
    scores = [np.round(random.random(60) + 0.4 * truth, 1), random.random(60)]
    for patients in (np.arange(60), np.arange(60) // 3):
        names = patients.astype(np.str_)
        areas, covariance = area_covariance(truth, scores, names)
        expected_areas, expected = _brute_force(truth, scores, names)
        np.testing.assert_allclose(areas, expected_areas, atol=1e-12)
        np.testing.assert_allclose(covariance, expected, atol=1e-12)


def test_a_film_that_is_copied_adds_no_certainty() -> None:
    random = np.random.default_rng(5)
    truth = random.random(80) < 0.5
    one, two = random.random(80) + truth, random.random(80) + 0.3 * truth
    patients = np.arange(80).astype(np.str_)
    single = compare_areas(truth, one, two, patients)
    copied = compare_areas(*(np.repeat(v, 3) for v in (truth, one, two, patients)))
    assert copied.difference == pytest.approx(single.difference, abs=1e-12)
    assert copied.standard_error == pytest.approx(single.standard_error, rel=1e-9)


def test_two_equal_orders_differ_by_nothing_and_have_no_test() -> None:
    truth = np.asarray([True, True, False, False])
    score = np.asarray([4.0, 2.0, 3.0, 1.0])
    found = compare_areas(truth, score, np.exp(score), np.asarray(list("abcd")))
    assert (found.areas, found.difference) == ((0.75, 0.75), 0.0)
    assert (found.z, found.p, found.interval) == (None, None, None)


def test_one_patient_of_a_class_has_no_variance() -> None:
    truth = np.asarray([True, True, False, False])
    with pytest.raises(ValueError, match="two patients with"):
        area_covariance(truth, [np.arange(4.0)], np.asarray(["a", "a", "b", "c"]))


def test_holm_multiplies_the_smallest_most_and_keeps_the_order() -> None:
    assert holm([0.01, None, 0.04, 0.03]) == [0.03, None, 0.06, 0.06]
    assert holm([0.9, 0.8]) == [1.0, 1.0]
