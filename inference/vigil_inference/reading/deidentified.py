"""A radiograph's pixels and what is needed to read them, and nothing of whose they are.

Only listed attributes are taken over, so a private or forgotten one cannot tell (the other way
round DICOM PS3.15 annex E has hundreds to remove). What is burnt into the pixels stays there.
"""

import io
from pathlib import Path

import pydicom
from pydicom import DataElement, Dataset
from pydicom.dataset import FileMetaDataset

# Importing it also sets pydicom to read tolerantly and to keep values out of its warnings.
import vigil.dicom  # noqa: F401
from vigil_inference.reading.pseudonyms import Pseudonyms

_KEPT = (
    "SOPClassUID", "ImageType", "Modality", "Manufacturer", "ManufacturerModelName",
    "PresentationIntentType", "BodyPartExamined", "ViewPosition", "PatientOrientation",
    "Laterality", "ImageLaterality", "PatientSex", "BurnedInAnnotation", "SamplesPerPixel",
    "PhotometricInterpretation", "PlanarConfiguration", "Rows", "Columns", "NumberOfFrames",
    "PixelSpacing", "ImagerPixelSpacing", "PixelAspectRatio", "BitsAllocated", "BitsStored",
    "HighBit", "PixelRepresentation", "PixelPaddingValue", "PixelIntensityRelationship",
    "PixelIntensityRelationshipSign", "RescaleIntercept", "RescaleSlope", "RescaleType",
    "WindowCenter", "WindowWidth", "VOILUTFunction", "PresentationLUTShape",
    "LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod",
    "PixelData",
)  # fmt: skip
_KEPT_OF_ITEMS = {
    "ModalityLUTSequence": ("LUTDescriptor", "ModalityLUTType", "LUTData"),
    "VOILUTSequence": ("LUTDescriptor", "LUTData"),
    "ViewCodeSequence": ("CodeValue", "CodingSchemeDesignator", "CodeMeaning"),
}
_OLDEST_YEARS = 90
_EMPTY = (
    "StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName", "PatientBirthDate",
    "StudyID", "SeriesNumber", "InstanceNumber",
)  # fmt: skip


def deidentify(path: Path, names: Pseudonyms, patient: str, age_years: float | None) -> bytes:
    """Return a DICOM file under new names.

    Parameters
    ----------
    path
        The original.
    names, patient
        The installation's pseudonyms, and the patient's.
    age_years
        None is not known; from 90 on it is 90.

    Raises
    ------
    OSError, InvalidDicomError
        If it cannot be read.
    """
    original = pydicom.dcmread(path)
    fresh = Dataset()
    fresh.SpecificCharacterSet = "ISO_IR 192"
    for keyword in _KEPT:
        if keyword in original:
            fresh.add(_copy(original[keyword]))
    for keyword, kept in _KEPT_OF_ITEMS.items():
        if keyword in original:
            setattr(fresh, keyword, [_only(item, kept) for item in original[keyword].value or ()])
    for keyword in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"):
        setattr(fresh, keyword, names.uid(str(original.get(keyword, ""))))
    for keyword in _EMPTY:
        setattr(fresh, keyword, None)
    fresh.PatientName = patient
    fresh.PatientID = patient
    if age_years is not None:
        fresh.PatientAge = f"{bounded_age(age_years):03.0f}Y"
    fresh.PatientIdentityRemoved = "YES"
    fresh.DeidentificationMethod = "Vigil: only listed attributes; pixels as they were"
    fresh.file_meta = FileMetaDataset()
    fresh.file_meta.TransferSyntaxUID = original.file_meta.TransferSyntaxUID
    fresh.file_meta.MediaStorageSOPClassUID = fresh.SOPClassUID
    fresh.file_meta.MediaStorageSOPInstanceUID = fresh.SOPInstanceUID
    buffer = io.BytesIO()
    fresh.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def bounded_age(age_years: float) -> float:
    """Return an age that tells nobody: in whole years, and 90 for all who are older."""
    return float(min(int(age_years), _OLDEST_YEARS))


def _copy(element: DataElement) -> DataElement:
    fresh = DataElement(element.tag, element.VR, element.value)
    fresh.is_undefined_length = element.is_undefined_length
    return fresh


def _only(item: Dataset, kept: tuple[str, ...]) -> Dataset:
    fresh = Dataset()
    for keyword in kept:
        if keyword in item:
            fresh.add(_copy(item[keyword]))
    return fresh
