"""A radiograph for a viewer: its values at full depth, and the views that its header names.

:mod:`vigil.display` applies one view for the network and for previews. Here the values stay what
they are, so that a reader can set window and level over all of their range; the views are described
beside them, the one that :mod:`vigil.display` takes first.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.pixels.processing import apply_voi

from vigil.dicom import describe, open_dicom
from vigil.display import (
    histogram,
    inside_shutter,
    is_inverted,
    is_plausible,
    offsets_of,
    padding_codes,
    percentiles,
    rescaled,
    windowed,
)
from vigil.elements import items, number, numbers, text, texts
from vigil.errors import ImageRefused, RefusalCode
from vigil.pixels import read_stored_values

MOST_PIXELS = 50_000_000
"""A radiograph has 4 to 20 million; what is far larger would fill a small server's memory."""
_MOST_VIEWS = 16
_MOST_POINTS = 4096
_HIGHEST = 65535
# Of the picture's greys from dark to bright: lung is air and dark, bone and mediastinum are bright.
_LUNG, _BONE = (1.0, 70.0), (40.0, 99.9)
_WHOLE = (0.5, 99.5)

Shape = Literal["LINEAR", "SIGMOID", "TABLE"]


class ViewKind(StrEnum):
    """Where a view is from."""

    HEADER_TABLE = "HEADER_TABLE"
    HEADER_WINDOW = "HEADER_WINDOW"
    WHOLE = "WHOLE"
    LUNG = "LUNG"
    BONE = "BONE"


@dataclass(frozen=True)
class GreyView:
    """How values become greys: black at ``low``, white at ``high``, by a shape between them.

    Attributes
    ----------
    kind, name
        Where it is from, and what the header calls it.
    low, high
        Modality values, ``low`` < ``high``.
    shape
        ``LINEAR``: straight. ``SIGMOID``: PS3.3 C.11.2.1.3.1, where ``low`` and ``high`` are where
        its tangent at the centre meets black and white. ``TABLE``: ``table``, from ``low`` to
        ``high`` in even steps.
    table
        Greys in 0…1 of a VOI LUT.
    """

    kind: ViewKind
    name: str
    low: float
    high: float
    shape: Shape = "LINEAR"
    table: tuple[float, ...] = field(default=(), repr=False)

    def greys(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the grey of each modality value, 0 black to 1 white."""
        place = (values - self.low) / (self.high - self.low)
        if self.shape == "SIGMOID":
            return np.asarray(1 / (1 + np.exp(-4 * (place - 0.5))))
        if self.shape == "TABLE":
            return np.interp(place, np.linspace(0, 1, len(self.table)), self.table)
        return place.clip(0, 1)


@dataclass(frozen=True, eq=False)
class FullDepth:
    """A picture's values, turned as it was analysed.

    Attributes
    ----------
    codes
        (rows, columns) uint16; ``slope`` × code + ``intercept`` is the modality value.
    has_mask
        Whether code 0 is no value but padding, or outside the shutter: black in every view.
    is_inverted
        Whether low values are bright.
    views
        The default one first.
    """

    codes: NDArray[np.uint16] = field(repr=False)
    slope: float
    intercept: float
    has_mask: bool
    is_inverted: bool
    views: tuple[GreyView, ...]


def read_full_depth(path: Path, *, quarter_turns: int = 0, inverted: bool = False) -> FullDepth:
    """Read a DICOM radiograph for a viewer.

    Parameters
    ----------
    path
        The file.
    quarter_turns, inverted
        What was done to it before it was analysed, see :class:`vigil.radiograph.Radiograph`.

    Raises
    ------
    ImageRefused
        As :func:`vigil.dicom.read_dicom`; ``TOO_LARGE`` above :data:`MOST_PIXELS`.
    """
    dataset = open_dicom(path)
    description = describe(dataset)
    if description.rows * description.columns > MOST_PIXELS:
        reason = f"the picture has more than {MOST_PIXELS} pixels, more than is shown at full depth"
        raise ImageRefused(RefusalCode.TOO_LARGE, reason)
    try:
        stored = read_stored_values(dataset, description, path).values
    except OSError as error:
        reason = f"the file cannot be read ({error.strerror or type(error).__name__})"
        raise ImageRefused(RefusalCode.FILE_UNREADABLE, reason) from error
    return to_full_depth(stored, dataset, quarter_turns=quarter_turns, inverted=inverted)


def to_full_depth(
    stored: NDArray[np.integer],
    dataset: Dataset,
    *,
    quarter_turns: int = 0,
    inverted: bool = False,
) -> FullDepth:
    """Describe (rows, columns) stored values of at most 16 bits for a viewer."""
    smallest, largest = int(stored.min()), int(stored.max())
    occurring = np.arange(smallest, largest + 1, dtype=np.int32)
    offsets, first = offsets_of(stored, smallest)
    counts = histogram(offsets, occurring.size, first)
    padding = padding_codes(occurring, dataset)
    if counts[padding].any() and counts[~padding].any():
        counts[padding] = 0
    else:
        padding[:] = False
    inside, _ = inside_shutter(stored.shape, dataset)
    has_mask = bool(padding.any()) or inside is not None
    values, _ = rescaled(occurring, dataset)
    codes, slope, intercept = _codes(values, counts > 0, has_mask=has_mask)
    codes[padding] = 0
    pixels = np.pad(codes, (first, 0)).take(offsets, mode="wrap")
    if inside is not None:
        pixels[inside == 0] = 0
    low_is_bright = is_inverted(dataset) != inverted
    return FullDepth(
        codes=np.ascontiguousarray(np.rot90(pixels, -quarter_turns)),
        slope=slope,
        intercept=intercept,
        has_mask=has_mask,
        is_inverted=low_is_bright,
        views=_views(values, counts, dataset, low_is_bright=low_is_bright),
    )


def _codes(
    values: NDArray[np.float64], occurs: NDArray[np.bool_], *, has_mask: bool
) -> tuple[NDArray[np.uint16], float, float]:
    """Return a code for each value that can occur, and the line that leads back.

    Code 0 is left free where it means the mask. In the one case where there is no room for it,
    65536 values and a mask, the two highest values share a code.
    """
    first = int(np.argmax(occurs))
    slope = (values[-1] - values[0]) / max(1, values.size - 1)
    numbers_ = np.arange(values.size, dtype=np.float64)
    if slope != 0 and np.allclose(values, values[0] + slope * numbers_, rtol=0, atol=1e-6):
        steps, zero = numbers_ - first, float(values[first])
    else:  # a Modality LUT that is no line, or one value only
        slope, zero = 1.0, float(values[occurs].min())
        steps = np.rint(values - zero)
    shift = int(has_mask)
    codes = (steps + shift).clip(shift, _HIGHEST).astype(np.uint16)
    return codes, float(slope), zero - slope * shift


def _views(
    values: NDArray[np.float64],
    counts: NDArray[np.int64],
    dataset: Dataset,
    *,
    low_is_bright: bool,
) -> tuple[GreyView, ...]:
    tables = _header_tables(values, dataset)
    windows = _header_windows(values, dataset)
    whole = _by_percentiles(ViewKind.WHOLE, _WHOLE, values, counts)
    dark_to_bright = (
        [(100 - high, 100 - low) for low, high in (_LUNG, _BONE)]
        if low_is_bright
        else [_LUNG, _BONE]
    )
    own = [
        whole,
        *(
            _by_percentiles(kind, wanted, values, counts)
            for kind, wanted in zip((ViewKind.LUNG, ViewKind.BONE), dark_to_bright, strict=True)
        ),
    ]
    # The order in which vigil.display chooses; an absurd window is offered, but not first.
    if tables or _first_window_fits(values, counts, dataset):
        return (*tables, *windows, *own)[:_MOST_VIEWS]
    return (*own, *windows)[:_MOST_VIEWS]


def _first_window_fits(
    values: NDArray[np.float64], counts: NDArray[np.int64], dataset: Dataset
) -> bool:
    center, width = number(dataset, "WindowCenter"), number(dataset, "WindowWidth")
    if center is None or width is None:
        return False
    shown = windowed(values, center, width, dataset)
    return shown is not None and is_plausible(shown, counts)


def _header_tables(values: NDArray[np.float64], dataset: Dataset) -> list[GreyView]:
    views = []
    low, high = float(values.min()), float(values.max())
    if low == high:
        return []
    points = np.linspace(low, high, min(_MOST_POINTS, values.size))
    for index, item in enumerate(items(dataset, "VOILUTSequence")):
        try:
            shown = np.asarray(apply_voi(np.rint(points).astype(np.int64), dataset, index=index))
            bits = int(item.LUTDescriptor[2])
        except Exception:  # pydicom raises whatever a damaged table makes it meet
            if index == 0:  # vigil.display ignores all of them then
                return []
            continue
        table = (shown / ((1 << bits) - 1)).clip(0, 1)
        views.append(
            GreyView(
                ViewKind.HEADER_TABLE,
                text(item, "LUTExplanation"),
                low,
                high,
                "TABLE",
                tuple(round(float(grey), 5) for grey in table),
            )
        )
    return views


def _header_windows(values: NDArray[np.float64], dataset: Dataset) -> list[GreyView]:
    """Return the header's windows (PS3.3 C.11.2.1.2), each as where it is black and white."""
    function = text(dataset, "VOILUTFunction").upper() or "LINEAR"
    names = texts(dataset, "WindowCenterWidthExplanation")
    views = []
    pairs = zip(numbers(dataset, "WindowCenter"), numbers(dataset, "WindowWidth"), strict=False)
    for index, (center, width) in enumerate(pairs):
        if windowed(values[:1], center, width, dataset) is None:
            continue
        if function == "LINEAR":
            # PS3.3 C.11.2.1.2.1: from c - 0.5 - (w - 1) / 2 to c - 0.5 + (w - 1) / 2.
            center, width = center - 0.5, max(width - 1, 1e-3)  # noqa: PLW2901
        views.append(
            GreyView(
                ViewKind.HEADER_WINDOW,
                names[index] if index < len(names) else "",
                center - width / 2,
                center + width / 2,
                "SIGMOID" if function == "SIGMOID" else "LINEAR",
            )
        )
    return views


def _by_percentiles(
    kind: ViewKind,
    wanted: tuple[float, float],
    values: NDArray[np.float64],
    counts: NDArray[np.int64],
) -> GreyView:
    low, high = percentiles(values, counts, wanted)
    return GreyView(kind, "", low, max(high, low + 1e-9 * max(1.0, abs(low))))
