"""From the service's answers to figures: per label and source, per part of the patients."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vigil.bundle import BundleManifest, FindingSpec
from vigil.errors import ManifestError
from vigil_training.calibrate import platt, probabilities
from vigil_training.conformal import cross_conformal
from vigil_training.figures import (
    BackgroundFigures,
    Bin,
    Certainty,
    Group,
    LabelFigures,
    Measure,
    Merits,
    PartFigures,
    Reliability,
)
from vigil_training.manifest import ManifestRow, several
from vigil_training.reliability import (
    brier_score,
    calibration_error_by_chance,
    calibration_error_interval,
    debiased_calibration_error,
    equal_bins,
    expected_calibration_error,
    recalibration,
)
from vigil_training.statistics import (
    Floats,
    auroc,
    auroc_interval,
    average_precision,
    average_precisions,
    patient_folds,
    patient_mean,
    patient_weights,
    percentiles,
    rate,
    wilson,
)
from vigil_training.targets import one_sided_labels

LEAST_PATIENTS = 20
"""With fewer patients of a class a part, a slope or a mean over labels says nothing."""
_LEAST_FILMS = 20
_CALIBRATION_FOLDS = 10
_AGES = ((0, 15, "under 15"), (15, 40, "15 to 39"), (40, 60, "40 to 59"), (60, 200, "60 and over"))


class Answer(NamedTuple):
    """What the service said of one row; ``keys`` names the finding that spoke for each label.

    ``ratio`` is the cardiothoracic ratio, ``no_ratio`` the code of why there is none; both are
    None where the bundle outlines nothing or the film was refused.
    """

    row: ManifestRow
    code: str | None
    corrected: bool
    priority: str
    probabilities: Mapping[str, float]
    keys: Mapping[str, str]
    flagged: frozenset[str]
    outlines: Mapping[str, float]
    ratio: float | None = None
    no_ratio: str | None = None


class Crossed(NamedTuple):
    """What a film is told by the calibration and the ends that other patients chose."""

    probability: float
    held: bool | None
    """Whether the opposite is not said with certainty; None without a band."""


CrossedFilms = Mapping[tuple[int, str], Crossed]
"""Row number and label to what cross-fitting says."""


class Scores(NamedTuple):
    """(n,) films of one source that have a label in scope and a probability."""

    truth: NDArray[np.bool_]
    probability: Floats
    flagged: NDArray[np.bool_]
    patients: NDArray[np.str_]


def refuse_no_numbers(answers: Sequence[Answer]) -> None:
    """Raise ManifestError if a probability is no number; the message names the rows."""
    broken = [
        f"the probability of {label} of row {answer.row.number} is no number; look at the picture "
        "with `vigil triage`, and leave it out or mend it"
        for answer in answers
        for label, probability in answer.probabilities.items()
        if not np.isfinite(probability)
    ]
    if broken:
        raise ManifestError(several(broken))


def scores_of(label: str, answers: Sequence[Answer]) -> Scores:
    """Return a label's scores; every answer must hold its probability."""
    return Scores(
        np.asarray([label in answer.row.labels for answer in answers], np.bool_),
        np.asarray([answer.probabilities[label] for answer in answers], np.float64),
        np.asarray([label in answer.flagged for answer in answers], np.bool_),
        np.asarray([answer.row.patient_id for answer in answers], np.str_),
    )


def merits(label: str, source: str, scores: Scores, samples: int) -> Merits:
    """Return how well some films were judged; ``samples`` 0 leaves the bootstrap out."""
    truth, probability, flagged, patients = scores
    positives, n = int(truth.sum()), truth.size
    people, ill, well = (_people(patients[own]) for own in (truth | True, truth, ~truth))
    shares: dict[Measure, tuple[float | None, int]] = {
        "sensitivity": (rate(int((flagged & truth).sum()), positives), ill),
        "specificity": (rate(int((~flagged & ~truth).sum()), n - positives), well),
        "flagged": (rate(int(flagged.sum()), n), people),
    }
    intervals: dict[Measure, tuple[float, float]] = {
        name: wilson(share, count) for name, (share, count) in shares.items() if share is not None
    }
    if samples and 0 < positives < n:
        area = auroc_interval(truth, probability, patients, samples)
        weights = patient_weights(patients, samples)
        precision = percentiles(average_precisions(truth, probability, weights))
        if area is not None and precision is not None:
            intervals = {"auroc": area, "average_precision": precision, **intervals}
    return Merits(
        label=label,
        source=source,
        n=n,
        positives=positives,
        patients=people,
        positive_patients=ill,
        auroc=auroc(truth, probability),
        average_precision=average_precision(truth, probability) if positives < n else None,
        sensitivity=shares["sensitivity"][0],
        specificity=shares["specificity"][0],
        flagged=shares["flagged"][0],
        mean_probability=float(probability.mean()) if n else None,
        prevalence=rate(positives, n),
        expected_calibration_error=expected_calibration_error(truth, probability) if n else None,
        brier=brier_score(truth, probability) if n else None,
        intervals=intervals,
    )


def _people(patients: NDArray[np.str_]) -> int:
    return int(np.unique(patients).size)


def _tells_enough(scores: Scores) -> bool:
    ill, well = scores.patients[scores.truth], scores.patients[~scores.truth]
    return min(_people(ill), _people(well)) >= LEAST_PATIENTS


def reliability(scores: Scores, probability: Floats, samples: int) -> Reliability:
    """Return how far probabilities of some films can be believed."""
    samples = max(samples, 1)
    truth, patients = scores.truth, scores.patients
    chance = calibration_error_by_chance(probability, samples)
    fit = recalibration(truth, probability, patients, samples) if _tells_enough(scores) else None
    return Reliability(
        calibration_error=expected_calibration_error(truth, probability),
        calibration_error_interval=calibration_error_interval(
            truth, probability, patients, samples
        ),
        by_chance=chance.mean,
        by_chance_high=chance.high,
        debiased=debiased_calibration_error(truth, probability),
        brier=brier_score(truth, probability),
        slope=fit.slope if fit else None,
        slope_interval=fit.slope_interval if fit else None,
        intercept=fit.intercept if fit else None,
        intercept_interval=fit.intercept_interval if fit else None,
    )


def _bins(scores: Scores) -> tuple[Bin, ...]:
    bins = []
    for part in equal_bins(scores.probability):
        seen = float(scores.truth[part].mean())
        low, high = wilson(seen, _people(scores.patients[part]))
        promised = float(scores.probability[part].mean())
        bins.append(
            Bin(films=part.size, mean_probability=promised, frequency=seen, low=low, high=high)
        )
    return tuple(bins)


def label_figures(
    label: str,
    source: str,
    answers: Sequence[Answer],
    findings: Mapping[str, FindingSpec],
    crossed: CrossedFilms,
    samples: int,
) -> LabelFigures:
    """Return how one label does on the answers of one source that have it in scope."""
    said = [answer for answer in answers if label in answer.probabilities]
    scores = scores_of(label, said)
    refused = sum(answer.code is not None for answer in answers)
    enough = len(said) >= _LEAST_FILMS
    others = [crossed[key] for a in said if (key := (a.row.number, label)) in crossed]
    whole = enough and len(others) == len(said)
    again = np.asarray([film.probability for film in others])
    return LabelFigures(
        **merits(label, source, scores, samples).model_dump(),
        refused=refused,
        withheld=len(answers) - len(said) - refused,
        reliability=reliability(scores, scores.probability, samples) if enough else None,
        cross_fitted=reliability(scores, again, samples) if whole else None,
        bins=_bins(scores) if enough else (),
        certainty=_certainty(label, said, scores, findings, others if whole else []),
        keys=tuple(key for key, _ in Counter(a.keys[label] for a in said).most_common()),
    )


def _certainty(
    label: str,
    said: Sequence[Answer],
    scores: Scores,
    findings: Mapping[str, FindingSpec],
    crossed: Sequence[Crossed],
) -> Certainty | None:
    bands = [findings[answer.keys[label]].uncertain for answer in said]
    known = [band for band in bands if band is not None]
    if not known or len(known) < len(said):
        return None
    low, high = np.asarray([band.low for band in known]), np.asarray([b.high for b in known])
    inside = (scores.probability >= low) & (scores.probability <= high)
    held = np.where(scores.truth, scores.probability >= low, scores.probability <= high)
    if crossed:
        if any(film.held is None for film in crossed):
            return None
        held = np.asarray([bool(film.held) for film in crossed])
    truth, patients = scores.truth, scores.patients
    return Certainty(
        target_coverage=known[0].target_coverage,
        cross_conformal=bool(crossed),
        present_held=patient_mean(held[truth], patients[truth]),
        absent_held=patient_mean(held[~truth], patients[~truth]),
        uncertain=patient_mean(inside, patients),
    )


def cross_fitted(
    answers: Sequence[Answer], rows: Sequence[ManifestRow], findings: Mapping[str, FindingSpec]
) -> dict[tuple[int, str], Crossed]:
    """Calibrate each finding anew without the patients that are judged by it, fold by fold.

    Parameters
    ----------
    answers
        Those of the patients that fitted the shipped calibration.
    rows
        The whole manifest: a label of which a source holds no negative was not used there.
    """
    one_sided = one_sided_labels(rows)
    crossed: dict[tuple[int, str], Crossed] = {}
    for key, finding in findings.items():
        label = finding.label
        own = [
            answer
            for answer in answers
            if answer.keys.get(label) == key
            and label in answer.row.label_scope
            and (answer.row.source, label) not in one_sided
        ]
        if not own:
            continue
        found = _cross_fit(label, own, finding)
        crossed |= {(a.row.number, label): film for a, film in zip(own, found, strict=True)}
    return crossed


def _cross_fit(label: str, own: Sequence[Answer], finding: FindingSpec) -> list[Crossed]:
    truth, shipped, _, _ = scores_of(label, own)
    patients = np.asarray([f"{a.row.source}/{a.row.patient_id}" for a in own])
    sources = np.asarray([answer.row.source for answer in own])
    clipped = np.clip(shipped, 1e-9, 1 - 1e-9)
    # A line through the shipped calibration's logits is a line through the network's own.
    logits = np.log(clipped / (1 - clipped))
    again = np.empty(truth.size)
    folds = patient_folds(patients, truth, sources, _CALIBRATION_FOLDS)
    for fold in np.unique(folds):
        judged = folds == fold
        again[judged] = probabilities(logits[judged], platt(logits[~judged], truth[~judged]))
    band, sets = finding.uncertain, None
    if band is not None:
        sets = cross_conformal(shipped, truth, patients, sources, band.target_coverage)
    held: list[bool | None] = [None] * truth.size
    if sets is not None:
        held = list((sets.covered | sets.uncertain).tolist())
    return [Crossed(float(p), h) for p, h in zip(again, held, strict=True)]


def parts_of(row: ManifestRow) -> Iterator[tuple[Group, str]]:
    """Yield the sex, the age group and the view that a film belongs to, where they are known."""
    if row.sex:
        yield "sex", row.sex
    if row.age_years is not None:
        for low, high, name in _AGES:
            if low <= row.age_years < high:
                yield "age", name
    if row.view != "UNKNOWN":
        yield "view", row.view


def part_figures(
    label: str, source: str, answers: Sequence[Answer], samples: int
) -> Iterator[PartFigures]:
    """Yield the figures of each sex, age group and view that tells enough.

    That is with at least ``LEAST_PATIENTS`` positive and as many negative patients.
    """
    said = [answer for answer in answers if label in answer.probabilities]
    for group, part in sorted({part for answer in said for part in parts_of(answer.row)}):
        scores = scores_of(label, [a for a in said if (group, part) in parts_of(a.row)])
        if _tells_enough(scores):
            found = merits(label, source, scores, samples)
            yield PartFigures(**found.model_dump(), group=group, part=part)


def background_figures(
    answers: Sequence[Answer], manifest: BundleManifest
) -> Iterator[BackgroundFigures]:
    """Yield how often adults' findings are flagged where a source does not know the label."""
    adult = {
        finding.key: finding
        for finding in manifest.findings
        if (finding.population.max_age_years or 200) >= 18
    }
    knows = {(answer.row.source, label) for answer in answers for label in answer.row.label_scope}
    sources = sorted({answer.row.source for answer in answers})
    for label in dict.fromkeys(finding.label for finding in adult.values()):
        for source in sources:
            own = [
                answer
                for answer in answers
                if answer.row.source == source and answer.keys.get(label) in adult
            ]
            if (source, label) in knows or len(own) < _LEAST_FILMS:
                continue
            _, probability, flagged, patients = scores_of(label, own)
            bands = [adult[answer.keys[label]].uncertain for answer in own]
            inside = [b.includes(p) for b, p in zip(bands, probability, strict=True) if b]
            share, people = float(flagged.mean()), _people(patients)
            yield BackgroundFigures(
                label=label,
                source=source,
                films=len(own),
                patients=people,
                flagged=share,
                flagged_interval=wilson(share, people),
                uncertain=float(np.mean(inside)) if inside else None,
            )
