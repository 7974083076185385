"""From acknowledgement to finding at a steady pace, and whether memory stays where it was.

Films are sent one by one by C-STORE at the moments that the pace sets, whether or not the service
has kept up. The times are the service's own: when a picture was recorded, which is before its
acknowledgement, and when its finding was committed.
"""

import argparse
import contextlib
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian
from pynetdicom import AE, _config

from tests.bench.observing import findings, quantiles, resident_mib, wait_for_findings
from tests.bench.report import CannotMeasure, Report
from tests.films import Films
from tests.system.peers import HOST, Vigil
from vigil.bundle import default_bundle

NAME = "pace"
_GOAL_PACE, _P95_GOAL_SECONDS = 2.0, 2.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what this part may be told."""
    parser.add_argument(
        "--pace", type=float, nargs="+", default=[0.5, 2.0, 5.0], help="pace: films a second"
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="pace: how long each")
    parser.add_argument("--film", type=int, default=2000, help="pace: rows and columns of a film")


def measure(options: argparse.Namespace) -> Report:
    """Send at each pace to a fresh service, wait for the last finding, and ask the database."""
    report = Report(
        NAME,
        f"From acknowledgement to finding, seconds; films of {options.film} × {options.film}, "
        f"{options.seconds:g} s each, on the service as it is installed",
        ("Films a second", "films", "half within", "95 % within", "99 %", "slowest", "analysis",
         "MiB at start", "most", "at end", "late"),
        caption="analysis: the median of it alone; late: how far the sender fell behind its pace",
    )  # fmt: skip
    for pace in options.pace:
        values = _measure_pace(options, pace)
        goal = ""
        if pace == _GOAL_PACE:
            goal = f" {'✓' if values['p95'] < _P95_GOAL_SECONDS else '✗'}"
            values["reached"] = values["p95"] < _P95_GOAL_SECONDS
        memory = values["memory_mib"]
        report.rows.append(
            (
                f"{pace:g}", f"{values['films']}", f"{values['p50']:.3f}",
                f"{values['p95']:.3f}{goal}", f"{values['p99']:.3f}", f"{values['slowest']:.3f}",
                f"{values['analysis_median_ms'] / 1000:.3f}", f"{memory[0]:.0f}",
                f"{max(memory):.0f}", f"{memory[-1]:.0f}", f"{values['sender_late_seconds']:.1f}",
            )
        )  # fmt: skip
        report.values[f"{pace:g}"] = values
    return report


def _measure_pace(options: argparse.Namespace, pace: float) -> dict[str, Any]:
    bundle = options.bundle or default_bundle()
    total = max(2, round(pace * options.seconds))
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
            wait = start + number / pace - time.monotonic()
            late = max(late, -wait)
            time.sleep(max(0.0, wait))
            status = association.send_c_store(film.path)
            if not status or status.Status != 0x0000:
                raise CannotMeasure("a film was not taken")
            if number % max(1, total // 20) == 0:
                memory.append(resident_mib(pid))
        association.release()
        wait_for_findings(folder)
        memory.append(resident_mib(pid))
        waits, analyses = findings(folder)
    return {
        "films": len(waits),
        **quantiles(waits),
        "analysis_median_ms": statistics.median(analyses),
        "memory_mib": memory,
        "memory_growth": memory[-1] / max(memory[len(memory) // 10], 1.0),
        "sender_late_seconds": late,
    }
