"""Results reach the archive once, though the service is killed on the way."""

import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.inference.delivery.archive import Archive
from tests.system.peers import HOST, Vigil, wait_until
from vigil_inference.sender import send

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    archive = Archive(tmp_path / "archive").start()
    yield archive
    archive.stop()


def deliveries(vigil: Vigil) -> list[dict[str, Any]]:
    return list(vigil.get("/api/deliveries?limit=500")["deliveries"])


def check_truth(vigil: Vigil, archive: Archive) -> None:
    """What is called sent or delivered is there; it was asked first, so it cannot be newer."""
    told = {
        row["sop_instance_uid"]
        for row in deliveries(vigil)
        if row["state"] in ("SENT", "DELIVERED")
    }
    assert told <= set(archive.held())


def test_killed_in_the_middle_of_deliveries_it_sends_each_object_once(
    start_vigil: Callable[..., Vigil],
    stand_in_bundle: Path,
    phantom_file: Callable[..., Path],
    archive: Archive,
) -> None:
    environment = {
        "VIGIL_DESTINATIONS": json.dumps([archive.destination(timeout_seconds=3)]),
        "VIGIL_RESULT_QUIET_SECONDS": "0",
        "VIGIL_DELIVERY_RETRY_SECONDS": "0.5",
        "VIGIL_DELIVERY_RETRY_MOST_SECONDS": "1",
    }
    vigil = start_vigil(stand_in_bundle, **environment)
    # Frozen, the archive keeps the first delivery in the middle for as long as the test wants.
    archive.signal(signal.SIGSTOP)
    paths = [phantom_file(seed, "effusion") for seed in range(6)]
    sent = list(
        send(paths, HOST, vigil.dicom_port, calling_ae_title="XR1", called_ae_title="VIGIL")
    )
    assert all(item.succeeded for item in sent)
    wait_until(
        lambda: any(row["state"] == "SENDING" for row in deliveries(vigil)), "one is being sent"
    )
    assert all(row["sent_at"] is None for row in deliveries(vigil))
    assert vigil.stop(signal.SIGKILL) == -signal.SIGKILL
    archive.signal(signal.SIGCONT)

    for number in (1, 3, 6):
        vigil.start(**environment)
        wait_until(
            lambda wanted=number: (
                sum(row["state"] in ("SENT", "DELIVERED") for row in deliveries(vigil)) >= wanted
            ),
            f"{number} have arrived",
        )
        check_truth(vigil, archive)
        assert vigil.stop(signal.SIGKILL) == -signal.SIGKILL

    vigil.start(**environment)
    vigil.wait_for(len(paths))

    def all_delivered() -> list[dict[str, Any]] | None:
        rows = deliveries(vigil)
        reports = [row for row in rows if row["kind"] == "report"]
        done = all(row["state"] == "DELIVERED" for row in rows)
        return rows if done and len(reports) == len(paths) else None

    rows = wait_until(all_delivered, "all is delivered", 200)
    assert {row["release"] for row in rows} == {1}
    assert set(archive.held()) == {row["sop_instance_uid"] for row in rows}
    assert archive.arrivals() == len(rows)
    assert len({row["sop_instance_uid"] for row in rows}) == len(rows)
