"""Measures heat maps through the served code: against lungs, hearts, boxes, and against chance.

Three questions. How much of what a map emphasises lies in the organ that its finding belongs to?
Does the map change when weights are shuffled, and does it fit its own film better than another's?
How far is it from where a radiologist drew a box?
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from vigil.errors import ConfigurationError, ImageRefused
from vigil.findings import CONCEPTS, HEART, LUNG, PLEURA
from vigil.heat_map import REGION_LEVEL, emphasis_of, hottest_point, outline_of
from vigil.localisation import Localisation
from vigil.preprocess import onto_picture, to_model_input
from vigil.reading import read_radiograph
from vigil.triager import Triager, TriageResult
from vigil_training.dataset import read_pixels
from vigil_training.heat_map_figures import (
    HELD_OUT,
    LEARNT,
    BoxFigures,
    HeatMapFigures,
    Interval,
    OrganFigures,
    PointerFigures,
    ShuffleFigures,
)
from vigil_training.manifest import Box, ManifestRow
from vigil_training.shuffled_weights import shuffled_networks
from vigil_training.split import Side, side_of_row
from vigil_training.statistics import Floats, patient_weights, percentiles

_SIDE = 64
_BLUR = 1.5
_OTHERS = 20
_OTHER_MAP = "another film's map"
_ORGANS = {LUNG: "lungs", PLEURA: "lungs", HEART: "heart"}


@dataclass(frozen=True, eq=False)
class _Map:
    """One finding's map of one film, with what is known of the film.

    ``emphasis`` is (64, 64) over the whole picture, whatever its shape, so that maps of different
    films can be laid over each other; ``boxes`` are those of this finding.
    """

    row: ManifestRow
    label: str
    emphasis: NDArray[np.float32]
    rows: int
    columns: int
    region: NDArray[np.bool_]
    flagged: bool
    boxes: tuple[Box, ...] = ()

    @property
    def patient(self) -> str:
        return f"{self.row.source}/{self.row.patient_id}"

    @cached_property
    def boxed(self) -> NDArray[np.bool_]:
        """(64, 64): the places in a box."""
        y, x = (np.mgrid[0:_SIDE, 0:_SIDE] + 0.5) / _SIDE
        inside = np.zeros((_SIDE, _SIDE), np.bool_)
        for box in self.boxes:
            inside |= (abs(x - box.x - box.width / 2) <= box.width / 2) & (
                abs(y - box.y - box.height / 2) <= box.height / 2
            )
        return inside

    def hit(self, point: tuple[float, float]) -> float:
        """Return 1 where a point lies in a box."""
        x, y = point
        return float(
            any(b.x <= x <= b.x + b.width and b.y <= y <= b.y + b.height for b in self.boxes)
        )

    def distance(self, x: Any, y: Any) -> Any:
        """Return how far points are from the nearest box's centre, in widths of the picture."""
        aspect = self.rows / self.columns
        return np.min(
            [
                np.hypot(x - b.x - b.width / 2, (y - b.y - b.height / 2) * aspect)
                for b in self.boxes
            ],
            axis=0,
        )


_Masked = tuple[_Map, NDArray[np.bool_]]


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
        own = _maps(triager.triage(row.path, age_years=row.age_years), row)
        maps += own
        shown = {m.label for m in own}
        missing += [(row, label) for label in {b.label for b in row.boxes} - shown]
        progress(done, total)
    shuffles = _shuffles(triager, probes, samples, lambda n: progress(len(judged) + n, total))
    boxes = []
    for group, belongs in ((HELD_OUT, True), (LEARNT, False)):
        ours = [m for m in maps if m.boxes and (m.row.path in held_out) is belongs]
        absent = sum((row.path in held_out) is belongs for row, _ in missing)
        if ours:
            boxes.append(_against_boxes(group, ours, maps, absent, samples))
    return HeatMapFigures(
        bootstrap_samples=samples,
        organs=_organs([m for m in maps if m.row.path in kept_paths], samples),
        shuffles=shuffles,
        boxes=tuple(boxes),
        localisation=_headline(boxes),
    )


def _side(row: ManifestRow, training: Mapping[str, str | int | float]) -> Side:
    seed, fraction = (training.get(name) for name in ("split_seed", "validation_fraction"))
    if seed is None or fraction is None:
        raise ConfigurationError("the bundle does not record how its patients were split")
    return side_of_row(row, int(seed), float(fraction))


def _headline(boxes: Sequence[BoxFigures]) -> Localisation | None:
    for group in boxes:
        if group.group == HELD_OUT:
            own = group.pointers[0]
            other = next((p for p in group.pointers if p.pointer == _OTHER_MAP), None)
            return Localisation(
                films=group.films,
                without_map=group.without_map,
                hits=round(own.hits * group.films),
                hits_by_other_maps=None if other is None else other.hits * group.films,
                centre_distance=own.distance,
                centre_distance_interval=group.distance_interval,
            )
    return None


def _spread(rows: Sequence[ManifestRow], count: int) -> list[ManifestRow]:
    return [rows[i] for i in np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(int)]


def _maps(result: TriageResult, row: ManifestRow) -> list[_Map]:
    """Return what is shown of an analysed film: a map for each finding that has one."""
    found = []
    # A film that was turned before it was analysed lies otherwise than its boxes and masks.
    if result.radiograph is None or any("turned" in note for note in result.notes):
        return []
    rows, columns = result.radiograph.shape
    flagged = {flag.label for flag in result.flags}
    for label, map_ in result.maps.items():
        emphasis = emphasis_of(map_)
        if emphasis is None:
            continue
        outline, region = outline_of(map_, REGION_LEVEL), np.zeros((_SIDE, _SIDE), np.uint8)
        if outline is not None:
            cv2.fillPoly(region, [np.rint(outline * _SIDE - 0.5).astype(np.int32)], 1)
        found.append(
            _Map(
                row=row,
                label=label,
                emphasis=cv2.resize(emphasis, (_SIDE, _SIDE)),
                rows=rows,
                columns=columns,
                region=region.astype(np.bool_),
                flagged=label in flagged,
                boxes=tuple(box for box in row.boxes if box.label == label),
            )
        )
    return found


def _others(own: _Map, maps: Sequence[_Map]) -> list[_Map]:
    """Return maps of the same finding of other people, of the same source where there are any."""
    others = [m for m in maps if m.label == own.label and m.patient != own.patient]
    near = [m for m in others if m.row.source == own.row.source] or others
    return [near[i] for i in np.linspace(0, len(near) - 1, min(_OTHERS, len(near))).astype(int)]


def _interval(values: Floats, patients: Sequence[str], samples: int) -> Interval:
    """Return the 95 % interval of a mean over bootstrap samples of patients."""
    if not samples or len(set(patients)) < 2:
        return None
    weights = patient_weights(np.asarray(patients), samples)
    return percentiles((weights @ values) / weights.sum(1))


def _organs(maps: Sequence[_Map], samples: int) -> tuple[OrganFigures, ...]:
    groups: dict[tuple[str, str, Literal["all", "flagged"]], list[_Masked]] = defaultdict(list)
    masks: dict[Path, NDArray[np.bool_]] = {}
    for one in maps:
        organ = _ORGANS.get(CONCEPTS[one.label].site)
        path = one.row.heart_mask if organ == "heart" else one.row.mask
        if organ is None or path is None:
            continue
        if path not in masks:
            drawn = (read_pixels(path) > 0).astype(np.float32)
            masks[path] = cv2.resize(drawn, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA) >= 0.5
        groups[organ, one.row.source, "all"].append((one, masks[path]))
        if one.flagged:
            groups[organ, one.row.source, "flagged"].append((one, masks[path]))
    return tuple(
        _organ(organ, source, findings, members, samples)
        for (organ, source, findings), members in sorted(groups.items())
    )


def _organ(
    organ: str,
    source: str,
    findings: Literal["all", "flagged"],
    members: Sequence[_Masked],
    samples: int,
) -> OrganFigures:
    maps = [one for one, _ in members]
    patients = [one.patient for one in maps]
    inside = np.asarray([_share(one.emphasis, mask) for one, mask in members])
    other = np.asarray(
        [
            np.mean([_share(m.emphasis, mask) for m in others]) if others else np.nan
            for one, mask in members
            for others in [_others(one, maps)]
        ]
    )
    known = ~np.isnan(other)
    more = _interval(
        (inside - other)[known], [p for p, k in zip(patients, known, strict=True) if k], samples
    )
    tops = [mask.ravel()[int(one.emphasis.argmax())] for one, mask in members]
    return OrganFigures(
        organ=organ,
        findings=findings,
        source=source,
        maps=len(members),
        films=len({one.row.path for one in maps}),
        inside=float(inside.mean()),
        inside_interval=_interval(inside, patients, samples),
        area=float(np.mean([mask.mean() for _, mask in members])),
        other_film=float(other[known].mean()) if known.any() else None,
        more_than_other_film_interval=more,
        hottest_inside=float(np.mean(tops)),
    )


def _share(emphasis: NDArray[np.float32], mask: NDArray[np.bool_]) -> float:
    positive = emphasis.clip(0)
    return float(positive[mask].sum() / max(float(positive.sum()), 1e-9))


def _against_boxes(
    group: Any, marked: Sequence[_Map], maps: Sequence[_Map], without_map: int, samples: int
) -> BoxFigures:
    pointers: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
    y, x = (np.mgrid[0:_SIDE, 0:_SIDE] + 0.5) / _SIDE
    for one in marked:
        pointers["the film's map"].append(_point(one, one.emphasis, one.region))
        others = _others(one, maps)
        if others:
            each = [_point(one, other.emphasis, other.region) for other in others]
            mean = np.mean([other.emphasis for other in others], axis=0).astype(np.float32)
            columns = np.mean(each, axis=0)
            pointers[_OTHER_MAP].append((columns[0], columns[1], columns[2]))
            pointers["the mean map"].append(_point(one, mean, mean >= REGION_LEVEL * mean.max()))
        middle = (one.hit((0.5, 0.5)), float(one.distance(0.5, 0.5)), np.nan)
        pointers["the picture's middle"].append(middle)
        anywhere = (float(one.boxed.mean()), float(one.distance(x, y).mean()), np.nan)
        pointers["anywhere"].append(anywhere)
    values = {name: np.asarray(points) for name, points in pointers.items()}
    own, patients = values["the film's map"], [one.patient for one in marked]
    other = values.get(_OTHER_MAP)
    labels = sorted({one.label for one in marked})
    return BoxFigures(
        group=group,
        films=len(marked),
        without_map=without_map,
        flagged=sum(one.flagged for one in marked),
        labels={label: sum(one.label == label for one in marked) for label in labels},
        hit_interval=_interval(own[:, 0], patients, samples),
        distance_interval=_interval(own[:, 1], patients, samples),
        overlap_interval=_interval(own[:, 2], patients, samples),
        more_hits_than_other_film_interval=(
            None
            if other is None or len(other) != len(own)
            else _interval(own[:, 0] - other[:, 0], patients, samples)
        ),
        pointers=tuple(
            PointerFigures(
                pointer=name,
                hits=float(points[:, 0].mean()),
                distance=float(points[:, 1].mean()),
                overlap=None if np.isnan(points[:, 2]).any() else float(points[:, 2].mean()),
            )
            for name, points in values.items()
        ),
    )


def _point(
    film: _Map, emphasis: NDArray[np.float32], region: NDArray[np.bool_]
) -> tuple[float, float, float]:
    """Return whether the hottest point hits, the distance and the overlap, on a film's boxes."""
    top = hottest_point(emphasis)
    x, y = top
    if region.any():
        rows, columns = np.nonzero(region)
        x, y = (columns.mean() + 0.5) / _SIDE, (rows.mean() + 0.5) / _SIDE
    overlap = (region & film.boxed).sum() / max(1, (region | film.boxed).sum())
    return film.hit(top), float(film.distance(x, y)), float(overlap)


def _shuffles(
    triager: Triager,
    rows: Sequence[ManifestRow],
    samples: int,
    progress: Callable[[int], None],
) -> tuple[ShuffleFigures, ...]:
    """Compare each film's maps with those of another film and of shuffled weights."""
    spec = triager.bundle.preprocessing
    networks = list(shuffled_networks(triager.bundle.model_path))
    found: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
    patients: dict[str, list[str]] = defaultdict(list)
    before: NDArray[np.float32] | None = None
    for done, row in enumerate(rows, 1):
        progress(done)
        try:
            pixels = read_radiograph(row.path).pixels
        except ImageRefused:
            continue

        def shown(cams: NDArray[np.float32], shape: tuple[int, ...] = pixels.shape) -> Any:
            squares = [cv2.resize(cam, (_SIDE, _SIDE)) for cam in cams]
            return np.stack([onto_picture(square, shape[0], shape[1], spec) for square in squares])

        model_input = to_model_input(pixels, spec)
        cams = triager.predict(pixels).cams
        compared = {stage: network.maps(model_input) for stage, network in networks}
        if before is not None:
            compared["nothing, another film"] = before
        before = cams
        own = shown(cams)
        for stage, others in compared.items():
            found[stage].append(_likeness(own, shown(others)))
            patients[stage].append(f"{row.source}/{row.patient_id}")
    return tuple(
        ShuffleFigures(
            shuffled=stage,
            films=len(found[stage]),
            rank_correlation=float(values[:, 0].mean()),
            rank_correlation_interval=_interval(values[:, 0], patients[stage], samples),
            magnitude=float(values[:, 1].mean()),
            structural_similarity=float(values[:, 2].mean()),
        )
        for stage in ("nothing, another film", *(name for name, _ in networks))
        if stage in found
        for values in [np.asarray(found[stage])]
    )


def _likeness(own: NDArray[np.float32], other: NDArray[np.float32]) -> tuple[float, float, float]:
    """Return rank correlation, its magnitude and structural similarity, means over findings."""
    ranks = [rank_correlation(a, b) for a, b in zip(own, other, strict=True)]
    alike = [structural_similarity(a, b) for a, b in zip(own, other, strict=True)]
    return float(np.mean(ranks)), float(np.mean(np.abs(ranks))), float(np.mean(alike))


def rank_correlation(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Return Spearman's correlation of two maps; 0 where one is flat and so orders nothing."""
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return 0.0
    ranks = [np.argsort(np.argsort(m.ravel(), kind="stable")) for m in (one, other)]
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def structural_similarity(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Return the mean structural similarity (Wang et al. 2004) of two maps stretched to 0…1."""

    def blurred(values: NDArray[np.float64]) -> NDArray[np.float64]:
        smooth: NDArray[np.float64] = cv2.GaussianBlur(values, (0, 0), _BLUR)
        return smooth

    a, b = ((m - m.min()) / max(float(np.ptp(m)), 1e-12) for m in (one, other))
    a, b = a.astype(np.float64), b.astype(np.float64)
    mean_a, mean_b = blurred(a), blurred(b)
    var_a, var_b = blurred(a * a) - mean_a**2, blurred(b * b) - mean_b**2
    shared = blurred(a * b) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    index = ((2 * mean_a * mean_b + c1) * (2 * shared + c2)) / (
        (mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2)
    )
    return float(index.mean())
