"""From an outline over the analysed picture to one in the source picture.

A picture may have been turned before it was analysed; its maps then lie over the turned picture,
and an outline has to be turned back before it is laid over the source.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_NOTE = re.compile(r"^the picture was (?P<what>.+) before it was analysed$")
_TURN = re.compile(r"turned (?P<degrees>90|180)°(?P<way> clockwise| anticlockwise)?")
_QUARTERS = {"90 clockwise": 1, "180": 2, "90 anticlockwise": 3}


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
