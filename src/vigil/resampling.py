"""Pictures made smaller by linear weights: two products with matrices that are nearly empty.

An output pixel is a weighted sum of a few neighbours along each axis. Written as products of small
matrices this takes a sixth of the time of OpenCV's area interpolation, whose loop is scalar where
the factor is no whole number, and is as exact.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_KERNEL_DEVIATIONS = 4.0
# Two outputs at a time share most of their neighbours, and products as small as these are not
# worth a thread to OpenBLAS, which would take the cores that other pictures are judged on.
_ROWS, _COLUMNS = 2, 4
_WIDEST = 2048


class Band(NamedTuple):
    """Some outputs of an axis, and the inputs that they are made of."""

    outputs: slice
    inputs: slice
    weights: NDArray[np.float32]
    """(outputs, inputs)."""


@dataclass(frozen=True, eq=False)
class Axis:
    """How one axis of a picture becomes shorter.

    Attributes
    ----------
    length, size
        Pixels before and after.
    totals
        (size,) float32: what an output's weights add up to; less than 1 where it reaches beyond
        the picture.
    rows, columns
        The weights for a vertical and a horizontal axis.
    """

    length: int
    size: int
    totals: NDArray[np.float32]
    rows: tuple[Band, ...]
    columns: tuple[Band, ...]


def resample(
    pixels: NDArray[np.uint16] | NDArray[np.float32], vertical: Axis, horizontal: Axis
) -> NDArray[np.float32]:
    """Return a picture of (vertical.size, horizontal.size) float32.

    Parameters
    ----------
    pixels
        (vertical.length, horizontal.length).
    vertical, horizontal
        How the axes become shorter.
    """
    shorter = np.empty((vertical.size, horizontal.length), np.float32)
    for left in range(0, horizontal.length, _WIDEST):
        strip = slice(left, left + _WIDEST)
        for band in vertical.rows:
            near = pixels[band.inputs, strip].astype(np.float32, copy=False)
            np.matmul(band.weights, near, out=shorter[band.outputs, strip])
    result = np.empty((vertical.size, horizontal.size), np.float32)
    for band in horizontal.columns:
        result[:, band.outputs] = shorter[:, band.inputs] @ band.weights.T
    return result


@lru_cache(maxsize=64)
def area_axis(length: int, size: int) -> Axis:
    """Return exact area averaging: each output is the mean of what it covers, in part or whole."""
    edges = np.arange(size + 1) * length / size

    def bands(outputs: int) -> tuple[Band, ...]:
        found = []
        for start in range(0, size, outputs):
            held = slice(start, min(start + outputs, size))
            inputs = slice(int(edges[held.start]), min(length, math.ceil(edges[held.stop])))
            pixels = np.arange(inputs.start, inputs.stop)
            ends = np.minimum(edges[held.start + 1 : held.stop + 1, np.newaxis], pixels + 1)
            begins = np.maximum(edges[held.start : held.stop, np.newaxis], pixels)
            weights = (ends - begins).clip(0) * (size / length)
            found.append(Band(held, inputs, weights.astype(np.float32)))
        return tuple(found)

    return Axis(length, size, np.ones(size, np.float32), bands(_ROWS), bands(_COLUMNS))


@lru_cache(maxsize=4)
def gaussian_axis(length: int, size: int) -> Axis:
    """Return a Gaussian against aliasing, then linear interpolation; 0 lies beyond the picture.

    This is ``skimage.transform.resize(order=1, mode="constant", anti_aliasing=True)`` along one
    axis, written as the matrix that it is.
    """
    factor = length / size
    deviation = max(0.0, (factor - 1) / 2)
    radius = int(_KERNEL_DEVIATIONS * deviation + 0.5)
    taps = np.arange(-radius, radius + 1)
    kernel = np.exp(-0.5 * (taps / max(deviation, 1e-9)) ** 2)
    kernel /= kernel.sum()
    centres = (np.arange(size) + 0.5) * factor - 0.5
    lower = np.floor(centres).astype(int)
    weights = np.zeros((size, length))
    for sample, share in ((lower, 1 - (centres - lower)), (lower + 1, centres - lower)):
        known = (sample >= 0) & (sample < length)
        columns = sample[:, np.newaxis] + taps
        shares = share[:, np.newaxis] * kernel
        inside = (columns >= 0) & (columns < length) & known[:, np.newaxis]
        outputs = np.broadcast_to(np.arange(size)[:, np.newaxis], columns.shape)
        np.add.at(weights, (outputs[inside], columns[inside]), shares[inside])
    exact = weights.astype(np.float32)

    def bands(outputs: int) -> tuple[Band, ...]:
        found = []
        for start in range(0, size, outputs):
            block = exact[start : start + outputs]
            used = np.flatnonzero(block.any(0))
            inputs = slice(int(used[0]), int(used[-1]) + 1)
            held = slice(start, start + len(block))
            found.append(Band(held, inputs, np.ascontiguousarray(block[:, inputs])))
        return tuple(found)

    return Axis(length, size, exact.sum(1), bands(_ROWS), bands(_COLUMNS))
