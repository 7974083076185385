"""From a finding's map to an outline in the source picture.

A picture may have been turned before it was analysed; its maps then lie over the turned picture,
and an outline has to be turned back before it is laid over the source.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

_NOTE = re.compile(r"^the picture was (?P<what>.+) before it was analysed$")
_TURN = re.compile(r"turned (?P<degrees>90|180)°(?P<way> clockwise| anticlockwise)?")
_QUARTERS = {"90 clockwise": 1, "180": 2, "90 anticlockwise": 3}
_GRID = 512
_LEAST_PROBABILITY = 0.001
_LEAST_CONTRAST = 1.0
_LEAST_AREA = 0.002
_TOLERANCE = 0.0015


@dataclass(frozen=True)
class Correction:
    """What was done to a picture before it was analysed.

    Attributes
    ----------
    quarter_turns
        Clockwise, 0 to 3.
    is_inverted
        Whether black and white were swapped; this moves nothing.
    """

    quarter_turns: int = 0
    is_inverted: bool = False


def correction_of(notes: Iterable[str]) -> Correction | None:
    """Return what the core's notes say was done to a picture (see :mod:`vigil.triager`).

    None means something that is not known here: no outline can be laid over the source then.
    """
    for note in notes:
        if not (match := _NOTE.match(note)):
            continue
        what = match["what"]
        turn = _TURN.search(what)
        rest = (_TURN.sub("", what) if turn else what).replace(" and ", "").strip()
        if rest not in {"", "inverted"}:
            return None
        quarters = _QUARTERS[f"{turn['degrees']}{turn['way'] or ''}"] if turn else 0
        return Correction(quarters, rest == "inverted")
    return Correction()


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


def to_source(polygon: NDArray[np.float64], correction: Correction) -> NDArray[np.float64]:
    """Turn a polygon in 0…1 of the analysed picture back into 0…1 of the source picture."""
    x, y = polygon[:, 0], polygon[:, 1]
    turned = {
        0: (x, y),
        1: (y, 1 - x),
        2: (1 - x, 1 - y),
        3: (1 - y, x),
    }[correction.quarter_turns]
    return np.stack(turned, axis=1)


def in_pixels(polygon: NDArray[np.float64], rows: int, columns: int) -> NDArray[np.float64]:
    """Scale a polygon in 0…1 to pixel coordinates (column, row) to a tenth of a pixel.

    The corner of the first pixel is 0\\0, its centre 0.5\\0.5 (DICOM PS3.3 C.18.6.1.2).
    """
    scaled = np.round(polygon * (columns, rows), 1)
    return np.clip(scaled, 0, (columns, rows))
