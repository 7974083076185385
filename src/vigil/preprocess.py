"""The one way from a radiograph's pixels to the network's input.

Training, evaluation and the service all call :func:`to_model_input`; augmentation comes after it
and never replaces it. A bundle names the version of this procedure that its network was trained
with, and a program that does not know the version refuses the bundle.

Version 1, in order:

1. *Letterbox.* The longer side becomes ``size`` pixels by exact area averaging (linear
   interpolation where the picture is smaller), the aspect ratio is kept, and the rest is
   filled with black, the picture in the middle.
2. *Window.* The 0.5 and 99.5 percentiles of the picture itself, without the filling, become 0
   and 1; what lies outside is clipped. A site's own window therefore matters less.
3. *Standardise.* ``(x - 0.5) / 0.25``; the filling is 0 before this step.
"""

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

KNOWN_VERSIONS = frozenset({1})
_LOW_PERCENTILE, _HIGH_PERCENTILE = 0.5, 99.5
_MEAN, _STANDARD_DEVIATION = 0.5, 0.25


@dataclass(frozen=True)
class PreprocessingSpec:
    """What a bundle says about its network's input.

    Attributes
    ----------
    version
        The version of the procedure, one of ``KNOWN_VERSIONS``.
    size
        Side of the square input in pixels.
    """

    version: int = 1
    size: int = 224

    def __post_init__(self) -> None:
        if self.version not in KNOWN_VERSIONS:
            known = ", ".join(str(v) for v in sorted(KNOWN_VERSIONS))
            raise ValueError(
                f"preprocessing version {self.version} is unknown; this software knows {known}"
            )
        if not 32 <= self.size <= 2048:
            raise ValueError(f"preprocessing size is {self.size}, expected 32 to 2048 pixels")


class Letterbox(NamedTuple):
    """Where the picture lies inside the square input, in input pixels."""

    top: int
    left: int
    height: int
    width: int


def letterbox_of(rows: int, columns: int, size: int) -> Letterbox:
    """Return where a ``rows`` × ``columns`` picture lies inside a square of ``size`` pixels."""
    scale = size / max(rows, columns)
    height = min(size, max(1, round(rows * scale)))
    width = min(size, max(1, round(columns * scale)))
    return Letterbox((size - height) // 2, (size - width) // 2, height, width)


def to_model_input(pixels: NDArray[np.uint16], spec: PreprocessingSpec) -> NDArray[np.float32]:
    """Turn display values into the network's input.

    Parameters
    ----------
    pixels
        (rows, columns) uint16 display values, 0 black to 65535 white, bone bright.
    spec
        The bundle's preprocessing specification.

    Returns
    -------
    NDArray[np.float32]
        (1, 1, size, size), standardised; see the module's text for the procedure.

    Raises
    ------
    ValueError
        If ``pixels`` is not a two-dimensional, non-empty uint16 array.
    """
    if pixels.ndim != 2 or pixels.size == 0 or pixels.dtype != np.uint16:
        raise ValueError(
            f"expected a non-empty (rows, columns) uint16 array, found {pixels.dtype} "
            f"of shape {pixels.shape}"
        )
    rows, columns = pixels.shape
    box = letterbox_of(rows, columns, spec.size)
    shrinks = max(pixels.shape) > spec.size
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    reduced = cv2.resize(pixels, (box.width, box.height), interpolation=interpolation)
    low, high = np.percentile(reduced, (_LOW_PERCENTILE, _HIGH_PERCENTILE))
    windowed = (reduced.astype(np.float32) - np.float32(low)) / np.float32(max(high - low, 1.0))
    canvas = np.zeros((spec.size, spec.size), np.float32)
    canvas[box.top : box.top + box.height, box.left : box.left + box.width] = windowed.clip(0, 1)
    standardised: NDArray[np.float32] = (canvas - _MEAN) / np.float32(_STANDARD_DEVIATION)
    return standardised[np.newaxis, np.newaxis]
