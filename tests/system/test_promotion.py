"""A real service: promoted and rolled back by the real command while pictures come."""

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.inference.promotion.bundles import write_variant
from tests.system.peers import VIGIL, Vigil, wait_until
from vigil_inference.sender import send


def models(service: Vigil, *arguments: str) -> str:
    done = subprocess.run(
        [str(VIGIL), "models", *arguments, "--data-dir", str(service.folder / "data")],
        env=os.environ | {"VIGIL_BUNDLE": str(service.bundle), "VIGIL_SHADOW_LEAST_PICTURES": "3"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def status(service: Vigil) -> dict[str, Any]:
    found: dict[str, Any] = service.get("/api/status")
    return found


@pytest.mark.slow
def test_promoted_killed_and_rolled_back_while_pictures_come(
    start_vigil: Callable[..., Vigil],
    stand_in_bundle: Path,
    phantom_file: Callable[..., Path],
    tmp_path: Path,
) -> None:
    first = write_variant(stand_in_bundle, tmp_path / "first", "first", 0.5)
    second = write_variant(stand_in_bundle, tmp_path / "second", "second", 0.02)
    environment = {"VIGIL_STORAGE_RESERVE_BYTES": "0", "VIGIL_SHADOW_LEAST_PICTURES": "3"}
    service = start_vigil(first, **environment)

    def deliver(count: int, seed: int) -> None:
        files = [phantom_file(seed + n, "effusion") for n in range(count)]
        sent = [
            *send(
                files,
                "127.0.0.1",
                service.dicom_port,
                calling_ae_title="TEST",
                called_ae_title="VIGIL",
            )
        ]
        assert all(one.succeeded for one in sent)

    def read() -> int:
        shadow = status(service)["database"]["shadow"]
        return int(shadow["read"]) if shadow else 0

    models(service, "shadow", str(second), "--reason", "a trial")
    deliver(3, 0)
    # Killed in the midst of it: what was acknowledged is answered, and read in shadow, after.
    assert service.program is not None
    service.stop(signal.SIGKILL)
    service.start(**environment)
    service.wait_for(3)
    wait_until(lambda: read() == 3, "three pictures are read in shadow")
    before = {study["study_instance_uid"]: study["priority"] for study in service.studies()}

    assert "second" in models(service, "promote", "second", "--reason", "three were compared")
    wait_until(lambda: status(service)["model"]["bundle_id"] == "second", "the node serves it")
    deliver(2, 10)
    pictures = service.wait_for(5).values()
    assert sorted(one["bundle_id"] for one in pictures) == ["first"] * 3 + ["second"] * 2
    assert {one["is_supervised"] for one in pictures if one["bundle_id"] == "second"} == {True}
    after = {study["study_instance_uid"]: study["priority"] for study in service.studies()}
    assert {uid: after[uid] for uid in before} == before

    models(service, "rollback", "--reason", "too many alarms")
    wait_until(lambda: status(service)["model"]["bundle_id"] == "first", "the node is back")
    deliver(1, 20)
    last = service.wait_for(6).values()
    assert sorted(one["bundle_id"] for one in last) == ["first"] * 4 + ["second"] * 2
    assert httpx.get(f"{service.url}/ready", timeout=10).status_code == 200
    page = tmp_path / "comparison.html"
    assert "first" in models(service, "compare", "--shadow", "--html", str(page))
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    record = models(service, "stage")
    for said in ("a trial", "three were compared", "too many alarms", "retired"):
        assert said in record
