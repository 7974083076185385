"""Phantoms as files: DX For Presentation (DICOM PS3.3 A.26) and PNG.

A file is the same at every writing: UIDs are made from what the file holds (``2.25.`` and a
version 5 UUID, PS3.5 B.2). Names are Vietnamese and in UTF-8, since that is what must pass.
"""

import uuid
from pathlib import Path

import cv2
import imagecodecs
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import (
    UID,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
)

from vigil.phantom import MAX_STORED_VALUE, Phantom, PhantomKind

NAMES = (
    "Nguyễn^Văn An", "Trần^Thị Bích", "Lê^Hoàng Cường", "Phạm^Thị Dung", "Huỳnh^Minh Đức",
    "Võ^Thị Hạnh", "Đặng^Quốc Hưng", "Bùi^Thị Lượng", "Đỗ^Xuân Nghĩa", "Hồ^Thị Phượng",
    "Ngô^Bảo Quyên", "Dương^Thành Sơn",
)  # fmt: skip

_NAMESPACE = uuid.UUID("6f1d2b0e-3d0e-5c0b-9a43-b0d4b8f5a6c1")
_VIEWS = {
    "PA": ("PA", ("272479007", "postero-anterior"), "L\\F"),
    "AP": ("AP", ("399348003", "antero-posterior"), "L\\F"),
    "LL": ("LL", ("399173006", "left lateral"), "A\\F"),
}
_FILM_HEIGHT_MM = 420.0


def make_uid(*parts: object) -> str:
    """Return the UID that belongs to these parts, the same at every call."""
    return f"2.25.{uuid.uuid5(_NAMESPACE, '|'.join(map(str, parts))).int}"


def write_dx(
    phantom: Phantom,
    path: Path,
    *,
    photometric: str = "MONOCHROME2",
    transfer_syntax: str = ExplicitVRLittleEndian,
    patient_name: str | None = None,
    age: float | None = None,
    view: str | None = None,
    **tags: object,
) -> Path:
    """Write a phantom as a 12-bit DX For Presentation file and return its path.

    Parameters
    ----------
    phantom
        What to write.
    path
        Where to.
    photometric
        MONOCHROME2, or MONOCHROME1 with inverted stored values: the same picture.
    transfer_syntax
        Explicit or implicit little endian, deflated, or a lossless compression: RLE, JPEG-LS,
        JPEG 2000, HTJ2K.
    patient_name
        By default one of :data:`NAMES`.
    age
        In years; under two it is written in months. By default somebody adult.
    view
        PA, AP or LL; by default LL for a lateral phantom and PA for others.
    **tags
        Further attributes by keyword, such as ``BodyPartExamined="HAND"``; None leaves one out.
        They are not part of the UIDs.

    Raises
    ------
    ValueError
        If the photometric interpretation or the view is none of those named.
    """
    if photometric not in {"MONOCHROME1", "MONOCHROME2"}:
        raise ValueError(f"photometric is {photometric}, expected MONOCHROME1 or MONOCHROME2")
    view = view or ("LL" if phantom.kind is PhantomKind.LATERAL else "PA")
    if view not in _VIEWS:
        raise ValueError(f"view is {view}, expected one of {', '.join(_VIEWS)}")
    identity = (phantom.seed, phantom.kind, *phantom.pixels.shape)
    stored = phantom.pixels
    if photometric == "MONOCHROME1":
        stored = (MAX_STORED_VALUE - stored).astype(np.uint16)

    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.SOPClassUID = DigitalXRayImageStorageForPresentation
    ds.SOPInstanceUID = make_uid("image", *identity, photometric, transfer_syntax)
    ds.StudyInstanceUID = make_uid("study", *identity[:2])
    ds.SeriesInstanceUID = make_uid("series", *identity, view)
    _describe_patient(ds, phantom.seed, patient_name, age)
    _describe_study(ds, phantom, view)
    _describe_image(ds, stored, photometric)
    for keyword, value in tags.items():
        if value is None:
            delattr(ds, keyword)
        else:
            setattr(ds, keyword, value)
    _save(ds, stored, path, transfer_syntax)
    return path


def write_png(phantom: Phantom, path: Path) -> Path:
    """Write a phantom as a 16-bit grey PNG over the full range and return its path."""
    scaled = (phantom.pixels.astype(np.uint32) * 65535 // MAX_STORED_VALUE).astype(np.uint16)
    encoded = cv2.imencode(".png", scaled)[1]
    path.write_bytes(encoded.tobytes())
    return path


def _describe_patient(ds: Dataset, seed: int, name: str | None, age: float | None) -> None:
    if age is None:
        age = 20 + seed * 37 % 65
    ds.PatientName = name if name is not None else NAMES[seed % len(NAMES)]
    ds.PatientID = f"PHANTOM-{seed:06d}"
    ds.PatientBirthDate = ""
    ds.PatientSex = "MF"[seed % 2]
    ds.PatientAge = f"{int(age):03d}Y" if age >= 2 else f"{int(age * 12):03d}M"


def _describe_study(ds: Dataset, phantom: Phantom, view: str) -> None:
    """Fill the study, series, equipment and DX acquisition modules (PS3.3 C.7, C.8.11)."""
    minutes = phantom.seed * 17 % (12 * 60)
    ds.StudyDate = ds.SeriesDate = ds.AcquisitionDate = ds.ContentDate = "20260105"
    time = f"{7 + minutes // 60:02d}{minutes % 60:02d}00"
    ds.StudyTime = ds.SeriesTime = ds.AcquisitionTime = ds.ContentTime = time
    ds.AccessionNumber = f"A{phantom.seed:06d}"
    ds.StudyID = str(phantom.seed % 10_000)
    ds.ReferringPhysicianName = ""
    ds.StudyDescription = "X-quang ngực thẳng" if view != "LL" else "X-quang ngực nghiêng"
    ds.Modality = "DX"
    ds.SeriesNumber = 1
    ds.PresentationIntentType = "FOR PRESENTATION"
    ds.InstitutionName = "Trạm y tế xã (phantom)"
    ds.Manufacturer = "Phantom"
    ds.ManufacturerModelName = "Chest"
    ds.DeviceSerialNumber = "1"
    ds.SoftwareVersions = "1"
    ds.BodyPartExamined = "CHEST"
    ds.AnatomicRegionSequence = Sequence([_code("816094009", "Chest")])
    ds.ImageLaterality = "U"
    ds.ViewPosition, (code, meaning), orientation = _VIEWS[view]
    ds.ViewCodeSequence = Sequence([_code(code, meaning)])
    ds.ViewCodeSequence[0].ViewModifierCodeSequence = Sequence()
    ds.PatientOrientation = orientation.split("\\")
    ds.PositionerType = ""
    ds.KVP = "120"
    ds.DetectorType = "DIRECT"
    ds.DetectorConfiguration = "AREA"
    ds.AcquisitionContextSequence = Sequence()


def _describe_image(ds: Dataset, stored: NDArray[np.uint16], photometric: str) -> None:
    """Fill the image, DX image and detector modules (PS3.3 C.7.6.3, C.8.11.3, C.8.11.4)."""
    first = photometric == "MONOCHROME1"
    ds.InstanceNumber = 1
    ds.ImageType = ["ORIGINAL", "PRIMARY", ""]
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = photometric
    ds.Rows, ds.Columns = stored.shape
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    ds.PixelIntensityRelationship = "LOG"
    ds.PixelIntensityRelationshipSign = 1 if first else -1
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = "0", "1", "US"
    ds.PresentationLUTShape = "INVERSE" if first else "IDENTITY"
    ds.LossyImageCompression = "00"
    ds.BurnedInAnnotation = "NO"
    ds.WindowCenter, ds.WindowWidth = "2048", "4096"
    ds.WindowCenterWidthExplanation = "Ngực"
    spacing = f"{_FILM_HEIGHT_MM / max(stored.shape):.6f}"
    ds.ImagerPixelSpacing = [spacing, spacing]
    ds.PixelSpacing = [spacing, spacing]
    ds.PixelSpacingCalibrationType = "FIDUCIAL"
    ds.PixelSpacingCalibrationDescription = "Phantom"


def _code(value: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "SCT", meaning
    return item


def _save(ds: Dataset, stored: NDArray[np.uint16], path: Path, transfer_syntax: str) -> None:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = ds.SOPClassUID
    meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    meta.ImplementationClassUID = UID(make_uid("implementation"))
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta = meta
    ds.PixelData = stored.astype("<u2").tobytes()
    ds["PixelData"].VR = "OW"
    syntax = UID(transfer_syntax)
    if syntax == HTJ2KLossless:
        # pydicom reads HTJ2K but has no encoder for it.
        ds.PixelData = encapsulate([bytes(imagecodecs.htj2k_encode(stored, reversible=True))])
        ds["PixelData"].VR = "OB"
    elif syntax.is_compressed and not syntax.is_deflated:
        ds.compress(syntax, generate_instance_uid=False)
    meta.TransferSyntaxUID = syntax
    ds.save_as(path, enforce_file_format=True)
