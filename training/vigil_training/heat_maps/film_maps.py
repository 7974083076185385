"""Maps of films, laid over each other: what organs, boxes and other films are compared with."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vigil.heat_map import REGION_LEVEL, emphasis_of, outline_of
from vigil.triager import TriageResult
from vigil_training.heat_maps.figures import Interval
from vigil_training.manifest import Box, ManifestRow
from vigil_training.statistics import Floats, patient_weights, percentiles

SIDE = 64
"""Places along each side of a map, whatever the film's shape."""
_OTHERS = 20


@dataclass(frozen=True, eq=False)
class FilmMap:
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
        """Who it is, over all sources."""
        return f"{self.row.source}/{self.row.patient_id}"

    @cached_property
    def boxed(self) -> NDArray[np.bool_]:
        """(64, 64): the places in a box."""
        y, x = (np.mgrid[0:SIDE, 0:SIDE] + 0.5) / SIDE
        inside = np.zeros((SIDE, SIDE), np.bool_)
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


def maps_of(result: TriageResult, row: ManifestRow) -> list[FilmMap]:
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
        outline, region = outline_of(map_, REGION_LEVEL), np.zeros((SIDE, SIDE), np.uint8)
        if outline is not None:
            cv2.fillPoly(region, [np.rint(outline * SIDE - 0.5).astype(np.int32)], 1)
        found.append(
            FilmMap(
                row=row,
                label=label,
                emphasis=cv2.resize(emphasis, (SIDE, SIDE)),
                rows=rows,
                columns=columns,
                region=region.astype(np.bool_),
                flagged=label in flagged,
                boxes=tuple(box for box in row.boxes if box.label == label),
            )
        )
    return found


def maps_of_others(own: FilmMap, maps: Sequence[FilmMap]) -> list[FilmMap]:
    """Return maps of the same finding of other people, of the same source where there are any."""
    others = [m for m in maps if m.label == own.label and m.patient != own.patient]
    near = [m for m in others if m.row.source == own.row.source] or others
    return [near[i] for i in np.linspace(0, len(near) - 1, min(_OTHERS, len(near))).astype(int)]


def interval_of_mean(values: Floats, patients: Sequence[str], samples: int) -> Interval:
    """Return the 95 % interval of a mean over bootstrap samples of patients."""
    if not samples or len(set(patients)) < 2:
        return None
    weights = patient_weights(np.asarray(patients), samples)
    return percentiles((weights @ values) / weights.sum(1))
