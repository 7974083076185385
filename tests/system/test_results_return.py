"""One Orthanc sends the pictures and takes the results: what a small hospital has."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pydicom
import pytest

from tests.system.pages import READING, OpenPage, arrive
from tests.system.peers import HOST, Orthanc, Vigil, wait_until

NAME = "Nguyễn^Thị Hồng Ngọc"


@pytest.mark.slow
def test_a_name_comes_back_as_it_was_and_results_that_are_forwarded_make_no_more(
    start_vigil: Callable[..., Vigil],
    start_orthanc: Callable[[int], Orthanc],
    stand_in_bundle: Path,
    phantom_file: Callable[..., Path],
    pages: OpenPage,
) -> None:
    vigil = start_vigil(stand_in_bundle)
    # It forwards all that it gets: the results, too.
    orthanc = start_orthanc(vigil.dicom_port)
    vigil.stop()
    destination = {
        "name": "pacs",
        "kind": "c-store",
        "host": HOST,
        "port": orthanc.dicom_port,
        "ae_title": "ORTHANC",
        "proof": "none",
    }
    vigil.start(
        VIGIL_DESTINATIONS=json.dumps([destination]),
        VIGIL_RESULT_QUIET_SECONDS="0",
        VIGIL_RESULT_KEY_OBJECTS="true",
    )
    path = phantom_file(3, "effusion", patient_name=NAME, IssuerOfPatientID="Bệnh viện Đà Bắc")
    assert orthanc.upload(path)
    study = str(pydicom.dcmread(path, stop_before_pixels=True).StudyInstanceUID)

    def all_known() -> dict[str, Any] | None:
        """The picture and its three results have gone round."""
        instances = vigil.instances()
        return instances if len(instances) >= 4 else None

    wait_until(all_known, "the results have come back")
    vigil.wait_for(4)
    # A second study is released after whatever the first one's results have set off.
    second = phantom_file(4, "effusion")
    assert orthanc.upload(second)
    deliveries = wait_until(lambda: _sent(vigil, studies=2), "both studies' results are sent")
    assert {row["release"] for row in deliveries} == {1}
    kinds = sorted(row["kind"] for row in deliveries)
    assert kinds == ["capture", "capture", "key_objects", "key_objects", "report", "report"]

    # On the screen as a person reads it, and after a reading as before.
    page = arrive(pages(language="vi"), f"{vigil.url}/studies/{study}", READING)
    page.get_by_role("heading", name="Nguyễn Thị Hồng Ngọc", exact=True).wait_for()
    page.keyboard.press("y")
    page.keyboard.press("s")
    # The page goes on to the other study as soon as it hears that this one is signed.
    wait_until(lambda: vigil.get(f"/api/studies/{study}")["read_at"], "the study is signed")
    assert vigil.get(f"/api/studies/{study}")["patient"]["name"] == NAME

    found = httpx.post(
        f"{orthanc.url}/tools/find",
        json={"Level": "Instance", "Query": {"StudyInstanceUID": study}},
        timeout=30,
    ).json()
    assert len(found) == 4
    for identifier in found:
        url = f"{orthanc.url}/instances/{identifier}/simplified-tags"
        tags = httpx.get(url, timeout=30).json()
        assert tags["PatientName"] == NAME
        assert tags["IssuerOfPatientID"] == "Bệnh viện Đà Bắc"
        assert tags["StudyDescription"] == "X-quang ngực thẳng"


def _sent(vigil: Vigil, studies: int) -> list[dict[str, Any]] | None:
    rows = list(vigil.get("/api/deliveries?limit=500")["deliveries"])
    found = {row["study_instance_uid"] for row in rows}
    return rows if len(found) == studies and all(row["state"] == "SENT" for row in rows) else None
