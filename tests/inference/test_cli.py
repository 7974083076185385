"""The service as a process: it says where it listens, stops when told to, survives kill -9."""

import gc
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.inference.conftest import MakeFile
from vigil_inference.sender import send

pytestmark = pytest.mark.system


@contextmanager
def serving(data_dir: Path, bundle: Path) -> Iterator[tuple[subprocess.Popen[str], str, int]]:
    """Run ``vigil serve`` and yield the process, the page's address and the DICOM port."""
    command = [sys.executable, "-c", "from vigil.cli import main; main()", "serve"]
    command += ["--data-dir", str(data_dir), "--bundle", str(bundle)]
    command += ["--dicom-port", "0", "--http-port", "0"]
    log = data_dir.with_suffix(".log").open("a")
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
        env=os.environ | {"VIGIL_ACCOUNTS": "off"},
    )
    try:
        assert process.stdout is not None
        printed = [process.stdout.readline() for _ in range(4)]
        page = re.search(r"http://\S+", printed[0])
        port = re.search(r":(\d+)$", printed[2])
        assert page, printed
        assert port, printed
        assert "Research use only" in printed[3]
        yield process, page[0], int(port[1])
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        log.close()


def worklist(page: str) -> dict:
    with urllib.request.urlopen(f"{page}api/worklist", timeout=60) as answer:
        return json.load(answer)


def test_the_service_starts_answers_and_stops_when_told(
    tmp_path: Path, stand_in_bundle: Path
) -> None:
    with serving(tmp_path / "var", stand_in_bundle) as (process, page, _):
        assert worklist(page)["total"] == 0
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) in (0, -signal.SIGTERM)


# pynetdicom leaves the socket of a lost connection to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_what_was_acknowledged_survives_kill_9_and_is_analysed_once(
    tmp_path: Path, stand_in_bundle: Path, make_file: MakeFile
) -> None:
    paths = [make_file() for _ in range(12)]
    data_dir = tmp_path / "var"
    acknowledged = 0
    with serving(data_dir, stand_in_bundle) as (process, _, port):
        for sent in send(paths, "127.0.0.1", port, calling_ae_title="X", called_ae_title="VIGIL"):
            acknowledged += sent.succeeded
            if acknowledged == 5:
                process.kill()
    assert 5 <= acknowledged < len(paths)
    with serving(data_dir, stand_in_bundle) as (_, page, _):
        deadline = time.monotonic() + 120
        while (found := worklist(page))["pending"] and time.monotonic() < deadline:
            time.sleep(0.05)
    # One more may have been stored whose acknowledgement was cut off; none may be missing.
    assert acknowledged <= found["total"] <= acknowledged + 1
    assert found["pending"] == 0
    # 8 × 8 pixels: each has its answer.
    assert {study["state"] for study in found["studies"]} == {"not_analysed"}
    with sqlite3.connect(data_dir / "vigil.sqlite3") as database:
        [whole] = database.execute("PRAGMA integrity_check").fetchone()
        files = [row[0] for row in database.execute("SELECT file_path FROM instances")]
    database.close()
    assert whole == "ok"
    assert all((data_dir / path).is_file() for path in files)
    gc.collect()
