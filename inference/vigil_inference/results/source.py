"""What a result takes over from its source: patient and study, as the standard has it, in UTF-8.

Sources bend the standard; results do not. Attributes of type 2 that a source lacks are written
empty, a value that cannot be decoded counts as not said, and text is carried over into
``ISO_IR 192`` whatever it was written in (DICOM PS3.3 C.12.1.1.2).
"""

import contextlib
import re
from typing import Any

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
from pydicom.uid import (
    MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    MultiFrameSingleBitSecondaryCaptureImageStorage,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
)
from pydicom.valuerep import VR

from vigil.elements import integer, text, value_of, without_escapes

_TYPE_2 = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
    "StudyID",
    "AccessionNumber",
)
# Patient, General Study, Patient Study and Clinical Trial modules (PS3.3 C.7.1.1, C.7.2.1, C.7.2.2,
# C.7.1.3, C.7.2.3). All objects of a study must agree on them.
COPIED = (
    *_TYPE_2,
    "IssuerOfPatientID",
    "IssuerOfPatientIDQualifiersSequence",
    "TypeOfPatientID",
    "OtherPatientIDsSequence",
    "OtherPatientNames",
    "PatientBirthTime",
    "EthnicGroup",
    "PatientComments",
    "ResponsiblePerson",
    "ResponsiblePersonRole",
    "ResponsibleOrganization",
    "QualityControlSubject",
    "PatientIdentityRemoved",
    "DeidentificationMethod",
    "DeidentificationMethodCodeSequence",
    "StudyInstanceUID",
    "StudyDescription",
    "IssuerOfAccessionNumberSequence",
    "PhysiciansOfRecord",
    "ConsultingPhysicianName",
    "NameOfPhysiciansReadingStudy",
    "ProcedureCodeSequence",
    "AdmittingDiagnosesDescription",
    "AdmittingDiagnosesCodeSequence",
    "PatientAge",
    "PatientSize",
    "PatientWeight",
    "PatientBodyMassIndex",
    "MedicalAlerts",
    "Allergies",
    "SmokingStatus",
    "PregnancyStatus",
    "LastMenstrualDate",
    "Occupation",
    "AdditionalPatientHistory",
    "AdmissionID",
    "IssuerOfAdmissionIDSequence",
    "ServiceEpisodeID",
    "ServiceEpisodeDescription",
    "ClinicalTrialSponsorName",
    "ClinicalTrialProtocolID",
    "ClinicalTrialProtocolName",
    "ClinicalTrialSiteID",
    "ClinicalTrialSiteName",
    "ClinicalTrialSubjectID",
    "ClinicalTrialSubjectReadingID",
    "ClinicalTrialTimePointID",
    "TimezoneOffsetFromUTC",
)
_MULTI_FRAME = frozenset(
    {
        MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
        MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
        MultiFrameSingleBitSecondaryCaptureImageStorage,
        MultiFrameTrueColorSecondaryCaptureImageStorage,
    }
)
# What values of these kinds must look like (PS3.5 table 6.2-1). Others are not taken over.
_FORMS = {
    VR.AS: re.compile(r"\d{3}[DWMY]"),
    VR.DA: re.compile(r"(?!0000)\d{4}(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])"),
    VR.TM: re.compile(r"([01]\d|2[0-3])([0-5]\d(([0-5]\d|60)(\.\d{1,6})?)?)?"),
}
_SEXES = frozenset({"M", "F", "O"})
_TEXT_VRS = frozenset({VR.LO, VR.LT, VR.PN, VR.SH, VR.ST, VR.UC, VR.UT})


def patient_and_study(source: Dataset) -> Dataset:
    """Return the patient's and the study's attributes, ready to be written in UTF-8.

    Parameters
    ----------
    source
        A picture's header.

    Returns
    -------
    Dataset
        With ``SpecificCharacterSet``; the source is left as it was.
    """
    declared = bool(value_of(source, "SpecificCharacterSet"))
    copied = _copy(source, COPIED, declared=declared)
    for keyword in _TYPE_2:
        if keyword not in copied:
            setattr(copied, keyword, "")
    copied.SpecificCharacterSet = "ISO_IR 192"
    return copied


def frames_of(source: Dataset) -> list[int] | None:
    """Return the frame that was read, None where the SOP class holds single pictures.

    Some of those say ``NumberOfFrames`` all the same, and must not be referenced by frame.
    """
    return [1] if text(source, "SOPClassUID") in _MULTI_FRAME else None


def size_of(source: Dataset) -> tuple[int, int]:
    """Return a picture's (rows, columns), zeros where they are not said."""
    return integer(source, "Rows"), integer(source, "Columns")


def reference_to(source: Dataset) -> Dataset:
    """Return an item that references an object (DICOM PS3.3 table 10-11)."""
    item = Dataset()
    item.ReferencedSOPClassUID = text(source, "SOPClassUID")
    item.ReferencedSOPInstanceUID = text(source, "SOPInstanceUID")
    return item


def lossy_compression_of(source: Dataset) -> Dataset:
    """Return what must be said for ever of pixels that were once compressed with loss.

    DICOM PS3.3 C.7.6.1.1.5: an object derived from such pixels says so too.
    """
    said = Dataset()
    if text(source, "LossyImageCompression") == "01":
        keywords = (
            "LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod",
        )  # fmt: skip
        said = _copy(source, keywords, declared=True)
    return said


def _copy(source: Dataset, keywords: tuple[str, ...], *, declared: bool) -> Dataset:
    copied = Dataset()
    for keyword in keywords:
        # A damaged value counts as not said, see vigil.elements.
        with contextlib.suppress(Exception):
            if keyword in source:
                _add(copied, source[keyword], declared=declared)
    return copied


def _add(target: Dataset, element: DataElement, *, declared: bool) -> None:
    if element.VR == VR.SQ:
        target.add_new(element.tag, VR.SQ, Sequence(_copied_items(element, declared=declared)))
    elif element.VR in _TEXT_VRS:
        target.add_new(element.tag, element.VR, _texts(element.value, declared=declared))
    elif element.VR in _FORMS:
        # Dots and colons are the separators of the standard before 1993 (ACR-NEMA).
        value = re.sub(r"^(\d{4})\.(\d\d)\.(\d\d)$", r"\1\2\3", str(element.value or "").strip())
        value = re.sub(r"^(\d\d):(\d\d):(\d\d)", r"\1\2\3", value)
        if _FORMS[VR(element.VR)].fullmatch(value):
            target.add_new(element.tag, element.VR, value)
    elif element.keyword != "PatientSex" or element.value in _SEXES:
        value = element.value
        plain = list(value) if isinstance(value, MultiValue) else value
        target.add_new(element.tag, element.VR, plain)


def _copied_items(element: DataElement, *, declared: bool) -> list[Dataset]:
    copies = []
    for item in element.value:
        copy = Dataset()
        for inner in item:
            if not inner.tag.is_private:
                _add(copy, inner, declared=declared)
        copies.append(copy)
    return copies


def _texts(value: Any, *, declared: bool) -> str | list[str]:
    if isinstance(value, MultiValue | list | tuple):
        return [_unicode(str(part), declared=declared) for part in value]
    return "" if value is None else _unicode(str(value), declared=declared)


def _unicode(value: str, *, declared: bool) -> str:
    """Return a text, read as UTF-8 if it is and nothing was declared: Vietnamese modalities do so.

    pydicom reads an undeclared repertoire as Latin-1, which loses no byte.
    """
    if not declared and not value.isascii():
        try:
            return value.encode("latin-1").decode("utf-8")
        except UnicodeError:
            return value
    return without_escapes(value)
