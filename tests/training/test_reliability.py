import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from vigil_training.reliability import (
    brier_score,
    calibration_error_by_chance,
    calibration_error_interval,
    debiased_calibration_error,
    equal_bins,
    expected_calibration_error,
    recalibration,
)


def _people(n: int) -> np.ndarray:
    return np.asarray([f"p{i}" for i in range(n)])


def _calibrated(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    probabilities = random.beta(2, 3, n)
    return random.random(n) < probabilities, probabilities


def test_calibration_error_is_the_distance_of_promise_and_frequency() -> None:
    truth = np.tile([True, False, False, False], 100)
    assert expected_calibration_error(truth, np.full(400, 0.25)) == pytest.approx(0, abs=1e-12)
    assert expected_calibration_error(truth, np.full(400, 0.65)) == pytest.approx(0.4)
    assert brier_score(truth, np.full(400, 0.25)) == pytest.approx(0.1875)


def test_bins_hold_equal_counts_from_the_lowest_probability() -> None:
    parts = equal_bins(np.linspace(1, 0, 95))
    assert [part.size for part in parts] == [10] * 5 + [9] * 5
    assert parts[0][0] == 94
    assert [part.size for part in equal_bins(np.zeros(3))] == [1, 1, 1]


def test_the_plain_error_of_perfect_probabilities_is_chance_and_the_debiased_one_is_not() -> None:
    plain, chance, debiased = [], [], []
    for seed in range(60):
        truth, probabilities = _calibrated(100, seed)
        plain.append(expected_calibration_error(truth, probabilities))
        chance.append(calibration_error_by_chance(probabilities, 200, seed).mean)
        debiased.append(debiased_calibration_error(truth, probabilities))
    assert np.mean(plain) > 0.09  # a hundred films, ten in a bin: noise alone
    assert np.mean(plain) == pytest.approx(np.mean(chance), abs=0.01)
    assert np.median(debiased) < 0.5 * np.mean(plain)


def test_a_real_error_is_seen_above_chance_and_by_the_debiased_estimate() -> None:
    truth, probabilities = _calibrated(3000)
    promised = np.clip(probabilities + 0.2, 0, 1)
    assert expected_calibration_error(truth, promised) > calibration_error_by_chance(promised).high
    assert debiased_calibration_error(truth, promised) == pytest.approx(0.2, abs=0.03)
    assert debiased_calibration_error(truth[:12], promised[:12]) is None


def test_the_errors_interval_is_over_patients() -> None:
    truth, probabilities = _calibrated(400)
    alone = calibration_error_interval(truth, probabilities + 0.1, _people(400), 300)
    assert alone is not None
    assert alone.low < expected_calibration_error(truth, probabilities + 0.1) < alone.high
    # The same films ten times over are no more patients, so the interval is no narrower.
    repeated = calibration_error_interval(
        np.tile(truth, 10), np.tile(probabilities + 0.1, 10), np.tile(_people(400), 10), 300
    )
    assert repeated is not None
    assert repeated.high - repeated.low == pytest.approx(alone.high - alone.low, rel=0.1)


def test_noise_that_resampling_adds_does_not_lift_the_interval_over_the_error() -> None:
    for seed in range(10):
        truth, probabilities = _calibrated(100, seed)
        error = expected_calibration_error(truth, probabilities)
        interval = calibration_error_interval(truth, probabilities, _people(100), 300)
        assert interval is not None
        assert interval.low < error < interval.high


def test_recalibration_is_logistic_regression_on_the_logits() -> None:
    truth, probabilities = _calibrated(600)
    logits = np.log(probabilities / (1 - probabilities))
    expected = LogisticRegression(C=np.inf).fit(logits[:, np.newaxis], truth)
    found = recalibration(truth, probabilities, _people(600), 200)
    assert found is not None
    assert found.slope == pytest.approx(expected.coef_[0, 0], abs=1e-3)
    assert found.slope_interval is not None
    assert found.slope_interval.low < 1 < found.slope_interval.high


def test_too_extreme_probabilities_have_a_slope_below_one_and_rare_disease_an_intercept() -> None:
    truth, probabilities = _calibrated(5000)
    logits = np.log(probabilities / (1 - probabilities))
    extreme = recalibration(truth, 1 / (1 + np.exp(-2 * logits)), _people(5000), 100)
    assert extreme is not None
    assert extreme.slope == pytest.approx(0.5, abs=0.05)
    shifted = recalibration(truth, 1 / (1 + np.exp(-(logits + 1))), _people(5000), 100)
    assert shifted is not None
    assert shifted.intercept == pytest.approx(-1, abs=0.1)
    assert shifted.slope == pytest.approx(1, abs=0.1)
    assert recalibration(np.ones(5, bool), probabilities[:5], _people(5), 10) is None


def test_a_separable_sample_stays_finite() -> None:
    truth = np.arange(40) >= 20
    found = recalibration(truth, np.where(truth, 0.8, 0.2), _people(40), 50)
    assert found is not None
    assert np.isfinite(found.slope)
