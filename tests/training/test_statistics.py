import time

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from vigil_training.statistics import (
    auroc,
    auroc_fall_interval,
    auroc_interval,
    average_precision,
    average_precisions,
    patient_folds,
    patient_mean,
    patient_weights,
    wilson,
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


@pytest.mark.parametrize("ties", [False, True])
def test_average_precision_is_that_of_scikit_learn(ties: bool) -> None:
    truth, scores = _sample(ties=ties)
    expected = average_precision_score(truth, scores)
    assert average_precision(truth, scores) == pytest.approx(expected, abs=1e-12)
    assert average_precision(np.zeros(3, bool), np.arange(3.0)) is None
    assert average_precision(np.zeros(0, bool), np.zeros(0)) is None
    twice = average_precisions(truth, scores, np.vstack([np.ones(400), np.full(400, 2.0)]))
    assert twice[0] == pytest.approx(twice[1])


def test_wilsons_interval_is_that_of_the_textbook() -> None:
    # Newcombe 1998, Statistics in Medicine 17:857, table I: 81 of 263, and 0 of 20.
    assert wilson(81 / 263, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert wilson(0.0, 20) == pytest.approx((0, 0.1611), abs=1e-4)
    assert wilson(0.0, 41).low == 0
    assert wilson(1.0, 41).high == 1


def test_a_patients_films_count_as_one_patient() -> None:
    values = np.asarray([True, True, True, False])
    assert patient_mean(values, np.asarray(["a", "a", "a", "b"])) == 0.5
    assert patient_mean(values[:0], np.zeros(0, "U1")) is None


def test_folds_keep_a_patient_together_and_deal_out_the_ill_of_each_source() -> None:
    patients = np.asarray([f"p{i // 2}" for i in range(200)])
    truth = np.arange(200) < 60
    sources = np.where(np.arange(200) % 4 < 2, "one", "other")
    folds = patient_folds(patients, truth, sources, 5)
    assert (folds[::2] == folds[1::2]).all()
    assert np.bincount(folds).tolist() == [40] * 5
    for source in ("one", "other"):
        dealt = np.bincount(folds[truth & (sources == source)], minlength=5)
        assert dealt.max() - dealt.min() <= 2
    assert (folds == patient_folds(patients, truth, sources, 5)).all()


def test_the_fall_of_an_auroc_is_known_better_than_either_auroc() -> None:
    random = np.random.default_rng(3)
    truth = np.arange(300) < 60
    before = random.normal(truth * 1.0, 1)
    after = before + random.normal(0, 0.05, 300)
    patients = np.asarray([f"p{i}" for i in range(300)])
    alone = auroc_interval(truth, before, patients, 200)
    fall = auroc_fall_interval(truth, before, after, patients, 200)
    same = auroc_fall_interval(truth, before, before, patients, 200)
    assert alone is not None
    assert fall is not None
    assert same == (0.0, 0.0)
    assert fall.low < fall.high
    assert fall.high - fall.low < (alone.high - alone.low) / 4
    worse = auroc_fall_interval(truth, before, -before, patients, 200)
    assert worse is not None
    assert worse.low > 0.3
