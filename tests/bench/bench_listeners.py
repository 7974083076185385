"""What readers who only listen cost the server: 200 open pages, one changed study a second."""

import argparse
import os
import socket
import sys
import tempfile
import threading
import time
from pathlib import Path

import httpx
from sqlalchemy import select

from tests.bench.bench_worklist import fill
from tests.bench.report import CannotMeasure, Report
from tests.system.peers import HOST, Vigil
from vigil_inference.store import Store
from vigil_inference.tables import Study

NAME = "listeners"
_STUDIES = 2000
_REQUEST = "GET /api/events?rows=true HTTP/1.1\r\nHost: {host}\r\nAccept: text/event-stream\r\n\r\n"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this part's own."""
    parser.add_argument("--listeners", type=int, default=200, help="how many open pages")
    parser.add_argument("--listen-seconds", type=float, default=20.0, help="how long, each")


def measure(options: argparse.Namespace) -> Report:
    """Start a service, change a study a second, and compare its processor time."""
    if sys.platform != "linux":
        raise CannotMeasure("the processor time of another process is read from /proc")
    report = Report(
        NAME,
        "Processor time of the service in shares of one core, one changed study a second",
        ("open pages", "share of a core", "rows told to each"),
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "data").mkdir()
        store = Store(f"sqlite:///{folder / 'data' / 'vigil.sqlite3'}")
        fill(store, _STUDIES)
        with store.reading() as session:
            uids = list(session.scalars(select(Study.study_instance_uid).limit(500)))
        store.close()
        vigil = Vigil(folder, folder / "no-bundle").start(wait=False)
        try:
            _await(vigil)
            shares = []
            for count in (0, options.listeners):
                share, told = _share(vigil, uids, count, options.listen_seconds)
                shares.append(share)
                report.rows.append((str(count), f"{share:.3f}", f"{told:.1f}"))
        finally:
            vigil.stop()
    added = shares[1] - shares[0]
    report.rows.append(("what listening adds", f"{added:.3f}", ""))
    report.values = {"without": shares[0], "with": shares[1], "added": added}
    report.caption = f"goal: {options.listeners} pages add less than 0.25"
    return report


def _await(vigil: Vigil) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            if httpx.get(f"{vigil.url}/api/configuration", timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise CannotMeasure("the service did not start")


def _share(vigil: Vigil, uids: list[str], count: int, seconds: float) -> tuple[float, float]:
    assert vigil.program is not None
    pid = vigil.program.process.pid
    listeners = [_listen(vigil.http_port) for _ in range(count)]
    told = [0]
    thread = threading.Thread(target=_read_one, args=(listeners[0], told)) if listeners else None
    if thread:
        thread.start()
    drains = [threading.Thread(target=_drain, args=(listeners[1:],), daemon=True)]
    drains[0].start()
    time.sleep(2)
    before, begun = _cpu_seconds(pid), time.monotonic()
    first = told[0]
    with httpx.Client(base_url=vigil.url, timeout=20) as client:
        number = 0
        while time.monotonic() - begun < seconds:
            path = f"/api/studies/{uids[number % len(uids)]}/being-read"
            client.put(path, json={"reader": "bench", "take_over": True}).raise_for_status()
            number += 1
            time.sleep(max(0.0, begun + number - time.monotonic()))
    share = (_cpu_seconds(pid) - before) / (time.monotonic() - begun)
    heard = told[0] - first
    for listener in listeners:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
    if thread:
        thread.join(10)
    return share, heard


def _listen(port: int) -> socket.socket:
    listener = socket.create_connection((HOST, port), timeout=30)
    listener.sendall(_REQUEST.format(host=f"{HOST}:{port}").encode())
    return listener


def _read_one(listener: socket.socket, told: list[int]) -> None:
    try:
        while chunk := listener.recv(1 << 16):
            told[0] += chunk.count(b"event: rows")
    except OSError:
        return


def _drain(listeners: list[socket.socket]) -> None:
    """Read what comes and throw it away, so that no socket is full."""
    import select as readiness

    open_ones = list(listeners)
    while open_ones:
        try:
            ready, _, _ = readiness.select(open_ones, [], [], 1.0)
            for one in ready:
                if not one.recv(1 << 16):
                    open_ones.remove(one)
        except (OSError, ValueError):
            return


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
