"""Measures heat maps through the served code: against lungs, hearts, boxes, and against chance.

Three questions. How much of what a map emphasises lies in the organ that its finding belongs to?
Does the map change when weights are shuffled, and does it fit its own film better than another's?
How far is it from where a radiologist drew a box?
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from vigil.errors import ConfigurationError
from vigil.triager import Triager
from vigil_training.heat_maps.boxes import headline_of, measure_against_boxes
from vigil_training.heat_maps.figures import HELD_OUT, LEARNT, BoxGroup, HeatMapFigures
from vigil_training.heat_maps.film_maps import maps_of
from vigil_training.heat_maps.organs import measure_organs
from vigil_training.heat_maps.shuffles import measure_shuffles
from vigil_training.manifest import ManifestRow
from vigil_training.split import Side, side_of_row


def measure_heat_maps(
    bundle: Path,
    films: Sequence[ManifestRow],
    *,
    split: Side | None = "val",
    limit: int = 200,
    shuffled_films: int = 60,
    samples: int = 1000,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> HeatMapFigures:
    """Measure a bundle's heat maps.

    Parameters
    ----------
    films
        A manifest's chest films; those with masks or boxes are judged.
    split
        The side of the bundle's own split to keep for the organs and the shuffled weights; None
        for all. Boxes are told of both sides, apart, since boxes were never learnt from.
    limit
        At most so many more films of the boxes' sources, spread evenly, make the mean map.
    shuffled_films
        So many films, spread evenly, are judged with shuffled weights.
    samples
        Bootstrap samples of patients.
    progress
        Called with the films done and their total.

    Raises
    ------
    BundleError
        If the bundle is not whole.
    ConfigurationError
        If the bundle does not record how its patients were split.
    """
    triager = Triager.load(bundle)
    training = triager.bundle.manifest.training
    kept = [row for row in films if split is None or _side(row, training) == split]
    learnt = {name.strip() for name in str(training.get("sources", "")).split(",")}
    held_out = {
        row.path for row in films if row.source not in learnt or _side(row, training) != "train"
    }
    marked = [row for row in films if row.boxes]
    masked = [row for row in kept if row.mask or row.heart_mask]
    alike = _spread([r for r in kept if r.source in {m.source for m in marked}], limit)
    kept_paths = {row.path for row in masked}
    judged = {row.path: row for row in (*marked, *masked, *alike)}
    probes = _spread(kept, shuffled_films)
    total, maps, missing = len(judged) + len(probes), [], []
    for done, row in enumerate(judged.values(), 1):
        own = maps_of(triager.triage(row.path, age_years=row.age_years), row)
        maps += own
        shown = {m.label for m in own}
        missing += [(row, label) for label in {b.label for b in row.boxes} - shown]
        progress(done, total)
    shuffles = measure_shuffles(
        triager, probes, samples, lambda n: progress(len(judged) + n, total)
    )
    boxes = []
    groups: tuple[tuple[BoxGroup, bool], ...] = ((HELD_OUT, True), (LEARNT, False))
    for group, belongs in groups:
        ours = [m for m in maps if m.boxes and (m.row.path in held_out) is belongs]
        absent = sum((row.path in held_out) is belongs for row, _ in missing)
        if ours:
            boxes.append(measure_against_boxes(group, ours, maps, absent, samples))
    return HeatMapFigures(
        bootstrap_samples=samples,
        organs=measure_organs([m for m in maps if m.row.path in kept_paths], samples),
        shuffles=shuffles,
        boxes=tuple(boxes),
        localisation=headline_of(boxes),
    )


def _side(row: ManifestRow, training: Mapping[str, str | int | float]) -> Side:
    seed, fraction = (training.get(name) for name in ("split_seed", "validation_fraction"))
    if seed is None or fraction is None:
        raise ConfigurationError("the bundle does not record how its patients were split")
    return side_of_row(row, int(seed), float(fraction))


def _spread(rows: Sequence[ManifestRow], count: int) -> list[ManifestRow]:
    return [rows[i] for i in np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(int)]
