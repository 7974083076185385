"""Curves of a score: ROC, precision and recall, net benefit, free response. Only numpy."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vigil_training.statistics import Floats, Interval, patient_weights, percentiles


def roc_curve(
    truth: NDArray[np.bool_], scores: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return false and true positive rates from (0, 0) to (1, 1), one point a distinct score."""
    hits, alarms = _counts(truth, scores)
    return np.r_[0, alarms / alarms[-1]], np.r_[0, hits / hits[-1]]


def precision_recall_curve(
    truth: NDArray[np.bool_], scores: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return recall and precision, one point a distinct score, the highest first."""
    hits, alarms = _counts(truth, scores)
    return hits / hits[-1], hits / (hits + alarms)


def _counts(
    truth: NDArray[np.bool_], scores: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return how many positives and negatives are at or over each distinct score, falling."""
    order = np.argsort(-scores, kind="stable")
    last = np.r_[scores[order][1:] != scores[order][:-1], True]
    hits: NDArray[np.int64] = np.cumsum(truth[order], dtype=np.int64)[last]
    return hits, np.cumsum(~truth[order], dtype=np.int64)[last]


class NetBenefit(NamedTuple):
    """Decision curves (Vickers and Elkin 2006, doi 10.1177/0272989X06295361), (thresholds,) each.

    What acting on a probability at or over each threshold gains, in true positives a film, against
    acting on all films and on none (which is 0). ``low`` and ``high`` are 95 % over bootstrap
    samples of patients, NaN without any.
    """

    thresholds: Floats
    model: Floats
    low: Floats
    high: Floats
    treat_all: Floats


def net_benefit(
    truth: NDArray[np.bool_],
    probability: Floats,
    patients: NDArray[np.str_],
    thresholds: Floats,
    samples: int = 1000,
) -> NetBenefit:
    """Return the net benefit at some thresholds between 0 and 1, both ends left out."""
    odds = thresholds / (1 - thresholds)
    over = probability[:, np.newaxis] >= thresholds
    # (n, thresholds): what each film adds, a hit 1 and a false alarm the odds that it costs.
    worth = over * np.where(truth[:, np.newaxis], 1.0, -odds)
    low = high = np.full(thresholds.size, np.nan)
    if samples:
        weights = patient_weights(patients, samples)
        drawn = (weights @ worth) / weights.sum(1, keepdims=True)
        low, high = np.percentile(drawn, (2.5, 97.5), axis=0)
    prevalence = truth.mean()
    return NetBenefit(thresholds, worth.mean(0), low, high, prevalence - (1 - prevalence) * odds)


class Marks(NamedTuple):
    """Places that a map points at on some films, and what a radiologist boxed there.

    Attributes
    ----------
    boxes
        (boxes,) the highest rating of a mark in each box; -inf where none lies in it.
    box_patients
        (boxes,) whose.
    false_marks
        (marks,) ratings of the marks that lie in no box.
    false_patients
        (marks,) whose film they are on.
    film_patients
        (films,) whose film each is, of all films: with boxes, and without the finding.
    """

    boxes: Floats
    box_patients: NDArray[np.str_]
    false_marks: Floats
    false_patients: NDArray[np.str_]
    film_patients: NDArray[np.str_]


class FreeResponseCurve(NamedTuple):
    """False marks a film and the part of the boxes found, the highest rating first."""

    false_marks: Floats
    found: Floats


def free_response(marks: Marks) -> FreeResponseCurve:
    """Return the free-response curve (Chakraborty 1989, doi 10.1118/1.596358)."""
    ratings = np.unique(np.r_[marks.boxes[np.isfinite(marks.boxes)], marks.false_marks])[::-1]
    false = np.asarray([(marks.false_marks >= rating).sum() for rating in ratings], np.float64)
    found = np.asarray([(marks.boxes >= rating).sum() for rating in ratings], np.float64)
    films, boxes = max(marks.film_patients.size, 1), max(marks.boxes.size, 1)
    return FreeResponseCurve(np.r_[0, false / films], np.r_[0, found / boxes])


def found_at(
    marks: Marks, false_marks: float, samples: int, seed: int = 0
) -> tuple[float, Interval | None]:
    """Return the part of boxes found at no more than so many false marks a film, with 95 %."""
    people = np.unique(np.r_[marks.film_patients, marks.box_patients])
    places = [
        np.searchsorted(people, names)
        for names in (marks.film_patients, marks.box_patients, marks.false_patients)
    ]
    weights = np.vstack([np.ones(people.size), patient_weights(people, samples, seed)])
    films, boxes, false = (weights[:, place] for place in places)
    ratings = np.unique(np.r_[marks.boxes[np.isfinite(marks.boxes)], marks.false_marks])[::-1]
    found = np.zeros(len(weights))
    for rating in ratings:
        rate = false[:, marks.false_marks >= rating].sum(1) / np.maximum(films.sum(1), 1)
        hits = boxes[:, marks.boxes >= rating].sum(1)
        found = np.where(rate <= false_marks, np.maximum(found, hits), found)
    total = boxes.sum(1)
    shares = np.where(total > 0, found / np.maximum(total, 1), np.nan)
    return float(shares[0]), percentiles(shares[1:]) if samples else None
