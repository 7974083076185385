"""A PACS asks whether what it forwarded is safe here: Orthanc as the asker."""

from collections.abc import Callable
from typing import Any

import httpx
import pydicom
import pytest

from tests.system.peers import HOST, Orthanc, Vigil, wait_until


def test_orthanc_hears_what_is_committed_to_and_what_is_not(
    start_vigil: Callable[..., Vigil],
    start_orthanc: Callable[[int], Orthanc],
    stand_in_bundle: Any,
    phantom_file: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    vigil = start_vigil(stand_in_bundle)
    orthanc = start_orthanc(vigil.dicom_port)
    # Orthanc's port is known only now, and settings are read at the start.
    vigil.stop()
    vigil.start(VIGIL_STORAGE_COMMITMENT_PEERS=f'{{"ORTHANC": "{HOST}:{orthanc.dicom_port}"}}')
    path = phantom_file(5)
    assert orthanc.upload(path)
    vigil.wait_for(1)
    header = pydicom.dcmread(path, stop_before_pixels=True)
    asked = {
        "DicomInstances": [
            {"SOPClassUID": header.SOPClassUID, "SOPInstanceUID": uid}
            for uid in (header.SOPInstanceUID, "1.2.3.4")
        ]
    }
    answer = httpx.post(
        f"{orthanc.url}/modalities/vigil/storage-commitment", json=asked, timeout=30
    ).raise_for_status()

    def report() -> dict[str, Any] | None:
        found = httpx.get(f"{orthanc.url}{answer.json()['Path']}", timeout=30).json()
        return found if found["Status"] != "Pending" else None

    found = wait_until(report, "Orthanc has heard the report")
    assert found["Status"] == "Failure"
    assert [item["SOPInstanceUID"] for item in found["Success"]] == [header.SOPInstanceUID]
    assert [item["SOPInstanceUID"] for item in found["Failures"]] == ["1.2.3.4"]
