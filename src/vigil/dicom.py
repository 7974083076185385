"""From a DICOM file to a :class:`~vigil.radiograph.Radiograph`.

Reading is tolerant (real files bend the standard), deciding is not: what cannot be read with
certainty is refused with a code. The display pipeline itself is in :mod:`vigil.display`.
"""

import re
import warnings
from pathlib import Path

import numpy as np
import pydicom
import pydicom.config
from numpy.typing import NDArray
from pydicom import Dataset, uid
from pydicom.errors import InvalidDicomError

from vigil.decoders import decoder_for
from vigil.display import to_display
from vigil.elements import integer, items, numbers, text, texts
from vigil.errors import ImageRefused, RefusalCode
from vigil.radiograph import ImageDescription, Radiograph, View

# An oddity in a header is no reason to refuse a picture, and pydicom's warnings about values may
# quote them: patient data does not belong in a log.
pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
warnings.filterwarnings("ignore", module=r"pydicom(\..*)?")

_MAX_PIXELS = 200_000_000
_LOSSY = {
    uid.JPEGBaseline8Bit,
    uid.JPEGExtended12Bit,
    uid.JPEGLSNearLossless,
    uid.JPEG2000,
    uid.HTJ2K,
}
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
        ``FILE_UNREADABLE`` if it is not DICOM or its header is damaged.
    """
    return _read(path, stop_before_pixels=True)


def _read(path: Path, *, stop_before_pixels: bool) -> Dataset:
    try:
        try:
            dataset = pydicom.dcmread(path, stop_before_pixels=stop_before_pixels)
        except InvalidDicomError:
            dataset = pydicom.dcmread(path, stop_before_pixels=stop_before_pixels, force=True)
        sop_class = text(dataset, "SOPClassUID")
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


def read_dicom(path: Path) -> Radiograph:
    """Read a DICOM radiograph: header, pixels, display pipeline.

    Raises
    ------
    ImageRefused
        ``FILE_UNREADABLE``, ``NO_PIXELS``, ``MULTI_FRAME``, ``COLOUR``, ``TOO_LARGE``,
        ``TRANSFER_SYNTAX_UNSUPPORTED`` or ``PIXELS_CORRUPT``.
    """
    dataset = _read(path, stop_before_pixels=False)
    description = describe(dataset)
    stored = _stored_values(dataset, description)
    pixels, notes = to_display(stored, dataset)
    return Radiograph(pixels, description, notes)


def _stored_values(dataset: Dataset, description: ImageDescription) -> NDArray[np.integer]:
    """Return (rows, columns) stored values with the bits that BitsStored promises."""
    if "PixelData" not in dataset or description.rows < 1 or description.columns < 1:
        if "FloatPixelData" in dataset or "DoubleFloatPixelData" in dataset:
            reason = "the pixels are floating-point numbers, expected integers"
            raise ImageRefused(RefusalCode.NOT_RADIOGRAPH, reason)
        raise ImageRefused(RefusalCode.NO_PIXELS, "the object holds no pixels")
    if description.number_of_frames > 1:
        reason = f"the object holds {description.number_of_frames} frames, expected one"
        raise ImageRefused(RefusalCode.MULTI_FRAME, reason)
    if description.rows * description.columns > _MAX_PIXELS:
        reason = f"the picture is {description.columns} × {description.rows}, more than is read"
        raise ImageRefused(RefusalCode.TOO_LARGE, reason)
    syntax = uid.UID(description.transfer_syntax_uid)
    try:
        decoder, plugins = decoder_for(syntax)
    except NotImplementedError as error:
        reason = f"transfer syntax {syntax.name} is not one that this software reads"
        raise ImageRefused(RefusalCode.TRANSFER_SYNTAX_UNSUPPORTED, reason) from error
    if dataset.file_meta.get("TransferSyntaxUID") is None:
        dataset.file_meta.TransferSyntaxUID = syntax
    failure: Exception | None = None
    for plugin in plugins or ("",):
        try:
            stored, properties = decoder.as_array(dataset, index=0, decoding_plugin=plugin)
        except Exception as error:  # codecs raise what they like; the next one may succeed
            failure = failure or error
            continue
        break
    else:
        name = type(failure).__name__
        reason = f"the {syntax.name} pixel data is damaged or incomplete ({name})"
        raise ImageRefused(RefusalCode.PIXELS_CORRUPT, reason) from failure
    if stored.dtype.itemsize > 2 and int(stored.max()) - int(stored.min()) > 65535:
        reason = "the pixels have more than 16 bits, expected a radiograph's 8 to 16"
        raise ImageRefused(RefusalCode.NOT_RADIOGRAPH, reason)
    if stored.ndim == 3:
        return _luminance(stored, str(properties["photometric_interpretation"]))
    if str(properties["photometric_interpretation"]) == "PALETTE COLOR":
        raise ImageRefused(RefusalCode.COLOUR, "the picture has a colour palette, expected grey")
    return _clean_bits(stored, dataset, exact=syntax not in _LOSSY)


def _clean_bits(
    stored: NDArray[np.integer], dataset: Dataset, *, exact: bool
) -> NDArray[np.integer]:
    """Clear what lies above the stored bits (old overlays, a missing sign extension).

    What a lossy codec overshot is clipped instead: masking would turn white into black.
    """
    bits_stored = integer(dataset, "BitsStored", 8 * stored.dtype.itemsize)
    bits_allocated = 8 * stored.dtype.itemsize
    if not 0 < bits_stored < bits_allocated:
        return stored
    signed = np.issubdtype(stored.dtype, np.signedinteger)
    low, high = (
        (-(1 << bits_stored - 1), (1 << bits_stored - 1) - 1)
        if signed
        else (
            0,
            (1 << bits_stored) - 1,
        )
    )
    if int(stored.max()) <= high and int(stored.min()) >= low:
        return stored
    if exact:
        shift = bits_allocated - bits_stored
        cleaned: NDArray[np.integer] = np.right_shift(np.left_shift(stored, shift), shift)
        return cleaned
    return stored.clip(low, high)


def _luminance(colour: NDArray[np.integer], interpretation: str) -> NDArray[np.integer]:
    """Return the grey values of a picture that is stored in colour but shows none."""
    samples = colour.astype(np.int32)
    if interpretation.startswith("YBR"):
        chroma = int(np.abs(samples[..., 1:] - 128).max(initial=0))
        grey = colour[..., 0]
    else:
        chroma = int(np.ptp(samples, axis=-1).max(initial=0))
        grey = colour[..., 1]
    # A JPEG of a grey picture wanders by a few levels.
    if chroma > 24:
        reason = "the picture is in colour, expected a grey radiograph"
        raise ImageRefused(RefusalCode.COLOUR, reason)
    return np.ascontiguousarray(grey)


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
