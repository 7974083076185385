import numpy as np
import pytest
from sklearn.metrics import precision_recall_curve as reference_curve

from vigil_training.curves import (
    Marks,
    found_at,
    free_response,
    net_benefit,
    precision_recall_curve,
)


def test_precision_and_recall_are_those_of_scikit_learn() -> None:
    random = np.random.default_rng(0)
    truth, scores = random.random(50) < 0.3, np.round(random.random(50), 1)
    recall, precision = precision_recall_curve(truth, scores)
    expected_precision, expected_recall, _ = reference_curve(truth, scores)
    np.testing.assert_allclose(recall, expected_recall[:-1][::-1])
    np.testing.assert_allclose(precision, expected_precision[:-1][::-1])


def test_net_benefit_is_hits_less_false_alarms_at_the_thresholds_odds() -> None:
    """Of ten films four have it; at 0.2 three of them and two others are acted on."""
    truth = np.asarray([True] * 4 + [False] * 6)
    probability = np.asarray([0.9, 0.5, 0.3, 0.1, 0.6, 0.25, 0.1, 0.1, 0.05, 0.0])
    patients = np.arange(10).astype(np.str_)
    found = net_benefit(truth, probability, patients, np.asarray([0.2, 0.5]), samples=200)
    assert found.model[0] == pytest.approx(3 / 10 - 2 / 10 * 0.25)
    assert found.model[1] == pytest.approx(2 / 10 - 1 / 10 * 1.0)
    assert found.treat_all[0] == pytest.approx(4 / 10 - 6 / 10 * 0.25)
    assert (found.low < found.model).all()
    assert (found.model < found.high).all()


def _marks() -> Marks:
    """Two boxes on patient a and one on b; four false marks on c, d (two films) and a."""
    return Marks(
        boxes=np.asarray([0.9, 0.4, -np.inf]),
        box_patients=np.asarray(["a", "a", "b"]),
        false_marks=np.asarray([0.8, 0.5, 0.3, 0.2]),
        false_patients=np.asarray(["c", "d", "d", "a"]),
        film_patients=np.asarray(["a", "b", "c", "d", "d"]),
    )


def test_a_free_response_curve_counts_found_boxes_against_false_marks_a_film() -> None:
    curve = free_response(_marks())
    np.testing.assert_allclose(curve.false_marks, np.asarray([0, 0, 1, 2, 2, 3, 4]) / 5)
    np.testing.assert_allclose(curve.found, np.asarray([0, 1, 1, 1, 2, 2, 2]) / 3)


def test_boxes_found_at_a_rate_of_false_marks() -> None:
    assert found_at(_marks(), 0.0, 0) == (pytest.approx(1 / 3), None)
    share, interval = found_at(_marks(), 0.4, 100)
    assert share == pytest.approx(2 / 3)
    assert interval is not None
    assert 0 <= interval.low <= share <= interval.high <= 1
