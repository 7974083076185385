"""The result objects as the service hands them out."""

import io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from pydicom import dcmread
from pydicom.uid import Comprehensive3DSRStorage, SecondaryCaptureImageStorage

from vigil.gate import OWN_MANUFACTURER
from vigil_inference.installation import installation_namespace
from vigil_inference.intake import Source
from vigil_inference.service import Service

Make = Callable[..., Path]
Until = Callable[..., object]


@pytest.fixture
def study(
    client: httpx.Client, make_file: Make, stow: Callable[..., httpx.Response], until: Until
) -> str:
    path = make_file("0.95")
    assert stow(client, path).status_code == 200
    uid = str(dcmread(path).StudyInstanceUID)
    until(lambda: client.get("/api/worklist").json()["pending"] == 0)
    return uid


def test_a_flagged_study_has_a_report_and_a_capture(client: httpx.Client, study: str) -> None:
    listed = client.get(f"/api/studies/{study}/results").json()
    assert [item["sop_class_uid"] for item in listed] == [
        Comprehensive3DSRStorage,
        SecondaryCaptureImageStorage,
    ]
    for item in listed:
        answer = client.get(item["url"])
        assert answer.headers["content-type"] == "application/dicom"
        document = dcmread(io.BytesIO(answer.content))
        assert document.SOPInstanceUID == item["sop_instance_uid"]
        assert document.StudyInstanceUID == study
        assert str(document.PatientName) == "Nguyễn^Văn An"
        assert document.Manufacturer == OWN_MANUFACTURER
        # Asked again, the same object: a repeat is recognised by whoever holds the first.
        assert client.get(item["url"]).content == answer.content


def test_a_study_is_not_reported_while_one_of_its_pictures_waits(
    service: Service, client: httpx.Client, study: str, make_file: Make
) -> None:
    service.analysis.stop()
    service.intake.accept(make_file("0.1", StudyInstanceUID=study), Source("FOLDER"))
    answer = client.get(f"/api/studies/{study}/results")
    assert (answer.status_code, answer.json()["code"]) == (409, "RESULTS_UNAVAILABLE")
    assert "still wait" in answer.json()["message"]


def test_a_study_that_nobody_sent_has_no_results(client: httpx.Client) -> None:
    answer = client.get("/api/studies/1.2.3.4/results")
    assert (answer.status_code, answer.json()["code"]) == (404, "STUDY_UNKNOWN")


def test_a_result_that_was_not_listed_is_unknown(client: httpx.Client, study: str) -> None:
    answer = client.get(f"/api/studies/{study}/results/1.2.3")
    assert (answer.status_code, answer.json()["code"]) == (404, "RESULT_UNKNOWN")


def test_a_lost_original_is_said_and_not_a_crash(
    client: httpx.Client, study: str, settings: object
) -> None:
    for original in settings.data_dir.glob("instances/**/*.dcm"):
        original.unlink()
    answer = client.get(f"/api/studies/{study}/results")
    assert (answer.status_code, answer.json()["code"]) == (409, "RESULTS_UNAVAILABLE")
    assert "original cannot be read" in answer.json()["message"]


def test_the_installation_keeps_its_identity_whoever_asks_first(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(lambda _: installation_namespace(tmp_path), range(64)))
    assert found == {installation_namespace(tmp_path)}
    assert [path.name for path in tmp_path.iterdir()] == ["installation-id"]
