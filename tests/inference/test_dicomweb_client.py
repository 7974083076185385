"""QIDO-RS and WADO-RS as a real client asks: dicomweb-client."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from dicomweb_client import DICOMwebClient
from pydicom import Dataset, dcmread
from pydicom.encaps import generate_frames
from pydicom.uid import RLELossless, generate_uid

from tests.inference.conftest import MakeFile, make_dataset
from vigil_inference.intake import Source
from vigil_inference.service import Service

_UIDS = ("StudyInstanceUID", "SeriesInstanceUID")
PEOPLE = (("Nguyễn^Văn An", "P1", "20260101"), ("Trần^Thị Bình=陳^氏平", "P2", "20261001"))


@pytest.fixture
def held(service: Service, make_file: MakeFile, tmp_path: Path) -> list[Dataset]:
    """Two studies: one of two pictures in one series, one of a single RLE picture."""
    study, series = generate_uid(), generate_uid()
    common = {"StudyInstanceUID": study, "SeriesInstanceUID": series, "SeriesNumber": 7}
    paths = []
    for number in (1, 2):
        name, identifier, date = PEOPLE[0]
        paths.append(
            make_file(
                PatientName=name,
                PatientID=identifier,
                StudyDate=date,
                InstanceNumber=number,
                **common,
            )
        )
    name, identifier, date = PEOPLE[1]
    compressed = make_dataset(PatientName=name, PatientID=identifier, StudyDate=date, Modality="DX")
    compressed.compress(RLELossless)
    paths.append(tmp_path / "rle.dcm")
    compressed.save_as(paths[-1], enforce_file_format=True)
    for path in paths:
        service.intake.accept(path, Source("C-STORE"))
    return [dcmread(path) for path in paths]


@pytest.fixture
def peer(client: httpx.Client, held: list[Dataset]) -> Iterator[DICOMwebClient]:
    peer = DICOMwebClient(url=f"{client.base_url}/dicomweb")
    yield peer
    peer._session.close()


def uids(dataset: Dataset) -> tuple[str, str, str]:
    return dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.SOPInstanceUID


def parsed(found: list[dict[str, Any]]) -> list[Dataset]:
    return [Dataset.from_json(item) for item in found]


def test_studies_are_found_with_their_counts(peer: DICOMwebClient, held: list[Dataset]) -> None:
    latest, first = parsed(peer.search_for_studies())
    assert (first.StudyInstanceUID, latest.StudyInstanceUID) == (
        held[0].StudyInstanceUID,
        held[2].StudyInstanceUID,
    )
    assert (first.NumberOfStudyRelatedSeries, first.NumberOfStudyRelatedInstances) == (1, 2)
    assert (first.ModalitiesInStudy, latest.ModalitiesInStudy) == ("CR", "DX")
    assert first.PatientName == PEOPLE[0][0]
    assert latest.PatientName == PEOPLE[1][0]
    assert latest.PatientName.ideographic == "陳^氏平"


@pytest.mark.parametrize(
    ("filters", "identifiers"),
    [
        ({"PatientID": "P1"}, ["P1"]),
        ({"PatientID": "P*"}, ["P2", "P1"]),
        ({"PatientID": "P_"}, []),
        ({"PatientName": "Nguyễn*"}, ["P1"]),
        ({"PatientName": "Trần^Thị Bình"}, ["P2"]),
        ({"StudyDate": "20260101"}, ["P1"]),
        ({"StudyDate": "20260601-"}, ["P2"]),
        ({"StudyDate": "20250101-20260601"}, ["P1"]),
        ({"ModalitiesInStudy": "DX"}, ["P2"]),
        ({"00100020": "P2"}, ["P2"]),
        ({"PatientID": "nobody"}, []),
    ],
)
def test_studies_are_filtered(
    peer: DICOMwebClient, filters: dict[str, str], identifiers: list[str]
) -> None:
    found = parsed(peer.search_for_studies(search_filters=filters))
    assert [dataset.PatientID for dataset in found] == identifiers


def test_series_and_instances_are_found(peer: DICOMwebClient, held: list[Dataset]) -> None:
    study, series, _ = uids(held[0])
    [found] = parsed(peer.search_for_series(study))
    assert (found.SeriesInstanceUID, found.SeriesNumber) == (series, 7)
    assert found.NumberOfSeriesRelatedInstances == 2
    assert len(peer.search_for_series()) == 2
    for answer in (
        peer.search_for_instances(study, series),
        peer.search_for_instances(study),
        peer.search_for_instances(search_filters={"Modality": "CR"}),
    ):
        instances = parsed(answer)
        assert [i.SOPInstanceUID for i in instances] == [d.SOPInstanceUID for d in held[:2]]
        assert [i.InstanceNumber for i in instances] == [1, 2]
        assert (instances[0].Rows, instances[0].Columns) == (8, 8)


def test_pages_follow_each_other_and_more_is_said(
    client: httpx.Client, peer: DICOMwebClient
) -> None:
    first = parsed(peer.search_for_studies(limit=1))
    second = parsed(peer.search_for_studies(limit=1, offset=1))
    assert [dataset.PatientID for dataset in first + second] == ["P2", "P1"]
    answer = client.get("/dicomweb/studies?limit=1&PatientWeight=70")
    assert "more results" in answer.headers["warning"]
    assert "PatientWeight" in answer.headers["warning"]
    assert "warning" not in client.get("/dicomweb/studies").headers


@pytest.mark.parametrize("which", [0, 2], ids=["explicit", "RLE"])
def test_an_instance_comes_as_it_was_stored(
    peer: DICOMwebClient, held: list[Dataset], which: int
) -> None:
    found = peer.retrieve_instance(*uids(held[which]))
    assert found.file_meta.TransferSyntaxUID == held[which].file_meta.TransferSyntaxUID
    assert found == held[which]


def test_an_instance_is_decoded_where_plain_little_endian_is_asked_for(
    peer: DICOMwebClient, held: list[Dataset]
) -> None:
    plain = (("application/dicom", "1.2.840.10008.1.2.1"),)
    found = peer.retrieve_instance(*uids(held[2]), media_types=plain)
    assert found.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"
    assert np.array_equal(found.pixel_array, held[2].pixel_array)


def test_studies_and_series_are_retrieved_whole(peer: DICOMwebClient, held: list[Dataset]) -> None:
    study, series, _ = uids(held[0])
    assert peer.retrieve_study(study) == held[:2]
    assert peer.retrieve_series(study, series) == held[:2]


def test_metadata_holds_all_but_the_pixels(peer: DICOMwebClient, held: list[Dataset]) -> None:
    metadata = Dataset.from_json(
        peer.retrieve_instance_metadata(*uids(held[0])), lambda tag, vr, uri: uri.encode()
    )
    assert metadata.PatientName == PEOPLE[0][0]
    assert (metadata.Rows, metadata.BitsStored) == (8, 12)
    assert metadata.PixelData.endswith(b"/frames/1")
    assert len(peer.retrieve_study_metadata(held[0].StudyInstanceUID)) == 2


def test_frames_come_decoded_or_as_stored(
    client: httpx.Client, peer: DICOMwebClient, held: list[Dataset]
) -> None:
    plain, compressed = held[0], held[2]
    assert peer.retrieve_instance_frames(*uids(plain), [1]) == [plain.PixelData]
    octets = (("application/octet-stream", "1.2.840.10008.1.2.1"),)
    [decoded] = peer.retrieve_instance_frames(*uids(compressed), [1], media_types=octets)
    assert decoded == compressed.pixel_array.astype("<u2").tobytes()
    study, series, instance = uids(compressed)
    url = f"/dicomweb/studies/{study}/series/{series}/instances/{instance}/frames/1"
    any_syntax = 'multipart/related; type="application/octet-stream"; transfer-syntax=*'
    answer = client.get(url, headers={"Accept": any_syntax})
    assert f"transfer-syntax={RLELossless}".encode() in answer.content
    assert next(generate_frames(compressed.PixelData, number_of_frames=1)) in answer.content


def test_a_picture_is_rendered_through_its_display_pipeline(
    client: httpx.Client, service: Service, peer: DICOMwebClient, make_file: MakeFile
) -> None:
    ramp = np.tile(np.arange(64, dtype="<u2") * 64, (64, 1))
    path = make_file(
        Rows=64, Columns=64, PixelData=ramp.tobytes(), PhotometricInterpretation="MONOCHROME1"
    )
    service.intake.accept(path, Source("C-STORE"))
    content = peer.retrieve_instance_rendered(
        *uids(dcmread(path)), media_types=("image/png",), params={"viewport": "32,16"}
    )
    import cv2

    picture = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_GRAYSCALE)
    assert picture.shape == (16, 16)
    assert picture[0, 0] > 240
    assert picture[0, -1] < 15


def test_a_study_a_series_and_an_instance_have_a_thumbnail(
    client: httpx.Client, service: Service, make_file: MakeFile
) -> None:
    ramp = np.tile(np.arange(600, dtype="<u2"), (300, 1))
    path = make_file(Rows=300, Columns=600, PixelData=ramp.tobytes())
    service.intake.accept(path, Source("C-STORE"))
    study, series, instance = uids(dcmread(path))
    import cv2

    root = f"/dicomweb/studies/{study}"
    one = f"{root}/series/{series}/instances/{instance}"
    for url in (root, f"{root}/series/{series}", one, f"{one}/frames/1"):
        answer = client.get(f"{url}/thumbnail?accept=image/jpeg")
        assert answer.headers["content-type"] == "image/jpeg"
        picture = cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_GRAYSCALE)
        assert picture.shape == (128, 256)


def test_a_count_of_frames_that_is_no_number_counts_as_one(
    client: httpx.Client, service: Service, make_file: MakeFile
) -> None:
    path = make_file()
    content = path.read_bytes()
    # NumberOfFrames (0028,0008), IS, before Rows (0028,0010).
    damaged = content.replace(b"\x28\0\x10\0US", b"\x28\0\x08\0IS\x02\x001A\x28\0\x10\0US", 1)
    assert damaged != content
    path.write_bytes(damaged)
    service.intake.accept(path, Source("C-STORE"))
    study, series, instance = uids(dcmread(path, specific_tags=["SOPInstanceUID", *_UIDS]))
    url = f"/dicomweb/studies/{study}/series/{series}/instances/{instance}/frames/1"
    answer = client.get(url)
    assert answer.status_code == 200
    assert bytes(range(128)) in answer.content


@pytest.mark.parametrize(
    ("path", "accept", "status"),
    [
        ("1.2.3", "*/*", 404),
        ("{study}", "image/gif", 406),
        ("{study}/series/{series}/instances/{instance}/frames/2", "*/*", 404),
        ("{study}/series/{series}/instances/{instance}/frames/x", "*/*", 400),
        ("{study}/series/{series}/instances/{instance}/rendered?viewport=9", "*/*", 400),
        ("{study}/series/{series}/instances/{instance}/rendered", "image/gif", 406),
        ("{study}/series/{series}/thumbnail", "image/gif", 406),
        ("{study}/series/1.2.3/thumbnail", "*/*", 404),
        (
            "{study}",
            'multipart/related; type="application/dicom"; transfer-syntax=1.2.840.10008.1.2.4.90',
            406,
        ),
    ],
)
def test_what_cannot_be_given_is_said_with_its_status(
    client: httpx.Client, held: list[Dataset], path: str, accept: str, status: int
) -> None:
    study, series, instance = uids(held[0])
    url = path.format(study=study, series=series, instance=instance)
    answer = client.get(f"/dicomweb/studies/{url}", headers={"Accept": accept})
    assert answer.status_code == status
