"""Other bytes under a UID that is held: kept are the first, and nobody can overlook it."""

import io
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from pydicom import dcmread
from rich.console import Console
from structlog.testing import capture_logs

from tests.inference.conftest import MakeFile
from vigil_inference.events import StudyChanged
from vigil_inference.service import Service
from vigil_inference.terminal import fetch_worklist, print_worklist

Stow = Callable[..., httpx.Response]


@pytest.fixture
def disputed(make_file: MakeFile) -> tuple[Path, Path]:
    """Two files with one SOP instance UID and different bytes."""
    path = make_file()
    dataset = dcmread(path)
    dataset.PatientWeight = "70"
    other = path.with_name("other.dcm")
    dataset.save_as(other)
    return path, other


def test_other_bytes_raise_an_alarm_in_the_log_the_interface_and_the_worklist(
    client: httpx.Client,
    service: Service,
    stow: Stow,
    disputed: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path, other = disputed
    stow(client, path)
    published: list[object] = []
    monkeypatch.setattr(service.hub, "publish", published.append)
    with capture_logs() as logs:
        stow(client, other)
    alarms = [entry for entry in logs if entry["event"] == "alarm_sop_instance_conflict"]
    assert [entry["log_level"] for entry in alarms] == ["error"]
    study_uid = str(dcmread(path).StudyInstanceUID)
    assert StudyChanged(study_uid) in published
    page = fetch_worklist(str(client.base_url), "priority", 10)
    [study] = page.studies
    assert study.conflicts == 1
    [instance] = client.get(f"/api/studies/{study_uid}").json()["instances"]
    assert instance["conflicts"] == 1
    console = Console(file=io.StringIO(), width=200)
    print_worklist(page, console)
    assert "ALARM: other bytes came 1 ×" in console.file.getvalue()  # type: ignore[attr-defined]
    held = client.get(f"/dicomweb/studies/{study_uid}").content
    assert path.read_bytes() in held


def test_the_same_bytes_again_raise_none(
    client: httpx.Client, stow: Stow, disputed: tuple[Path, Path]
) -> None:
    path, _ = disputed
    first, second = (stow(client, path) for _ in range(2))
    assert (first.status_code, first.json()) == (second.status_code, second.json())
    [study] = fetch_worklist(str(client.base_url), "priority", 10).studies
    assert study.conflicts == 0


def test_a_uid_that_another_study_holds_raises_it_too(
    client: httpx.Client, stow: Stow, make_file: MakeFile
) -> None:
    path = make_file()
    stow(client, path)
    thief = make_file(SOPInstanceUID=dcmread(path).SOPInstanceUID)
    assert stow(client, thief).status_code == 409
    [study] = fetch_worklist(str(client.base_url), "priority", 10).studies
    assert (study.study_instance_uid, study.conflicts) == (dcmread(path).StudyInstanceUID, 1)
