"""From local films to the file that the server loads, and the report beside it.

Rules, not taste: Platt's calibration on the network's logits, moved to the site's prevalence where
that is given; the flag at the highest threshold that reaches the target sensitivity on the films
(the WHO asks for 90 % with a specificity of 70 % for tuberculosis, in people of 15 and over), or
where the site puts it; critical, where the bundle has it, at 95 % specificity but not below the
flag. What is fitted is also measured on patients that took no part in the fit.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from vigil import RESEARCH_USE, __version__
from vigil.bundle import Calibration, UncertainBand
from vigil.errors import ConfigurationError
from vigil.site_calibration import SiteCalibration, SiteFinding
from vigil_training.calibrate import (
    flag_threshold,
    operating_point,
    platt,
    probabilities,
    specific_threshold,
)
from vigil_training.conformal import uncertain_band
from vigil_training.evaluate import Judged
from vigil_training.figures import Figures
from vigil_training.reliability import calibration_error_by_chance, expected_calibration_error
from vigil_training.site.films import (
    ENOUGH_PATIENTS,
    SiteFilms,
    chosen_keys,
    refuse_too_few,
    site_films,
)
from vigil_training.site.sample_size import Certainty, certainty
from vigil_training.site.thresholds import (
    SubgroupFigures,
    ThresholdFigures,
    Workload,
    figures_at,
    subgroups,
    threshold_table,
)
from vigil_training.statistics import Interval, auroc, auroc_interval, patient_folds

_CRITICAL_SPECIFICITY = 0.95
_FOLDS = 10
_LEAST_AIM = 0.1
_WHO_AGE_YEARS = 15


@dataclass(frozen=True)
class SiteGoals:
    """What a site wants of its thresholds, and what it does with flagged films.

    ``thresholds`` (finding to probability) take the place of the rule. ``prevalence`` None is that
    of the films; ``films_a_day`` and the costs only make the table readable.
    """

    sensitivity: float = 0.90
    specificity: float = 0.70
    prevalence: float | None = None
    thresholds: Mapping[str, float] | None = None
    films_a_day: float = 100.0
    film_cost: float = 0.0
    test_cost: float = 0.0


class CalibrationErrors(Figures):
    """Expected calibration error on the films: of the bundle by itself, and of the site's.

    ``crossed`` is that of the site's fitted on other patients in ten folds; ``by_chance`` what
    perfect probabilities would give on as many films. All are at the films' own prevalence.
    """

    bundle: float
    crossed: float
    by_chance: float


class FindingReport(Figures):
    """All that the site's films say about one finding."""

    key: str
    films: int
    patients: int
    positive_patients: int
    negative_patients: int
    refused: dict[str, int]
    auroc: float
    auroc_interval: tuple[float, float] | None
    calibration: Calibration
    errors: CalibrationErrors
    workload: Workload
    chosen: ThresholdFigures
    crossed_sensitivity: float
    crossed_specificity: float
    """At thresholds that other patients chose by the same rule, in ten folds."""
    bundles_own: ThresholdFigures
    """The bundle's own calibration and threshold on the same films."""
    table: tuple[ThresholdFigures, ...]
    subgroups: tuple[SubgroupFigures, ...]
    certainty: Certainty
    warnings: tuple[str, ...]


class SiteReport(Figures):
    """What ``vigil calibrate --json`` writes."""

    site: str
    bundle: str
    digest: str
    software: str
    created: str
    manifest: str
    split: str
    findings: tuple[FindingReport, ...]
    not_calibrated: dict[str, str]
    """Findings that were left as the bundle has them, and why."""
    notice: str


@dataclass(frozen=True, eq=False)
class Calibrated:
    """The file's content, and what it rests on."""

    calibration: SiteCalibration
    report: SiteReport
    films: tuple[SiteFilms, ...]


def calibrate_site(
    site: str, judged: Judged, goals: SiteGoals, labels: Sequence[str] = (), samples: int = 1000
) -> Calibrated:
    """Set a bundle's probabilities and thresholds from a site's judged films.

    Parameters
    ----------
    site
        The site's name, at most 64 characters.
    judged
        The bundle's answers on the site's films.
    goals
        What the thresholds are to reach.
    labels
        The findings; empty takes all that the films have in scope and enough patients for.
    samples
        Bootstrap samples of patients for the AUROC's interval.

    Raises
    ------
    ConfigurationError
        If a named finding has too few patients of either class, or no finding has enough; the
        message says what is missing.
    ManifestError
        If a probability is no number.
    """
    if not 1 <= len(site) <= 64:
        raise ConfigurationError(f"--site has {len(site)} characters, expected 1 to 64")
    manifest = judged.manifest
    films, skipped = [], {}
    for key in chosen_keys(manifest, judged.answers, labels):
        own = site_films(manifest, key, judged.answers)
        try:
            refuse_too_few(own)
        except ConfigurationError as error:
            if labels:
                raise
            skipped[key] = str(error)
            continue
        films.append(own)
    if not films:
        raise ConfigurationError("; ".join(skipped.values()))
    _check_named(goals, films)
    made = [_finding(own, goals, samples) for own in films]
    created = datetime.now(UTC).isoformat(timespec="seconds")
    calibration = SiteCalibration(
        site=site,
        created=created,
        software=__version__,
        bundle_id=manifest.id,
        bundle_digest=manifest.digest,
        manifest=judged.name,
        findings=tuple(finding for finding, _ in made),
        notice=RESEARCH_USE,
    )
    report = SiteReport(
        site=site,
        bundle=manifest.id,
        digest=manifest.digest,
        software=__version__,
        created=created,
        manifest=judged.name,
        split=judged.split,
        findings=tuple(report for _, report in made),
        not_calibrated=skipped,
        notice=RESEARCH_USE,
    )
    return Calibrated(calibration, report, tuple(films))


def _check_named(goals: SiteGoals, films: Sequence[SiteFilms]) -> None:
    known = {own.finding.key for own in films}
    for name, threshold in (goals.thresholds or {}).items():
        if name not in known:
            raise ConfigurationError(
                f"--threshold {name}: expected one of {', '.join(sorted(known))}"
            )
        if not 0 < threshold < 1:
            raise ConfigurationError(
                f"--threshold {name} is {threshold}, expected a probability between 0 and 1"
            )


def _finding(films: SiteFilms, goals: SiteGoals, samples: int) -> tuple[SiteFinding, FindingReport]:
    truth, patients, bundle = films.truth, films.patients, films.finding
    calibration = _at_prevalence(platt(films.logits, truth), truth, goals.prevalence)
    probability = probabilities(films.logits, calibration)
    given = (goals.thresholds or {}).get(bundle.key)
    threshold = flag_threshold(probability, truth, goals.sensitivity) if given is None else given
    workload = _workload(goals, truth)
    chosen = figures_at(threshold, probability, truth, patients, workload)
    crossed = _crossed(films, goals.sensitivity)
    over = probability >= threshold if given is not None else crossed.flagged
    # A threshold that was given stands for the sensitivity that it reaches.
    aim = goals.sensitivity if given is None else max(chosen.sensitivity, _LEAST_AIM)
    known = certainty(films.sick, aim, workload.prevalence)
    interval = auroc_interval(truth, films.logits, patients, samples)
    critical = None
    if bundle.critical is not None:
        high = specific_threshold(probability, truth, _CRITICAL_SPECIFICITY)
        critical = operating_point(probability, truth, max(high, threshold))
    finding = SiteFinding(
        key=bundle.key,
        calibration=calibration,
        flag=operating_point(probability, truth, threshold),
        critical=critical,
        uncertain=_band(films, probability),
        patients=films.people,
        positive_patients=films.sick,
        prevalence=goals.prevalence,
    )
    parts = tuple(subgroups(chosen, probability, truth, patients, films.rows))
    chance = calibration_error_by_chance(films.probabilities, max(samples, 1))
    report = FindingReport(
        key=bundle.key,
        films=truth.size,
        patients=films.people,
        positive_patients=films.sick,
        negative_patients=films.well,
        refused=films.refused,
        auroc=auroc(truth, films.logits) or 0.0,
        auroc_interval=interval,
        calibration=calibration,
        errors=CalibrationErrors(
            bundle=expected_calibration_error(truth, films.probabilities),
            crossed=expected_calibration_error(truth, crossed.probability),
            by_chance=chance.mean,
        ),
        workload=workload,
        chosen=chosen,
        crossed_sensitivity=float(over[truth].mean()),
        crossed_specificity=float((~over[~truth]).mean()),
        bundles_own=figures_at(
            bundle.flag.threshold, films.probabilities, truth, patients, workload
        ),
        table=threshold_table(probability, truth, patients, workload),
        subgroups=parts,
        certainty=known,
        warnings=tuple(_warnings(films, goals, chosen, known, interval, parts)),
    )
    return finding, report


def _at_prevalence(
    fitted: Calibration, truth: NDArray[np.bool_], prevalence: float | None
) -> Calibration:
    """Move a calibration from the films' prevalence to the site's; the films' order stays."""
    if prevalence is None:
        return fitted
    own = float(truth.mean())
    shift = np.log(prevalence / (1 - prevalence)) - np.log(own / (1 - own))
    return fitted.model_copy(update={"intercept": fitted.intercept + float(shift)})


def _workload(goals: SiteGoals, truth: NDArray[np.bool_]) -> Workload:
    return Workload(
        films_a_day=goals.films_a_day,
        prevalence=float(truth.mean()) if goals.prevalence is None else goals.prevalence,
        film_cost=goals.film_cost,
        test_cost=goals.test_cost,
    )


def _band(films: SiteFilms, probability: NDArray[np.float64]) -> UncertainBand | None:
    """Return the site's own uncertain band where the bundle has one."""
    if films.finding.uncertain is None:
        return None
    sources = np.asarray([row.source for row in films.rows])
    coverage = films.finding.uncertain.target_coverage
    return uncertain_band(probability, films.truth, films.patients, sources, coverage)


@dataclass(frozen=True, eq=False)
class _Crossed:
    """(n,) what each film is told by a calibration and a threshold of other patients."""

    probability: NDArray[np.float64]
    flagged: NDArray[np.bool_]


def _crossed(films: SiteFilms, sensitivity: float) -> _Crossed:
    truth, logits = films.truth, films.logits
    sources = np.asarray([row.source for row in films.rows])
    folds = patient_folds(films.patients, truth, sources, _FOLDS)
    probability, flagged = np.zeros(truth.size), np.zeros(truth.size, np.bool_)
    for fold in np.unique(folds):
        own = folds == fold
        fitted = platt(logits[~own], truth[~own])
        probability[own] = probabilities(logits[own], fitted)
        others = probabilities(logits[~own], fitted)
        flagged[own] = probability[own] >= flag_threshold(others, truth[~own], sensitivity)
    return _Crossed(probability, flagged)


def _warnings(
    films: SiteFilms,
    goals: SiteGoals,
    chosen: ThresholdFigures,
    known: Certainty,
    interval: Interval | None,
    parts: Sequence[SubgroupFigures],
) -> Iterator[str]:
    name = films.finding.key
    low, high = chosen.specificity_interval
    if chosen.sensitivity < goals.sensitivity:
        yield (
            f"{name}: the threshold finds {chosen.sensitivity:.0%} of the films with it, "
            f"{goals.sensitivity:.0%} was asked for"
        )
    if chosen.specificity < goals.specificity:
        yield (
            f"{name}: at this sensitivity the specificity is {chosen.specificity:.0%} "
            f"({low:.0%} to {high:.0%}), {goals.specificity:.0%} was asked for: no threshold of "
            "this bundle reaches both on these films; choose from the table with --threshold, or "
            "train for this site"
        )
    if interval is None or interval.low < 0.5:
        yield (
            f"{name}: these films do not show that the bundle tells it from its absence; a "
            "threshold orders nothing"
        )
    if min(films.sick, films.well) < ENOUGH_PATIENTS:
        yield (
            f"{name}: {films.sick} patients with it and {films.well} without are few: the "
            f"sensitivity is known to ± {known.half_width:.0%} only"
        )
    if known.probability < 0.95:
        more = known.needed - known.positives
        of_films = ""
        if known.films_needed is not None:
            of_films = f", about {known.films_needed} films as they come"
        yield (
            f"{name}: it is {known.probability:.0%} sure that further patients are found in at "
            f"least {known.at_least:.0%}; 95 % would take {max(more, 1)} more patients with it"
            f"{of_films}"
        )
    if films.finding.experimental:
        yield f"{name}: is experimental in this bundle: it is shown and raises no priority"
    if name.startswith("Tuberculosis") and any(
        row.age_years is not None and row.age_years < _WHO_AGE_YEARS for row in films.rows
    ):
        yield f"{name}: some films are of children under 15, for whom the WHO does not advise it"
    for part in parts:
        if part.differs:
            yield (
                f"{name}: {part.group} {part.part} differs from the whole at this threshold; look "
                "at the sub-groups"
            )
