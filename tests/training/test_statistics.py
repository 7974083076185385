import time

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from vigil_training.statistics import (
    auroc,
    auroc_interval,
    brier_score,
    expected_calibration_error,
    patient_weights,
)


def _sample(n: int = 400, ties: bool = False) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    truth = random.random(n) < 0.3
    scores = random.normal(truth * 0.8, 1)
    return truth, np.round(scores, 1) if ties else scores


@pytest.mark.parametrize("ties", [False, True])
def test_auroc_is_that_of_scikit_learn(ties: bool) -> None:
    truth, scores = _sample(ties=ties)
    assert auroc(truth, scores) == pytest.approx(roc_auc_score(truth, scores), abs=1e-12)


def test_auroc_of_one_class_or_of_nothing_is_unknown() -> None:
    assert auroc(np.ones(4, bool), np.arange(4.0)) is None
    assert auroc(np.zeros(0, bool), np.zeros(0)) is None
    nobody = np.asarray(["a", "b"])
    assert auroc_interval(np.ones(2, bool), np.arange(2.0), nobody, 10) is None


def test_the_bootstrap_is_over_patients_and_equals_scikit_learns_with_repeated_rows() -> None:
    truth, scores = _sample(60)
    patients = np.asarray([f"p{i // 3}" for i in range(60)])
    weights = patient_weights(patients, 200, seed=3)
    assert (weights[:, 0] == weights[:, 2]).all()
    assert (weights.sum(1) == 60).all()
    values = []
    for sample in weights:
        rows = np.repeat(np.arange(60), sample.astype(int))
        if 0 < truth[rows].sum() < rows.size:
            values.append(roc_auc_score(truth[rows], scores[rows]))
    expected = np.percentile(values, (2.5, 97.5))
    found = auroc_interval(truth, scores, patients, 200, seed=3)
    assert found is not None
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_telling_two_hospitals_apart_does_not_count_within_them() -> None:
    sources = np.asarray(["ill"] * 50 + ["well"] * 50)
    truth = np.r_[np.arange(50) < 45, np.arange(50) < 5]
    scores = np.r_[np.ones(50), np.zeros(50)]  # says the hospital and nothing else
    assert auroc(truth, scores) == pytest.approx(0.9)
    assert auroc(truth, scores, sources) == pytest.approx(0.5)


def test_two_thousand_films_and_a_thousand_samples_take_a_second_a_label() -> None:
    truth, scores = _sample(2000)
    patients = np.asarray([f"p{i // 2}" for i in range(2000)])
    started = time.process_time()
    auroc_interval(truth, scores, patients, 1000)
    assert time.process_time() - started < 5


def test_calibration_error_is_the_distance_of_promise_and_frequency() -> None:
    truth = np.tile([True, False, False, False], 100)
    assert expected_calibration_error(truth, np.full(400, 0.25)) == pytest.approx(0, abs=1e-12)
    assert expected_calibration_error(truth, np.full(400, 0.65)) == pytest.approx(0.4)
    assert brier_score(truth, np.full(400, 0.25)) == pytest.approx(0.1875)
