"""Measures a bundle on labelled pictures through the code that serves it.

Each picture takes the whole way of :class:`vigil.triager.Triager`: its file is read, the gate may
refuse it, the exported network judges it, the shipped thresholds flag it. Figures are per label
and per source, over rows that have the label in scope; a pooled figure would flatter.
"""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from vigil import RESEARCH_USE, __version__
from vigil.bundle import BundleManifest
from vigil.errors import ConfigurationError
from vigil.findings import LABELS
from vigil.triager import Triager
from vigil_training.manifest import ManifestRow, read_manifest
from vigil_training.split import side_of_row
from vigil_training.statistics import (
    auroc,
    auroc_interval,
    brier_score,
    expected_calibration_error,
    rate,
)

MIN_PATIENTS_FOR_MEAN = 20
Split = Literal["all", "train", "val", "test"]


class _Figures(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LabelFigures(_Figures):
    """How one label does on one source.

    ``n`` and what follows count analysed pictures only; ``refused`` and ``withheld`` say how many
    more have the label in scope but got no probability.
    """

    label: str
    source: str
    n: int
    positives: int
    patients: int
    positive_patients: int
    refused: int
    withheld: int
    auroc: float | None
    auroc_low: float | None
    auroc_high: float | None
    sensitivity: float | None
    specificity: float | None
    flagged: float | None
    expected_calibration_error: float | None
    brier: float | None
    mean_probability: float | None
    prevalence: float | None


class SourceFigures(_Figures):
    """How the pictures of one source fared at the gate, and the mean over its labels."""

    source: str
    pictures: int
    analysed: int
    refused: dict[str, int]
    corrected: int
    """Pictures that were inverted or turned before they were analysed."""
    priorities: dict[str, int]
    mean_auroc: float | None
    labels_in_mean: int


class Evaluation(_Figures):
    """What ``vigil evaluate`` writes as JSON."""

    bundle: str
    digest: str
    software: str
    created: str
    manifest: str
    split: Split
    bootstrap_samples: int
    seconds: float
    sources: tuple[SourceFigures, ...]
    results: tuple[LabelFigures, ...]
    notes: tuple[str, ...]
    notice: str


class _Answer(NamedTuple):
    """What the service said of one row."""

    row: ManifestRow
    code: str | None
    corrected: bool
    priority: str
    probabilities: dict[str, float]
    flagged: frozenset[str]


def evaluate(
    bundle: Path,
    manifest: Path,
    *,
    split: Split = "all",
    limit: int | None = None,
    samples: int = 1000,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Evaluation:
    """Judge a manifest's pictures and compare the answers with its labels.

    Parameters
    ----------
    bundle
        The bundle's folder.
    manifest
        The CSV file of labelled pictures.
    split
        ``val`` keeps the patients that the bundle's own split held out of training, ``train`` the
        others, ``test`` those that the manifest itself calls so; the bundle records the seed and
        the fraction.
    limit
        Judge at most so many pictures, spread evenly over the manifest.
    samples
        Bootstrap samples of patients for the intervals.
    progress
        Called with the pictures done and their total.

    Raises
    ------
    BundleError
        If the bundle is not whole.
    ManifestError
        If the manifest is wrong.
    ConfigurationError
        If a split is asked for and the bundle does not record one, or no row is left.
    """
    started = time.monotonic()
    triager = Triager.load(bundle)
    rows = _chosen(read_manifest(manifest), triager.bundle.manifest, split, limit)
    answers = []
    for done, row in enumerate(rows, 1):
        answers.append(_ask(triager, row))
        progress(done, len(rows))
    sources = sorted({row.source for row in rows})
    outputs = {finding.label for finding in triager.bundle.manifest.findings}
    results = []
    for label in (label for label in LABELS if label in outputs):
        for source in sources:
            own = [a for a in answers if a.row.source == source and label in a.row.label_scope]
            if own:
                results.append(_label_figures(label, source, own, samples))
    return Evaluation(
        bundle=triager.bundle.id,
        digest=triager.bundle.digest,
        software=__version__,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        manifest=manifest.name,
        split=split,
        bootstrap_samples=samples,
        seconds=round(time.monotonic() - started, 1),
        sources=tuple(_source_figures(source, answers, results) for source in sources),
        results=tuple(results),
        notes=(
            "Refused pictures are counted per source and left out of every other figure.",
            "Withheld: the label is in scope but the patient is outside the finding's population.",
            f"Means are over labels with at least {MIN_PATIENTS_FOR_MEAN} positive patients.",
            "Intervals: 95 %, percentile bootstrap over patients.",
        ),
        notice=RESEARCH_USE,
    )


def _chosen(
    rows: Sequence[ManifestRow], bundle: BundleManifest, split: Split, limit: int | None
) -> list[ManifestRow]:
    kept = list(rows)
    if split != "all":
        seed, fraction = (bundle.training.get(key) for key in ("split_seed", "validation_fraction"))
        if not isinstance(seed, int) or not isinstance(fraction, float):
            raise ConfigurationError(
                f"the bundle {bundle.id} does not record how its patients were split; "
                "evaluate without --split"
            )
        kept = [row for row in kept if side_of_row(row, seed, fraction) == split]
    if limit is not None and limit < len(kept):
        kept = [kept[i] for i in np.linspace(0, len(kept) - 1, limit).round().astype(int)]
    if not kept:
        raise ConfigurationError("the manifest holds no row to evaluate in this split")
    return kept


def _ask(triager: Triager, row: ManifestRow) -> _Answer:
    result = triager.triage(row.path, age_years=row.age_years)
    return _Answer(
        row=row,
        code=None if result.code is None else str(result.code),
        corrected=any("before it was analysed" in note for note in result.notes),
        priority=str(result.priority),
        probabilities=dict(result.findings),
        flagged=frozenset(flag.label for flag in result.flags),
    )


def _label_figures(
    label: str, source: str, answers: Sequence[_Answer], samples: int
) -> LabelFigures:
    said = [answer for answer in answers if label in answer.probabilities]
    truth = np.asarray([label in answer.row.labels for answer in said], np.bool_)
    probability = np.asarray([answer.probabilities[label] for answer in said], np.float64)
    flagged = np.asarray([label in answer.flagged for answer in said], np.bool_)
    patients = np.asarray([answer.row.patient_id for answer in said], np.str_)
    refused = sum(answer.code is not None for answer in answers)
    area = auroc(truth, probability)
    interval = None
    if area is not None and samples:
        interval = auroc_interval(truth, probability, patients, samples)
    positives = int(truth.sum())
    return LabelFigures(
        label=label,
        source=source,
        n=len(said),
        positives=positives,
        patients=int(np.unique(patients).size),
        positive_patients=int(np.unique(patients[truth]).size),
        refused=refused,
        withheld=len(answers) - len(said) - refused,
        auroc=area,
        auroc_low=interval.low if interval else None,
        auroc_high=interval.high if interval else None,
        sensitivity=rate(int((flagged & truth).sum()), positives),
        specificity=rate(int((~flagged & ~truth).sum()), len(said) - positives),
        flagged=rate(int(flagged.sum()), len(said)),
        expected_calibration_error=(
            expected_calibration_error(truth, probability) if said else None
        ),
        brier=brier_score(truth, probability) if said else None,
        mean_probability=float(probability.mean()) if said else None,
        prevalence=rate(positives, len(said)),
    )


def _source_figures(
    source: str, answers: Sequence[_Answer], results: Sequence[LabelFigures]
) -> SourceFigures:
    own = [answer for answer in answers if answer.row.source == source]
    areas: NDArray[np.float64] = np.asarray(
        [
            figures.auroc
            for figures in results
            if figures.source == source
            and figures.auroc is not None
            and figures.positive_patients >= MIN_PATIENTS_FOR_MEAN
        ]
    )
    return SourceFigures(
        source=source,
        pictures=len(own),
        analysed=sum(answer.code is None for answer in own),
        refused=dict(sorted(Counter(a.code for a in own if a.code is not None).items())),
        corrected=sum(answer.corrected for answer in own),
        priorities=dict(sorted(Counter(answer.priority for answer in own).items())),
        mean_auroc=float(areas.mean()) if areas.size else None,
        labels_in_mean=int(areas.size),
    )
