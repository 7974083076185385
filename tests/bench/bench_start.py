"""How soon ``vigil serve`` is ready, and what it holds at rest with the model loaded.

The service is started on an empty folder a few times: the clock, the processor time and the memory
when ``/ready`` first says yes, and the memory two seconds later.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

from tests.bench.observing import processor_seconds, resident_mib
from tests.bench.report import CannotMeasure, Report
from tests.system.peers import free_port

NAME = "start"
_READY_GOAL_SECONDS, _MEMORY_GOAL_MIB = 2.0, 350.0


def start_once(arguments: list[str]) -> tuple[float, float, float, float]:
    """Return clock and processor seconds to readiness, and MiB then and at rest."""
    http, dicom = free_port(), free_port()
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable, "-c", "from vigil.cli import main; main()", "serve",
            "--data-dir", folder, "--http-port", str(http), "--dicom-port", str(dicom), *arguments,
        ]  # fmt: skip
        began = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            while not _is_ready(http):
                if process.poll() is not None or time.perf_counter() - began > 120:
                    raise CannotMeasure("the service did not become ready")
                time.sleep(0.02)
            clock, processor = time.perf_counter() - began, processor_seconds(process.pid)
            ready = resident_mib(process.pid)
            time.sleep(2)
            return clock, processor, ready, resident_mib(process.pid)
        finally:
            process.terminate()
            process.wait(30)


def _is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what this part may be told."""
    parser.add_argument("--starts", type=int, default=5, help="start: how often")


def measure(options: argparse.Namespace) -> Report:
    """Start the service a few times, one after the other."""
    arguments = ["--bundle", str(options.bundle)] if options.bundle else []
    runs = [start_once(arguments) for _ in range(options.starts)]
    report = Report(
        NAME,
        f"`vigil serve` on an empty folder, {options.starts} starts",
        ("", "median", "lowest", "highest", "to reach"),
    )
    figures: tuple[tuple[str, float | None], ...] = (
        ("seconds to ready, clock", _READY_GOAL_SECONDS),
        ("seconds to ready, processor", None),
        ("MiB when ready", None),
        ("MiB at rest, model loaded", _MEMORY_GOAL_MIB),
    )
    for (name, goal), values in zip(figures, zip(*runs, strict=True), strict=True):
        median = statistics.median(values)
        said = "" if goal is None else f"under {goal:g} {'✓' if median < goal else '✗'}"
        row = (f"{value:.2f}" for value in (median, min(values), max(values)))
        report.rows.append((name, *row, said))
        report.values[name] = {"values": values, "goal": goal}
    return report
