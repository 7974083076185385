"""Two bundles at their own thresholds and at each other's.

A threshold belongs to the model that it was set for. In Ho Chi Minh City a model's new version at
the old version's threshold was significantly less accurate, and equal after recalibration (PLOS
Digital Health 2025): this shows the same on films of your own.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from vigil import RESEARCH_USE, __version__
from vigil.errors import ConfigurationError
from vigil_training.calibrate import flag_threshold
from vigil_training.evaluate import Judged
from vigil_training.figures import Figures
from vigil_training.site.films import SiteFilms, chosen_keys, refuse_too_few, site_films
from vigil_training.statistics import (
    Floats,
    Interval,
    auroc,
    auroc_fall_interval,
    patient_folds,
    patient_weights,
    percentiles,
)

_FOLDS = 10


class UsedAt(Figures):
    """One bundle at one threshold, and how it differs from the first bundle at its own.

    Differences are this minus that, with 95 % intervals over bootstrap samples of patients that
    both share; ``differs`` says that one of them does not hold 0.
    """

    bundle: str
    threshold_of: str
    threshold: float | None
    """None where each film was judged by a threshold that other patients chose."""
    sensitivity: float
    specificity: float
    flagged: float
    sensitivity_difference: float
    sensitivity_difference_interval: tuple[float, float] | None
    specificity_difference: float
    specificity_difference_interval: tuple[float, float] | None
    differs: bool


class FindingComparison(Figures):
    """One finding on the films that both bundles judged."""

    key: str
    films: int
    positive_patients: int
    negative_patients: int
    auroc: tuple[float, float]
    auroc_difference_interval: tuple[float, float] | None
    """Of the second's minus the first's."""
    used: tuple[UsedAt, ...]


class Comparison(Figures):
    """What ``vigil calibrate compare --json`` writes."""

    bundles: tuple[str, str]
    digests: tuple[str, str]
    software: str
    manifest: str
    split: str
    findings: tuple[FindingComparison, ...]
    not_compared: dict[str, str]
    notice: str


def compare_bundles(
    first: Judged, second: Judged, labels: tuple[str, ...] = (), samples: int = 1000
) -> Comparison:
    """Compare two bundles' answers on the same films.

    Raises
    ------
    ConfigurationError
        If they share no finding with enough patients; the message says what is missing.
    """
    keys = [
        key
        for key in chosen_keys(first.manifest, first.answers, labels)
        if any(finding.key == key for finding in second.manifest.findings)
    ]
    compared, skipped = [], {}
    for key in keys:
        try:
            compared.append(_finding(first, second, key, samples))
        except ConfigurationError as error:
            skipped[key] = str(error)
    if not compared:
        why = "; ".join(skipped.values()) or "the two bundles share no finding of these films"
        raise ConfigurationError(why)
    return Comparison(
        bundles=(first.manifest.id, second.manifest.id),
        digests=(first.manifest.digest, second.manifest.digest),
        software=__version__,
        manifest=first.name,
        split=first.split,
        findings=tuple(compared),
        not_compared=skipped,
        notice=RESEARCH_USE,
    )


def shared_films(first: Judged, second: Judged, key: str) -> tuple[SiteFilms, SiteFilms]:
    """Return two bundles' answers on one finding, of the films that both judged."""
    one, two = (site_films(judged.manifest, key, judged.answers) for judged in (first, second))
    return _shared(one, two), _shared(two, one)


def _finding(first: Judged, second: Judged, key: str, samples: int) -> FindingComparison:
    one, two = shared_films(first, second, key)
    refuse_too_few(one)
    before, after = auroc(one.truth, one.logits) or 0.0, auroc(two.truth, two.logits) or 0.0
    fall = auroc_fall_interval(one.truth, one.logits, two.logits, one.patients, samples)
    return FindingComparison(
        key=key,
        films=one.truth.size,
        positive_patients=one.sick,
        negative_patients=one.well,
        auroc=(before, after),
        auroc_difference_interval=None if fall is None else (-fall.high, -fall.low),
        used=tuple(_used(one, two, first.manifest.id, second.manifest.id, samples)),
    )


def _shared(films: SiteFilms, other: SiteFilms) -> SiteFilms:
    """Keep the films that the other judged too, in the manifest's order."""
    known = {row.number for row in other.rows}
    kept = np.asarray([row.number in known for row in films.rows], np.bool_)
    return SiteFilms(
        finding=films.finding,
        logits=films.logits[kept],
        truth=films.truth[kept],
        patients=films.patients[kept],
        rows=tuple(row for row, keep in zip(films.rows, kept, strict=True) if keep),
        refused=films.refused,
    )


def _used(
    one: SiteFilms, two: SiteFilms, first: str, second: str, samples: int
) -> Iterator[UsedAt]:
    own, other = one.finding.flag.threshold, two.finding.flag.threshold
    base = one.probabilities >= own
    weights = patient_weights(one.patients, samples)
    again = _flagged_as_often(two, float(base[one.truth].mean()))
    names = (first, second if second != first else f"{second} (2)")
    for bundle, of, threshold, flags in (
        (names[0], names[0], own, base),
        (names[1], names[1], other, two.probabilities >= other),
        (names[1], names[0], own, two.probabilities >= own),
        (names[0], names[1], other, one.probabilities >= other),
        (names[1], "these films", None, again),
    ):
        seen, spared = flags[one.truth], ~flags[~one.truth]
        gained = _difference(flags, base, one.truth, weights)
        lost = _difference(~flags, ~base, ~one.truth, weights)
        yield UsedAt(
            bundle=bundle,
            threshold_of=of,
            threshold=threshold,
            sensitivity=float(seen.mean()),
            specificity=float(spared.mean()),
            flagged=float(flags.mean()),
            sensitivity_difference=float(seen.mean() - base[one.truth].mean()),
            sensitivity_difference_interval=gained,
            specificity_difference=float(spared.mean() - (~base[~one.truth]).mean()),
            specificity_difference_interval=lost,
            differs=any(i is not None and not i.low <= 0 <= i.high for i in (gained, lost)),
        )


def _difference(
    flags: NDArray[np.bool_], base: NDArray[np.bool_], own: NDArray[np.bool_], weights: Floats
) -> Interval | None:
    """Return the interval of the difference of two shares of the same films."""
    if not len(weights):
        return None
    step = flags[own].astype(np.float64) - base[own]
    total = weights[:, own].sum(1)
    shares: Floats = np.full(len(weights), np.nan)
    np.divide(weights[:, own] @ step, total, out=shares, where=total > 0)
    return percentiles(shares)


def _flagged_as_often(films: SiteFilms, sensitivity: float) -> NDArray[np.bool_]:
    """Flag each film by a threshold that other patients chose to reach a sensitivity."""
    sources = np.asarray([row.source for row in films.rows])
    folds = patient_folds(films.patients, films.truth, sources, _FOLDS)
    probability, flagged = films.probabilities, np.zeros(films.truth.size, np.bool_)
    for fold in np.unique(folds):
        own = folds == fold
        threshold = flag_threshold(probability[~own], films.truth[~own], sensitivity)
        flagged[own] = probability[own] >= threshold
    return flagged
