"""Told to stop in the middle of its work, it ends in time, loses nothing and repeats nothing."""

import json
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.system.peers import HOST, Vigil, wait_until
from tests.system.test_restart import Sender

ENDED = (0, -signal.SIGTERM)


def log_lines(vigil: Vigil, event: str) -> list[dict[str, Any]]:
    lines = (vigil.folder / "service.log").read_text(encoding="utf-8").splitlines()
    told = [json.loads(line) for line in lines if line.startswith("{")]
    return [line for line in told if line["event"] == event]


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that takes connections, which the system does, and never says a word."""
    with socket.create_server((HOST, 0)) as listening:
        yield listening.getsockname()[1]


def test_a_stop_under_load_finishes_or_hands_back_all_that_was_acknowledged(
    start_vigil: Callable[..., Vigil], stand_in_bundle: Path, phantom_file: Callable[..., Path]
) -> None:
    environment = {"VIGIL_LOG_FORMAT": "json", "VIGIL_ANALYSIS_WORKERS": "1"}
    vigil = start_vigil(stand_in_bundle, **environment)
    paths = [phantom_file(seed, size=(1024, 900)) for seed in range(16)]
    sender = Sender(vigil.dicom_port, paths)
    with httpx.stream("GET", f"{vigil.url}/api/events", timeout=60) as live:
        assert live.status_code == 200  # a reader who keeps the page open does not hold it up
        wait_until(lambda: len(sender.acknowledged) >= 6, "six are acknowledged")
        assert vigil.stop() in ENDED
    acknowledged = sender.wait()
    assert len(log_lines(vigil, "stopped")) == 1
    assert log_lines(vigil, "stopped_at_once") == []

    vigil.start(**environment)
    instances = vigil.wait_for(len(acknowledged))
    assert set(acknowledged) <= set(instances)
    assert {instance["state"] for instance in instances.values()} == {"analysed"}
    # What was in work was finished, so that nothing was begun twice.
    analysed = Counter(line["instance"] for line in log_lines(vigil, "analysed"))
    assert len(analysed) == len(instances)
    assert set(analysed.values()) == {1}
    assert list((vigil.folder / "data" / "spool").iterdir()) == []


def test_peers_that_hang_do_not_hold_the_stop_up(
    start_vigil: Callable[..., Vigil],
    stand_in_bundle: Path,
    phantom_file: Callable[..., Path],
    silent_port: int,
    tmp_path: Path,
) -> None:
    def environment(destination: dict[str, Any]) -> dict[str, str]:
        return {
            "VIGIL_LOG_FORMAT": "json",
            "VIGIL_STOP_SECONDS": "1",
            "VIGIL_RESULT_QUIET_SECONDS": "0",
            "VIGIL_DELIVERY_RETRY_SECONDS": "0.2",
            "VIGIL_DELIVERY_RETRY_MOST_SECONDS": "0.2",
            "VIGIL_DESTINATIONS": json.dumps([{"name": "pacs", **destination}]),
        }

    hangs = {
        "kind": "c-store", "host": HOST, "port": silent_port, "ae_title": "SILENT",
        "timeout_seconds": 3600,
    }  # fmt: skip
    vigil = start_vigil(stand_in_bundle, **environment(hangs))
    assert len(Sender(vigil.dicom_port, [phantom_file(1, "effusion")]).wait()) == 1

    def states() -> set[str]:
        return {row["state"] for row in vigil.get("/api/deliveries")["deliveries"]}

    wait_until(lambda: "SENDING" in states(), "a delivery hangs")
    # Half a request, and half an association: neither was acknowledged.
    request = socket.create_connection((HOST, vigil.http_port))
    request.sendall(
        b"POST /dicomweb/studies HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9999\r\n"
        b'Content-Type: multipart/related; type="application/dicom"; boundary=B\r\n\r\n--B'
    )
    association = socket.create_connection((HOST, vigil.dicom_port))
    association.sendall(b"\x01\x00\x00\x00")
    began = time.monotonic()
    ended = vigil.stop()
    took = time.monotonic() - began
    request.close()
    association.close()
    assert ended != -signal.SIGKILL, f"it had to be killed after {took:.0f} s"
    assert ended in (*ENDED, 1)

    folder = tmp_path / "share"
    folder.mkdir()
    vigil.start(**environment({"kind": "folder", "path": str(folder)}))
    wait_until(lambda: states() == {"DELIVERED"}, "another start delivers it")
    rows = vigil.get("/api/deliveries")["deliveries"]
    assert len(list(folder.rglob("*.dcm"))) == len(rows)
