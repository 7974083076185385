"""How soon ``vigil serve`` is ready, and what it holds at rest with the model loaded.

``python tests/bench/bench_start.py`` starts the service on an empty folder a few times and prints
the clock, the processor time and the memory when ``/ready`` first says yes, and the memory two
seconds later.
"""

import argparse
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def processor_seconds(pid: int) -> float:
    """Return what a process has used, in user and system time."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def resident_mib(pid: int) -> float:
    """Return a process's memory."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


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
                    raise RuntimeError("the service did not become ready")
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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--repeat", type=int, default=5)
    options = parser.parse_args()
    arguments = ["--bundle", str(options.bundle)] if options.bundle else []
    runs = [start_once(arguments) for _ in range(options.repeat)]
    names = ("clock, s", "processor, s", "MiB when ready", "MiB at rest")
    for name, values in zip(names, zip(*runs, strict=True), strict=True):
        print(f"{name:15} median {statistics.median(values):7.2f}  of {sorted(values)}")
    print(f"load {os.getloadavg()[0]:.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
