"""Figures of merit, fast enough to be bootstrapped: all of it is numpy, nothing is torch."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class Interval(NamedTuple):
    """A figure's 95 % bootstrap interval."""

    low: float
    high: float


def auroc(truth: NDArray[np.bool_], scores: NDArray[np.floating]) -> float | None:
    """Return the area under the ROC curve, ties counting half, or None with one class only."""
    value = _weighted_auroc(truth, scores, np.ones((1, truth.size)))[0]
    return None if np.isnan(value) else float(value)


def _weighted_auroc(
    truth: NDArray[np.bool_], scores: NDArray[np.floating], weights: Floats
) -> Floats:
    """Return (samples,) AUROC for (samples, n) weights of the pictures; NaN with one class only.

    A positive of weight w beats the weight of all negatives below it, and half of those that tie:
    one sort serves all samples.
    """
    order = np.argsort(scores, kind="stable")
    _, tie = np.unique(scores[order], return_inverse=True)
    starts = np.flatnonzero(np.r_[True, np.diff(tie) > 0]) if tie.size else np.zeros(0, np.int64)
    sorted_weights, sorted_truth = weights[:, order], truth[order]
    positive = np.add.reduceat(sorted_weights * sorted_truth, starts, axis=1)
    negative = np.add.reduceat(sorted_weights * ~sorted_truth, starts, axis=1)
    below = np.cumsum(negative, axis=1) - negative
    wins = (positive * (below + negative / 2)).sum(1)
    pairs = positive.sum(1) * negative.sum(1)
    return np.divide(wins, pairs, out=np.full(len(weights), np.nan), where=pairs > 0)


def patient_weights(patients: NDArray[np.str_], samples: int, seed: int = 0) -> Floats:
    """Return (samples, n): how often each picture is in a bootstrap sample of whole patients."""
    _, member = np.unique(patients, return_inverse=True)
    people = int(member.max()) + 1 if member.size else 0
    random = np.random.default_rng(seed)
    counts = np.zeros((samples, people), np.float64)
    for sample in counts:
        sample += np.bincount(random.integers(people, size=people), minlength=people)
    return counts[:, member]


def auroc_interval(
    truth: NDArray[np.bool_],
    scores: NDArray[np.floating],
    patients: NDArray[np.str_],
    samples: int = 1000,
    seed: int = 0,
) -> Interval | None:
    """Return the 95 % percentile interval of the AUROC over bootstrap samples of patients.

    Samples that hold one class only say nothing and are left out; None if that is all of them.
    """
    values = _weighted_auroc(truth, scores, patient_weights(patients, samples, seed))
    values = values[~np.isnan(values)]
    if values.size == 0:
        return None
    low, high = np.percentile(values, (2.5, 97.5))
    return Interval(float(low), float(high))


def expected_calibration_error(
    truth: NDArray[np.bool_], probabilities: NDArray[np.floating], bins: int = 10
) -> float:
    """Return the mean distance of predicted from observed frequency, over bins of equal count."""
    order = np.argsort(probabilities, kind="stable")
    parts = [part for part in np.array_split(order, bins) if part.size]
    distances = [abs(probabilities[p].mean() - truth[p].mean()) * p.size for p in parts]
    return float(sum(distances) / truth.size)


def brier_score(truth: NDArray[np.bool_], probabilities: NDArray[np.floating]) -> float:
    """Return the mean squared difference of probability and truth."""
    return float(np.mean((probabilities - truth) ** 2))


def rate(hits: int, total: int) -> float | None:
    """Return hits / total, or None of nothing."""
    return hits / total if total else None
