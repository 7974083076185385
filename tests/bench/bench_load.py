"""The service under load against the bare loop, and what a picture costs.

The bare loop is what the service cannot be faster than: the same files, already on the disk, read,
decoded to the size needed and shown to the network, on as many threads as there are cores, with
nothing kept. The service is sent the same films by dcmtk's storescu on several associations at
once, which it receives, makes durable, records, analyses and draws previews and maps of; the
senders use the same cores. Rounds of both alternate.
"""

import argparse
import contextlib
import shutil
import statistics
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

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
        ("Films", "bare loop", "service", "of bare", "core-s a picture", "a day and core",
         "p50 s", "p95 s", "p99 s"),
        caption="p50 … p99: from acknowledgement to finding at saturation; core-s: of the service "
        "alone, receiving to previews",
    )  # fmt: skip
    for name, (syntax, flag) in _SYNTAXES.items():
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            values = _measure_syntax(Path(folder), options, syntax, flag)
        ratio, cost = values["ratio"], values["core_seconds"]
        report.rows.append(
            (
                name, f"{values['bare']:.1f}", f"{values['service']:.1f}",
                f"{ratio:.0%} {'✓' if ratio >= _GOAL else '✗'}", f"{cost:.3f}",
                f"{_SECONDS_A_DAY / cost:,.0f}",
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
    bare, served, costs, waits = [], [], [], []
    with contextlib.ExitStack() as stack:
        vigil = Vigil(folder, bundle).start(VIGIL_STORAGE_RESERVE_BYTES="0")
        stack.callback(vigil.stop)
        assert vigil.program is not None
        pid = vigil.program.process.pid
        for turn in range(options.load_rounds + 1):
            batches = [folder / f"batch-{sender}" for sender in range(options.senders)]
            for batch in batches:
                films.write_many(batch, options.load_films // options.senders)
            paths = [path for batch in batches for path in sorted(batch.iterdir())]
            alone = len(paths) / loop.seconds(paths)
            began, used = datetime.now(UTC), processor_seconds(pid)
            _send(vigil.dicom_port, batches, flag)
            wait_for_findings(folder)
            used = processor_seconds(pid) - used
            took = (last_finding(folder) - began).total_seconds()
            for batch in batches:
                shutil.rmtree(batch)
            if turn:  # the first round warms up
                bare.append(alone)
                served.append(len(paths) / took)
                costs.append(used / len(paths))
                waits += findings(folder, since=began).waits
    ratios = [ours / theirs for ours, theirs in zip(served, bare, strict=True)]
    return {
        "bare": statistics.median(bare),
        "service": statistics.median(served),
        "ratio": statistics.median(ratios),
        "lowest_ratio": min(ratios),
        "highest_ratio": max(ratios),
        "core_seconds": statistics.median(costs),
        **quantiles(waits),
    }


class BareLoop:
    """Reads, decodes and judges files, and does nothing else."""

    def __init__(self, folder: Path) -> None:
        bundle = load_bundle(folder)
        self._spec = bundle.preprocessing
        self._classifier = Classifier(bundle, 1)
        self._least = least_side_of(self._spec)

    def seconds(self, paths: list[Path]) -> float:
        """Return how long it takes over files, on all cores."""
        with ThreadPoolExecutor(available_cores()) as pool:
            start = time.perf_counter()
            list(pool.map(self._judge, paths))
            return time.perf_counter() - start

    def _judge(self, path: Path) -> None:
        radiograph = read_radiograph(path, least=self._least)
        self._classifier.predict(to_model_input(radiograph.pixels, self._spec, radiograph.shape))


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
