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

_LOW_PERCENTILE, _HIGH_PERCENTILE = 0.5, 99.5
# A window is absurd if it leaves nearly all pixels black or white, or spreads them over almost
# none of its width. Radiographs have wide collimated borders, so the first limit is generous.
_MOST_CLIPPED = 0.97
_LEAST_SPREAD = 0.05


def to_display(
    stored: NDArray[np.integer], dataset: Dataset
) -> tuple[NDArray[np.uint16], tuple[str, ...]]:
    """Apply the display pipeline.

    Parameters
    ----------
    stored
        (rows, columns) stored values, at most 16 bits.
    dataset
        The header with its LUTs, windows, padding and shutter.

    Returns
    -------
    pixels
        (rows, columns) uint16, 0 black to 65535 white, bone bright.
    notes
        What had to be assumed, one sentence each.
    """
    notes: list[str] = []
    smallest, largest = int(stored.min()), int(stored.max())
    codes = np.arange(smallest, largest + 1, dtype=np.int32)
    offsets = (stored.astype(np.int32) - smallest).astype(np.uint16)
    counts = np.bincount(offsets.ravel(), minlength=codes.size)
    padding = _padding(codes, dataset)
    counts[padding] = 0
    if not counts.any():
        padding[:] = False
        counts = np.bincount(offsets.ravel(), minlength=codes.size)
        notes.append("the padding value covers the whole picture and was ignored")

    modality_values, modality_note = _modality(codes, dataset)
    shown, voi_note = _value_of_interest(modality_values, counts, dataset)
    notes += [note for note in (modality_note, voi_note) if note]
    if is_inverted(dataset):
        shown = 1 - shown
    shown[padding] = 0
    table = np.rint(shown * 65535).astype(np.uint16)
    pixels = table[offsets]

    outside, note = _outside_shutter(pixels.shape, dataset)
    if note:
        notes.append(note)
    if outside is not None:
        pixels[outside] = 0
    return pixels, tuple(notes)


def is_inverted(dataset: Dataset) -> bool:
    """Return whether low values are to be shown bright (PS3.3 C.7.6.3.1.2 and C.11.6.1.2).

    Both attributes say the same thing; two of them do not make two inversions.
    """
    return (
        text(dataset, "PhotometricInterpretation") == "MONOCHROME1"
        or text(dataset, "PresentationLUTShape") == "INVERSE"
    )


def _padding(codes: NDArray[np.int32], dataset: Dataset) -> NDArray[np.bool_]:
    """Return which stored values are padding (PS3.3 C.7.5.1.1.2)."""
    first = number(dataset, "PixelPaddingValue")
    if first is None:
        return np.zeros(codes.shape, bool)
    last = number(dataset, "PixelPaddingRangeLimit")
    low, high = sorted((first, first if last is None else last))
    return np.asarray((codes >= low) & (codes <= high))


def _modality(codes: NDArray[np.int32], dataset: Dataset) -> tuple[NDArray[np.float64], str]:
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
        shown_or_none = _window(values, center, width, dataset)
        if shown_or_none is not None and _is_plausible(shown_or_none, counts):
            return shown_or_none, note
        note = "the window does not fit the pixels, so it was set from their percentiles"
    low, high = _percentiles(values, counts)
    return ((values - low) / max(high - low, 1e-9)).clip(0, 1), note


def _window(
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


def _is_plausible(shown: NDArray[np.float64], counts: NDArray[np.int64]) -> bool:
    total = counts.sum()
    if np.count_nonzero(counts) < 2:
        return True
    black, white = counts[shown <= 0].sum() / total, counts[shown >= 1].sum() / total
    low, high = _percentiles(shown, counts)
    return max(black, white) < _MOST_CLIPPED and high - low > _LEAST_SPREAD


def _percentiles(values: NDArray[np.float64], counts: NDArray[np.int64]) -> tuple[float, float]:
    order = np.argsort(values, kind="stable")
    cumulative = np.cumsum(counts[order])
    low, high = (
        values[order[min(np.searchsorted(cumulative, cumulative[-1] * q / 100), order.size - 1)]]
        for q in (_LOW_PERCENTILE, _HIGH_PERCENTILE)
    )
    return float(low), float(high)


def _outside_shutter(
    shape: tuple[int, ...], dataset: Dataset
) -> tuple[NDArray[np.bool_] | None, str]:
    """Return what lies outside the shutter and the collimator (PS3.3 C.7.6.11, C.8.7.3)."""
    inside = np.ones(shape, np.uint8)
    found = False
    for prefix in ("Shutter", "Collimator"):
        for kind in texts(dataset, f"{prefix}Shape"):
            mask = _shape_mask(kind.upper(), prefix, shape, dataset)
            if mask is not None:
                inside &= mask
                found = True
    if not found:
        return None, ""
    if inside.mean() < 0.1:
        return None, "the shutter covers nearly the whole picture and was ignored"
    return inside == 0, ""


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
