"""From acknowledgement to finding at a steady pace, and whether memory stays where it was.

Films are sent one by one by C-STORE at the moments that the pace sets, whether or not the service
has kept up. The times are the service's own: when a picture was recorded, which is before its
acknowledgement, and when its finding was committed.
"""

import argparse
import contextlib
import sqlite3
import statistics
import tempfile
import time
from datetime import datetime
from pathlib import Path

from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian
from pynetdicom import AE, _config

from tests.bench.report import CannotMeasure, Report
from tests.films import Films
from tests.system.peers import HOST, Vigil, wait_until
from vigil.bundle import default_bundle

NAME = "pace"
_P95_GOAL_SECONDS = 2.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what this part may be told."""
    parser.add_argument("--pace", type=float, default=2.0, help="pace: films a second")
    parser.add_argument("--seconds", type=float, default=120.0, help="pace: how long")
    parser.add_argument("--film", type=int, default=2000, help="pace: rows and columns of a film")


def measure(options: argparse.Namespace) -> Report:
    """Send at the pace, wait for the last finding, and ask the database."""
    bundle = options.bundle or default_bundle()
    total = max(2, round(options.pace * options.seconds))
    memory = []
    with tempfile.TemporaryDirectory(dir=options.folder) as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        films = Films(folder, (options.film, options.film))
        vigil = Vigil(folder, bundle).start(VIGIL_STORAGE_RESERVE_BYTES="0")
        stack.callback(vigil.stop)
        assert vigil.program is not None
        pid = vigil.program.process.pid
        _config.STORE_SEND_CHUNKED_DATASET = True
        ae = AE("PACE")
        ae.add_requested_context(DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian)
        association = ae.associate(HOST, vigil.dicom_port)
        if not association.is_established:
            raise CannotMeasure("the service takes no association")
        late = 0.0
        start = time.monotonic()
        for number in range(total):
            film = films.write(folder / "film.dcm")
            wait = start + number / options.pace - time.monotonic()
            late = max(late, -wait)
            time.sleep(max(0.0, wait))
            status = association.send_c_store(film.path)
            if not status or status.Status != 0x0000:
                raise CannotMeasure("a film was not taken")
            if number % max(1, total // 20) == 0:
                memory.append(_resident_mib(pid))
        association.release()
        database = folder / "data" / "vigil.sqlite3"
        waiting = "SELECT count(*) FROM instances WHERE state = 'received'"
        wait_until(lambda: _rows(database, waiting) == [(0,)], "all is analysed", 1800)
        memory.append(_resident_mib(pid))
        rows = _rows(database, "SELECT received_at, analysed_at, milliseconds FROM instances")
    waits = sorted(
        (datetime.fromisoformat(done) - datetime.fromisoformat(came)).total_seconds()
        for came, done, _ in rows
    )
    return _report(options, waits, [row[2] for row in rows], memory, late)


def _report(
    options: argparse.Namespace,
    waits: list[float],
    milliseconds: list[float],
    memory: list[float],
    late: float,
) -> Report:
    cuts = statistics.quantiles(waits, n=100, method="inclusive")
    p50, p95, p99 = cuts[49], cuts[94], cuts[98]
    warm = memory[len(memory) // 10 :]
    report = Report(
        NAME,
        f"{len(waits)} films of {options.film} × {options.film}, {options.pace:g} a second, on the "
        "service as it is installed",
        ("From acknowledgement to finding", "seconds"),
        caption=f"the sender was at most {late:.1f} s behind its pace",
    )
    goal = f" (to reach: under {_P95_GOAL_SECONDS:g}) {'✓' if p95 < _P95_GOAL_SECONDS else '✗'}"
    for name, value in (
        ("half within", f"{p50:.3f}"),
        ("95 % within" + goal, f"{p95:.3f}"),
        ("99 % within", f"{p99:.3f}"),
        ("the slowest", f"{waits[-1]:.3f}"),
        ("of which analysis, median", f"{statistics.median(milliseconds) / 1000:.3f}"),
        ("memory, MiB: at start, most, at end", f"{memory[0]:.0f}, {max(memory):.0f}, "
         f"{memory[-1]:.0f}"),
    ):  # fmt: skip
        report.rows.append((name, value))
    report.values = {
        "films": len(waits),
        "pace": options.pace,
        "p50": p50,
        "p95": p95,
        "p99": p99,
        "slowest": waits[-1],
        "analysis_median_ms": statistics.median(milliseconds),
        "memory_mib": memory,
        "memory_growth": memory[-1] / max(warm[0], 1.0),
        "sender_late_seconds": late,
        "reached": p95 < _P95_GOAL_SECONDS,
    }
    return report


def _rows(database: Path, question: str) -> list[tuple[str, str, float]]:
    with contextlib.closing(sqlite3.connect(database, timeout=30)) as connection:
        return connection.execute(question).fetchall()


def _resident_mib(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0
