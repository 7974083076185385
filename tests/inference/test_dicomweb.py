from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import httpx
import pytest
from pydicom import dcmread
from sqlalchemy import select

from tests.inference.conftest import MakeFile
from vigil.errors import StorageError
from vigil_inference.service import Service
from vigil_inference.tables import Instance

Stow = Callable[..., httpx.Response]
NONE: dict[str, list[dict[str, Any]]] = {"Value": []}
MULTIPART = 'multipart/related; type="application/dicom"; boundary=BOUND'


def stored(service: Service) -> list[str]:
    with service.store.reading() as session:
        return list(session.scalars(select(Instance.sop_instance_uid).order_by(Instance.id)))


def reasons(answer: httpx.Response) -> list[int]:
    module = answer.json()
    failed = [item for tag in ("00081198", "0008119A") for item in module.get(tag, NONE)["Value"]]
    return [item["00081197"]["Value"][0] for item in failed]


def references(answer: httpx.Response) -> list[str]:
    items = answer.json().get("00081199", {"Value": []})["Value"]
    return [item["00081155"]["Value"][0] for item in items]


def test_all_stored_is_200_with_a_reference_to_each(
    client: httpx.Client, service: Service, stow: Stow, make_file: MakeFile
) -> None:
    paths = [make_file(), make_file()]
    answer = stow(client, *paths)
    uids = [str(dcmread(path).SOPInstanceUID) for path in paths]
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/dicom+json"
    assert references(answer) == uids == stored(service)
    assert list(service.intake.spool.iterdir()) == []


def test_the_same_object_again_is_200_and_held_once(
    client: httpx.Client, service: Service, stow: Stow, make_file: MakeFile
) -> None:
    path = make_file()
    assert [stow(client, path).status_code for _ in range(2)] == [200, 200]
    assert len(stored(service)) == 1


def test_other_bytes_under_a_known_uid_are_202_with_a_warning(
    client: httpx.Client, stow: Stow, make_file: MakeFile
) -> None:
    path = make_file()
    stow(client, path)
    dataset = dcmread(path)
    dataset.PatientID = "P2"
    dataset.save_as(path)
    answer = stow(client, path)
    assert answer.status_code == 202
    assert answer.json()["00081199"]["Value"][0]["00081196"]["Value"] == [0xB000]


def test_some_stored_is_202_with_the_reason_of_each_failure(
    client: httpx.Client, service: Service, stow: Stow, make_file: MakeFile, tmp_path: Path
) -> None:
    noise = tmp_path / "noise"
    noise.write_bytes(b"no DICOM")
    answer = stow(client, make_file(), noise)
    assert answer.status_code == 202
    assert reasons(answer) == [0xC000]
    assert references(answer) == stored(service)


def test_a_failure_that_names_no_object_stands_among_the_other_failures(
    client: httpx.Client, stow: Stow, make_file: MakeFile, tmp_path: Path
) -> None:
    noise = tmp_path / "noise"
    noise.write_bytes(b"no DICOM")
    elsewhere = make_file()
    module = stow(client, noise, elsewhere, study="1.2.3").json()
    [named] = module["00081198"]["Value"]
    assert named["00081155"]["Value"] == [str(dcmread(elsewhere).SOPInstanceUID)]
    assert module["0008119A"]["Value"] == [{"00081197": {"vr": "US", "Value": [0xC000]}}]


def test_what_was_stored_can_be_retrieved_where_the_answer_says(
    client: httpx.Client, stow: Stow, make_file: MakeFile
) -> None:
    path = make_file()
    module = stow(client, path).json()
    [item] = module["00081199"]["Value"]
    for url in (module["00081190"]["Value"][0], item["00081190"]["Value"][0]):
        answer = client.get(url)
        assert answer.status_code == 200
        assert path.read_bytes() in answer.content


def test_none_stored_is_409(
    client: httpx.Client, service: Service, stow: Stow, make_file: MakeFile
) -> None:
    answer = stow(client, make_file(), study="1.2.3")
    assert answer.status_code == 409
    assert reasons(answer) == [0xA900]
    assert stored(service) == []


def test_an_object_of_the_study_named_is_stored(
    client: httpx.Client, stow: Stow, make_file: MakeFile
) -> None:
    path = make_file()
    assert stow(client, path, study=str(dcmread(path).StudyInstanceUID)).status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not multipart",
        b"--BOUND--\r\n",
        b"--OTHER\r\n\r\nx\r\n--OTHER--\r\n",
        b"--BOUND\r\nContent-Type: application/dicom\r\n\r\nends too early",
        b"--BOUND\r\nContent-Type application/dicom\r\n\r\nx\r\n--BOUND--",
    ],
    ids=["empty", "no multipart", "no part", "other boundary", "cut short", "bad header"],
)
def test_a_malformed_body_is_400_and_stores_nothing(
    client: httpx.Client, service: Service, body: bytes
) -> None:
    answer = client.post("/dicomweb/studies", content=body, headers={"Content-Type": MULTIPART})
    assert answer.status_code == 400
    assert answer.json()["code"] == "BODY_MALFORMED"
    assert stored(service) == []
    assert list(service.intake.spool.iterdir()) == []


def test_a_body_that_is_cut_short_stores_none_of_its_objects(
    client: httpx.Client, service: Service, make_file: MakeFile
) -> None:
    part = b"--BOUND\r\nContent-Type: application/dicom\r\n\r\n"
    whole, half = make_file().read_bytes(), make_file().read_bytes()[:300]
    answer = client.post(
        "/dicomweb/studies",
        content=part + whole + b"\r\n" + part + half,
        headers={"Content-Type": MULTIPART},
    )
    assert answer.status_code == 400
    assert stored(service) == []


@pytest.mark.parametrize(
    "content_type",
    [
        "application/dicom",
        "application/json",
        "multipart/form-data; boundary=BOUND",
        'multipart/related; type="application/dicom+json"; boundary=BOUND',
    ],
)
def test_another_media_type_is_415(client: httpx.Client, content_type: str) -> None:
    answer = client.post("/dicomweb/studies", content=b"x", headers={"Content-Type": content_type})
    assert (answer.status_code, answer.json()["code"]) == (415, "MEDIA_TYPE_UNSUPPORTED")


def test_a_missing_boundary_is_400(client: httpx.Client) -> None:
    kind = 'multipart/related; type="application/dicom"'
    answer = client.post("/dicomweb/studies", content=b"x", headers={"Content-Type": kind})
    assert answer.status_code == 400


def test_a_body_over_the_limit_is_413(
    client: httpx.Client, service: Service, stow: Stow, make_file: MakeFile
) -> None:
    service.settings = service.settings.model_copy(update={"stow_max_bytes": 1024})
    answer = stow(client, make_file(), make_file())
    assert (answer.status_code, answer.json()["code"]) == (413, "BODY_TOO_LARGE")
    assert stored(service) == []
    assert list(service.intake.spool.iterdir()) == []


def test_a_full_disk_is_507(
    client: httpx.Client,
    service: Service,
    stow: Stow,
    make_file: MakeFile,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*_: object) -> NoReturn:
        raise StorageError("the disk is full")

    monkeypatch.setattr(service.intake, "check_space", full)
    answer = stow(client, make_file())
    assert answer.status_code == 507
    assert reasons(answer) == [0xA700]


def test_a_bug_while_storing_is_a_failure_without_its_details(
    client: httpx.Client,
    service: Service,
    stow: Stow,
    make_file: MakeFile,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> NoReturn:
        raise RuntimeError("about Nguyễn^An")

    monkeypatch.setattr(service.intake, "accept", fail)
    answer = stow(client, make_file())
    assert (answer.status_code, reasons(answer)) == (409, [0x0110])
    assert "Nguy" not in answer.text


def test_data_that_looks_like_a_boundary_is_kept_byte_by_byte(
    client: httpx.Client, service: Service, stow: Stow, make_file: MakeFile
) -> None:
    path = make_file(PixelData=(b"\r\n--BOUN" + b"\r\n--BOUND".replace(b"D", b"E")) * 8)
    assert stow(client, path).status_code == 200
    with service.store.reading() as session:
        row = session.scalars(select(Instance)).one()
    assert (service.settings.data_dir / row.file_path).read_bytes() == path.read_bytes()


def test_a_dicomweb_client_stores_an_object(
    client: httpx.Client, service: Service, make_file: MakeFile
) -> None:
    web_client = pytest.importorskip("dicomweb_client")
    dataset = dcmread(make_file())
    peer = web_client.DICOMwebClient(url=f"{client.base_url}/dicomweb")
    answer = peer.store_instances([dataset])
    peer._session.close()
    assert [item.ReferencedSOPInstanceUID for item in answer.ReferencedSOPSequence] == stored(
        service
    )
