"""From a DICOM file to a :class:`~vigil.radiograph.Radiograph`.

Reading is tolerant (real files bend the standard), deciding is not: what cannot be read with
certainty is refused with a code. Decoding is in :mod:`vigil.pixels`, the display pipeline in
:mod:`vigil.display`.
"""

import re
import struct
import warnings
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pydicom.config
from pydicom import Dataset, uid
from pydicom.errors import InvalidDicomError

from vigil.display import WholePictureNeeded, to_display
from vigil.elements import integer, items, numbers, text, texts
from vigil.errors import ImageRefused, RefusalCode
from vigil.pixels import read_stored_values
from vigil.radiograph import ImageDescription, LeastSide, Radiograph, View

# An oddity in a header is no reason to refuse a picture, and pydicom's warnings about values may
# quote them: patient data does not belong in a log.
pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
warnings.filterwarnings("ignore", module=r"pydicom(\..*)?")

_DEFERRED_BYTES = 64 * 1024
_MOST_INFLATED_BYTES = 512 * 1024 * 1024
_META_START = 132
_ORIENTATION = {
    "PA": View.PA,
    "AP": View.AP,
    "LL": View.LATERAL,
    "RL": View.LATERAL,
    "LAT": View.LATERAL,
    "LATERAL": View.LATERAL,
    "LLD": View.LATERAL,
    "RLD": View.LATERAL,
    "LLO": View.LATERAL,
    "RLO": View.LATERAL,
    "FRONTAL": View.FRONTAL,
}
# SNOMED CT codes and their older SNOMED RT forms (DICOM PS3.16 CID 4010).
_VIEW_CODES = {
    "272479007": View.PA,
    "R-10214": View.PA,
    "399348003": View.AP,
    "R-10206": View.AP,
    "399033003": View.FRONTAL,
    "R-102CD": View.FRONTAL,
    "399173006": View.LATERAL,
    "R-10236": View.LATERAL,
    "399198007": View.LATERAL,
    "R-10232": View.LATERAL,
    "399067008": View.LATERAL,
    "R-10228": View.LATERAL,
}
_AGE = re.compile(r"^\s*(\d{1,3})\s*([YMWD]?)\s*$", re.IGNORECASE)
_YEARS_PER = {"Y": 1.0, "": 1.0, "M": 1 / 12, "W": 7 / 365.25, "D": 1 / 365.25}
_OLDEST_YEARS = 120.0


def read_header(path: Path) -> Dataset:
    """Read a DICOM file up to its pixels.

    Files without preamble or file meta information are read if their data set makes sense
    (DICOM PS3.10 section 7 asks for both; modalities of the 1990s did not write them).

    Raises
    ------
    ImageRefused
        ``FILE_UNREADABLE`` if it is not DICOM or its header is damaged, ``TOO_LARGE`` if it is
        deflated and unpacks to more than any radiograph.
    """
    return _read(path, stop_before_pixels=True)


def open_dicom(path: Path) -> Dataset:
    """Read a DICOM file; its pixels, and whatever else is large, stay in it until asked for.

    Raises
    ------
    ImageRefused
        As :func:`read_header`.
    """
    return _read(path, stop_before_pixels=False)


def _read(path: Path, *, stop_before_pixels: bool) -> Dataset:
    try:
        inflated = _inflate(path)
        source, defer = (path, _DEFERRED_BYTES) if inflated is None else (inflated, None)
        try:
            dataset = pydicom.dcmread(
                source, stop_before_pixels=stop_before_pixels, defer_size=defer
            )
        except InvalidDicomError:
            dataset = pydicom.dcmread(
                source, stop_before_pixels=stop_before_pixels, defer_size=defer, force=True
            )
        if inflated is not None:
            dataset.file_meta.TransferSyntaxUID = uid.DeflatedExplicitVRLittleEndian
        sop_class = text(dataset, "SOPClassUID")
    except ImageRefused:
        raise
    except OSError as error:
        reason = f"the file cannot be read ({error.strerror or type(error).__name__})"
        raise ImageRefused(RefusalCode.FILE_UNREADABLE, reason) from error
    except Exception as error:  # pydicom's parser raises whatever a damaged file makes it meet
        reason = f"the file is not DICOM or its header is damaged ({type(error).__name__})"
        raise ImageRefused(RefusalCode.FILE_UNREADABLE, reason) from error
    if not sop_class:
        reason = "the file is not DICOM, PNG or JPEG, or it has no SOP Class UID"
        raise ImageRefused(RefusalCode.FILE_UNREADABLE, reason)
    return dataset


def _inflate(path: Path) -> BytesIO | None:
    """Return a deflated file (DICOM PS3.5 A.5) unpacked, None if it is not deflated.

    pydicom unpacks whatever comes, and a file of a megabyte can hold a gigabyte of zeros.
    """
    deflated = uid.DeflatedExplicitVRLittleEndian.encode()
    with path.open("rb") as file:
        head = file.read(1024)
        length = struct.unpack_from("<2H2sHI", head.ljust(_META_START + 12, b"\0"), _META_START)
        if deflated not in head or length[:2] != (2, 0):
            return None
        start = _META_START + 12 + length[-1]
        file.seek(0)
        # The same length, so the group's own length stays right.
        plain = str(uid.ExplicitVRLittleEndian).encode().ljust(len(deflated), b"\0")
        meta = file.read(start).replace(deflated, plain)
        unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
        body = unpacker.decompress(file.read(), _MOST_INFLATED_BYTES)
    if unpacker.unconsumed_tail:
        raise ImageRefused(RefusalCode.TOO_LARGE, "the file unpacks to more than is read")
    if not unpacker.eof:
        raise ImageRefused(RefusalCode.FILE_UNREADABLE, "the deflated file is incomplete")
    return BytesIO(meta + body)


def describe(dataset: Dataset) -> ImageDescription:
    """Gather what a header says, without a patient's identity.

    A value that does not fit its type counts as not said.
    """
    return ImageDescription(
        file_format="DICOM",
        rows=integer(dataset, "Rows"),
        columns=integer(dataset, "Columns"),
        samples_per_pixel=integer(dataset, "SamplesPerPixel", 1),
        number_of_frames=max(1, integer(dataset, "NumberOfFrames", 1)),
        photometric_interpretation=text(dataset, "PhotometricInterpretation"),
        transfer_syntax_uid=_transfer_syntax(dataset),
        sop_class_uid=text(dataset, "SOPClassUID"),
        sop_instance_uid=text(dataset, "SOPInstanceUID"),
        study_instance_uid=text(dataset, "StudyInstanceUID"),
        modality=text(dataset, "Modality"),
        body_part_examined=text(dataset, "BodyPartExamined"),
        view=_view(dataset),
        image_type=texts(dataset, "ImageType"),
        manufacturer=text(dataset, "Manufacturer"),
        descriptions=tuple(
            said
            for keyword in (
                "StudyDescription",
                "SeriesDescription",
                "ProtocolName",
                "RequestedProcedureDescription",
                "PerformedProcedureStepDescription",
                "AcquisitionDeviceProcessingDescription",
                "AnatomicRegionSequence",
            )
            if (said := _description(dataset, keyword))
        ),
        patient_age_years=_age_years(dataset),
        patient_sex=text(dataset, "PatientSex"),
        pixel_spacing_mm=_spacing(dataset),
        burned_in_annotation={"YES": True, "NO": False}.get(
            text(dataset, "BurnedInAnnotation").upper()
        ),
    )


def read_dicom(path: Path, least: LeastSide | None = None) -> Radiograph:
    """Read a DICOM radiograph: header, pixels, display pipeline.

    Parameters
    ----------
    path
        The file.
    least
        How small the picture may come; None is whole.

    Raises
    ------
    ImageRefused
        ``FILE_UNREADABLE``, ``NO_PIXELS``, ``MULTI_FRAME``, ``COLOUR``, ``TOO_LARGE``,
        ``TRANSFER_SYNTAX_UNSUPPORTED`` or ``PIXELS_CORRUPT``.
    """
    dataset = open_dicom(path)
    return to_radiograph(dataset, describe(dataset), path, least)


def to_radiograph(
    dataset: Dataset, description: ImageDescription, path: Path, least: LeastSide | None = None
) -> Radiograph:
    """Decode what :func:`open_dicom` and :func:`describe` returned for a file.

    Raises
    ------
    ImageRefused
        As :func:`read_dicom`.
    """
    try:
        stored = read_stored_values(dataset, description, path, least)
        try:
            pixels, notes = to_display(stored.values, dataset, stored.sampling)
        except WholePictureNeeded:
            stored = read_stored_values(dataset, description, path)
            pixels, notes = to_display(stored.values, dataset)
    except OSError as error:
        reason = f"the file cannot be read ({error.strerror or type(error).__name__})"
        raise ImageRefused(RefusalCode.FILE_UNREADABLE, reason) from error
    return Radiograph(pixels, description, notes, stored.sampling)


def _transfer_syntax(dataset: Dataset) -> str:
    meta = getattr(dataset, "file_meta", None)
    named = str(meta.get("TransferSyntaxUID", "")) if meta is not None else ""
    if named:
        return named
    is_implicit, is_little = dataset.original_encoding
    if is_implicit is False:
        return uid.ExplicitVRLittleEndian if is_little else uid.ExplicitVRBigEndian
    return uid.ImplicitVRLittleEndian


def _description(dataset: Dataset, keyword: str) -> str:
    coded = [text(item, "CodeMeaning") for item in items(dataset, keyword)]
    return " ".join(coded) if coded else text(dataset, keyword)


def _view(dataset: Dataset) -> View:
    """Return the view that the header names; the code sequence wins over the free string."""
    codes = items(dataset, "ViewCodeSequence")
    if codes:
        view = _VIEW_CODES.get(text(codes[0], "CodeValue"))
        if view is not None:
            return view
    return _ORIENTATION.get(text(dataset, "ViewPosition").upper(), View.UNKNOWN)


def _age_years(dataset: Dataset) -> float | None:
    match = _AGE.match(text(dataset, "PatientAge"))
    if match and int(match[1]) > 0:
        age = int(match[1]) * _YEARS_PER[match[2].upper()]
    else:
        born, seen = (text(dataset, k)[:8] for k in ("PatientBirthDate", "StudyDate"))
        try:
            age = (np.datetime64(_iso(seen)) - np.datetime64(_iso(born))).astype(int) / 365.25
        except ValueError:
            return None
    return float(age) if 0 <= age <= _OLDEST_YEARS else None


def _iso(date: str) -> str:
    if not re.fullmatch(r"\d{8}", date):
        raise ValueError("not a DICOM date")
    return f"{date[:4]}-{date[4:6]}-{date[6:]}"


def _spacing(dataset: Dataset) -> tuple[float, float] | None:
    """Return the pixel spacing; the detector's own (ImagerPixelSpacing) counts as second best."""
    for keyword in ("PixelSpacing", "ImagerPixelSpacing"):
        spacing = numbers(dataset, keyword)
        if len(spacing) != 2:
            continue
        rows, columns = spacing
        if 0.01 <= rows <= 5 and 0.01 <= columns <= 5:
            return rows, columns
    return None
