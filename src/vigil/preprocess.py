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

Version 2 is what torchxrayvision's published models were trained on and are used with
(``XRayCenterCrop``, then ``XRayResizer`` with its default engine), in order:

1. *Crop* to the central square, its side the shorter one of the picture.
2. *Scale.* The whole range of display values becomes -1024 to 1024: the window is the file's own.
3. *Resize* to ``size`` by a Gaussian of deviation (side / ``size`` - 1) / 2 and linear
   interpolation at the pixels' centres; outside the square lies 0, the middle of the range.

What is cut off is not seen by the network, so a result says so: see :func:`unseen_fraction`.
"""

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from vigil.radiograph import LeastSide
from vigil.resampling import area_axis, gaussian_axis, resample

KNOWN_VERSIONS = frozenset({1, 2})
_LOW_PERCENTILE, _HIGH_PERCENTILE = 0.5, 99.5
_MEAN, _STANDARD_DEVIATION = 0.5, 0.25
_HALF_RANGE = 1024.0
# Measured on films of 3000 pixels, see docs/decisions/reduced-decoding.md.
_AVERAGED_OVERSAMPLING, _LOW_PASS_OVERSAMPLING = 5.0, 2.5


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


class Crop(NamedTuple):
    """The central square of a picture, in its own pixels."""

    top: int
    left: int
    side: int


def crop_of(rows: int, columns: int) -> Crop:
    """Return the central square of a ``rows`` × ``columns`` picture."""
    side = min(rows, columns)
    return Crop(rows // 2 - side // 2, columns // 2 - side // 2, side)


def unseen_fraction(rows: int, columns: int, spec: PreprocessingSpec) -> float:
    """Return the part of a picture, 0 to 1, that is cut off before the network sees it."""
    return 0.0 if spec.version == 1 else 1 - min(rows, columns) / max(rows, columns)


def onto_picture(
    square: NDArray[np.float32], rows: int, columns: int, spec: PreprocessingSpec
) -> NDArray[np.float32]:
    """Lay a map of the square input back over the picture that the input was made of.

    Parameters
    ----------
    square
        (s, s) float32 over the whole input.
    rows, columns
        The picture's size.
    spec
        How the input was made.

    Returns
    -------
    NDArray[np.float32]
        (h, w) over the whole picture, its longer side s; 0 where the network saw nothing.
    """
    box = letterbox_of(rows, columns, square.shape[0])
    if spec.version == 1:
        seen = square[box.top : box.top + box.height, box.left : box.left + box.width]
        return np.ascontiguousarray(seen)
    crop = crop_of(rows, columns)
    side = min(box.height, box.width)
    top = min(round(crop.top * box.height / rows), box.height - side)
    left = min(round(crop.left * box.width / columns), box.width - side)
    picture = np.zeros((box.height, box.width), np.float32)
    picture[top : top + side, left : left + side] = cv2.resize(square, (side, side))
    return picture


def least_side_of(spec: PreprocessingSpec) -> LeastSide | None:
    """Return how small a picture may be read for the network to see what it sees of the whole one.

    None is whole: version 2's Gaussian is made for the picture's own pixels.
    """
    if spec.version == 2:
        return None
    return LeastSide(
        round(_AVERAGED_OVERSAMPLING * spec.size), round(_LOW_PASS_OVERSAMPLING * spec.size)
    )


def to_model_input(
    pixels: NDArray[np.uint16], spec: PreprocessingSpec, shape: tuple[int, int] | None = None
) -> NDArray[np.float32]:
    """Turn display values into the network's input.

    Parameters
    ----------
    pixels
        (rows, columns) uint16 display values, 0 black to 65535 white, bone bright.
    spec
        The bundle's preprocessing specification.
    shape
        Rows and columns of the whole picture, if ``pixels`` are a reduced one's: it is laid where
        the whole one would lie, however its own size was rounded.

    Returns
    -------
    NDArray[np.float32]
        (1, 1, size, size): standardised in version 1, -1024 to 1024 in version 2; see the
        module's text for the procedures.

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
    if spec.version == 2:
        return _cropped(pixels, spec.size)[np.newaxis, np.newaxis]
    rows, columns = shape or pixels.shape
    box = letterbox_of(rows, columns, spec.size)
    if pixels.shape != (box.height, box.width):
        pixels = fit_to_input(pixels, spec.size, (rows, columns))
    return _letterboxed(pixels, box, spec.size)[np.newaxis, np.newaxis]


def fit_to_input(
    pixels: NDArray[np.uint16], size: int, shape: tuple[int, int] | None = None
) -> NDArray[np.uint16]:
    """Return a picture at the size that it has in version 1's input: its first step.

    :func:`to_model_input` goes on from there, given the same ``shape``; whoever needs the picture
    at this size for something else too spares the second reduction.
    """
    rows, columns = shape or pixels.shape
    box = letterbox_of(rows, columns, size)
    if max(pixels.shape) > size:
        vertical, horizontal = map(area_axis, pixels.shape, (box.height, box.width))
        return np.rint(resample(pixels, vertical, horizontal)).astype(np.uint16)
    enlarged: NDArray[np.uint16] = cv2.resize(
        pixels, (box.width, box.height), interpolation=cv2.INTER_LINEAR
    )
    return enlarged


def percentile_of(ascending: NDArray[np.uint16], wanted: float) -> float:
    """Return a percentile of values in ascending order, as ``np.percentile`` interpolates it.

    A radix sort of 16 bits takes half the time of ``np.percentile``, and serves every percentile.
    """
    place = wanted / 100 * (ascending.size - 1)
    below = min(int(place), ascending.size - 1)
    low, high = float(ascending[below]), float(ascending[min(below + 1, ascending.size - 1)])
    part = place - below
    return low + (high - low) * part if part < 0.5 else high - (high - low) * (1 - part)


def _letterboxed(reduced: NDArray[np.uint16], box: Letterbox, size: int) -> NDArray[np.float32]:
    """Return version 1's (size, size) input of a picture that has its size there."""
    ascending = np.sort(reduced, axis=None, kind="stable")
    low, high = (percentile_of(ascending, p) for p in (_LOW_PERCENTILE, _HIGH_PERCENTILE))
    windowed = (reduced.astype(np.float32) - np.float32(low)) / np.float32(max(high - low, 1.0))
    canvas = np.zeros((size, size), np.float32)
    canvas[box.top : box.top + box.height, box.left : box.left + box.width] = windowed.clip(0, 1)
    standardised: NDArray[np.float32] = (canvas - _MEAN) / np.float32(_STANDARD_DEVIATION)
    return standardised


def _cropped(pixels: NDArray[np.uint16], size: int) -> NDArray[np.float32]:
    """Return version 2's (size, size) input."""
    crop = crop_of(*pixels.shape)
    square = pixels[crop.top : crop.top + crop.side, crop.left : crop.left + crop.side]
    axis = gaussian_axis(crop.side, size)
    # Scaling is linear, so it may follow; near the border a row's weights add up to less than 1.
    scaled = resample(square, axis, axis) * np.float32(2 * _HALF_RANGE / 65535)
    beyond = np.float32(_HALF_RANGE) * axis.totals[:, np.newaxis] * axis.totals
    result: NDArray[np.float32] = scaled - beyond
    return result
