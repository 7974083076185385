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
    drawn = np.random.default_rng(seed).integers(max(people, 1), size=(samples, people))
    drawn += np.arange(samples)[:, np.newaxis] * people
    counts = np.bincount(drawn.ravel(), minlength=samples * people).reshape(samples, people)
    weights: Floats = counts.astype(np.float64)[:, member]
    return weights


def percentiles(values: Floats) -> Interval | None:
    """Return the 95 % interval of bootstrapped values; NaN says nothing and is left out."""
    known = values[~np.isnan(values)]
    if known.size == 0:
        return None
    low, high = np.percentile(known, (2.5, 97.5))
    return Interval(float(low), float(high))


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
    return percentiles(_stratified(truth, scores, patient_weights(patients, samples, seed), strata))


def auroc_fall_interval(
    truth: NDArray[np.bool_],
    before: NDArray[np.floating],
    after: NDArray[np.floating],
    patients: NDArray[np.str_],
    samples: int = 1000,
    seed: int = 0,
    strata: NDArray[np.str_] | None = None,
) -> Interval | None:
    """Return the 95 % interval of how much lower the AUROC is after than before.

    Both see the same bootstrap samples of patients, so what they share is no uncertainty.
    """
    weights = patient_weights(patients, samples, seed)
    return percentiles(
        _stratified(truth, before, weights, strata) - _stratified(truth, after, weights, strata)
    )


def average_precisions(
    truth: NDArray[np.bool_], scores: NDArray[np.floating], weights: Floats
) -> Floats:
    """Return (samples,) average precision under (samples, n) weights; NaN without a positive.

    The sum of precision times the gain in recall over the distinct scores, the highest first: the
    area under the precision-recall curve without interpolation. By chance it is the prevalence.
    """
    areas: Floats = np.full(len(weights), np.nan)
    if truth.size == 0:
        return areas
    order = np.argsort(-scores, kind="stable")
    sorted_weights, sorted_scores = weights[:, order], scores[order]
    starts = np.flatnonzero(np.r_[True, sorted_scores[1:] != sorted_scores[:-1]])
    positive = np.add.reduceat(sorted_weights * truth[order], starts, axis=1)
    chosen = np.cumsum(np.add.reduceat(sorted_weights, starts, axis=1), axis=1)
    precision = np.cumsum(positive, axis=1) / np.maximum(chosen, 1e-12)
    total = positive.sum(1)
    np.divide((positive * precision).sum(1), total, out=areas, where=total > 0)
    return areas


def average_precision(truth: NDArray[np.bool_], scores: NDArray[np.floating]) -> float | None:
    """Return the average precision, or None without a positive."""
    value = average_precisions(truth, scores, np.ones((1, truth.size)))[0]
    return None if np.isnan(value) else float(value)


def wilson(share: float, n: float) -> Interval:
    """Return Wilson's (1927) 95 % interval of a share that was seen on ``n`` independent cases.

    Where a patient has several films, ``n`` is the number of patients: films of one patient are
    alike, and the interval is then rather too wide than too narrow.
    """
    z = 1.959964
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    low = float(centre - half) if share > 0 else 0.0
    return Interval(low, float(centre + half) if share < 1 else 1.0)


def patient_mean(values: NDArray[np.bool_], patients: NDArray[np.str_]) -> float | None:
    """Return the mean over patients of the part of each one's films that are true."""
    if values.size == 0:
        return None
    _, member = np.unique(patients, return_inverse=True)
    return float((np.bincount(member, values) / np.bincount(member)).mean())


def patient_folds(
    patients: NDArray[np.str_],
    truth: NDArray[np.bool_],
    sources: NDArray[np.str_],
    folds: int,
    seed: int = 0,
) -> NDArray[np.int64]:
    """Return (n,) the fold of each picture; a patient is in one fold only.

    Patients are dealt out in a drawn order, source by source, those with a positive picture first,
    so that the folds are alike.
    """
    names, first, member = np.unique(patients, return_index=True, return_inverse=True)
    ill = np.bincount(member, truth) > 0
    drawn = np.random.default_rng(seed).permutation(names.size)
    order = np.lexsort((drawn, ~ill, sources[first]))
    fold = np.empty(names.size, np.int64)
    fold[order] = np.arange(names.size) % folds
    chosen: NDArray[np.int64] = fold[member]
    return chosen


def rate(hits: int, total: int) -> float | None:
    """Return hits / total, or None of nothing."""
    return hits / total if total else None
