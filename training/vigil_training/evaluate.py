"""Measures a bundle on labelled pictures through the code that serves it.

Each picture takes the whole way of :class:`vigil.triager.Triager`: its file is read, the gate may
refuse it, the exported network judges it, the shipped thresholds flag it. Figures are per label
and per source, over rows that have the label in scope; a pooled figure would flatter.
"""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vigil import RESEARCH_USE, __version__
from vigil.bundle import BundleManifest
from vigil.errors import ConfigurationError
from vigil.findings import LABELS
from vigil.triager import Triager, TriageResult
from vigil_training.figures import Evaluation, LabelFigures, PartFigures, SourceFigures, Split
from vigil_training.manifest import ManifestRow, read_manifest
from vigil_training.merits import (
    LEAST_PATIENTS,
    Answer,
    background_figures,
    cross_fitted,
    label_figures,
    part_figures,
    refuse_no_numbers,
)
from vigil_training.outlines import outline_agreement, outline_figures, ratio_figures
from vigil_training.report.scores import read_scores, write_scores
from vigil_training.split import side_of_row
from vigil_training.statistics import rate

_NOTES = (
    "Refused pictures are counted per source and left out of every other figure.",
    "Withheld: the label is in scope but the patient is outside the finding's population.",
    f"Means are over labels with at least {LEAST_PATIENTS} positive patients.",
    "Intervals: 95 %; AUROC, average precision and calibration by percentile bootstrap over "
    "patients, shares by Wilson's formula over patients.",
    f"Parts of the patients: only with at least {LEAST_PATIENTS} positive and {LEAST_PATIENTS} "
    "negative patients.",
)
_CROSS_NOTE = (
    "Cross-fitted: these patients fitted the shipped calibration and band, so both are fitted "
    "again in ten folds by patient; no patient is judged by a fit that it took part in. The "
    "thresholds, and the epoch where these patients chose it, are not crossed: sensitivity and "
    "specificity are optimistic."
)
_FOREIGN_NOTE = "Sources that the bundle was not trained on count with all their pictures."


@dataclass(frozen=True, eq=False)
class Judged:
    """The service's answers, and the whole manifest that they are of."""

    manifest: BundleManifest
    rows: tuple[ManifestRow, ...]
    answers: tuple[Answer, ...]
    split: Split
    name: str
    seconds: float


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

    Parameters and errors are those of :func:`judge` and :func:`measure`.
    """
    return measure(judge(bundle, manifest, split=split, limit=limit, progress=progress), samples)


def judge(
    bundle: Path,
    manifest: Path,
    *,
    split: Split = "all",
    labels: Sequence[str] = (),
    limit: int | None = None,
    scores: Path | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Judged:
    """Judge a manifest's pictures with the code that serves.

    Parameters
    ----------
    bundle
        The bundle's folder.
    manifest
        The CSV file of labelled pictures.
    split
        ``val`` keeps the patients that the bundle's own split held out of training, and all of a
        source that it was not trained on; ``train`` the others; ``test`` those that the manifest
        itself calls so. The bundle records the seed, the fraction and the sources.
    labels
        Judge only pictures that have one of these findings in scope, named by label or by key;
        empty takes all.
    limit
        Judge at most so many pictures, spread evenly over the manifest.
    scores
        A file of answers: read in place of the pictures if it is there, else written.
    progress
        Called with the pictures done and their total.

    Raises
    ------
    BundleError
        If the bundle is not whole.
    ManifestError
        If the manifest or the file of scores is wrong.
    ConfigurationError
        If a split is asked for and the bundle does not record one, or no row is left.
    """
    started = time.monotonic()
    triager = Triager.load(bundle)
    rows = read_manifest(manifest)
    chosen = _chosen(rows, triager.bundle.manifest, split, labels, limit)
    answers = _answers(triager, chosen, manifest.parent, scores, progress)
    return Judged(
        manifest=triager.bundle.manifest,
        rows=rows,
        answers=answers,
        split=split,
        name=manifest.name,
        seconds=round(time.monotonic() - started, 1),
    )


def judge_rows(
    bundle: Path,
    judged: Judged,
    manifest: Path,
    *,
    scores: Path | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Judged:
    """Judge the films that were judged before with another bundle; as :func:`judge` otherwise."""
    started = time.monotonic()
    triager = Triager.load(bundle)
    rows = [answer.row for answer in judged.answers]
    answers = _answers(triager, rows, manifest.parent, scores, progress)
    spent = round(time.monotonic() - started, 1)
    return replace(judged, manifest=triager.bundle.manifest, answers=answers, seconds=spent)


def _answers(
    triager: Triager,
    rows: Sequence[ManifestRow],
    folder: Path,
    scores: Path | None,
    progress: Callable[[int, int], None],
) -> tuple[Answer, ...]:
    if scores is not None and scores.exists():
        return read_scores(scores, triager.bundle.manifest, rows, folder)
    answers = []
    for done, row in enumerate(rows, 1):
        answers.append(_ask(triager, row))
        progress(done, len(rows))
    if scores is not None:
        write_scores(scores, triager.bundle.manifest, answers, folder)
    return tuple(answers)


def measure(
    judged: Judged,
    samples: int = 1000,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Evaluation:
    """Compare answers with labels.

    Parameters
    ----------
    samples
        Bootstrap samples of patients for the intervals; 0 for none.
    progress
        Called with the labels done and their total.

    Raises
    ------
    ManifestError
        If a probability is no number; the message names the rows.
    """
    manifest, answers = judged.manifest, judged.answers
    refuse_no_numbers(answers)
    findings = {finding.key: finding for finding in manifest.findings}
    learnt = learnt_sources(manifest)
    crossed = {}
    if judged.split == "val" and learnt is not None:
        fitted = [answer for answer in answers if answer.row.source in learnt]
        crossed = cross_fitted(fitted, judged.rows, findings)
    sources = sorted({answer.row.source for answer in answers})
    outputs = {finding.label for finding in manifest.findings}
    labels = [label for label in LABELS if label in outputs]
    results: list[LabelFigures] = []
    parts: list[PartFigures] = []
    for done, label in enumerate(labels, 1):
        for source in sources:
            own = [a for a in answers if a.row.source == source and label in a.row.label_scope]
            if own:
                results.append(label_figures(label, source, own, findings, crossed, samples))
                parts.extend(part_figures(label, source, own, samples))
        progress(done, len(labels))
    foreign = learnt is not None and any(source not in learnt for source in sources)
    notes = (*_NOTES, *((_CROSS_NOTE,) if crossed else ()), *((_FOREIGN_NOTE,) if foreign else ()))
    return Evaluation(
        bundle=manifest.id,
        digest=manifest.digest,
        software=__version__,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        manifest=judged.name,
        split=judged.split,
        bootstrap_samples=samples,
        seconds=judged.seconds,
        sources=tuple(_source_figures(source, answers, results, learnt) for source in sources),
        results=tuple(results),
        parts=tuple(parts),
        background=tuple(background_figures(answers, manifest)),
        outlines=outline_figures([(a.row, a.outlines) for a in answers], samples),
        ratios=ratio_figures([(a.row, a.ratio, a.no_ratio) for a in answers], samples),
        notes=notes,
        notice=RESEARCH_USE,
    )


def learnt_sources(bundle: BundleManifest) -> frozenset[str] | None:
    """Return the sources that a bundle was trained on, None if it does not say."""
    named = bundle.training.get("sources")
    if named is None:
        return None
    return frozenset(name.strip() for name in str(named).split(","))


def _chosen(
    rows: Sequence[ManifestRow],
    bundle: BundleManifest,
    split: Split,
    labels: Sequence[str],
    limit: int | None,
) -> list[ManifestRow]:
    kept = list(rows)
    named = {f.label for f in bundle.findings if f.label in labels or f.key in labels}
    if named:
        kept = [row for row in kept if row.label_scope & named]
    if split != "all":
        seed, fraction = (bundle.training.get(key) for key in ("split_seed", "validation_fraction"))
        if not isinstance(seed, int) or not isinstance(fraction, float):
            raise ConfigurationError(
                f"the bundle {bundle.id} does not record how its patients were split; "
                "evaluate without --split"
            )
        learnt = learnt_sources(bundle)

        def side(row: ManifestRow) -> Split:
            own = side_of_row(row, seed, fraction)
            foreign = learnt is not None and row.source not in learnt
            return "val" if foreign and own == "train" else own

        kept = [row for row in kept if side(row) == split]
    if limit is not None and limit < len(kept):
        kept = [kept[i] for i in np.linspace(0, len(kept) - 1, limit).round().astype(int)]
    if not kept:
        of = f" with {' or '.join(sorted(named))} in label_scope" if named else ""
        raise ConfigurationError(f"the manifest holds no row{of} to evaluate in split {split}")
    return kept


def _ask(triager: Triager, row: ManifestRow) -> Answer:
    result = triager.triage(row.path, age_years=row.age_years)
    corrected = any("before it was analysed" in note for note in result.notes)
    anatomy = result.anatomy
    return Answer(
        row=row,
        code=None if result.code is None else str(result.code),
        corrected=corrected,
        priority=str(result.priority),
        probabilities=dict(result.findings),
        keys=dict(result.keys),
        flagged=frozenset(flag.label for flag in result.flags),
        outlines={} if corrected else _outlines(triager, row, result),
        ratio=None if anatomy is None else anatomy.ratio,
        no_ratio=None if anatomy is None or anatomy.no_ratio is None else str(anatomy.no_ratio),
    )


def _outlines(triager: Triager, row: ManifestRow, result: TriageResult) -> dict[str, float]:
    has_masks = row.mask is not None or row.heart_mask is not None
    if not has_masks or result.code is not None or result.radiograph is None:
        return {}
    return outline_agreement(triager, result.radiograph, row)


def _source_figures(
    source: str,
    answers: Sequence[Answer],
    results: Sequence[LabelFigures],
    learnt: frozenset[str] | None,
) -> SourceFigures:
    own = [answer for answer in answers if answer.row.source == source]
    areas: NDArray[np.float64] = np.asarray(
        [
            figures.auroc
            for figures in results
            if figures.source == source
            and figures.auroc is not None
            and figures.positive_patients >= LEAST_PATIENTS
        ]
    )
    analysed = sum(answer.code is None for answer in own)
    return SourceFigures(
        source=source,
        pictures=len(own),
        analysed=analysed,
        refused=dict(sorted(Counter(a.code for a in own if a.code is not None).items())),
        corrected=sum(answer.corrected for answer in own),
        priorities=dict(sorted(Counter(answer.priority for answer in own).items())),
        flagged=rate(sum(bool(answer.flagged) for answer in own), analysed),
        trained_on=None if learnt is None else source in learnt,
        mean_auroc=float(areas.mean()) if areas.size else None,
        labels_in_mean=int(areas.size),
    )
