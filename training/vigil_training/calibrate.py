"""From validation logits to probabilities that mean something and thresholds that can be used.

All of it is arithmetic on arrays: no torch, no files. Rules, not taste:

- *Calibration.* Platt's: ``sigmoid(slope * logit + intercept)``, with Platt's smoothed targets.
- *Experimental.* Fewer than 20 positive validation patients, or a 95 % bootstrap interval of the
  AUROC within sources that begins below 0.70.
- *Flag.* The highest threshold at which the sensitivity reaches the finding's target, but none
  that flags more of the healthy than the least specificity allows, and none that flags more than
  the greatest background share: of adults' films of hospitals where nobody looked for the finding.
  An experimental finding is flagged at a high specificity instead: reaching a sensitivity with it
  would flag half of all films.
- *Critical.* The lowest threshold, not below the flag's, at which the specificity reaches its
  target. An experimental finding has none.
- *Uncertain.* The band of :mod:`vigil_training.conformal`. An experimental finding has none: what
  was not shown to see a disease must not suggest that it is certain outside a band.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vigil.bundle import Calibration, OperatingPoint, UncertainBand
from vigil_training.config import Attribute
from vigil_training.conformal import uncertain_band
from vigil_training.statistics import Interval, auroc, auroc_interval

EXPERIMENTAL_BELOW_AUROC = 0.70
EXPERIMENTAL_BELOW_PATIENTS = 20
EXPERIMENTAL_RULE = (
    f"fewer than {EXPERIMENTAL_BELOW_PATIENTS} positive validation patients, or the 95 % bootstrap "
    f"interval of the validation AUROC within sources begins below {EXPERIMENTAL_BELOW_AUROC:.2f}"
)
LEAST_BACKGROUND = 20
"""Fewer films than this bound nothing."""
_LEAST_SLOPE = 0.05
"""A finding that is not seen at all keeps its order; a bundle asks for a slope over 0."""


@dataclass(frozen=True, eq=False)
class Validation:
    """One finding's validation pictures, those that know it.

    ``logits`` (n,), ``truth`` (n,) bool, ``patients`` (n,), ``sources`` (n,).
    """

    logits: NDArray[np.float64]
    truth: NDArray[np.bool_]
    patients: NDArray[np.str_]
    sources: NDArray[np.str_]

    @property
    def positive_patients(self) -> int:
        """How many patients have a positive picture."""
        return int(np.unique(self.patients[self.truth]).size)


@dataclass(frozen=True)
class Goals:
    """What a finding's thresholds are to reach; ``critical_specificity`` None is never critical.

    ``greatest_background_share`` bounds the flagged part of the background films.
    """

    target_sensitivity: float
    least_specificity: float = 0.75
    greatest_background_share: float = 0.25
    critical_specificity: float | None = None
    experimental_specificity: float = 0.95


@dataclass(frozen=True)
class Operation:
    """How a finding's output is used, and what that rests on.

    ``background_share`` is the flagged part of ``background`` films; None of none.
    """

    calibration: Calibration
    flag: OperatingPoint
    critical: OperatingPoint | None
    auroc: float | None
    interval: Interval | None
    positive_patients: int
    experimental: bool
    uncertain: UncertainBand | None = None
    background_share: float | None = None
    background: int = 0


def sigmoid(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the logistic function without overflow."""
    return np.exp(-np.logaddexp(0, -values))


def platt(logits: NDArray[np.float64], truth: NDArray[np.bool_]) -> Calibration:
    """Fit slope and intercept by Newton's method on the cross-entropy.

    The targets are Platt's (1999): (p + 1) / (p + 2) and 1 / (n + 2) for p positives and n
    negatives, which keeps a perfectly separated finding finite. With one class only there is
    nothing to fit and the method is ``none``.
    """
    positives, negatives = int(truth.sum()), int((~truth).sum())
    if positives == 0 or negatives == 0:
        return Calibration(method="none")
    target = np.where(truth, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    slope, intercept = 1.0, float(np.log((positives + 1) / (negatives + 1)) - logits.mean())
    design = np.stack([logits, np.ones_like(logits)])

    def loss(candidate: NDArray[np.float64]) -> float:
        score = candidate @ design
        return float(np.mean(np.logaddexp(0, score) - target * score))

    parameters = np.array([slope, intercept])
    for _ in range(100):
        probability = sigmoid(parameters @ design)
        gradient = design @ (probability - target) / truth.size
        curvature = (design * (probability * (1 - probability))) @ design.T / truth.size
        step = np.linalg.solve(curvature + 1e-9 * np.eye(2), gradient)
        scale = 1.0
        while loss(parameters - scale * step) > loss(parameters) and scale > 1e-6:
            scale /= 2
        parameters = parameters - scale * step
        if np.abs(scale * step).max() < 1e-9:
            break
    if parameters[0] < _LEAST_SLOPE:
        parameters[0] = _LEAST_SLOPE
        frequency = (positives + 1) / (truth.size + 2)
        parameters[1] = np.log(frequency / (1 - frequency)) - _LEAST_SLOPE * logits.mean()
    return Calibration(method="platt", slope=float(parameters[0]), intercept=float(parameters[1]))


def probabilities(logits: NDArray[np.float64], calibration: Calibration) -> NDArray[np.float64]:
    """Return calibrated probabilities."""
    return sigmoid(calibration.slope * logits + calibration.intercept)


def operating_point(
    probability: NDArray[np.float64], truth: NDArray[np.bool_], threshold: float
) -> OperatingPoint:
    """Return a threshold with what it was measured to give."""
    over = probability >= threshold
    positives, negatives = int(truth.sum()), int((~truth).sum())
    return OperatingPoint(
        threshold=threshold,
        sensitivity=float(over[truth].mean()) if positives else None,
        specificity=float((~over[~truth]).mean()) if negatives else None,
        positives=positives,
        negatives=negatives,
    )


def flag_threshold(
    probability: NDArray[np.float64], truth: NDArray[np.bool_], sensitivity: float
) -> float:
    """Return the highest threshold that reaches a sensitivity.

    It lies halfway between the last positive that must be found and the picture below it, so that
    a difference in the last digits between two machines changes nothing. Without a positive it
    is 0.5.
    """
    positive = np.sort(probability[truth])[::-1]
    if positive.size == 0:
        return 0.5
    needed = int(np.ceil(sensitivity * positive.size - 1e-9))
    last = float(positive[max(needed, 1) - 1])
    below = probability[probability < last]
    return (last + float(below.max())) / 2 if below.size else last / 2


def specific_threshold(
    probability: NDArray[np.float64], truth: NDArray[np.bool_], specificity: float
) -> float:
    """Return the lowest threshold that reaches a specificity, halfway to the picture above it.

    Without a negative it is 1.
    """
    negative = np.sort(probability[~truth])
    if negative.size == 0:
        return 1.0
    allowed = int(np.floor((1 - specificity) * negative.size + 1e-9))
    if allowed >= negative.size:
        return 0.0
    last = float(negative[negative.size - 1 - allowed])
    above = probability[probability > last]
    return (last + float(above.min())) / 2 if above.size else (last + 1) / 2


def background_logits(
    logits: NDArray[np.float64],
    known: NDArray[np.bool_],
    adult: NDArray[np.bool_],
    sources: NDArray[np.str_],
) -> NDArray[np.float64]:
    """Return a finding's logits on adults' films of the sources that do not know it at all.

    Parameters
    ----------
    logits, known
        (n,) the finding's output, and whether the film knows it.
    adult, sources
        (n,) whether it is certainly an adult's chest film, and where it is from.
    """
    elsewhere = ~np.isin(sources, np.unique(sources[known]))
    chosen: NDArray[np.float64] = logits[adult & elsewhere]
    return chosen


def _flag_at(
    probability: NDArray[np.float64],
    truth: NDArray[np.bool_],
    background: NDArray[np.float64],
    goals: Goals,
    experimental: bool,
) -> float:
    """Return the flag's threshold: sensitivity first, then what it may cost."""
    least = goals.experimental_specificity if experimental else goals.least_specificity
    bounds = [specific_threshold(probability, truth, least)]
    if not experimental:
        bounds.append(flag_threshold(probability, truth, goals.target_sensitivity))
    if background.size >= LEAST_BACKGROUND:
        nobody = np.zeros(background.size, np.bool_)
        bounds.append(specific_threshold(background, nobody, 1 - goals.greatest_background_share))
    return max(bounds)


def operate(
    validation: Validation,
    goals: Goals,
    samples: int = 1000,
    background: NDArray[np.float64] | None = None,
) -> Operation:
    """Calibrate a finding and choose its thresholds by the rules above.

    Parameters
    ----------
    validation
        The finding's validation pictures.
    goals
        What the thresholds are to reach.
    samples
        Bootstrap samples of the AUROC's interval.
    background
        (m,) logits of films that nobody looked at for it, see :func:`background_logits`.
    """
    truth, logits = validation.truth, validation.logits
    interval = auroc_interval(
        truth, logits, validation.patients, samples, strata=validation.sources
    )
    few = validation.positive_patients < EXPERIMENTAL_BELOW_PATIENTS
    experimental = few or interval is None or interval.low < EXPERIMENTAL_BELOW_AUROC
    calibration = platt(logits, truth)
    probability = probabilities(logits, calibration)
    others = probabilities(np.zeros(0) if background is None else background, calibration)
    threshold = _flag_at(probability, truth, others, goals, experimental)
    critical = None
    if goals.critical_specificity is not None and not experimental:
        high = specific_threshold(probability, truth, goals.critical_specificity)
        critical = operating_point(probability, truth, max(high, threshold))
    band = None
    if not experimental:
        band = uncertain_band(probability, truth, validation.patients, validation.sources)
    return Operation(
        calibration=calibration,
        flag=operating_point(probability, truth, threshold),
        critical=critical,
        auroc=auroc(truth, logits, validation.sources),
        interval=interval,
        positive_patients=validation.positive_patients,
        experimental=experimental,
        uncertain=band,
        background_share=float((others >= threshold).mean()) if others.size else None,
        background=int(others.size),
    )


@dataclass(frozen=True)
class AttributePoint:
    """An attribute's threshold, and how often it errs on the validation pictures.

    ``false_alarms``: of those without the attribute (for ``frontal_chest``: of the chest films,
    the part that is refused). ``caught``: of those with it (for ``frontal_chest``: of the other
    pictures, the part that is refused).
    """

    name: Attribute
    threshold: float
    false_alarms: float
    caught: float
    without: int
    with_attribute: int


def alarm_threshold(
    quiet: NDArray[np.float64], loud: NDArray[np.float64], false_alarms: float
) -> float:
    """Return a threshold on logits that at most a part of the quiet ones reaches.

    Where the two groups leave a gap it lies in the middle of the gap (between the quiet ones'
    upper and the loud ones' lower quantile), since other hospitals' films lie nearer to it.
    """
    if quiet.size == 0:
        return 0.0
    low = float(np.quantile(quiet, 1 - false_alarms, method="higher"))
    high = float(np.quantile(loud, false_alarms, method="lower")) if loud.size else low
    return (low + high) / 2 if high > low else float(np.nextafter(low, np.inf))


def attribute_point(
    name: Attribute, quiet: NDArray[np.float64], loud: NDArray[np.float64], false_alarms: float
) -> AttributePoint:
    """Choose an attribute's threshold; ``frontal_chest`` alarms when it is *low*.

    Parameters
    ----------
    quiet, loud
        Logits of pictures on which the gate must stay quiet, and of those it must catch.
    """
    sign = -1.0 if name == "frontal_chest" else 1.0
    cut = alarm_threshold(sign * quiet, sign * loud, false_alarms)
    return AttributePoint(
        name=name,
        threshold=float(sigmoid(np.array(sign * cut))),
        false_alarms=float((sign * quiet >= cut).mean()) if quiet.size else 0.0,
        caught=float((sign * loud >= cut).mean()) if loud.size else 0.0,
        without=int(quiet.size),
        with_attribute=int(loud.size),
    )
