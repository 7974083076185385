"""A PACS forwards what it has: five chest radiographs, and much that is none."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.system.peers import HOST, Orthanc, Vigil, find_tool, with_other_identity
from tests.system.samples import DAMAGED, EXPECTED, RADIOGRAPHS, codes, sop_instance_uid


@pytest.mark.data
@pytest.mark.slow
def test_all_that_orthanc_forwards_is_answered_and_the_service_goes_on(
    start_vigil: Callable[..., Vigil],
    start_orthanc: Callable[[int], Orthanc],
    shipped_bundle: Path,
    dicom_samples: Path,
    phantom_file: Callable[..., Path],
    tmp_path: Path,
) -> None:
    vigil = start_vigil(shipped_bundle)
    orthanc = start_orthanc(vigil.dicom_port)
    files = {path.name: path for path in sorted(dicom_samples.glob("*.dcm"))}
    # This one bears the UIDs of siim_6904.dcm, and the first of two would be kept.
    twin = "siim_6904_fake_mono1.dcm"
    files[twin] = with_other_identity(files[twin], tmp_path)
    assert set(files) == set(EXPECTED) | DAMAGED

    refused_by_orthanc = {name for name, path in files.items() if not orthanc.upload(path)}
    assert refused_by_orthanc == DAMAGED

    forwarded = [path for name, path in files.items() if name not in refused_by_orthanc]
    instances = vigil.wait_for(len(forwarded))
    assert codes(instances, forwarded) == EXPECTED
    assert orthanc.failed_jobs() == []
    for name in RADIOGRAPHS:
        instance = instances[sop_instance_uid(files[name])]
        probabilities = _probabilities(instance)
        assert probabilities
        assert all(0 < value < 1 for value in probabilities.values())
        assert instance["bundle_digest"]

    # The twin's header claims the wrong polarity: seen, put right, said, and then scored alike.
    right, wrong = (instances[sop_instance_uid(files[name])] for name in ("siim_6904.dcm", twin))
    assert _probabilities(wrong) == pytest.approx(_probabilities(right), abs=0.02)
    assert any("inverted" in note for note in wrong["notes"])

    echo = [find_tool("echoscu", "dcmtk"), HOST, str(vigil.dicom_port)]
    assert subprocess.run(echo, check=False, timeout=30).returncode == 0
    one_more = phantom_file(1, "effusion")
    assert orthanc.upload(one_more)
    instances = vigil.wait_for(len(forwarded) + 1)
    assert instances[sop_instance_uid(one_more)]["code"] != "INTERNAL_ERROR"
    assert len(instances) == len(forwarded) + 1


def test_a_picture_that_orthanc_sends_again_is_the_same_picture(
    start_vigil: Callable[..., Vigil],
    start_orthanc: Callable[[int], Orthanc],
    stand_in_bundle: Path,
    phantom_file: Callable[..., Path],
) -> None:
    vigil = start_vigil(stand_in_bundle)
    orthanc = start_orthanc(vigil.dicom_port)
    first = phantom_file(3, "cardiomegaly")
    assert orthanc.upload(first)
    vigil.wait_for(1)
    storescu = [find_tool("storescu", "dcmtk"), HOST, str(vigil.dicom_port), str(first)]
    assert subprocess.run(storescu, check=False, timeout=30).returncode == 0
    instances = vigil.wait_for(1)
    assert len(instances) == 1
    assert instances[sop_instance_uid(first)]["conflicts"] == 0


def _probabilities(instance: dict[str, Any]) -> dict[str, float]:
    """Return what is said of a picture; a withheld finding is not."""
    findings = instance["findings"]
    return {f["key"]: f["probability"] for f in findings if f["probability"] is not None}
