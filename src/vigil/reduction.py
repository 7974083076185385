"""Means of blocks of pixels, and where a reduced picture's pixels lie."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from vigil.elements import integer
from vigil.radiograph import ImageDescription, Sampling

_PIXEL_DATA = 0x7FE00010
_STRIP_BYTES = 1 << 19


def average_blocks(values: NDArray[np.integer], step: int) -> NDArray[np.integer]:
    """Return the means of ``step`` × ``step`` blocks, rounded; ``step`` is a power of two.

    Rows and columns that fill no block are continued to fill one.
    """
    rows, columns = values.shape
    below, right = -rows % step, -columns % step
    if below or right:
        values = cv2.copyMakeBorder(values, 0, below, 0, right, cv2.BORDER_REPLICATE)
    while step > 1:
        # Halving is what OpenCV has vector instructions for.
        half = (values.shape[1] // 2, values.shape[0] // 2)
        values = cv2.resize(values, half, interpolation=cv2.INTER_AREA)
        step //= 2
    return values


def average_in_file(
    dataset: Dataset, description: ImageDescription, path: Path, step: int
) -> NDArray[np.unsignedinteger] | None:
    """Average uncompressed pixels a strip at a time, as they are read from the file.

    Reading into one small buffer is as fast as mapping the file, and a disk that fails is an
    error here instead of the end of the process. With a ``step`` of 1 the pixels are read as they
    are. None where the object is not so simple.
    """
    element = dataset.get_item(_PIXEL_DATA, keep_deferred=True)
    offset = getattr(element, "value_tell", 0)
    rows, columns = description.rows, description.columns
    sample = np.dtype("<u2" if integer(dataset, "BitsAllocated") == 16 else "u1")
    row_bytes = columns * sample.itemsize
    if not offset or element is None or getattr(element, "value", b"") is not None:
        return None
    if getattr(element, "length", 0) < rows * row_bytes:
        return None  # what follows in the file is another element's, no pixels
    strip_rows = max(step, _STRIP_BYTES // row_bytes // step * step)
    averaged = np.empty((-(-rows // step), -(-columns // step)), sample)
    buffer = None if step == 1 else np.empty((min(strip_rows, rows), columns), sample)
    highest = 0
    with path.open("rb", buffering=0) as file:
        file.seek(offset)
        for first in range(0, rows, strip_rows):
            count = min(strip_rows, rows - first)
            strip = averaged[first : first + count] if buffer is None else buffer[:count]
            view, read = strip.view(np.uint8).reshape(-1).data, 0
            while read < len(view):
                received = file.readinto(view[read:])
                if not received:
                    return None  # cut short: pydicom tells how
                read += received
            highest = max(highest, int(strip.max()))
            if buffer is not None:
                small = average_blocks(strip, step)
                averaged[first // step : first // step + small.shape[0]] = small
    # Bits above the stored ones have to go before anything is averaged.
    if highest >= 1 << integer(dataset, "BitsStored"):
        return None
    return averaged.astype(sample.newbyteorder("="), copy=False)


def lay_out(values: NDArray[Any], sampling: Sampling) -> NDArray[Any]:
    """Move samples to where the pixels of a picture of their number would lie.

    A low-pass sample is centred on every ``step``-th pixel (ISO/IEC 15444-1 F.3), not on the
    middle of a block, and the last block may reach beyond the picture. Left as they are, the
    picture would lie askew by a few of the whole one's pixels, which the scores show.
    """
    matrix = np.zeros((2, 3))
    for axis, length in enumerate((sampling.columns, sampling.rows)):
        scale = length / (values.shape[1 - axis] * sampling.step)
        centre = 0.5 / sampling.step if sampling.low_pass else 0.5
        # Column or row i of the result lies at scale * i + (scale / 2 - centre) of the samples.
        matrix[axis, axis], matrix[axis, 2] = scale, scale / 2 - centre
    if np.array_equal(matrix, np.eye(2, 3)):
        return values
    # Half a sample is far: linear interpolation would blur what a low-pass band has left.
    how = cv2.INTER_CUBIC if sampling.low_pass else cv2.INTER_LINEAR
    moved: NDArray[Any] = cv2.warpAffine(
        values,
        matrix,
        values.shape[::-1],
        flags=how | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return moved
