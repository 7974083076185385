import struct
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.sequence import Sequence
from pydicom.uid import (
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    SecondaryCaptureImageStorage,
)

from tests.inference.results.studies import make_picture, make_source, make_study
from vigil.dicom import read_header
from vigil.phantom import make_phantom
from vigil.phantom.dicom import write_dx
from vigil_inference.results import build_report, to_bytes
from vigil_inference.results.source import frames_of, lossy_compression_of, patient_and_study

NAME = "Nguyễn^Thị Hồng Ngọc"


def _reread(report: Dataset) -> Dataset:
    return pydicom.dcmread(DicomBytesIO(to_bytes(report)))


def test_a_vietnamese_name_comes_back_as_it_was():
    source = make_source(patient_name=NAME, IssuerOfPatientID="Bệnh viện huyện Đà Bắc")
    report = _reread(build_report(make_study(make_picture(source=source))))
    assert report.SpecificCharacterSet == "ISO_IR 192"
    assert report.PatientName == NAME
    assert report.IssuerOfPatientID == "Bệnh viện huyện Đà Bắc"
    assert report.StudyDescription == "X-quang ngực thẳng"
    assert NAME.encode() in to_bytes(build_report(make_study(make_picture(source=source))))


@pytest.mark.parametrize(
    ("declared", "encoded", "name"),
    [
        ("ISO_IR 192", NAME.encode(), NAME),
        (None, NAME.encode(), NAME),
        ("ISO_IR 100", "Léonie^Bégué".encode("latin-1"), "Léonie^Bégué"),
        # PS3.5 K.2: the second set is announced in the middle of the name.
        (
            "\\ISO 2022 IR 58",
            b"Zhang^XiaoDong=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab",
            "Zhang^XiaoDong=张^小东",
        ),
        ("GB18030", "Wang^XiaoDong=王^小东".encode("gb18030"), "Wang^XiaoDong=王^小东"),
        ("ISO_IR 166", "สมชาย^ใจดี".encode("iso8859-11"), "สมชาย^ใจดี"),
    ],
    ids=["UTF-8", "UTF-8 undeclared", "Latin-1", "Chinese by escapes", "GB18030", "Thai"],
)
def test_a_name_of_any_character_set_reaches_the_report_s_bytes_in_utf_8(
    tmp_path: Path, declared: str | None, encoded: bytes, name: str
):
    path = tmp_path / "film.dcm"
    plain = b"NAME".ljust(len(encoded), b"-")
    write_dx(make_phantom(3, "normal", (64, 64)), path, patient_name=plain.decode())
    content = path.read_bytes()
    # Of the same length, so that no other byte changes; empty for none.
    charset = (declared or "").encode()
    head = b"\x08\0\x05\0CS" + struct.pack("<H", len(charset) + len(charset) % 2)
    content = content.replace(
        b"\x08\0\x05\0CS\x0a\0ISO_IR 192", head + charset.ljust(len(charset) + len(charset) % 2)
    )
    assert plain in content
    path.write_bytes(content.replace(plain, encoded))
    report = build_report(make_study(make_picture(source=read_header(path))))
    assert _reread(report).PatientName == name
    assert name.encode() in to_bytes(report)


def test_utf_8_that_was_never_declared_is_read_as_what_it_is():
    source = Dataset()
    # What pydicom makes of undeclared bytes.
    source.PatientName = NAME.encode().decode("latin-1")
    source.PatientComments = "Khó thở".encode().decode("latin-1")
    copied = patient_and_study(source)
    assert str(copied.PatientName) == NAME
    assert copied.PatientComments == "Khó thở"


def test_latin_1_that_was_never_declared_stays_latin_1():
    source = Dataset()
    source.PatientName = "Léonie^Bégué"
    assert str(patient_and_study(source).PatientName) == "Léonie^Bégué"


def test_a_japanese_name_in_three_groups_is_carried_over():
    source = make_source(patient_name="Yamada^Tarou=山田^太郎=やまだ^たろう")
    report = _reread(build_report(make_study(make_picture(source=source))))
    assert report.PatientName == "Yamada^Tarou=山田^太郎=やまだ^たろう"


def test_what_a_source_lacks_is_empty_and_not_missing():
    copied = patient_and_study(Dataset())
    assert copied.PatientID == ""
    assert copied.StudyDate == ""
    assert "PatientAge" not in copied


def test_sequences_are_carried_over_in_unicode_and_without_private_elements():
    item = Dataset()
    item.PatientID = "Số 7".encode().decode("latin-1")
    item.add_new(0x00090010, "LO", "PRIVATE")
    source = Dataset()
    source.OtherPatientIDsSequence = Sequence([item])
    copied = patient_and_study(source).OtherPatientIDsSequence[0]
    assert copied.PatientID == "Số 7"
    assert 0x00090010 not in copied
    assert source.OtherPatientIDsSequence[0] is item


@pytest.mark.parametrize(
    ("keyword", "value", "expected"),
    [
        ("StudyDate", "1997.04.24", "19970424"),
        ("StudyDate", "20261332", ""),
        ("StudyTime", "14:04:38", "140438"),
        ("StudyTime", "later", ""),
        ("PatientBirthDate", "00000000", ""),
        ("PatientSex", "MALE", ""),
        ("PatientSex", "F", "F"),
        ("PatientAge", "68", None),
        ("PatientAge", "068Y", "068Y"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_a_value_that_the_standard_does_not_know_is_mended_or_left_out(keyword, value, expected):
    source = Dataset()
    setattr(source, keyword, value)
    assert patient_and_study(source).get(keyword) == expected


def test_only_an_object_of_frames_is_referenced_by_frame():
    source = make_source()
    source.NumberOfFrames = 1
    source.SOPClassUID = SecondaryCaptureImageStorage
    assert frames_of(source) is None
    source.SOPClassUID = MultiFrameGrayscaleWordSecondaryCaptureImageStorage
    assert frames_of(source) == [1]


def test_what_was_once_compressed_with_loss_says_so_for_ever():
    source = make_source(
        LossyImageCompression="01",
        LossyImageCompressionRatio=["12"],
        LossyImageCompressionMethod="ISO_10918_1",
    )
    assert lossy_compression_of(source).LossyImageCompressionMethod == "ISO_10918_1"
    assert len(lossy_compression_of(make_source())) == 0
