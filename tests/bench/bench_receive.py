"""How many objects a second are taken and acknowledged, beside other receivers.

Each receiver gets the same number of files of the same size from one association of dcmtk's
``storescu``, in rounds whose order rotates, on one file system. Ratios are of rounds made side by
side, so that what else the machine does weighs on all of them.

- Vigil: file and directory fsynced and the row committed before each acknowledgement. Once without
  a model (receiving alone), once with one (it analyses on the same cores meanwhile).
- Orthanc with ``SyncStorageArea``: fsynced and indexed.
- dcmtk's ``storescp``: written, not fsynced, not indexed.
- Write and fsync alone: the same bytes to a file, file and directory fsynced, without a network.
"""

import argparse
import contextlib
import json
import os
import shutil
import sqlite3
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.bench.report import Report
from tests.films import Films
from tests.system.peers import HOST, Program, Vigil, find_tool, free_port, wait_until
from vigil.bundle import default_bundle

NAME = "receive"
SIZES = {"8 MB": (2000, 2000), "1 MB": (724, 724)}
ALONE = "write and fsync alone"
VIGIL, ANALYSING = "Vigil", "Vigil, analysing"
GOALS = {"8 MB": {"Orthanc": 2.5, "storescp": 1.5}, "1 MB": {"Orthanc": 4.0, "storescp": 2.0}}

Send = Callable[[Path], float]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what this part may be told."""
    parser.add_argument("--rounds", type=int, default=5, help="receive: rounds of each size")
    parser.add_argument("--files", type=int, default=16, help="receive: 8 MB files a round")
    parser.add_argument("--small-files", type=int, default=64, help="receive: 1 MB files a round")
    parser.add_argument("--with-model", action="store_true", help="receive: Vigil analysing, too")


def measure(options: argparse.Namespace) -> Report:
    """Run the rounds."""
    counts = {"8 MB": options.files, "1 MB": options.small_files}
    rates: dict[str, dict[str, list[float]]] = {size: {} for size in SIZES}
    with tempfile.TemporaryDirectory(dir=options.folder) as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        receivers = _start_receivers(folder, stack, options)
        for size, shape in SIZES.items():
            films = Films(folder, shape)
            for turn in range(-1, options.rounds):
                order = list(receivers)
                order = order[turn % len(order) :] + order[: turn % len(order)]
                for receiver in order:
                    batch = folder / "batch"
                    films.write_many(batch, counts[size])
                    os.sync()  # nobody pays for the writing of what is sent
                    seconds = receivers[receiver](batch)
                    shutil.rmtree(batch)
                    if turn >= 0:  # the first round warms up
                        rates[size].setdefault(receiver, []).append(counts[size] / seconds)
    return _report(rates, options)


def _start_receivers(
    folder: Path, stack: contextlib.ExitStack, options: argparse.Namespace
) -> dict[str, Send]:
    vigil = stack.enter_context(_vigil(folder / "vigil", folder / "no-bundle"))
    receivers = {VIGIL: _storescu(vigil.dicom_port)}
    if options.with_model:
        bundle = options.bundle or default_bundle()
        analysing = stack.enter_context(_vigil(folder / "analysing", bundle))
        receivers[ANALYSING] = _storescu(analysing.dicom_port, settle=lambda: _settle(analysing))
    receivers["Orthanc"] = _storescu(stack.enter_context(_orthanc(folder / "orthanc")))
    receivers["storescp"] = _storescu(stack.enter_context(_storescp(folder / "storescp")))
    receivers[ALONE] = lambda batch: _write_alone(batch, folder / "alone")
    return receivers


def _storescu(port: int, settle: Callable[[], None] = lambda: None) -> Send:
    storescu = find_tool("storescu", "dcmtk")

    def send(batch: Path) -> float:
        command = [storescu, "-xe", "-aec", "ANY", "+sd", HOST, str(port), str(batch)]
        start = time.perf_counter()
        subprocess.run(command, check=True, timeout=600, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - start
        settle()
        return seconds

    return send


@contextlib.contextmanager
def _vigil(folder: Path, bundle: Path) -> Iterator[Vigil]:
    folder.mkdir()
    vigil = Vigil(folder, bundle).start(wait=False, VIGIL_STORAGE_RESERVE_BYTES="0")
    try:
        program = vigil.program
        assert program is not None
        wait_until(lambda: program.answers(f"{vigil.url}/health"), "Vigil lives")
        yield vigil
    finally:
        vigil.stop()


def _settle(vigil: Vigil) -> None:
    """Wait until nothing waits for its analysis, so that the next receiver has the machine."""
    with sqlite3.connect(vigil.folder / "data" / "vigil.sqlite3", timeout=30) as database:
        question = "SELECT count(*) FROM instances WHERE state = 'received'"
        wait_until(lambda: database.execute(question).fetchone()[0] == 0, "all is analysed", 600)


@contextlib.contextmanager
def _orthanc(folder: Path) -> Iterator[int]:
    folder.mkdir()
    port, http_port = free_port(), free_port()
    configuration = {
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "Plugins": [],
        "HttpPort": http_port,
        "AuthenticationEnabled": False,
        "DicomAet": "ORTHANC",
        "DicomPort": port,
        "DicomCheckCalledAet": False,
        "SyncStorageArea": True,
        "StorageCompression": False,
    }
    path = folder / "orthanc.json"
    path.write_text(json.dumps(configuration), encoding="utf-8")
    program = Program([find_tool("Orthanc", "orthanc"), str(path)], folder / "log")
    try:
        wait_until(lambda: program.answers(f"http://{HOST}:{http_port}/system"), "Orthanc answers")
        yield port
    finally:
        program.stop()


@contextlib.contextmanager
def _storescp(folder: Path) -> Iterator[int]:
    folder.mkdir()
    port = free_port()
    program = Program(
        [find_tool("storescp", "dcmtk"), "-od", str(folder), str(port)], folder.with_suffix(".log")
    )
    echo = [find_tool("echoscu", "dcmtk"), HOST, str(port)]
    try:
        wait_until(
            lambda: (
                subprocess.run(echo, check=False, stderr=subprocess.DEVNULL).returncode == 0 or None
            ),
            "storescp answers",
        )
        yield port
    finally:
        program.stop()


def _write_alone(batch: Path, folder: Path) -> float:
    folder.mkdir(exist_ok=True)
    start = time.perf_counter()
    for path in sorted(batch.iterdir()):
        content = path.read_bytes()
        written = folder / f"{time.monotonic_ns()}.dcm"
        with written.open("xb", buffering=0) as file:
            file.write(content)
            os.fsync(file.fileno())
        descriptor = os.open(folder, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
    return time.perf_counter() - start


def _report(rates: dict[str, dict[str, list[float]]], options: argparse.Namespace) -> Report:
    report = Report(
        NAME,
        f"Objects acknowledged a second, one association of storescu, median of {options.rounds} "
        "rounds",
        ("Receiver", "size", "files/s", "lowest", "highest", "Vigil is", "to reach"),
        caption="“Vigil is”: how many times as many as this receiver, median of the rounds' ratios",
    )
    for size, receivers in rates.items():
        ours = receivers[VIGIL]
        for name, values in receivers.items():
            ratio = statistics.median(a / b for a, b in zip(ours, values, strict=True))
            goal = GOALS[size].get(name)
            report.rows.append(
                (
                    name,
                    size,
                    f"{statistics.median(values):.1f}",
                    f"{min(values):.1f}",
                    f"{max(values):.1f}",
                    "" if name == VIGIL else f"{ratio:.2f} ×",
                    "" if goal is None else f"{goal:g} × {'✓' if ratio >= goal else '✗'}",
                )
            )
            report.values.setdefault(size, {})[name] = {
                "files_per_second": values,
                "median": statistics.median(values),
                "vigil_ratio": ratio,
                "goal": goal,
                "reached": None if goal is None else ratio >= goal,
            }
    return report
