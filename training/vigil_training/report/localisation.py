"""Free-response curves: the places that maps point at, against the boxes of radiologists.

A mark is the highest place of each patch of a map at or over the level that results draw; its
rating is the map's probability there. A box is found by a mark in it; a mark in no box is false.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from vigil.heat_map import REGION_LEVEL, emphasis_of
from vigil.triager import Triager
from vigil_training.curves import Marks, found_at, free_response
from vigil_training.manifest import Box, ManifestRow
from vigil_training.report.contents import FoundAt, FreeResponse
from vigil_training.report.findings import LEAST_OF_A_SOURCE, counted

_Places = list[tuple[float, float, float]]
_MOST_WITHOUT = 200
_RATES = (0.25, 0.5, 1.0)
_PATCH = 9
"""Cells of a map of 64 × 64: a smaller patch is noise, and no mark."""


@dataclass
class _Gathered:
    boxes: list[tuple[float, str]] = field(default_factory=list)
    false: list[tuple[float, str]] = field(default_factory=list)
    films: list[str] = field(default_factory=list)
    boxed: list[tuple[str, list[Box], _Places]] = field(default_factory=list)


def marks_of(map_: NDArray[np.float32]) -> _Places:
    """Return (x, y, rating) of each patch's highest place, x and y in 0…1 of the picture."""
    emphasis = emphasis_of(map_)
    if emphasis is None:
        return []
    count, patches = cv2.connectedComponents((emphasis >= REGION_LEVEL).astype(np.uint8))
    rows, columns = emphasis.shape
    found = []
    for patch in range(1, count):
        inside = patches == patch
        if inside.sum() < _PATCH and patch != patches.ravel()[int(emphasis.argmax())]:
            continue
        row, column = divmod(int(np.where(inside, emphasis, -np.inf).argmax()), columns)
        rating = float(map_[row, column])
        found.append(((column + 0.5) / columns, (row + 0.5) / rows, rating))
    return found


def free_responses(
    triager: Triager,
    rows: Sequence[ManifestRow],
    samples: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[FreeResponse, ...]:
    """Return a curve for each finding and source that has boxes.

    Films without the finding, at most 200 a source and spread evenly, count for false marks; films
    with it that nobody boxed are left out, since a mark on them is neither.
    """
    labels = {finding.label for finding in triager.bundle.manifest.findings}
    pairs = sorted(
        {(box.label, row.source) for row in rows for box in row.boxes if box.label in labels}
    )
    shown = {pair: _films(*pair, rows) for pair in pairs}
    needed = {row.number: row for films in shown.values() for row in films}
    maps = {}
    for done, row in enumerate(needed.values(), 1):
        maps[row.number] = _maps(triager, row)
        progress(done, len(needed))
    return tuple(_curve(*pair, films, maps, rows, samples) for pair, films in shown.items())


def _films(label: str, source: str, rows: Sequence[ManifestRow]) -> list[ManifestRow]:
    own = [row for row in rows if row.source == source and label in row.label_scope]
    boxed = [row for row in own if any(box.label == label for box in row.boxes)]
    without = [row for row in own if label not in row.labels]
    kept = np.linspace(0, len(without) - 1, min(len(without), _MOST_WITHOUT)).round().astype(int)
    return [*boxed, *(without[i] for i in kept)]


def _maps(triager: Triager, row: ManifestRow) -> dict[str, _Places] | None:
    """Return each finding's marks, None if the film was refused or turned."""
    result = triager.triage(row.path, age_years=row.age_years)
    # A film that was turned before it was analysed lies otherwise than its boxes.
    if result.code is not None or any("turned" in note for note in result.notes):
        return None
    return {
        label: marks_of(result.maps[label]) if label in result.maps else []
        for label in result.findings
    }


def _curve(
    label: str,
    source: str,
    films: Sequence[ManifestRow],
    maps: dict[int, dict[str, _Places] | None],
    rows: Sequence[ManifestRow],
    samples: int,
) -> FreeResponse:
    gathered, boxed = _Gathered(), 0
    people: set[str] = set()
    for row in films:
        found = maps[row.number]
        if found is None or label not in found:
            continue
        boxes = [box for box in row.boxes if box.label == label]
        gathered.films.append(row.patient_id)
        if boxes:
            boxed += 1
            people.add(row.patient_id)
            gathered.boxed.append((row.patient_id, boxes, found[label]))
        _add(gathered, row.patient_id, boxes, found[label])
    marks = Marks(
        *_arrays(gathered.boxes), *_arrays(gathered.false), np.asarray(gathered.films, np.str_)
    )
    reason = ""
    if len(people) < LEAST_OF_A_SOURCE:
        had = counted(len(people), "patient")
        reason = f"{had} with a box; at least {LEAST_OF_A_SOURCE} are asked for"
    without_box = sum(
        row.source == source
        and label in row.labels
        and not any(box.label == label for box in row.boxes)
        for row in rows
    )
    curve = free_response(marks)
    return FreeResponse(
        label=label,
        source=source,
        boxes=len(gathered.boxes),
        boxed_films=boxed,
        boxed_patients=len(people),
        films_without=len(gathered.films) - boxed,
        positive_without_box=without_box,
        found_by_other_maps=None if reason else _by_other_maps(gathered.boxed),
        curve=()
        if reason
        else tuple(
            (round(float(x), 5), round(float(y), 5))
            for x, y in zip(curve.false_marks, curve.found, strict=True)
        ),
        at=() if reason else tuple(_found(marks, rate, samples) for rate in _RATES),
        withheld=reason,
    )


def _by_other_maps(films: Sequence[tuple[str, list[Box], _Places]]) -> float | None:
    """Return how many boxes hold a mark of another patient's map, a mean over all pairs.

    A map that finds no more boxes than this only knows where the finding usually is.
    """
    found = [
        any(_holds(box, x, y) for x, y, _ in marks)
        for patient, boxes, _ in films
        for other, _, marks in films
        if other != patient
        for box in boxes
    ]
    return float(np.mean(found)) if found else None


def _holds(box: Box, x: float, y: float) -> bool:
    return box.x <= x <= box.x + box.width and box.y <= y <= box.y + box.height


def _found(marks: Marks, rate: float, samples: int) -> FoundAt:
    found, interval = found_at(marks, rate, samples)
    return FoundAt(false_marks=rate, found=found, interval=interval)


def _add(
    gathered: _Gathered,
    patient: str,
    boxes: Sequence[Box],
    marks: Sequence[tuple[float, float, float]],
) -> None:
    hit = np.zeros((len(boxes), len(marks)), np.bool_)
    for i, box in enumerate(boxes):
        for j, (x, y, _) in enumerate(marks):
            hit[i, j] = _holds(box, x, y)
    ratings = np.asarray([rating for _, _, rating in marks])
    for i in range(len(boxes)):
        best = float(ratings[hit[i]].max()) if hit[i].any() else -np.inf
        gathered.boxes.append((best, patient))
    gathered.false += [(float(ratings[j]), patient) for j in np.flatnonzero(~hit.any(0))]


def _arrays(
    pairs: Sequence[tuple[float, str]],
) -> tuple[NDArray[np.float64], NDArray[np.str_]]:
    return (
        np.asarray([value for value, _ in pairs], np.float64),
        np.asarray([name for _, name in pairs], np.str_),
    )
