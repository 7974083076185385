"""What a finding's map shows of a place: one rule for the page, the DICOM results and the figures.

A map says of each place what the probability would be if all of the picture looked like it. Where
no place stands out, the map shows none, and nobody offers it.
"""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

REGION_LEVEL = 0.5
"""Where a region ends: half of the way from the map's median to its highest place, in logits."""

_GRID = 512
_LEAST_PROBABILITY = 0.001
_LEAST_CONTRAST = 1.0
_DOUBT = 1e-4
_LEAST_AREA = 0.002
_TOLERANCE = 0.0015


def emphasis_of(map_: NDArray[np.floating[Any]]) -> NDArray[np.float32] | None:
    """Return how much each place speaks for a finding, against the middle of the picture.

    A class activation map adds up logits; as probabilities they saturate, and a region drawn there
    would grow with the certainty of the finding. What the map says of places is in the logits.

    Parameters
    ----------
    map_
        (h, w) in 0…1: what the probability would be if all of the picture looked like this place.

    Returns
    -------
    NDArray[np.float32] or None
        (h, w): 1 at the highest place, 0 at the median, less below it; None where the highest place
        is less than one logit above the median, for such a map shows no place.
    """
    values = np.asarray(map_, np.float32)
    if values.ndim != 2 or values.size == 0 or not np.isfinite(values).all():
        return None
    bounded = values.clip(_LEAST_PROBABILITY, 1 - _LEAST_PROBABILITY)
    logits = np.log(bounded / (1 - bounded))
    middle, top = float(np.median(logits)), float(logits.max())
    if top - middle < _LEAST_CONTRAST:
        return None
    emphasis: NDArray[np.float32] = ((logits - middle) / (top - middle)).astype(np.float32)
    return emphasis


def shows_place(map_: NDArray[np.floating[Any]]) -> bool:
    """Return whether :func:`emphasis_of` finds a place in a map, without working it out.

    Logits rise with the probability, so the highest and the middle place can be found among the
    probabilities, and only those need a logarithm.
    """
    values = np.asarray(map_, np.float32)
    if values.ndim != 2 or values.size == 0 or not np.isfinite(values).all():
        return False
    flat = values.ravel()
    half = (flat.size - 1) // 2, flat.size // 2

    def logits(probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
        bounded = probabilities.clip(_LEAST_PROBABILITY, 1 - _LEAST_PROBABILITY)
        ratios: NDArray[np.float32] = np.log(bounded / (1 - bounded))
        return ratios

    top, lowest = (float(v) for v in logits(np.array([flat.max(), flat.min()])))
    if top - lowest < _LEAST_CONTRAST:
        return False  # the middle is no lower than the lowest
    # Counting what lies below is faster than sorting, and leaves few maps in doubt.
    limit = 1 / (1 + np.exp(_LEAST_CONTRAST - top))
    if np.count_nonzero(flat < limit - _DOUBT) > half[1]:
        return True
    if np.count_nonzero(flat < limit + _DOUBT) <= half[0]:
        return False
    middle = float(np.mean(logits(np.partition(flat, half)[list(half)])))
    return top - middle >= _LEAST_CONTRAST


def outline_of(map_: NDArray[np.floating[Any]], level: float) -> NDArray[np.float64] | None:
    """Return where a map is high: the largest patch at or over a level set.

    Parameters
    ----------
    map_
        (h, w) in 0…1 over the whole picture.
    level
        Share of the way from the map's median to its highest place, in logits, between 0 and 1.

    Returns
    -------
    NDArray[np.float64] or None
        (n, 2) closed polygon of (x, y) in 0…1 of the picture's width and height, its last point
        the first again; None where the map shows no place.
    """
    emphasis = emphasis_of(map_)
    if emphasis is None:
        return None
    scale = _GRID / max(emphasis.shape)
    height, width = (max(1, round(side * scale)) for side in emphasis.shape)
    fine = cv2.resize(emphasis, (width, height), interpolation=cv2.INTER_LINEAR)
    mask = (fine >= level).astype(np.uint8)
    # A border of one, so that a patch at the edge is closed there.
    contours, _ = cv2.findContours(
        np.pad(mask, 1), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE, offset=(-1, -1)
    )
    largest = max(contours, key=cv2.contourArea, default=None)
    if largest is None or cv2.contourArea(largest) < _LEAST_AREA * mask.size:
        return None
    polygon = cv2.approxPolyDP(largest, _TOLERANCE * _GRID, closed=True)[:, 0].astype(np.float64)
    if len(polygon) < 3:
        return None
    # A contour runs through the centres of its outermost cells.
    polygon = (polygon + 0.5) / (width, height)
    return np.vstack([polygon, polygon[:1]])


def hottest_point(emphasis: NDArray[np.float32]) -> tuple[float, float]:
    """Return (x, y) in 0…1 of the picture's width and height where a map is highest."""
    rows, columns = emphasis.shape
    row, column = divmod(int(emphasis.argmax()), columns)
    return (column + 0.5) / columns, (row + 0.5) / rows
