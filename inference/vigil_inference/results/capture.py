"""Secondary Capture: what any PACS can show of a result, as a plain colour picture."""

import numpy as np
from highdicom.sr import CodedConcept
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import SecondaryCaptureImageStorage

from vigil.anatomy import Line
from vigil.dicom import describe
from vigil.elements import integer
from vigil_inference.results.codes import SOURCE_OF_PROCESSING
from vigil_inference.results.document import new_object
from vigil_inference.results.drawing import Drawing, draw
from vigil_inference.results.identity import ObjectKind, sop_instance_uid
from vigil_inference.results.language import (
    DISCLAIMER,
    Phrases,
    correction_sentence,
    phrases_of,
    ratio_sentence,
)
from vigil_inference.results.region import correction_of
from vigil_inference.results.source import frames_of, lossy_compression_of, reference_to
from vigil_inference.results.study import PictureResult, Profile, StudyResult


def build_captures(study: StudyResult) -> tuple[Dataset, ...]:
    """Build a capture of each picture with flags whose pixels are at hand.

    None in the ``cadt`` profile, which shows no region, finding or heat map.

    Returns
    -------
    tuple of Dataset
        Secondary Capture Image objects (DICOM PS3.3 A.8.1) with their file meta information.
    """
    if not study.options.captures or study.options.profile is Profile.CADT:
        return ()
    return tuple(
        _build(study, picture)
        for picture in study.pictures
        if picture.flags and picture.pixels is not None
    )


def draw_capture(study: StudyResult, picture: PictureResult) -> NDArray[np.uint8]:
    """Draw the capture of one picture, (rows, columns, 3) RGB.

    Raises
    ------
    ValueError
        If the picture's pixels are not at hand.
    """
    if picture.pixels is None:
        raise ValueError("the picture has no pixels, expected those that were analysed")
    phrases = phrases_of(study.options.language)
    correction = correction_of(picture.notes)
    drawing = Drawing(
        pixels=picture.pixels,
        maps=picture.maps,
        flags=picture.flags,
        priority=picture.priority,
        level=study.options.region_level,
        note="" if correction is None else correction_sentence(correction, phrases),
        ratio=_ratio(picture, phrases),
        lines=_lines(picture),
        maker=_maker(study),
    )
    return draw(drawing, phrases)


def _ratio(picture: PictureResult, phrases: Phrases) -> str:
    if picture.anatomy is None or picture.anatomy.ratio is None:
        return ""
    return ratio_sentence(picture.anatomy.ratio, describe(picture.source).view, phrases)


def _lines(picture: PictureResult) -> tuple[Line, ...]:
    anatomy = picture.anatomy
    lines = () if anatomy is None else (anatomy.heart_line, anatomy.thorax_line)
    return tuple(line for line in lines if line is not None)


def _build(study: StudyResult, picture: PictureResult) -> Dataset:
    uid = sop_instance_uid(study, ObjectKind.CAPTURE, picture)
    capture = new_object(study, ObjectKind.CAPTURE, SecondaryCaptureImageStorage, uid, picture)
    # The source's own number: one by the place in the study would change with a later picture.
    capture.InstanceNumber = max(1, integer(picture.source, "InstanceNumber"))
    # General Series, PS3.3 C.7.3.1: Laterality is due unless the part is unpaired.
    capture.BodyPartExamined = "CHEST"
    # SC Equipment, C.8.6.1.
    capture.ConversionType = "WSD"
    # General Image, C.7.6.1.
    capture.PatientOrientation = ""
    capture.ImageType = ["DERIVED", "SECONDARY"]
    capture.BurnedInAnnotation = "YES"
    capture.ImageComments = DISCLAIMER
    capture.DerivationDescription = (
        f"Heat map of {_maker(study)} beside the picture as analysed, with a legend"
    )
    capture.update(lossy_compression_of(picture.source))
    item = reference_to(picture.source)
    if (frames := frames_of(picture.source)) is not None:
        item.ReferencedFrameNumber = frames
    item.PurposeOfReferenceCodeSequence = Sequence([_plain(SOURCE_OF_PROCESSING)])
    capture.SourceImageSequence = Sequence([item])
    _add_pixels(capture, draw_capture(study, picture))
    return capture


def _add_pixels(capture: Dataset, picture: NDArray[np.uint8]) -> None:
    """Fill the Image Pixel module (PS3.3 C.7.6.3)."""
    rows, columns, samples = picture.shape
    capture.SamplesPerPixel = samples
    capture.PhotometricInterpretation = "RGB"
    capture.PlanarConfiguration = 0
    capture.Rows, capture.Columns = rows, columns
    capture.BitsAllocated, capture.BitsStored, capture.HighBit = 8, 8, 7
    capture.PixelRepresentation = 0
    content = picture.tobytes()
    capture.PixelData = content + b"\0" * (len(content) % 2)
    capture["PixelData"].VR = "OB"


def _plain(code: CodedConcept) -> Dataset:
    item = Dataset()
    item.CodeValue = code.value
    item.CodingSchemeDesignator = code.scheme_designator
    item.CodeMeaning = code.meaning
    return item


def _maker(study: StudyResult) -> str:
    parts = [f"Vigil {study.software_version}", study.bundle_id, study.bundle_digest[:12]]
    return " · ".join(part for part in parts if part)
