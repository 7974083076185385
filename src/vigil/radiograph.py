"""A radiograph as the rest of the code sees it: display pixels and what its file says of them."""

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Literal, NamedTuple

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


class LeastSide(NamedTuple):
    """How many pixels the longer side of a picture must keep when it is read reduced.

    Attributes
    ----------
    averaged
        Where pixels are averaged in blocks, which is what area resampling does anyway.
    low_pass
        Where the codec's own lower resolution is taken: a wavelet's low-pass band.
    """

    averaged: int
    low_pass: int


@dataclass(frozen=True)
class Sampling:
    """What the pixels of a reduced picture were made of.

    Each stands for a block of about ``step`` × ``step`` pixels of the whole picture.

    Attributes
    ----------
    rows, columns
        Of the whole picture, turned as the reduced one is.
    step
        By what its sides were divided, and the results rounded up.
    low_pass
        Whether they are a wavelet's low-pass band instead of means.
    """

    rows: int
    columns: int
    step: int
    low_pass: bool = False


@dataclass(frozen=True, eq=False)
class Radiograph:
    """A decoded radiograph, whole or reduced.

    Attributes
    ----------
    pixels
        (rows, columns) uint16 display values: 0 black to 65535 white, bone bright, whatever the
        photometric interpretation was.
    description
        What the file's header said.
    notes
        What had to be assumed while reading, one sentence each.
    sampling
        Where the pixels lie in the file's picture if they are fewer than it has; None if they are
        all there.
    quarter_turns, inverted
        What was done to the picture after it was read: turned clockwise so often, then inverted.
    """

    pixels: NDArray[np.uint16] = field(repr=False)
    description: ImageDescription
    notes: tuple[str, ...] = ()
    sampling: Sampling | None = None
    quarter_turns: int = 0
    inverted: bool = False

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns) of the whole picture, turned as ``pixels`` are."""
        if self.sampling is not None:
            return self.sampling.rows, self.sampling.columns
        rows, columns = self.pixels.shape
        return rows, columns

    def corrected(self, quarter_turns: int, *, invert: bool, note: str) -> "Radiograph":
        """Return the picture turned clockwise and, if asked, inverted, with a note of it."""
        pixels = np.ascontiguousarray(np.rot90(self.pixels, -quarter_turns))
        sampling = self.sampling
        if sampling is not None and quarter_turns % 2:
            sampling = replace(sampling, rows=sampling.columns, columns=sampling.rows)
        return replace(
            self,
            pixels=np.uint16(65535) - pixels if invert else pixels,
            notes=(*self.notes, note) if note else self.notes,
            sampling=sampling,
            quarter_turns=(self.quarter_turns + quarter_turns) % 4,
            inverted=self.inverted != invert,
        )
