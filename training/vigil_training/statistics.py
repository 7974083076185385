"""Figures of merit, fast enough to be bootstrapped: all of it is numpy, nothing is torch."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class Interval(NamedTuple):
    """A figure's 95 % bootstrap interval."""

    low: float
    high: float


def auroc(
    truth: NDArray[np.bool_],
    scores: NDArray[np.floating],
    strata: NDArray[np.str_] | None = None,
) -> float | None:
    """Return the area under the ROC curve, ties counting half, or None with one class only.

    Parameters
    ----------
    truth, scores
        (n,) what is, and how much speaks for it.
    strata
        (n,) names of sources: then only pictures of one source are compared with each other, since
        telling two hospitals apart must not count as seeing a disease.
    """
    value = _stratified(truth, scores, np.ones((1, truth.size)), strata)[0]
    return None if np.isnan(value) else float(value)


class _Pairs(NamedTuple):
    """(samples,) weight of the pairs that a score orders rightly, and of all pairs."""

    wins: Floats
    pairs: Floats


def _pairs(truth: NDArray[np.bool_], scores: NDArray[np.floating], weights: Floats) -> _Pairs:
    """Compare all positives with all negatives under (samples, n) weights of the pictures.

    A positive of weight w beats the weight of all negatives below it, and half of those that tie:
    one sort serves all samples.
    """
    if truth.size == 0:
        return _Pairs(np.zeros(len(weights)), np.zeros(len(weights)))
    order = np.argsort(scores, kind="stable")
    sorted_weights, sorted_truth, sorted_scores = weights[:, order], truth[order], scores[order]
    starts = np.flatnonzero(np.r_[True, sorted_scores[1:] != sorted_scores[:-1]])
    positive = np.add.reduceat(sorted_weights * sorted_truth, starts, axis=1)
    negative = np.add.reduceat(sorted_weights * ~sorted_truth, starts, axis=1)
    below = np.cumsum(negative, axis=1) - negative
    return _Pairs((positive * (below + negative / 2)).sum(1), positive.sum(1) * negative.sum(1))


def _stratified(
    truth: NDArray[np.bool_],
    scores: NDArray[np.floating],
    weights: Floats,
    strata: NDArray[np.str_] | None,
) -> Floats:
    """Return (samples,) AUROC over the pairs within a stratum; NaN where there is no pair."""
    wins, pairs = np.zeros(len(weights)), np.zeros(len(weights))
    names = np.zeros(truth.size, "U1") if strata is None else strata
    for name in np.unique(names):
        own = names == name
        found = _pairs(truth[own], scores[own], weights[:, own])
        wins, pairs = wins + found.wins, pairs + found.pairs
    areas: Floats = np.full(len(weights), np.nan)
    np.divide(wins, pairs, out=areas, where=pairs > 0)
    return areas


def patient_weights(patients: NDArray[np.str_], samples: int, seed: int = 0) -> Floats:
    """Return (samples, n): how often each picture is in a bootstrap sample of whole patients."""
    _, member = np.unique(patients, return_inverse=True)
    people = int(member.max()) + 1 if member.size else 0
    random = np.random.default_rng(seed)
    counts = np.zeros((samples, people), np.float64)
    for sample in range(samples):
        counts[sample] = np.bincount(random.integers(people, size=people), minlength=people)
    return counts[:, member]


def auroc_interval(
    truth: NDArray[np.bool_],
    scores: NDArray[np.floating],
    patients: NDArray[np.str_],
    samples: int = 1000,
    seed: int = 0,
    strata: NDArray[np.str_] | None = None,
) -> Interval | None:
    """Return the 95 % percentile interval of the AUROC over bootstrap samples of patients.

    Samples that hold one class only say nothing and are left out; None if that is all of them.
    """
    values = _stratified(truth, scores, patient_weights(patients, samples, seed), strata)
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
