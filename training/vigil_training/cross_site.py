"""Trained at one hospital, tested at another: what an internal validation cannot say.

A finding that two hospitals label is learnt anew without one of them, by a run of its own, and
judged on all of that hospital's films. What is measured there belongs to that other bundle and says
what the recipe is worth where it was never; it stands in the served bundle's card as such.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from vigil.bundle import BundleManifest, load_bundle
from vigil.errors import ConfigurationError
from vigil_training.evaluate import judge, measure
from vigil_training.figures import Evaluation, Figures

SECTION = "cross_site"


class CrossSiteRow(Figures):
    """How a bundle does for one label on a source that it was not trained on.

    Sensitivity and specificity are at the threshold that its own validation patients chose.
    """

    bundle: str
    run: str
    digest: str
    trained_on: tuple[str, ...]
    """The sources of its run that know the label."""
    label: str
    tested_on: str
    n: int
    positives: int
    auroc: float
    interval: tuple[float, float] | None
    sensitivity: float | None
    specificity: float | None


class CrossSiteFigures(Figures):
    """All such rows."""

    rows: tuple[CrossSiteRow, ...]

    def card_lines(self) -> tuple[str, ...]:
        """Return the model card's lines."""
        head = (
            "Other bundles, each trained without the source that it is tested on, on all of that "
            "source's films that the gate let pass. Two collections of films, not a clinical "
            "trial.",
            "",
            "| label | trained on | tested on | n | positive | AUROC | sensitivity | specificity |",
            "|---|---|---|---|---|---|---|---|",
        )
        return (*head, *(_line(row) for row in self.rows))


def _line(row: CrossSiteRow) -> str:
    area = f"{row.auroc:.3f}"
    if row.interval is not None:
        area += f" ({row.interval[0]:.3f}–{row.interval[1]:.3f})"
    rates = " | ".join(
        "–" if value is None else f"{value:.3f}" for value in (row.sensitivity, row.specificity)
    )
    return (
        f"| {row.label} | {', '.join(row.trained_on)} (`{row.run}`) | {row.tested_on} | {row.n} "
        f"| {row.positives} | {area} | {rates} |"
    )


def cross_site(
    own: BundleManifest,
    others: Sequence[Path],
    manifest: Path,
    samples: int = 1000,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> CrossSiteFigures:
    """Judge bundles on the sources that they left out and a bundle of the same recipe did not.

    Parameters
    ----------
    own
        The bundle in whose card the figures will stand.
    others
        Folders of bundles that were trained without some of its sources.
    manifest
        The CSV file of labelled pictures.
    samples
        Bootstrap samples of patients.

    Raises
    ------
    ConfigurationError
        If a bundle left out none of the sources, or has no figure for any.
    BundleError, ManifestError
        As :func:`vigil_training.evaluate.judge`.
    """
    rows: list[CrossSiteRow] = []
    for folder in others:
        other = load_bundle(folder).manifest
        left_out = sources_of(own) - sources_of(other)
        if not left_out:
            raise ConfigurationError(
                f"{folder}: was trained on every source of {own.id}, "
                "expected one that left some out"
            )
        judged = judge(folder, manifest, split="val", progress=progress)
        found = rows_of(other, left_out, measure(judged, samples))
        if not found:
            raise ConfigurationError(
                f"{folder}: knows no label of {', '.join(sorted(left_out))} that it learnt "
                "elsewhere"
            )
        rows += found
    return CrossSiteFigures(rows=tuple(rows))


def sources_of(manifest: BundleManifest) -> frozenset[str]:
    """Return the sources that a bundle was trained on."""
    named = str(manifest.training.get("sources", "")).split(",")
    return frozenset(name.strip() for name in named if name.strip())


def rows_of(
    other: BundleManifest, left_out: frozenset[str], found: Evaluation
) -> list[CrossSiteRow]:
    """Return a bundle's rows for labels that it learnt elsewhere, on the sources it left out."""
    trained = sources_of(other)
    rows = []
    for result in found.results:
        learnt_at = tuple(
            sorted(
                r.source for r in found.results if r.label == result.label and r.source in trained
            )
        )
        if result.source not in left_out or result.auroc is None or not learnt_at:
            continue
        rows.append(
            CrossSiteRow(
                bundle=found.bundle,
                run=str(other.training.get("run", other.id)),
                digest=found.digest,
                trained_on=learnt_at,
                label=result.label,
                tested_on=result.source,
                n=result.n,
                positives=result.positives,
                auroc=result.auroc,
                interval=result.intervals.get("auroc"),
                sensitivity=result.sensitivity,
                specificity=result.specificity,
            )
        )
    return rows
