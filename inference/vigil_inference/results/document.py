"""What all result objects share: whose they are, who made them, when, and how they become bytes.

The modules are written here, attribute by attribute, and not by highdicom's SOP classes, whose
templates the contents are built from: those stamp the clock into three modules, leave out the
issuer of the patient's ID, and refuse the headers that real modalities write (see
``docs/decisions/result-objects.md``).
"""

import re
import uuid
from collections.abc import Iterable
from datetime import datetime, timedelta, timezone
from io import BytesIO

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import UID, ExplicitVRLittleEndian

from vigil.elements import text
from vigil.gate import OWN_MANUFACTURER
from vigil_inference.results.identity import ObjectKind, series_instance_uid
from vigil_inference.results.source import patient_and_study, reference_to
from vigil_inference.results.study import PictureResult, Predecessor, StudyResult

MODEL_NAME = "Vigil chest X-ray triage"
SERIES_DESCRIPTION = "AI CXR triage (research use only)"
IMPLEMENTATION_CLASS_UID = UID(
    f"2.25.{uuid.uuid5(uuid.NAMESPACE_URL, 'urn:vigil-cxr:implementation').int}"
)

_SERIES = {
    ObjectKind.REPORT: (9001, "SR"),
    ObjectKind.CAPTURE: (9002, "OT"),
    ObjectKind.KEY_OBJECTS: (9003, "KO"),
}
_OFFSET = re.compile(r"^([+-])(\d{2})(\d{2})$")
# Coding schemes beyond those that readers know without being told (PS3.16 table 8-1).
SCHEMES = {
    "99VIGIL": (
        f"2.25.{uuid.uuid5(uuid.NAMESPACE_URL, 'urn:vigil-cxr:codes').int}",
        "Vigil's own codes",
        "Vigil",
    ),
    "RADLEX": ("2.16.840.1.113883.6.256", "RadLex", "RSNA"),
    "UMLS": ("2.16.840.1.113883.6.86", "Unified Medical Language System", "NLM"),
}
_KNOWN_SCHEMES = frozenset({"DCM", "SCT", "UCUM", "LN", "RFC5646"})


def new_object(
    study: StudyResult,
    kind: ObjectKind,
    sop_class_uid: str,
    sop_instance_uid: str,
    picture: PictureResult | None = None,
) -> Dataset:
    """Return an object with its patient, study, series, equipment and SOP common modules.

    DICOM PS3.3 C.7.1.1, C.7.2.1, C.7.2.2, C.7.3.1, C.7.5.1, C.12.1.

    Parameters
    ----------
    study
        The study that it belongs to.
    kind
        Which series it goes into.
    sop_class_uid, sop_instance_uid
        What it is, and which.
    picture
        The picture that the object is of, if it is not of the whole study: such an object is the
        same whatever pictures join the study later.
    """
    dataset = patient_and_study((picture or study.pictures[0]).source)
    timestamp = study.timestamp if picture is None else picture.analysed_at
    series_number, modality = _SERIES[kind]
    dataset.SOPClassUID = sop_class_uid
    dataset.SOPInstanceUID = sop_instance_uid
    dataset.SeriesInstanceUID = series_instance_uid(study, kind)
    dataset.SeriesNumber = series_number
    dataset.SeriesDescription = SERIES_DESCRIPTION
    dataset.Modality = modality
    # The loop guard in vigil.gate knows Vigil's own objects by this name.
    dataset.Manufacturer = OWN_MANUFACTURER
    dataset.ManufacturerModelName = MODEL_NAME
    dataset.SoftwareVersions = software_versions(study)
    dataset.DeviceSerialNumber = study.device_serial_number
    date, time = _date_and_time(timestamp, text(dataset, "TimezoneOffsetFromUTC"))
    dataset.InstanceCreationDate = dataset.ContentDate = date
    dataset.InstanceCreationTime = dataset.ContentTime = time
    dataset.file_meta = _file_meta(study, sop_class_uid, sop_instance_uid)
    return dataset


def software_versions(study: StudyResult) -> list[str]:
    """Return the versions of the software and of the bundle, each at most 64 characters (LO)."""
    versions = [f"vigil {study.software_version}"]
    if study.bundle_id:
        versions.append(f"bundle {study.bundle_id}"[:64])
    if study.bundle_digest:
        versions.append(f"bundle SHA-256 {study.bundle_digest[:48]}")
    return versions


def instance_number_of(study: StudyResult) -> int:
    """Return a document's number: each that replaces another counts one further."""
    return 1 if study.predecessor is None else study.predecessor.instance_number + 1


def evidence_of(sources: Iterable[Dataset]) -> Sequence:
    """Return the hierarchy of references to objects (DICOM PS3.3 table C.17-3)."""
    studies: dict[str, dict[str, list[Dataset]]] = {}
    for source in sources:
        series = studies.setdefault(text(source, "StudyInstanceUID"), {})
        series.setdefault(text(source, "SeriesInstanceUID"), []).append(reference_to(source))
    items = []
    for study_uid, series in studies.items():
        item = Dataset()
        item.StudyInstanceUID = study_uid
        item.ReferencedSeriesSequence = Sequence()
        for series_uid, references in series.items():
            series_item = Dataset()
            series_item.SeriesInstanceUID = series_uid
            series_item.ReferencedSOPSequence = Sequence(references)
            item.ReferencedSeriesSequence.append(series_item)
        items.append(item)
    return Sequence(items)


def predecessor_evidence(predecessor: Predecessor) -> Sequence:
    """Return the Predecessor Documents Sequence (DICOM PS3.3 C.17.2.3)."""
    document = Dataset()
    document.StudyInstanceUID = predecessor.study_instance_uid
    document.SeriesInstanceUID = predecessor.series_instance_uid
    document.SOPInstanceUID = predecessor.sop_instance_uid
    document.SOPClassUID = predecessor.sop_class_uid
    return evidence_of([document])


def predecessor_of(report: Dataset) -> Predecessor:
    """Return what a later report needs to name this one."""
    return Predecessor(
        study_instance_uid=str(report.StudyInstanceUID),
        series_instance_uid=str(report.SeriesInstanceUID),
        sop_instance_uid=str(report.SOPInstanceUID),
        instance_number=int(report.InstanceNumber or 1),
        sop_class_uid=str(report.SOPClassUID),
    )


def identify_coding_schemes(dataset: Dataset) -> None:
    """Say which coding schemes the object's codes are from (DICOM PS3.3 C.12.1.1.1).

    Raises
    ------
    ValueError
        If a code is from a scheme that Vigil cannot name: it would mean nothing to a reader.
    """
    found: set[str] = set()
    _collect_schemes(dataset, found)
    items = []
    for designator in sorted(found - _KNOWN_SCHEMES):
        if designator not in SCHEMES:
            raise ValueError(f"a code is from the scheme {designator}, expected one that is named")
        uid, name, organization = SCHEMES[designator]
        item = Dataset()
        item.CodingSchemeDesignator = designator
        item.CodingSchemeUID = uid
        item.CodingSchemeName = name
        item.CodingSchemeResponsibleOrganization = organization
        items.append(item)
    if items:
        dataset.CodingSchemeIdentificationSequence = Sequence(items)


def to_bytes(dataset: Dataset) -> bytes:
    """Return the object as a DICOM file (PS3.10 section 7), the same bytes at every call."""
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _collect_schemes(dataset: Dataset, found: set[str]) -> None:
    for element in dataset:
        if element.keyword == "CodingSchemeDesignator" and "CodeValue" in dataset:
            found.add(str(element.value))
        elif element.VR == "SQ" and not _is_taken_over(element.keyword):
            for item in element.value:
                _collect_schemes(item, found)


def _is_taken_over(keyword: str) -> bool:
    """Return whether a sequence came from the source, whose codes are the site's own."""
    return keyword in {
        "ProcedureCodeSequence",
        "AdmittingDiagnosesCodeSequence",
        "DeidentificationMethodCodeSequence",
    }


def _date_and_time(timestamp: datetime, offset: str) -> tuple[str, str]:
    """Return the date and time on the source's clock, where it says which that is.

    Timezone Offset From UTC holds for every time in an object (PS3.3 C.12.1.1.8).
    """
    if match := _OFFSET.match(offset):
        sign, hours, minutes = match.groups()
        shift = timedelta(hours=int(hours), minutes=int(minutes))
        timestamp = timestamp.astimezone(timezone(-shift if sign == "-" else shift))
    return timestamp.strftime("%Y%m%d"), timestamp.strftime("%H%M%S")


def _file_meta(study: StudyResult, sop_class_uid: str, sop_instance_uid: str) -> FileMetaDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID(sop_class_uid)
    meta.MediaStorageSOPInstanceUID = UID(sop_instance_uid)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = IMPLEMENTATION_CLASS_UID
    meta.ImplementationVersionName = f"VIGIL_{study.software_version}"[:16]
    return meta
