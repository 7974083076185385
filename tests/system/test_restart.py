"""Whatever was acknowledged is analysed, though the power fails in between."""

import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.system.peers import HOST, VIGIL, Vigil, wait_until
from tests.system.samples import sop_instance_uid


class Sender:
    """Runs ``vigil send`` and remembers what it says was acknowledged, line by line."""

    def __init__(self, port: int, paths: list[Path]) -> None:
        command = [str(VIGIL), "send", *map(str, paths), "--to", f"{HOST}:{port}"]
        self.acknowledged: list[str] = []
        self._uids = {str(path): sop_instance_uid(path) for path in paths}
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                word, path, _ = line.split("  ", 2)
                if word == "stored":
                    self.acknowledged.append(self._uids[path])

    def wait(self) -> list[str]:
        """Wait for the end and return the SOP instance UIDs that were acknowledged."""
        self._reader.join(200)
        assert not self._reader.is_alive()
        self._process.wait(30)
        return self.acknowledged


def test_what_was_acknowledged_before_the_model_came_is_analysed_after_a_kill(
    start_vigil: Callable[..., Vigil],
    stand_in_bundle: Path,
    phantom_file: Callable[..., Path],
    tmp_path: Path,
) -> None:
    vigil = Vigil(tmp_path, tmp_path / "no-bundle-here").start(wait=False)
    try:
        wait_until(lambda: vigil.program.answers(f"{vigil.url}/health"), "the service lives")
        assert httpx.get(f"{vigil.url}/ready", timeout=60).status_code == 503
        paths = [phantom_file(seed) for seed in range(6)]
        acknowledged = Sender(vigil.dicom_port, paths).wait()
        assert len(acknowledged) == 6
        assert sum(study["pending"] for study in vigil.studies()) == 6
        assert {study["refusals"][0]["code"] for study in vigil.studies()} == {"MODEL_UNAVAILABLE"}
        assert vigil.stop(signal.SIGKILL) == -signal.SIGKILL

        vigil.bundle = stand_in_bundle
        vigil.start()
        instances = vigil.wait_for(6)
        assert set(instances) == set(acknowledged)
        assert {instance["state"] for instance in instances.values()} == {"analysed"}
    finally:
        vigil.stop()


@pytest.mark.slow
@pytest.mark.parametrize("kill_after", [1, 4, 7])
def test_a_kill_under_load_loses_nothing_that_was_acknowledged(
    start_vigil: Callable[..., Vigil],
    stand_in_bundle: Path,
    phantom_file: Callable[..., Path],
    kill_after: int,
) -> None:
    vigil = start_vigil(stand_in_bundle)
    paths = [phantom_file(seed, size=(1024, 900)) for seed in range(10)]
    sender = Sender(vigil.dicom_port, paths)
    wait_until(lambda: len(sender.acknowledged) >= kill_after, f"{kill_after} acknowledged")
    vigil.stop(signal.SIGKILL)
    acknowledged = sender.wait()

    vigil.start()
    instances = vigil.wait_for(len(acknowledged))
    assert set(acknowledged) <= set(instances)
    assert {instance["state"] for instance in instances.values()} == {"analysed"}
    # The sender tries again with all, as a modality does, and nothing is there twice.
    again = Sender(vigil.dicom_port, paths).wait()
    assert len(again) == len(paths)
    assert set(vigil.wait_for(len(paths))) == set(again)
