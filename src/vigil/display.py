"""The DICOM display pipeline: stored values to display values.

In the standard's order (PS3.4 N.2, PS3.3 C.7.6.3, C.11): padding is masked, then Modality LUT,
then VOI LUT or window, then one inversion if the picture is MONOCHROME1 or its presentation is
INVERSE, and last the shutter. A stored value has at most 16 bits, so everything up to the
inversion is worked out once for each value that can occur and looked up for each pixel.
"""

import cv2
import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.pixels.processing import apply_modality_lut, apply_voi, apply_windowing

from vigil.elements import items, number, numbers, text, texts
from vigil.radiograph import Sampling

_LOW_PERCENTILE, _HIGH_PERCENTILE = 0.5, 99.5
# A window is absurd if it leaves nearly all pixels black or white, or spreads them over almost
# none of its width. Radiographs have wide collimated borders, so the first limit is generous.
_MOST_CLIPPED = 0.97
_LEAST_SPREAD = 0.05
_BLACK = 0.02
_EXACT_IN_FLOAT = 1 << 24


class WholePictureNeeded(Exception):
    """A reduced picture would not show what the whole one shows."""


def to_display(
    stored: NDArray[np.integer], dataset: Dataset, sampling: Sampling | None = None
) -> tuple[NDArray[np.uint16], tuple[str, ...]]:
    """Apply the display pipeline.

    Parameters
    ----------
    stored
        (rows, columns) stored values, at most 16 bits.
    dataset
        The header with its LUTs, windows, padding and shutter.
    sampling
        What the pixels were made of if they are a reduced picture's.

    Returns
    -------
    pixels
        (rows, columns) uint16, 0 black to 65535 white, bone bright.
    notes
        What had to be assumed, one sentence each.

    Raises
    ------
    WholePictureNeeded
        If the picture is a reduced one and has padding that would be bright if it were not masked:
        along its border padding and tissue are mixed, and no value tells them apart.
    """
    notes: list[str] = []
    smallest, largest = int(stored.min()), int(stored.max())
    codes = np.arange(smallest, largest + 1, dtype=np.int32)
    offsets, first = offsets_of(stored, smallest)
    counts = histogram(offsets, codes.size, first)
    padding = padding_codes(codes, dataset)
    is_padded = bool(counts[padding].any())
    if is_padded and not counts[~padding].any():
        padding[:] = is_padded = False
        notes.append("the padding value covers the whole picture and was ignored")
    counts[padding] = 0

    values, modality_note = rescaled(codes, dataset)
    shown, voi_note = _value_of_interest(values, counts, dataset)
    notes += [note for note in (modality_note, voi_note) if note]
    if is_inverted(dataset):
        shown = 1 - shown
    if sampling is not None and is_padded and shown[padding].max() > _BLACK:
        raise WholePictureNeeded
    shown[padding] = 0
    table = np.rint(shown * 65535).astype(np.uint16)
    # OpenCV looks up all 16 bits without a check of each; no offset lies outside the table.
    whole_table = np.zeros(1 << 16, np.uint16)
    whole_table[first : first + table.size] = table
    pixels: NDArray[np.uint16] = cv2.LUT(offsets, whole_table)

    shape = pixels.shape if sampling is None else (sampling.rows, sampling.columns)
    inside, note = inside_shutter(shape, dataset)
    if note:
        notes.append(note)
    if inside is not None and sampling is None:
        pixels[inside == 0] = 0
    elif inside is not None and sampling is not None:
        share = cv2.resize(
            inside.astype(np.float32), pixels.shape[::-1], interpolation=cv2.INTER_AREA
        )
        pixels = np.rint(pixels * share).astype(np.uint16)
    return pixels, tuple(notes)


def offsets_of(stored: NDArray[np.integer], smallest: int) -> tuple[NDArray[np.uint16], int]:
    """Return the values as 16 bits without a sign, and which of these is the smallest one."""
    if stored.dtype == np.uint16:
        return stored.view(np.uint16), smallest
    if stored.dtype == np.uint8:
        return stored.astype(np.uint16), smallest
    return (stored.astype(np.int32) - smallest).astype(np.uint16), 0


def histogram(offsets: NDArray[np.uint16], size: int, first: int = 0) -> NDArray[np.int64]:
    """Return how often each of ``size`` values occurs, counted from ``first``."""
    if offsets.size >= _EXACT_IN_FLOAT:
        return np.bincount(offsets.ravel(), minlength=first + size)[first:]
    counts = cv2.calcHist([offsets], [0], None, [size], [first, first + size])
    return np.asarray(counts).ravel().astype(np.int64)


def is_inverted(dataset: Dataset) -> bool:
    """Return whether low values are to be shown bright (PS3.3 C.7.6.3.1.2 and C.11.6.1.2).

    Both attributes say the same thing; two of them do not make two inversions.
    """
    return (
        text(dataset, "PhotometricInterpretation") == "MONOCHROME1"
        or text(dataset, "PresentationLUTShape") == "INVERSE"
    )


def padding_codes(codes: NDArray[np.int32], dataset: Dataset) -> NDArray[np.bool_]:
    """Return which stored values are padding (PS3.3 C.7.5.1.1.2)."""
    first = number(dataset, "PixelPaddingValue")
    if first is None:
        return np.zeros(codes.shape, bool)
    last = number(dataset, "PixelPaddingRangeLimit")
    low, high = sorted((first, first if last is None else last))
    return np.asarray((codes >= low) & (codes <= high))


def rescaled(codes: NDArray[np.int32], dataset: Dataset) -> tuple[NDArray[np.float64], str]:
    """Return the modality value of each stored value (PS3.3 C.11.1), and a note if one was lost."""
    try:
        return np.asarray(apply_modality_lut(codes, dataset), np.float64), ""
    except Exception:  # pydicom raises whatever a damaged table makes it meet
        return codes.astype(np.float64), "the Modality LUT is damaged and was ignored"


def _value_of_interest(
    values: NDArray[np.float64], counts: NDArray[np.int64], dataset: Dataset
) -> tuple[NDArray[np.float64], str]:
    """Return display values in 0…1 for each modality value, and a note if a choice was made.

    Several window centres or VOI LUTs are alternative views (PS3.3 C.11.2.1.2); the first is
    the default.
    """
    tables, note = items(dataset, "VOILUTSequence"), ""
    if tables:
        try:
            shown = np.asarray(apply_voi(values.astype(np.int64), dataset, index=0), np.float64)
            bits = int(tables[0].LUTDescriptor[2])
            return (shown / ((1 << bits) - 1)).clip(0, 1), ""
        except Exception:  # pydicom raises whatever a damaged table makes it meet
            note = "the VOI LUT is damaged and was ignored"
    center, width = number(dataset, "WindowCenter"), number(dataset, "WindowWidth")
    if center is not None and width is not None:
        shown_or_none = windowed(values, center, width, dataset)
        if shown_or_none is not None and is_plausible(shown_or_none, counts):
            return shown_or_none, note
        note = "the window does not fit the pixels, so it was set from their percentiles"
    low, high = percentiles(values, counts)
    return ((values - low) / max(high - low, 1e-9)).clip(0, 1), note


def windowed(
    values: NDArray[np.float64], center: float, width: float, dataset: Dataset
) -> NDArray[np.float64] | None:
    """Return the windowed values in 0…1 by the header's function (PS3.3 C.11.2.1.2.1, .3)."""
    function = text(dataset, "VOILUTFunction").upper() or "LINEAR"
    if width < 1 and not (function in ("LINEAR_EXACT", "SIGMOID") and width > 0):
        return None
    # pydicom scales its result to the stored bits; the header is reduced to what it needs so that
    # the result is always 0…65535.
    window = Dataset()
    window.WindowCenter, window.WindowWidth = center, width
    window.VOILUTFunction = function
    window.PhotometricInterpretation = "MONOCHROME2"
    window.BitsStored, window.PixelRepresentation = 16, 0
    try:
        return np.asarray(apply_windowing(values, window), np.float64) / 65535
    except ValueError:
        return None


def is_plausible(shown: NDArray[np.float64], counts: NDArray[np.int64]) -> bool:
    """Return whether a window shows something of the picture: neither one grey nor two."""
    total = counts.sum()
    if np.count_nonzero(counts) < 2:
        return True
    black, white = counts[shown <= 0].sum() / total, counts[shown >= 1].sum() / total
    low, high = percentiles(shown, counts)
    return max(black, white) < _MOST_CLIPPED and high - low > _LEAST_SPREAD


def percentiles(
    values: NDArray[np.float64],
    counts: NDArray[np.int64],
    wanted: tuple[float, float] = (_LOW_PERCENTILE, _HIGH_PERCENTILE),
) -> tuple[float, float]:
    """Return two percentiles of values that occur so often; by default nearly the whole range."""
    order = np.argsort(values, kind="stable")
    cumulative = np.cumsum(counts[order])
    low, high = (
        values[order[min(np.searchsorted(cumulative, cumulative[-1] * q / 100), order.size - 1)]]
        for q in wanted
    )
    return float(low), float(high)


def inside_shutter(
    shape: tuple[int, ...], dataset: Dataset
) -> tuple[NDArray[np.uint8] | None, str]:
    """Return 1 inside the shutter and the collimator, else 0 (PS3.3 C.7.6.11, C.8.7.3)."""
    inside: NDArray[np.uint8] | None = None
    for prefix in ("Shutter", "Collimator"):
        for kind in texts(dataset, f"{prefix}Shape"):
            mask = _shape_mask(kind.upper(), prefix, shape, dataset)
            if mask is not None:
                inside = mask if inside is None else inside & mask
    if inside is not None and inside.mean() < 0.1:
        return None, "the shutter covers nearly the whole picture and was ignored"
    return inside, ""


def _shape_mask(  # noqa: PLR0911 - one return for each shape and its lack
    kind: str, prefix: str, shape: tuple[int, ...], dataset: Dataset
) -> NDArray[np.uint8] | None:
    mask = np.zeros(shape, np.uint8)
    if kind == "RECTANGULAR":
        left, right, top, bottom = (
            number(dataset, f"{prefix}{edge}Edge")
            for edge in ("LeftVertical", "RightVertical", "UpperHorizontal", "LowerHorizontal")
        )
        if left is None or right is None or top is None or bottom is None:
            return None
        # Some consoles write millimetres from the centre here; such edges are no pixels.
        rows_fit = 0 <= top < bottom <= shape[0] + 1
        columns_fit = 0 <= left < right <= shape[1] + 1
        if not (rows_fit and columns_fit):
            return None
        # Edges are positions of rows and columns, counted from 1.
        rows = slice(max(0, int(top) - 1), max(0, int(bottom)))
        columns = slice(max(0, int(left) - 1), max(0, int(right)))
        mask[rows, columns] = 1
        return mask
    if kind == "CIRCULAR":
        center = numbers(dataset, f"CenterOfCircular{prefix}")
        radius = number(dataset, f"RadiusOfCircular{prefix}")
        if len(center) != 2 or radius is None or not 0 < radius < 100_000:
            return None
        cv2.circle(mask, (int(center[1]) - 1, int(center[0]) - 1), int(radius), 1, thickness=-1)
        return mask
    if kind == "POLYGONAL":
        flat = numbers(dataset, f"VerticesOfThePolygonal{prefix}")
        if len(flat) < 6 or len(flat) % 2 or max(map(abs, flat)) > 100_000:
            return None
        vertices = np.array(flat, np.int32).reshape(-1, 2)[:, ::-1] - 1
        cv2.fillPoly(mask, [np.ascontiguousarray(vertices)], 1)
        return mask
    return None
