"""Curves and thresholds of each finding on each source, and what too few patients withhold."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from vigil.bundle import FindingSpec
from vigil_training.curves import net_benefit, precision_recall_curve, roc_curve
from vigil_training.figures import LabelFigures
from vigil_training.merits import LEAST_PATIENTS, Answer, Scores, parts_of, scores_of
from vigil_training.report.contents import AtThreshold, DecisionPoint, LabelCurves, Withheld
from vigil_training.statistics import Floats, rate, wilson

LEAST_OF_A_SOURCE = 10
"""Patients of either class; with fewer a source's figures for a finding are withheld."""
_MOST_POINTS = 200
_BINS = 20
_FIXED = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9)
_DECISIONS = np.linspace(0.02, 0.9, 45)


def answers_of(label: str, source: str, answers: Sequence[Answer]) -> list[Answer]:
    """Return a source's answers that have a label in scope and a probability for it."""
    return [
        answer
        for answer in answers
        if answer.row.source == source
        and label in answer.row.label_scope
        and label in answer.probabilities
    ]


def patients_of(scores: Scores) -> tuple[int, int]:
    """Return how many patients have a film with, and how many one without the finding."""
    ill = np.unique(scores.patients[scores.truth]).size
    return int(ill), int(np.unique(scores.patients[~scores.truth]).size)


def counted(count: int, what: str) -> str:
    """Return ``1 patient`` or ``2 patients``."""
    return f"{count} {what}{'' if count == 1 else 's'}"


def too_few(scores: Scores, least: int) -> str:
    """Return why figures of some films are withheld, empty if they are shown."""
    missing = [
        f"{counted(count, 'patient')} {what} it"
        for count, what in zip(patients_of(scores), ("with", "without"), strict=True)
        if count < least
    ]
    return f"{' and '.join(missing)}; at least {least} are asked for" if missing else ""


def withheld_of(results: Sequence[LabelFigures], answers: Sequence[Answer]) -> Iterator[Withheld]:
    """Yield the sources and the parts of the patients whose figures are not shown."""
    for row in results:
        own = answers_of(row.label, row.source, answers)
        scores = scores_of(row.label, own)
        if reason := too_few(scores, LEAST_OF_A_SOURCE):
            yield _withheld(row, "", "", scores, reason)
            continue
        for group, part in sorted({part for answer in own for part in parts_of(answer.row)}):
            members = [answer for answer in own if (group, part) in parts_of(answer.row)]
            scores = scores_of(row.label, members)
            if reason := too_few(scores, LEAST_PATIENTS):
                yield _withheld(row, group, part, scores, reason)


def _withheld(row: LabelFigures, group: str, part: str, scores: Scores, reason: str) -> Withheld:
    ill, well = patients_of(scores)
    return Withheld(
        label=row.label,
        source=row.source,
        group=group,  # type: ignore[arg-type]  # one of merits.parts_of, or empty
        part=part,
        n=scores.truth.size,
        positives=int(scores.truth.sum()),
        positive_patients=ill,
        negative_patients=well,
        reason=reason,
    )


def without_figures(row: LabelFigures) -> LabelFigures:
    """Return a row that says only how many films there are."""
    nothing = dict.fromkeys(
        ("auroc", "average_precision", "sensitivity", "specificity", "flagged",
         "mean_probability", "expected_calibration_error", "brier", "reliability",
         "cross_fitted", "certainty")
    )  # fmt: skip
    return row.model_copy(update={**nothing, "intervals": {}, "bins": ()})


def label_curves(
    label: str,
    source: str,
    answers: Sequence[Answer],
    findings: Mapping[str, FindingSpec],
    samples: int,
) -> LabelCurves:
    """Return what is drawn of one finding on one source's films that have a probability."""
    scores = scores_of(label, answers)
    truth, probability = scores.truth, scores.probability
    steps = np.linspace(0, 1, _BINS + 1)
    with_it, without = (np.histogram(probability[own], steps)[0] for own in (truth, ~truth))
    benefit = net_benefit(truth, probability, scores.patients, _DECISIONS, samples)
    return LabelCurves(
        label=label,
        source=source,
        roc=_thinned(*roc_curve(truth, probability)),
        precision_recall=_thinned(*precision_recall_curve(truth, probability)),
        histogram_positive=tuple(int(count) for count in with_it),
        histogram_negative=tuple(int(count) for count in without),
        decision=tuple(
            DecisionPoint(
                threshold=round(float(at), 4),
                model=float(model),
                interval=None if np.isnan(low) else (float(low), float(high)),
                treat_all=float(everyone),
            )
            for at, model, low, high, everyone in zip(*benefit, strict=True)
        ),
        thresholds=tuple(_thresholds(label, answers, scores, findings)),
    )


def _thinned(x: Floats, y: Floats) -> tuple[tuple[float, float], ...]:
    """Keep the ends and every so manieth point."""
    kept = np.unique(np.linspace(0, x.size - 1, min(x.size, _MOST_POINTS)).round().astype(int))
    return tuple((round(float(x[i]), 5), round(float(y[i]), 5)) for i in kept)


def _thresholds(
    label: str, answers: Sequence[Answer], scores: Scores, findings: Mapping[str, FindingSpec]
) -> Iterator[AtThreshold]:
    own = [findings[answer.keys[label]] for answer in answers]
    flags = {finding.flag.threshold for finding in own}
    yield _at("shipped flag", flags.pop() if len(flags) == 1 else None, scores.flagged, scores)
    critical = [finding.critical for finding in own]
    if all(point is not None for point in critical):
        limits = np.asarray([point.threshold for point in critical if point is not None])
        shared = float(limits[0]) if np.unique(limits).size == 1 else None
        yield _at("shipped critical", shared, scores.probability >= limits, scores)
    for threshold in _FIXED:
        yield _at("fixed", threshold, scores.probability >= threshold, scores)


def _at(name: str, threshold: float | None, over: NDArray[np.bool_], scores: Scores) -> AtThreshold:
    truth = scores.truth
    ill, well = patients_of(scores)
    hits, alarms = int((over & truth).sum()), int((over & ~truth).sum())
    missed, spared = int((~over & truth).sum()), int((~over & ~truth).sum())
    sensitivity, specificity = hits / (hits + missed), spared / (spared + alarms)
    return AtThreshold(
        name=name,
        threshold=threshold,
        true_positives=hits,
        false_positives=alarms,
        false_negatives=missed,
        true_negatives=spared,
        sensitivity=sensitivity,
        sensitivity_interval=wilson(sensitivity, ill),
        specificity=specificity,
        specificity_interval=wilson(specificity, well),
        positive_predictive_value=rate(hits, hits + alarms),
        negative_predictive_value=rate(spared, spared + missed),
    )
