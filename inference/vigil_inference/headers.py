"""What intake reads of a picture: which object it is, whose, and of which study.

Text is decoded with the data set's own SpecificCharacterSet. Where a sender wrote UTF-8 and
declared nothing (Vietnamese modalities do), it is read as the UTF-8 that it is.
"""

import contextlib
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

import pydicom
from pydicom import Dataset
from pydicom.errors import InvalidDicomError

# Importing it also sets pydicom to read tolerantly and to keep values out of its warnings.
import vigil.dicom  # noqa: F401
from vigil.elements import without_escapes
from vigil.errors import VigilError

_TEXTS = (
    "PatientID",
    "IssuerOfPatientID",
    "PatientSex",
    "PatientBirthDate",
    "PatientAge",
    "AccessionNumber",
    "StudyDescription",
    "StudyDate",
    "StudyTime",
    "InstitutionName",
    "Modality",
)
_TAGS = [
    "SpecificCharacterSet",
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "PatientName",
    *_TEXTS,
]
_UID = re.compile(r"^[0-9.]{1,64}$")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]+")
_LONGEST_TEXT = 1024
_PREAMBLE_BYTES = 128
_CHUNK_BYTES = 1024 * 1024


class ObjectUnreadable(VigilError):
    """Bytes that are no DICOM object, or one that does not say which it is."""

    code = "OBJECT_UNREADABLE"
    http_status = 400
    dimse_status = 0xC000


@dataclass(frozen=True)
class Header:
    """An object's identity. DICOM attributes carry their keyword in snake case; "" is not said."""

    sop_class_uid: str
    sop_instance_uid: str
    study_instance_uid: str
    series_instance_uid: str = ""
    transfer_syntax_uid: str = ""
    patient_name: str = ""
    patient_id: str = ""
    issuer_of_patient_id: str = ""
    patient_sex: str = ""
    patient_birth_date: str = ""
    patient_age: str = ""
    accession_number: str = ""
    study_description: str = ""
    study_date: str = ""
    study_time: str = ""
    institution_name: str = ""
    modality: str = ""


def read_intake_header(path: Path) -> Header:
    """Read who and what a DICOM file is, without its pixels.

    Raises
    ------
    ObjectUnreadable
        If it is not DICOM, is damaged, or lacks its SOP class, SOP instance or study UID.
    OSError
        If the file cannot be read.
    """
    try:
        dataset = _read(path)
        uids = {
            keyword: str(dataset.get(keyword) or "").strip("\0 ")
            for keyword in (
                "SOPClassUID",
                "SOPInstanceUID",
                "StudyInstanceUID",
                "SeriesInstanceUID",
            )
        }
        transfer_syntax = str(dataset.file_meta.get("TransferSyntaxUID") or "").strip("\0 ")
        declared = bool(dataset.get("SpecificCharacterSet"))
        texts = [_text(dataset, keyword, declared=declared) for keyword in _TEXTS]
        name = _text(dataset, "PatientName", declared=declared)
    except Exception as error:  # pydicom's parser raises whatever a damaged file makes it meet
        if is_of_disk(error):
            raise
        raise ObjectUnreadable(
            f"expected a DICOM object, found bytes that cannot be read as one "
            f"({type(error).__name__})"
        ) from error
    for keyword in ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID"):
        if not _UID.match(uids[keyword]):
            found = "an unusable one" if uids[keyword] else "none"
            raise ObjectUnreadable(f"expected a DICOM object with {keyword}, found {found}")
    series = uids["SeriesInstanceUID"]
    return Header(
        uids["SOPClassUID"],
        uids["SOPInstanceUID"],
        uids["StudyInstanceUID"],
        series if _UID.match(series) else "",
        transfer_syntax if _UID.match(transfer_syntax) else "",
        name,
        *texts,
    )


def is_of_disk(error: Exception) -> bool:
    """Return whether the disk failed, not the file: pydicom raises OSError for damaged ones too."""
    origin = error.__context__
    return any(isinstance(e, OSError) and e.errno is not None for e in (error, origin))


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file's data set, without preamble and file meta information.

    Two senders of one object write different file meta information (DICOM PS3.10 section 7.1),
    so only the data set tells whether it is the same object.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        file.seek(data_set_offset(file.read(_PREAMBLE_BYTES + 16)))
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def data_set_offset(head: bytes) -> int:
    """Return where a file's data set begins, from its first 144 bytes; 0 for a bare data set."""
    # (0002,0000) UL of length 4: the length of the rest of the group.
    group = head[_PREAMBLE_BYTES + 4 : _PREAMBLE_BYTES + 12]
    is_file = head[_PREAMBLE_BYTES : _PREAMBLE_BYTES + 4] == b"DICM"
    if not is_file or group != b"\x02\x00\x00\x00UL\x04\x00":
        return 0
    length = int.from_bytes(head[_PREAMBLE_BYTES + 12 : _PREAMBLE_BYTES + 16], "little")
    return _PREAMBLE_BYTES + 16 + length


def _read(path: Path) -> Dataset:
    try:
        return pydicom.dcmread(path, stop_before_pixels=True, specific_tags=_TAGS)
    except InvalidDicomError:
        return pydicom.dcmread(path, stop_before_pixels=True, specific_tags=_TAGS, force=True)


def _text(dataset: Dataset, keyword: str, *, declared: bool) -> str:
    """Return an attribute as one line of clean Unicode, "" if it is absent or unreadable."""
    try:
        value = dataset.get(keyword)
    except Exception:  # a value that does not fit its type counts as not said
        return ""
    if value is None:
        return ""
    text = without_escapes(str(value))
    if not declared and not text.isascii():
        # pydicom reads an undeclared repertoire as Latin-1, which loses no byte.
        with contextlib.suppress(UnicodeError):
            text = text.encode("latin-1").decode("utf-8")
    return _CONTROL.sub(" ", text).strip()[:_LONGEST_TEXT]
