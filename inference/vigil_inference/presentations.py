"""How a picture is shown: what its header says, and what was made of it."""

from pathlib import Path

from pydicom import Dataset

from vigil.dicom import read_header
from vigil.elements import integer, number, numbers, text
from vigil.errors import ImageRefused
from vigil_inference.full_depth import Coded
from vigil_inference.picture_views import (
    DepthView,
    GreyViewView,
    PresentationView,
    SpacingView,
)
from vigil_inference.records import AnalysisRecord
from vigil_inference.tables import Instance

_LEAST_MM, _MOST_MM = 0.01, 5.0
_SAME_MM = 1e-4


def read_presentation(path: Path, instance: Instance) -> PresentationView:
    """Return what is known of a picture without its pixels; a file that is gone tells nothing."""
    quarter_turns, inverted = (
        AnalysisRecord.model_validate(instance.result).correction()
        if instance.result
        else (0, False)
    )
    try:
        header = read_header(path)
    except ImageRefused:
        header = Dataset()
    rows, columns = integer(header, "Rows"), integer(header, "Columns")
    if quarter_turns % 2:
        rows, columns = columns, rows
    return PresentationView(
        rows=rows or None,
        columns=columns or None,
        photometric_interpretation=text(header, "PhotometricInterpretation"),
        bits_stored=integer(header, "BitsStored") or None,
        quarter_turns=quarter_turns,
        inverted=inverted,
        spacing=spacing_of(header, quarter_turns),
        depth=None,
        code=None,
        reason="",
    )


def spacing_of(header: Dataset, quarter_turns: int) -> SpacingView | None:
    """Return how far pixels lie apart, and in which plane (DICOM PS3.3 10.7.1.3).

    A projection has no one scale. PixelSpacing is the patient's where a calibration is named, or
    where it differs from the detector's own ImagerPixelSpacing; where both are the same, or only
    the latter is there, it is the detector's, and what lies before it looks larger than it is.
    """
    own, detector = _pair(header, "PixelSpacing"), _pair(header, "ImagerPixelSpacing")
    spacing = own or detector
    if spacing is None:
        return None
    is_calibrated = bool(text(header, "PixelSpacingCalibrationType"))
    if own and detector:
        is_calibrated |= any(abs(a - b) > _SAME_MM for a, b in zip(own, detector, strict=True))
    row_mm, column_mm = spacing[::-1] if quarter_turns % 2 else spacing
    magnification = number(header, "EstimatedRadiographicMagnificationFactor")
    return SpacingView(
        row_mm=row_mm,
        column_mm=column_mm,
        source="PixelSpacing" if own else "ImagerPixelSpacing",
        plane="calibrated" if own and is_calibrated else "detector" if detector else "unknown",
        magnification=magnification if magnification and magnification > 0 else None,
    )


def describe_depth(coded: Coded) -> DepthView:
    """Say how a picture's full depth is to be read."""
    return DepthView(
        rows=coded.rows,
        columns=coded.columns,
        slope=coded.slope,
        intercept=coded.intercept,
        has_mask=coded.has_mask,
        is_inverted=coded.is_inverted,
        views=tuple(
            GreyViewView(
                kind=view.kind,
                name=view.name,
                low=view.low,
                high=view.high,
                shape=view.shape,
                table=view.table,
            )
            for view in coded.views
        ),
        bytes=len(coded.content),
    )


def _pair(header: Dataset, keyword: str) -> tuple[float, float] | None:
    found = numbers(header, keyword)
    if len(found) != 2 or not all(_LEAST_MM <= length <= _MOST_MM for length in found):
        return None
    return found[0], found[1]
