"""A real Orthanc takes every object, by HTTP and by C-STORE, and gives it back as it was."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx
import pydicom
import pytest
from pynetdicom import AE

from tests.inference.results.conftest import Files
from tests.system.peers import HOST, Program, find_tool, free_port, wait_until


@dataclass(frozen=True)
class Pacs:
    """A running Orthanc that keeps what it is given."""

    url: str
    dicom_port: int


@pytest.fixture(scope="module")
def pacs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pacs]:
    folder = tmp_path_factory.mktemp("orthanc")
    http_port, dicom_port = free_port(), free_port()
    configuration = {
        "Name": "PACS of the tests",
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "Plugins": [],
        "HttpPort": http_port,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomAet": "ORTHANC",
        "DicomPort": dicom_port,
        "DicomCheckCalledAet": False,
        "DicomAlwaysAllowStore": True,
        "OverwriteInstances": False,
    }
    (folder / "orthanc.json").write_text(json.dumps(configuration), encoding="utf-8")
    command = [find_tool("Orthanc", "orthanc"), str(folder / "orthanc.json")]
    program = Program(command, folder / "orthanc.log")
    url = f"http://{HOST}:{http_port}"
    try:
        wait_until(lambda: program.answers(f"{url}/system"), "Orthanc answers")
        yield Pacs(url, dicom_port)
    finally:
        program.stop()


def _all(files: Mapping[str, Files]) -> list[Path]:
    return [path for group in files.values() for path in group.results]


def test_orthanc_stores_every_object_and_gives_the_same_bytes_back(
    pacs: Pacs, files: Mapping[str, Files]
):
    for path in _all(files):
        answer = httpx.post(f"{pacs.url}/instances", content=path.read_bytes(), timeout=30)
        assert answer.status_code == 200, path.name
        back = httpx.get(f"{pacs.url}/instances/{answer.json()['ID']}/file", timeout=30)
        assert back.content == path.read_bytes(), path.name
        assert answer.json()["Status"] in {"Success", "AlreadyStored"}


def test_orthanc_answers_c_store_with_success_and_a_repeat_too(
    pacs: Pacs, files: Mapping[str, Files]
):
    entity = AE()
    datasets = [pydicom.dcmread(path) for path in _all(files)]
    for sop_class in {dataset.SOPClassUID for dataset in datasets}:
        entity.add_requested_context(sop_class, pydicom.uid.ExplicitVRLittleEndian)
    association = entity.associate(HOST, pacs.dicom_port)
    assert association.is_established
    try:
        statuses = [association.send_c_store(dataset).Status for dataset in datasets * 2]
    finally:
        association.release()
    assert set(statuses) == {0x0000}


def test_orthanc_reads_the_vietnamese_name_and_draws_the_capture(
    pacs: Pacs, files: Mapping[str, Files]
):
    report, capture, _ = files["one effusion"].results
    for path in (report, capture):
        stored = httpx.post(f"{pacs.url}/instances", content=path.read_bytes(), timeout=30).json()
        tags = httpx.get(f"{pacs.url}/instances/{stored['ID']}/simplified-tags", timeout=30).json()
        assert tags["PatientName"] == "Phạm^Thị Dung"
        assert tags["StudyDescription"] == "X-quang ngực thẳng"
    preview = httpx.get(f"{pacs.url}/instances/{stored['ID']}/preview", timeout=30)
    assert preview.status_code == 200
    assert preview.content.startswith(b"\x89PNG")


def test_the_results_join_their_source_in_one_study(pacs: Pacs, files: Mapping[str, Files]):
    group = files["one effusion"]
    parents = set()
    for path in (*group.sources, *group.results):
        stored = httpx.post(f"{pacs.url}/instances", content=path.read_bytes(), timeout=30).json()
        parents.add((stored["ParentPatient"], stored["ParentStudy"]))
    assert len(parents) == 1
