"""Lungs and heart as the network outlines them, and the cardiothoracic ratio of the outlines.

The ratio is the heart's greatest transverse diameter over the thorax's greatest inner one (Danzer
1919), each measured across the whole structure: from its outermost point on one side to that on
the other, at whatever heights they lie. On films with drawn outlines this agrees with the ratios
that came with them (``docs/decisions/cardiothoracic-ratio.md``).

Where the outlines do not carry a ratio, none is given and the reason is: a wrong number is worse
than none.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import MappingProxyType

import cv2
import numpy as np
from numpy.typing import NDArray

from vigil.preprocess import PreprocessingSpec, onto_picture
from vigil.radiograph import View

LUNGS, HEART = "lungs", "heart"

RATIO_FROM_YEARS = 15
"""Below this age the ratio is withheld: a child's heart is larger for its chest."""

AP_NOTE = "AP: the heart looks larger, and the cardiothoracic ratio with it"
LUNGS_NOT_SEEN_NOTE = "hardly any lung could be outlined: check whether this is a chest film"

Polygon = NDArray[np.float64]
"""(n, 2) closed polygon of (x, y) in 0…1 of the picture's width and height."""
Line = tuple[tuple[float, float], tuple[float, float]]
"""Two points (x, y) in 0…1 of the picture's width and height, the picture's left one first."""
_Mask = NDArray[np.bool_]
_Map = NDArray[np.float32]

_TOLERANCE = 0.004
_EDGE = 0.006
_DARK, _DARK_PERCENTILE = 0.04 * 65535, 98
# As parts of the picture's area; the smallest lungs on 723 films with drawn outlines are 0.083.
_LEAST_LUNGS, _LEAST_HEART = 0.02, 0.01
# A patch of a lung counts from this part of the largest one on.
_LEAST_PATCH = 0.10
_LEAST_SIDE = 0.15
_NOTED_CUT = 0.04
_BOTTOM_CUT = 0.05
_WALL = 0.02
_LEAST_RATIO, _GREATEST_RATIO = 0.25, 0.85


class NoRatio(StrEnum):
    """Why no cardiothoracic ratio is given."""

    LUNGS_NOT_FOUND = "LUNGS_NOT_FOUND"
    HEART_NOT_FOUND = "HEART_NOT_FOUND"
    LUNG_MISSING = "LUNG_MISSING"
    CUT_OFF = "CUT_OFF"
    IMPLAUSIBLE = "IMPLAUSIBLE"
    CHILD = "CHILD"


NO_RATIO_REASONS = MappingProxyType(
    {
        NoRatio.LUNGS_NOT_FOUND: "the lungs could not be outlined",
        NoRatio.HEART_NOT_FOUND: "the heart could not be outlined",
        NoRatio.LUNG_MISSING: "only one lung could be outlined",
        NoRatio.CUT_OFF: "the picture's edge cuts off the heart or the chest",
        NoRatio.IMPLAUSIBLE: "the outlines of heart and lungs do not fit together",
        NoRatio.CHILD: f"not measured below {RATIO_FROM_YEARS} years",
    }
)


@dataclass(frozen=True, eq=False)
class Anatomy:
    """Lungs and heart in one picture, upright as it was analysed.

    Attributes
    ----------
    lungs
        Outlines, the largest first; more than two where an opacity parts a lung, and one where
        both meet.
    heart
        Its outline, None if it was not found.
    heart_line, thorax_line
        The greatest transverse diameters, horizontal; None where there is no ratio.
    ratio
        The cardiothoracic ratio, None where there is none.
    no_ratio
        Why there is none.
    lungs_area
        Part of the picture that is lung, 0 to 1.
    lungs_cut
        Part of the lungs' outline along the edge of the picture, or of its exposed field.
    """

    lungs: tuple[Polygon, ...] = field(repr=False)
    heart: Polygon | None = field(repr=False)
    lungs_area: float
    lungs_cut: float
    heart_line: Line | None = None
    thorax_line: Line | None = None
    ratio: float | None = None
    no_ratio: NoRatio | None = None

    @property
    def reason(self) -> str:
        """Why there is no ratio, a sentence; empty where there is one."""
        return "" if self.no_ratio is None else NO_RATIO_REASONS[self.no_ratio]


def measure_anatomy(
    structures: Mapping[str, NDArray[np.float32]],
    pixels: NDArray[np.uint16],
    spec: PreprocessingSpec,
    shape: tuple[int, int] | None = None,
) -> Anatomy | None:
    """Outline lungs and heart and measure the cardiothoracic ratio.

    Parameters
    ----------
    structures
        Structure to (s, s) float32 probabilities over the whole square network input.
    pixels
        (rows, columns) uint16 display values of the picture, as the network saw it.
    spec
        How the input was made of them.
    shape
        Rows and columns of the whole picture, if ``pixels`` are a reduced one's.

    Returns
    -------
    Anatomy or None
        None if the network does not outline both lungs and heart.
    """
    if LUNGS not in structures or HEART not in structures:
        return None
    rows, columns = shape or pixels.shape
    lungs, heart = (_over_picture(structures[name], rows, columns, spec) for name in (LUNGS, HEART))
    seen = _over_picture(np.ones_like(structures[LUNGS]), rows, columns, spec) >= 0.5
    seen &= _field(pixels, seen.shape)
    depth = max(1, round(_EDGE * max(seen.shape)))
    edge, side = seen & ~_shrunk(seen, depth), seen & ~_shrunk(seen, depth, across_only=True)
    lung_mask = _patches(lungs)
    heart_mask = _patches(heart, most=1)
    area = float(lung_mask.mean())
    outlined = Anatomy(
        lungs=_outlines(lung_mask),
        heart=next(iter(_outlines(heart_mask)), None),
        lungs_area=area,
        lungs_cut=_part_along(lung_mask, edge),
    )
    if area < _LEAST_LUNGS:
        return replace(outlined, no_ratio=NoRatio.LUNGS_NOT_FOUND)
    if heart_mask.mean() < _LEAST_HEART:
        return replace(outlined, no_ratio=NoRatio.HEART_NOT_FOUND)
    heart_line, thorax_line = _extent(heart, heart_mask), _extent(lungs, lung_mask)
    ratio = _length(heart_line) / _length(thorax_line)
    problem = None
    if _one_sided(lung_mask, heart_line):
        problem = NoRatio.LUNG_MISSING
    elif _is_cut(heart_mask, lung_mask, edge, side):
        problem = NoRatio.CUT_OFF
    elif not (_encloses(thorax_line, heart_line) and _LEAST_RATIO <= ratio <= _GREATEST_RATIO):
        problem = NoRatio.IMPLAUSIBLE
    if problem is not None:
        return replace(outlined, no_ratio=problem)
    return replace(outlined, heart_line=heart_line, thorax_line=thorax_line, ratio=ratio)


def for_patient(anatomy: Anatomy, age_years: float | None, looks_child: bool | None) -> Anatomy:
    """Withhold the ratio from children; with an unknown age the picture's looks decide."""
    is_child = bool(looks_child) if age_years is None else age_years < RATIO_FROM_YEARS
    if not is_child:
        return anatomy
    return replace(anatomy, ratio=None, heart_line=None, thorax_line=None, no_ratio=NoRatio.CHILD)


def anatomy_notes(anatomy: Anatomy, view: View) -> list[str]:
    """Return what a reader should know of the outlines, one sentence each."""
    notes = []
    if anatomy.lungs_area < _LEAST_LUNGS:
        notes.append(LUNGS_NOT_SEEN_NOTE)
    elif anatomy.lungs_cut >= _NOTED_CUT:
        notes.append(
            f"the lungs are cut off: {anatomy.lungs_cut:.0%} of their outline is the picture's edge"
        )
    if anatomy.ratio is not None and view is View.AP:
        notes.append(AP_NOTE)
    return notes


def _over_picture(square: _Map, rows: int, columns: int, spec: PreprocessingSpec) -> _Map:
    """Lay a structure's map over the picture."""
    # At the input's own size: a smaller letterbox would be rounded to other pixels.
    full = cv2.resize(square, (spec.size, spec.size), interpolation=cv2.INTER_LINEAR)
    return onto_picture(full.astype(np.float32, copy=False), rows, columns, spec)


def _field(pixels: NDArray[np.uint16], shape: tuple[int, ...]) -> _Mask:
    """Return the exposed field: the picture without margins that are dark all along."""
    small = pixels
    if pixels.shape != shape:
        small = cv2.resize(pixels, (shape[1], shape[0]), interpolation=cv2.INTER_AREA)
    is_bright = small > _DARK
    exposed = np.zeros(shape, bool)
    spans = []
    for axis in (1, 0):
        lit = np.flatnonzero(_bright_along(small, is_bright, axis))
        spans.append(slice(lit[0], lit[-1] + 1) if lit.size else slice(None))
    exposed[spans[0], spans[1]] = True
    return exposed


def _bright_along(small: NDArray[np.uint16], is_bright: _Mask, axis: int) -> _Mask:
    """Return which columns (axis 0) or rows (axis 1) have a high percentile that is not dark.

    The percentile lies between two of a line's values. Only where one of them is dark and the
    other is not do the values matter; elsewhere it is enough to count them.
    """
    length = small.shape[axis]
    needed = length - int(_DARK_PERCENTILE / 100 * (length - 1))
    bright = is_bright.sum(axis=axis)
    lit: _Mask = bright >= needed
    for line in np.flatnonzero(bright == needed - 1):
        lit[line] = np.percentile(small.take(line, 1 - axis), _DARK_PERCENTILE) > _DARK
    return lit


def _patches(map_: _Map, most: int | None = None) -> _Mask:
    """Return where a map is at or over one half, without specks: the largest patches."""
    is_in = map_ >= 0.5
    count, labels = cv2.connectedComponents(is_in.view(np.uint8))
    if count <= 2:  # no patch, or one
        return is_in
    areas = np.bincount(labels.ravel())[1:]
    order = np.argsort(-areas, kind="stable")[:most]
    kept = order[areas[order] >= _LEAST_PATCH * areas[order[0]]]
    is_kept = np.zeros(count, bool)
    is_kept[kept + 1] = True
    found: _Mask = is_kept[labels]
    return found


def _outlines(mask: _Mask) -> tuple[Polygon, ...]:
    """Return the patches' outlines, the largest first."""
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    polygons = []
    for contour in sorted(contours, key=cv2.contourArea, reverse=True):
        points = cv2.approxPolyDP(contour, _TOLERANCE * max(mask.shape), closed=True)[:, 0]
        if len(points) >= 3:
            # A contour runs through the centres of its outermost cells.
            polygon = (points.astype(np.float64) + 0.5) / mask.shape[::-1]
            polygons.append(np.vstack([polygon, polygon[:1]]))
    return tuple(polygons)


def _shrunk(mask: _Mask, by: int, *, across_only: bool = False) -> _Mask:
    kernel = np.ones((1 if across_only else 2 * by + 1, 2 * by + 1), np.uint8)
    shrunk = cv2.erode(
        mask.astype(np.uint8), kernel, borderType=cv2.BORDER_CONSTANT, borderValue=(0,)
    )
    kept: _Mask = shrunk.astype(bool)
    return kept


def _part_along(mask: _Mask, edge: _Mask) -> float:
    """Return which part of a mask's outline lies along an edge."""
    outline = mask & ~_shrunk(mask, 1)
    total = int(outline.sum())
    return int((outline & edge).sum()) / total if total else 0.0


def _extent(map_: _Map, mask: _Mask) -> Line:
    """Return the greatest transverse diameter, between the points where the map crosses one half.

    The line lies half-way between the heights of the outermost points.
    """
    height, width = map_.shape
    rows = np.flatnonzero(mask.any(axis=1))
    left = mask[rows].argmax(axis=1)
    right = width - 1 - mask[rows, ::-1].argmax(axis=1)
    starts = left + 0.5 - _to_crossing(map_, rows, left, -1)
    ends = right + 0.5 + _to_crossing(map_, rows, right, 1)
    first, last = int(starts.argmin()), int(ends.argmax())
    y = float(rows[first] + rows[last] + 1) / 2 / height
    return (float(starts[first]) / width, y), (float(ends[last]) / width, y)


def _to_crossing(
    map_: _Map, rows: NDArray[np.intp], columns: NDArray[np.intp], step: int
) -> NDArray[np.float64]:
    """Return how far beyond a cell's centre its row falls to one half, in cells; at most 1."""
    beyond = columns + step
    is_inside = (beyond >= 0) & (beyond < map_.shape[1])
    own = map_[rows, columns].astype(np.float64)
    other = map_[rows, beyond.clip(0, map_.shape[1] - 1)].astype(np.float64)
    # A patch that reaches the picture's edge ends there.
    return np.where(is_inside, (own - 0.5) / np.where(is_inside, own - other, 1.0), 0.5)


def _length(line: Line) -> float:
    return line[1][0] - line[0][0]


def _encloses(thorax: Line, heart: Line) -> bool:
    # A very large heart reaches the chest wall and hides the lung there.
    slack = _WALL * _length(thorax)
    return thorax[0][0] - slack < heart[0][0] and heart[1][0] < thorax[1][0] + slack


def _one_sided(lungs: _Mask, heart_line: Line) -> bool:
    """Return whether nearly all of the lungs lies on one side of the heart's middle."""
    middle = round((heart_line[0][0] + heart_line[1][0]) / 2 * lungs.shape[1])
    left = lungs[:, :middle].sum() / lungs.sum()
    return not _LEAST_SIDE <= left <= 1 - _LEAST_SIDE


def _is_cut(heart: _Mask, lungs: _Mask, edge: _Mask, side: _Mask) -> bool:
    """Return whether a diameter may end beyond the edge; lungs without their tops have theirs."""
    for mask in (heart, lungs):
        outermost = np.flatnonzero(mask.any(axis=0))[[0, -1]]
        if (mask & side)[:, outermost].any():
            return True
    lower = lungs & edge
    lower[: lungs.shape[0] // 2] = False
    return bool(lower.any(axis=0).mean() >= _BOTTOM_CUT)
