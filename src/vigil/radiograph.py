"""A radiograph as the rest of the code sees it: display pixels and what its file says of them."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

import numpy as np
from numpy.typing import NDArray


class View(StrEnum):
    """How the beam crossed the patient, as far as the file tells (DICOM PS3.3 C.8.11.5)."""

    PA = "PA"
    AP = "AP"
    FRONTAL = "FRONTAL"
    LATERAL = "LATERAL"
    UNKNOWN = "UNKNOWN"


@dataclass(frozen=True)
class ImageDescription:
    """What a file's header says, before any pixel is decoded.

    DICOM attributes carry their keyword in snake case; what a file does not say is empty or None.
    No name, birth date or other identity of the patient is held here.
    """

    file_format: Literal["DICOM", "PNG", "JPEG"]
    rows: int
    columns: int
    samples_per_pixel: int = 1
    number_of_frames: int = 1
    photometric_interpretation: str = "MONOCHROME2"
    transfer_syntax_uid: str = ""
    sop_class_uid: str = ""
    sop_instance_uid: str = ""
    study_instance_uid: str = ""
    modality: str = ""
    body_part_examined: str = ""
    view: View = View.UNKNOWN
    image_type: tuple[str, ...] = ()
    manufacturer: str = ""
    descriptions: tuple[str, ...] = ()
    """Study, series, protocol and procedure text, for the gate only."""
    patient_age_years: float | None = None
    patient_sex: str = ""
    pixel_spacing_mm: tuple[float, float] | None = None
    """(between rows, between columns)."""
    burned_in_annotation: bool | None = None


@dataclass(frozen=True, eq=False)
class Radiograph:
    """A decoded radiograph.

    Attributes
    ----------
    pixels
        (rows, columns) uint16 display values: 0 black to 65535 white, bone bright, whatever the
        photometric interpretation was.
    description
        What the file's header said.
    notes
        What had to be assumed while reading, one sentence each.
    """

    pixels: NDArray[np.uint16] = field(repr=False)
    description: ImageDescription
    notes: tuple[str, ...] = ()
