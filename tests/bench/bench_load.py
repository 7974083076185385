"""The service under load against the bare loop, and what a picture costs.

The bare loop is what the service cannot be faster than: the same files, already on the disk, read,
decoded to the size needed and shown to the network, on as many threads as there are cores, with
nothing kept. What the senders and the disk take of the same cores is measured beside it: dcmtk's
processor time, and writing and syncing as many bytes to files that stay, as the service's do. A
virtual machine that hands unused memory back to its host pays ten times as much for the first write
to a page as for the next, so nothing is removed before the end: the
folder needs some 2 GB for each round of the default size. *Possible* is what the cores and
the disk would allow if the service did nothing but the bare loop's work beside these two.

The service is sent the same films by storescu on several associations at once, which it receives,
makes durable, records, analyses and draws previews and maps of. Rounds of both alternate.
"""

import argparse
import contextlib
import functools
import os
import resource
import statistics
import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import cv2
from pydicom.uid import UID, ExplicitVRLittleEndian, JPEGLSLossless

from tests.bench.observing import (
    findings,
    last_finding,
    processor_seconds,
    quantiles,
    wait_for_findings,
)
from tests.bench.report import CannotMeasure, Report
from tests.films import Films
from tests.system.peers import HOST, Vigil, find_tool
from vigil.bundle import default_bundle, load_bundle
from vigil.classifier import Classifier, available_cores
from vigil.preprocess import least_side_of, to_model_input
from vigil.reading import read_radiograph

NAME = "load"
_GOAL = 0.7
_SYNTAXES: dict[str, tuple[UID, str]] = {
    "uncompressed": (ExplicitVRLittleEndian, "-xe"),
    "JPEG-LS": (JPEGLSLossless, "-xt"),
}
_SECONDS_A_DAY = 86_400


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what this part may be told."""
    parser.add_argument("--load-films", type=int, default=60, help="load: films a round")
    parser.add_argument("--load-rounds", type=int, default=3, help="load: rounds of both")
    parser.add_argument("--load-size", type=int, default=2000, help="load: rows and columns")
    parser.add_argument("--senders", type=int, default=2, help="load: associations at once")


def measure(options: argparse.Namespace) -> Report:
    """Alternate the bare loop and the service, for each transfer syntax."""
    report = Report(
        NAME,
        f"Pictures a second under load, {options.load_size} × {options.load_size}, median of "
        f"{options.load_rounds} rounds of {options.load_films}",
        ("Films", "bare loop", "possible", "service", "of bare", "of possible",
         "core-s a picture: bare", "senders", "disk", "service", "a day and core",
         "p50 s", "p95 s", "p99 s"),
        caption="p50 … p99: from acknowledgement to finding at saturation; possible: the bare loop "
        "with the senders on the same cores and the same bytes written and synced",
    )  # fmt: skip
    for name, (syntax, flag) in _SYNTAXES.items():
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            values = _measure_syntax(Path(folder), options, syntax, flag)
        ratio, cost = values["ratio"], values["core_seconds"]
        parts = ("bare_core_seconds", "sender_core_seconds", "disk_core_seconds", "core_seconds")
        report.rows.append(
            (
                name, f"{values['bare']:.1f}", f"{values['possible']:.1f}",
                f"{values['service']:.1f}", f"{ratio:.0%} {'✓' if ratio >= _GOAL else '✗'}",
                f"{values['service'] / values['possible']:.0%}",
                *(f"{values[key]:.4f}" for key in parts), f"{_SECONDS_A_DAY / cost:,.0f}",
                *(f"{values[key]:.2f}" for key in ("p50", "p95", "p99")),
            )
        )  # fmt: skip
        report.values[name] = values
    return report


def _measure_syntax(
    folder: Path, options: argparse.Namespace, syntax: UID, flag: str
) -> dict[str, float]:
    bundle = options.bundle or default_bundle()
    films = Films(folder, (options.load_size, options.load_size), transfer_syntax=syntax)
    loop = BareLoop(bundle)
    bare, served, waits = [], [], []
    costs: dict[str, list[float]] = defaultdict(list)
    disk = []
    with contextlib.ExitStack() as stack:
        vigil = Vigil(folder, bundle).start(VIGIL_STORAGE_RESERVE_BYTES="0")
        stack.callback(vigil.stop)
        assert vigil.program is not None
        pid = vigil.program.process.pid
        for turn in range(options.load_rounds + 1):
            batches = [folder / f"batch-{turn}-{sender}" for sender in range(options.senders)]
            for batch in batches:
                films.write_many(batch, options.load_films // options.senders)
            paths = [path for batch in batches for path in sorted(batch.iterdir())]
            alone = _timed(loop.judge, paths)
            places = [folder / f"written-{turn}-{number}.dcm" for number in range(len(paths))]
            written = _timed(functools.partial(_write, films.content), places)
            senders = _children_seconds()
            began, used = datetime.now(UTC), processor_seconds(pid)
            _send(vigil.dicom_port, batches, flag)
            wait_for_findings(folder)
            used = processor_seconds(pid) - used
            senders = _children_seconds() - senders
            took = (last_finding(folder) - began).total_seconds()
            if turn:  # the first round warms up
                bare.append(alone.rate)
                disk.append(written.rate)
                served.append(len(paths) / took)
                costs["bare_core_seconds"].append(alone.core_seconds)
                costs["disk_core_seconds"].append(written.core_seconds)
                costs["sender_core_seconds"].append(senders / len(paths))
                costs["core_seconds"].append(used / len(paths))
                waits += findings(folder, since=began).waits
    ratios = [ours / theirs for ours, theirs in zip(served, bare, strict=True)]
    medians = {name: statistics.median(values) for name, values in costs.items()}
    needed = sum(medians.values()) - medians["core_seconds"]
    return {
        "bare": statistics.median(bare),
        "disk": statistics.median(disk),
        "possible": min(available_cores() / needed, statistics.median(disk)),
        "service": statistics.median(served),
        "ratio": statistics.median(ratios),
        "lowest_ratio": min(ratios),
        "highest_ratio": max(ratios),
        **medians,
        **quantiles(waits),
    }


class BareLoop:
    """Reads, decodes and judges files, and does nothing else."""

    def __init__(self, folder: Path) -> None:
        bundle = load_bundle(folder)
        self._spec = bundle.preprocessing
        self._classifier = Classifier(bundle, 1)
        cv2.setNumThreads(1)  # as the service does: a thread of its own for each picture
        self._least = least_side_of(self._spec)

    def judge(self, path: Path) -> None:
        """Read a file and show it to the network."""
        radiograph = read_radiograph(path, least=self._least)
        self._classifier.predict(to_model_input(radiograph.pixels, self._spec, radiograph.shape))


class _Timed(NamedTuple):
    """How many a second on all cores, and what one takes of a core."""

    rate: float
    core_seconds: float


def _timed(work: Callable[[Path], None], paths: list[Path]) -> _Timed:
    with ThreadPoolExecutor(available_cores()) as pool:
        start, used = time.perf_counter(), time.process_time()
        list(pool.map(work, paths))
        took = time.perf_counter() - start
    return _Timed(len(paths) / took, (time.process_time() - used) / len(paths))


def _write(content: bytes, path: Path) -> None:
    """Write and sync what a receiver must keep."""
    with path.open("wb", buffering=0) as file:
        file.write(content)
        os.fsync(file.fileno())


def _children_seconds() -> float:
    """Return the processor time of the programs that ended: the senders."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _send(port: int, batches: list[Path], flag: str) -> None:
    storescu = find_tool("storescu", "dcmtk")
    senders = [
        subprocess.Popen(
            [storescu, flag, "-aec", "VIGIL", "+sd", HOST, str(port), str(batch)],
            stdout=subprocess.DEVNULL,
        )
        for batch in batches
    ]
    codes = [sender.wait(600) for sender in senders]
    if any(codes):
        raise CannotMeasure("storescu did not send all films")
