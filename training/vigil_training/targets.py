"""What a picture teaches: a target for each output, and a mask that says where it is known.

A label counts for a finding only if it is in the row's ``label_scope`` and the row's age is inside
the finding's population. A source whose rows for a label are all positive teaches nothing about
the label but what the source looks like, so such labels are unknown there.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vigil.bundle import Population
from vigil_training.config import ATTRIBUTES, STRUCTURES, AgeGroup, FindingConfig, RunConfig
from vigil_training.manifest import GateRow, ManifestRow

ADULT_FROM_YEARS = 15
GATE_SOURCE = "gate"
_GROUP_AGES: dict[AgeGroup, tuple[float, float] | None] = {
    "adult": (ADULT_FROM_YEARS, 125),
    "child": (1, 5),
    "unknown": None,
}


@dataclass(frozen=True, eq=False)
class Example:
    """One picture and what is known about it.

    Attributes
    ----------
    path
        The picture's file; None if it is generated, then ``pixels`` holds it.
    pixels
        (rows, columns) uint16 display values, or None.
    source, patient
        Where it is from, and whom it shows (unique over all sources).
    chest
        Whether it is an upright frontal chest film.
    targets, mask
        (outputs,) float32; a target counts only where the mask is 1.
    outlines
        For each of ``STRUCTURES``, a mask's file or the mask (rows, columns), or None.
    """

    path: Path | None
    source: str
    patient: str
    chest: bool
    targets: NDArray[np.float32]
    mask: NDArray[np.float32]
    pixels: NDArray[np.uint16] | None = None
    outlines: tuple[Path | NDArray[np.bool_] | None, ...] = (None,) * len(STRUCTURES)


def ages_of(row: ManifestRow, group: AgeGroup) -> tuple[float, float] | None:
    """Return the youngest and oldest age that a row may have, or None if nothing is known."""
    if row.age_years is not None:
        return row.age_years, row.age_years
    return _GROUP_AGES[group]


def in_population(row: ManifestRow, group: AgeGroup, population: Population) -> bool:
    """Return whether a row certainly belongs to a finding's population."""
    if population.min_age_years is None and population.max_age_years is None:
        return True
    ages = ages_of(row, group)
    return ages is not None and all(population.includes_age(age) for age in ages)


def one_sided_labels(rows: Iterable[ManifestRow]) -> frozenset[tuple[str, str]]:
    """Return the (source, label) pairs that hold positives and not one negative."""
    positive: set[tuple[str, str]] = set()
    negative: set[tuple[str, str]] = set()
    for row in rows:
        for label in row.label_scope:
            (positive if label in row.labels else negative).add((row.source, label))
    return frozenset(positive - negative)


def sources_with_both_views(rows: Iterable[ManifestRow]) -> frozenset[str]:
    """Return the sources that hold AP and PA films: in others a view is what a hospital is like."""
    views: dict[str, set[str]] = {}
    for row in rows:
        views.setdefault(row.source, set()).add(row.view)
    return frozenset(source for source, found in views.items() if {"AP", "PA"} <= found)


def finding_target(
    row: ManifestRow, group: AgeGroup, finding: FindingConfig
) -> tuple[float, float]:
    """Return a row's target for a finding and whether it is known, each 0 or 1."""
    known = finding.label in row.label_scope and in_population(row, group, finding.population)
    return float(known and finding.label in row.labels), float(known)


def chest_examples(rows: Sequence[ManifestRow], config: RunConfig) -> list[Example]:
    """Turn rows, all of sources that the run names, into examples."""
    groups = {source.name: source.age_group for source in config.data.sources}
    one_sided, both_views = one_sided_labels(rows), sources_with_both_views(rows)
    examples = []
    for row in rows:
        group = groups[row.source]
        known = [
            (0.0, 0.0)
            if (row.source, finding.label) in one_sided
            else finding_target(row, group, finding)
            for finding in config.findings
        ]
        ages = ages_of(row, group)
        child = None if ages is None else ages[1] < ADULT_FROM_YEARS
        # frontal_chest, child, inverted, rotated, mirrored, anteroposterior
        child_known = (float(child or False), float(child is not None))
        view_known = float(row.source in both_views and row.view in ("AP", "PA"))
        known += [(1.0, 1.0), child_known, (0.0, 1.0), (0.0, 1.0), (0.0, 1.0)]
        known.append((view_known * (row.view == "AP"), view_known))
        array = np.asarray(known, np.float32)
        patient = f"{row.source}/{row.patient_id}"
        examples.append(
            Example(
                row.path,
                row.source,
                patient,
                True,
                array[:, 0],
                array[:, 1],
                outlines=(row.mask, row.heart_mask),
            )
        )
    return examples


def gate_examples(rows: Sequence[GateRow], config: RunConfig) -> list[Example]:
    """Turn pictures that are no chest film into examples: only ``frontal_chest`` is known."""
    targets = np.zeros(len(config.outputs), np.float32)
    mask = np.zeros(len(config.outputs), np.float32)
    mask[len(config.findings) + ATTRIBUTES.index("frontal_chest")] = 1
    return [
        Example(row.path, GATE_SOURCE, f"{row.source}/{row.image_id}", False, targets, mask)
        for row in rows
    ]
