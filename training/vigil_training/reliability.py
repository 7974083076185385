"""How far probabilities can be believed: promised against observed frequency, with its noise.

The plain expected calibration error (ECE) is never 0 on a finite sample: with 10 bins of 10 films
even perfect probabilities miss the observed frequency by some 0.1. It is therefore reported beside
what perfect probabilities would give on these films (consistency resampling, Bröcker and Smith
2007, doi 10.1175/WAF993.1), beside an estimate without that bias (Kumar, Liang and Ma 2019,
arXiv 1909.10155), and beside the slope and intercept that are usual for clinical predictions (Van
Calster et al. 2019, doi 10.1186/s12916-019-1466-7).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vigil_training.statistics import Floats, Interval, patient_weights, percentiles

BINS = 10
_LEAST_PROBABILITY = 1e-6
_NEWTON_STEPS = 30


def equal_bins(probabilities: NDArray[np.floating], bins: int = BINS) -> list[NDArray[np.int64]]:
    """Return the indices of each bin: equal counts, the lowest probabilities first."""
    order = np.argsort(probabilities, kind="stable")
    return [part for part in np.array_split(order, bins) if part.size]


def expected_calibration_error(
    truth: NDArray[np.bool_], probabilities: NDArray[np.floating], bins: int = BINS
) -> float:
    """Return the mean distance of predicted from observed frequency, over bins of equal count."""
    parts = equal_bins(probabilities, bins)
    distances = [abs(probabilities[p].mean() - truth[p].mean()) * p.size for p in parts]
    return float(sum(distances) / truth.size)


def calibration_error_interval(
    truth: NDArray[np.bool_],
    probabilities: NDArray[np.floating],
    patients: NDArray[np.str_],
    samples: int = 1000,
    seed: int = 0,
) -> Interval | None:
    """Return the 95 % percentile interval of the ECE over bootstrap samples of patients.

    The bins stay those of the films themselves. Resampling adds the noise of few films a second
    time, which lifts every sample: the interval is moved back by what it lifts their mean.
    """
    weights = patient_weights(patients, samples, seed)
    distance = np.zeros(samples)
    for part in equal_bins(probabilities):
        distance += np.abs(weights[:, part] @ (probabilities[part] - truth[part]))
    total = weights.sum(1)
    errors = distance / np.maximum(total, 1)
    lifted = errors.mean() - expected_calibration_error(truth, probabilities)
    return percentiles(np.maximum(errors - max(0.0, float(lifted)), 0))


class Chance(NamedTuple):
    """The ECE that perfect probabilities give on as many films: its mean and 95 % quantile."""

    mean: float
    high: float


def calibration_error_by_chance(
    probabilities: NDArray[np.floating], samples: int = 1000, seed: int = 0
) -> Chance:
    """Draw the truth from the probabilities themselves and return the ECE that comes of it."""
    random = np.random.default_rng(seed)
    distance = np.zeros(samples)
    for part in equal_bins(probabilities):
        drawn = random.random((samples, part.size)) < probabilities[part]
        distance += np.abs((drawn - probabilities[part]).sum(1))
    errors = distance / probabilities.size
    return Chance(float(errors.mean()), float(np.percentile(errors, 95)))


def debiased_calibration_error(
    truth: NDArray[np.bool_], probabilities: NDArray[np.floating], bins: int = BINS
) -> float | None:
    """Return the root of the mean squared calibration error without the bins' sampling variance.

    0 where the variance explains all of it. None if a bin holds fewer than two films.
    """
    total = 0.0
    for part in equal_bins(probabilities, bins):
        if part.size < 2:
            return None
        seen = float(truth[part].mean())
        variance = seen * (1 - seen) / (part.size - 1)
        total += part.size * ((float(probabilities[part].mean()) - seen) ** 2 - variance)
    return float(np.sqrt(max(0.0, total / truth.size)))


def brier_score(truth: NDArray[np.bool_], probabilities: NDArray[np.floating]) -> float:
    """Return the mean squared difference of probability and truth."""
    return float(np.mean((probabilities - truth) ** 2))


class Recalibration(NamedTuple):
    """What a logistic recalibration on these films would change; nothing at slope 1, intercept 0.

    A slope below 1 says that the probabilities are too extreme. The intercept is that with the
    slope held at 1: above 0 the disease is more frequent than promised.
    """

    slope: float
    slope_interval: Interval | None
    intercept: float
    intercept_interval: Interval | None


def recalibration(
    truth: NDArray[np.bool_],
    probabilities: NDArray[np.floating],
    patients: NDArray[np.str_],
    samples: int = 1000,
    seed: int = 0,
) -> Recalibration | None:
    """Return the slope and intercept with intervals over patients; None with one class only."""
    if truth.all() or not truth.any():
        return None
    clipped = np.clip(probabilities, _LEAST_PROBABILITY, 1 - _LEAST_PROBABILITY)
    logits = np.log(clipped / (1 - clipped))
    weights = np.vstack([np.ones(truth.size), patient_weights(patients, samples, seed)])
    ones = np.ones_like(logits)
    slopes = _logistic(np.stack([ones, logits]), np.zeros_like(logits), truth, weights)[:, 1]
    intercepts = _logistic(ones[np.newaxis], logits, truth, weights)[:, 0]
    one_class = (weights @ truth == 0) | (weights @ ~truth == 0)
    slopes[one_class] = intercepts[one_class] = np.nan
    return Recalibration(
        slope=float(slopes[0]),
        slope_interval=percentiles(slopes[1:]),
        intercept=float(intercepts[0]),
        intercept_interval=percentiles(intercepts[1:]),
    )


def _logistic(design: Floats, offset: Floats, truth: NDArray[np.bool_], weights: Floats) -> Floats:
    """Return (samples, k) maximum-likelihood coefficients of (k, n) predictors, by Newton."""
    k = len(design)
    coefficients = np.zeros((len(weights), k))
    for _ in range(_NEWTON_STEPS):
        expected = 1 / (1 + np.exp(-np.clip(coefficients @ design + offset, -60, 60)))
        gradient = (weights * (truth - expected)) @ design.T
        spread = weights * expected * (1 - expected)
        curvature = np.einsum("sn,in,jn->sij", spread, design, design, optimize=True)
        curvature += 1e-6 * np.eye(k)
        step = np.linalg.solve(curvature, gradient[:, :, np.newaxis])[:, :, 0]
        # A separable sample has no maximum; short steps keep it finite.
        coefficients += np.clip(step, -1, 1)
        if np.abs(step).max() < 1e-8:
            break
    return coefficients
