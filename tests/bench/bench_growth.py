"""How receiving, finding and the worklist change with what is stored, and with more processes.

*Stored*: a service's embedded database is filled with copies of one analysed study, then new films
are sent to it and its worklist is asked for. *Workers*: films that a node without a model has
received wait in PostgreSQL, and one to four ``vigil worker`` processes of one thread each take
them; the first finding of all ends the start, which is not counted.
"""

import argparse
import contextlib
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import create_engine, insert, select
from sqlalchemy.orm import Session

from tests.bench.observing import analysed_at, findings, quantiles, wait_for_findings
from tests.bench.report import Report
from tests.films import Films, fresh_uid
from tests.postgresql import new_database
from tests.system.peers import HOST, VIGIL, Program, Vigil, find_tool, wait_until
from vigil.bundle import default_bundle
from vigil.classifier import available_cores
from vigil_inference.tables import Instance, Study

NAME = "growth"
_SIZE = (724, 724)
_PAGES = 9
_AT_ONCE = 1000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what this part may be told."""
    parser.add_argument(
        "--stored", type=int, nargs="+", default=[1, 100, 10_000], help="growth: studies stored"
    )
    parser.add_argument("--new-films", type=int, default=40, help="growth: films sent to each")
    parser.add_argument(
        "--workers", type=int, nargs="+", default=[1, 2, 4], help="growth: worker processes"
    )
    parser.add_argument("--backlog", type=int, default=120, help="growth: films that wait")


def measure(options: argparse.Namespace) -> Report:
    """Measure each number of studies, then each number of workers."""
    report = Report(
        NAME,
        f"Growth; films of {_SIZE[0]} × {_SIZE[1]}, {available_cores()} cores",
        ("", "ready, s", "received/s", "finding p50, s", "p95, s", "worklist, ms", "findings/s"),
        caption="worklist: its first 100 rows over HTTP, median",
    )
    for stored in options.stored:
        with tempfile.TemporaryDirectory(dir=options.folder) as name:
            values = _measure_stored(Path(name), options, stored)
        report.rows.append(
            (
                f"{stored:,} studies stored", f"{values['ready']:.1f}",
                f"{values['received']:.1f}", f"{values['p50']:.3f}", f"{values['p95']:.3f}",
                f"{values['worklist_ms']:.0f}", "",
            )
        )  # fmt: skip
        report.values[f"stored {stored}"] = values
    for workers in options.workers:
        with tempfile.TemporaryDirectory(dir=options.folder) as name:
            rate = _measure_workers(Path(name), options, workers)
        report.rows.append((f"{workers} worker(s)", *[""] * 5, f"{rate:.1f}"))
        report.values[f"workers {workers}"] = {"findings_per_second": rate}
    return report


def _measure_stored(folder: Path, options: argparse.Namespace, stored: int) -> dict[str, Any]:
    films = Films(folder, _SIZE)
    vigil = Vigil(folder, options.bundle or default_bundle())
    with _serving(vigil):
        _send(vigil, films, folder / "first", 1)
        wait_for_findings(folder)
    _fill(folder, stored - 1)
    start = time.perf_counter()
    with _serving(vigil):
        ready = time.perf_counter() - start
        _send(vigil, films, folder / "warm", 4)
        wait_for_findings(folder)
        done = len(analysed_at(folder))
        seconds = _send(vigil, films, folder / "new", options.new_films)
        wait_for_findings(folder)
        waits = findings(folder, since=analysed_at(folder)[done - 1]).waits
        pages = []
        for _ in range(_PAGES):
            asked = time.perf_counter()
            httpx.get(f"{vigil.url}/api/worklist?limit=100", timeout=60).raise_for_status()
            pages.append(1000 * (time.perf_counter() - asked))
    return {
        "ready": ready,
        "received": options.new_films / seconds,
        "worklist_ms": statistics.median(pages),
        **quantiles(waits),
    }


def _measure_workers(folder: Path, options: argparse.Namespace, workers: int) -> float:
    films = Films(folder, _SIZE)
    with new_database() as url, contextlib.ExitStack() as stack:
        receiver = Vigil(folder, folder / "no-bundle")
        receiver.start(wait=False, VIGIL_STORAGE_RESERVE_BYTES="0", VIGIL_DATABASE_URL=url)
        stack.callback(receiver.stop)
        wait_until(lambda: _listens(receiver.dicom_port), "the receiver listens")
        _send(receiver, films, folder / "backlog", options.backlog)
        for number in range(workers):
            worker = Program(
                [str(VIGIL), "worker", "--data-dir", str(folder / "data")],
                folder / f"worker-{number}.log",
                VIGIL_DATABASE_URL=url,
                VIGIL_BUNDLE=str(options.bundle or default_bundle()),
                VIGIL_ANALYSIS_WORKERS="1",
                VIGIL_ANALYSIS_THREADS="1",
                VIGIL_NODE_NAME=f"worker-{number}",
            )
            stack.callback(worker.stop)
        wait_for_findings(folder, url)
        moments = analysed_at(folder, url)
    return (len(moments) - 1) / (moments[-1] - moments[0]).total_seconds()


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((HOST, port), timeout=5):
        return True
    return False


@contextlib.contextmanager
def _serving(vigil: Vigil) -> Iterator[None]:
    vigil.start(VIGIL_STORAGE_RESERVE_BYTES="0")
    try:
        yield
    finally:
        vigil.stop()


def _send(vigil: Vigil, films: Films, batch: Path, count: int) -> float:
    """Send films on one association; return how long it took until all were acknowledged."""
    films.write_many(batch, count)
    command = [find_tool("storescu", "dcmtk"), "-xe", "-aec", "VIGIL", "+sd"]
    start = time.perf_counter()
    subprocess.run(
        [*command, HOST, str(vigil.dicom_port), str(batch)],
        check=True, timeout=600, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    return time.perf_counter() - start


def _fill(folder: Path, copies: int) -> None:
    """Copy the one study and its picture under fresh UIDs; the copies share its files."""
    engine = create_engine(f"sqlite:///{folder / 'data' / 'vigil.sqlite3'}")
    with Session(engine) as session:
        study = dict(session.execute(select(Study.__table__)).mappings().one())
        picture = dict(session.execute(select(Instance.__table__)).mappings().one())
        first = study["id"] + 1
        for start in range(0, copies, _AT_ONCE):
            numbers = range(first + start, first + min(start + _AT_ONCE, copies))
            session.execute(
                insert(Study.__table__),
                [study | {"id": n, "study_instance_uid": fresh_uid()} for n in numbers],
            )
            session.execute(
                insert(Instance.__table__),
                [
                    picture | {"id": n, "study_id": n, "sop_instance_uid": fresh_uid()}
                    for n in numbers
                ],
            )
        session.commit()
    engine.dispose()
