"""What the interface says of pictures: how one is shown, its attributes, the patient's others."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from vigil.presentation import Shape, ViewKind
from vigil.triage import Priority


class _View(BaseModel):
    model_config = ConfigDict(frozen=True)


class TagView(_View):
    """A DICOM attribute. Long values are cut; pixels and other bulk data are told by size."""

    tag: str = Field(description="`0010,0010`.")
    name: str = Field(description="As in the standard's dictionary; empty for a private one.")
    vr: str
    value: str
    level: int = Field(description="How many sequences it lies in.")


class SpacingView(_View):
    """How far the centres of neighbouring pixels lie apart, upright as the picture is shown."""

    row_mm: float
    column_mm: float
    source: Literal["PixelSpacing", "ImagerPixelSpacing"]
    plane: Literal["calibrated", "detector", "unknown"] = Field(
        description="Of the patient by a calibration, of the detector, or not said."
    )
    magnification: float | None = Field(
        description="EstimatedRadiographicMagnificationFactor: lengths in the patient are smaller."
    )


class GreyViewView(_View):
    """A view: black at `low`, white at `high`, both modality values."""

    kind: ViewKind
    name: str = Field(description="What the header calls it.")
    low: float
    high: float
    shape: Shape
    table: tuple[float, ...] = Field(description="Greys in 0…1 from `low` to `high`.")


class DepthView(_View):
    """How `pixels` becomes the picture at full depth.

    `pixels` is gzip. Unpacked it holds the high bytes of `rows` × `columns` residuals, then their
    low bytes. Bit 0 of a residual is its sign; added to the prediction (the median of left, above,
    and left + above - the corner between them; only left in the first row, only above in the first
    column, 0 at first) it gives the code, modulo 65536.
    """

    rows: int
    columns: int
    slope: float = Field(description="`slope` × code + `intercept` is the modality value.")
    intercept: float
    has_mask: bool = Field(description="Code 0 is padding or outside the shutter, always black.")
    is_inverted: bool = Field(description="Low values are bright.")
    views: tuple[GreyViewView, ...] = Field(description="The default, as analysed, first.")
    bytes: int = Field(description="Length of `pixels`.")


class PresentationView(_View):
    """How a picture is shown."""

    rows: int | None = Field(description="Of the picture upright.")
    columns: int | None
    photometric_interpretation: str
    bits_stored: int | None
    quarter_turns: int = Field(description="Clockwise, before it was analysed.")
    inverted: bool = Field(description="Before it was analysed.")
    spacing: SpacingView | None
    depth: DepthView | None = Field(description="None where full depth cannot be given.")
    code: str | None = Field(description="Why not; `ORIGINAL_REMOVED` if a rule removed it.")
    reason: str


class OtherStudy(_View):
    """Another study of what is said to be the same patient."""

    study_instance_uid: str
    study_date: str
    study_description: str
    received_at: datetime
    priority: Priority
    is_earlier: bool
    patient_name: str
    name_differs: bool = Field(description="Its patient's name is another, under the same number.")
    birth_date_differs: bool
    preview_sop_instance_uid: str | None


class OtherStudies(_View):
    """The studies under the same patient ID and issuer, those before this one first."""

    matched_by: str = Field(description="Empty where the study has no patient ID to match by.")
    studies: tuple[OtherStudy, ...]
