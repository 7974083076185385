"""What durable work costs a picture: our leased rows against DBOS Transact, in one run.

``python tests/bench/bench_durable_work.py --postgresql URL --dbos PYTHON`` takes so many pictures
through record, claim and complete, by two workers, on SQLite and on PostgreSQL, each side in turn;
the analysis itself does nothing. ``URL`` is a database of a user who may make others. ``PYTHON`` is
that of an environment with ``dbos`` and ``psycopg``, which Vigil itself does not need:
``python -m venv E && E/bin/pip install 'dbos==3.4.0' 'psycopg[binary]'``.
"""

import argparse
import os
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from tests.postgresql import new_database
from vigil.triage import Priority
from vigil_inference.arrivals import Arrival
from vigil_inference.headers import Header
from vigil_inference.leases import Leases
from vigil_inference.picture_queue import PictureQueue
from vigil_inference.records import AnalysisRecord, FindingRecord
from vigil_inference.store import Store

WORKERS = 2
DBOS_SIDE = Path(__file__).with_name("durable_work_dbos.py")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=300)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--postgresql", metavar="URL")
    parser.add_argument("--dbos", metavar="PYTHON")
    options = parser.parse_args()
    if options.postgresql:
        os.environ["VIGIL_POSTGRESQL"] = options.postgresql
    kinds = ["sqlite", *(["postgresql"] if options.postgresql else [])]
    rates: dict[tuple[str, str], list[float]] = {}
    for _ in range(options.repeat):
        for kind in kinds:
            with database_of(kind) as url:
                whole, work = leased_rows(url, options.pictures)
            rates.setdefault((kind, "leased rows: claim, complete"), []).append(work)
            rates.setdefault((kind, "leased rows: record, claim, complete"), []).append(whole)
            if not options.dbos:
                continue
            for way in ("started", "queued"):
                with database_of(kind) as url:
                    rate = dbos(options.dbos, url, options.pictures, way)
                rates.setdefault((kind, f"DBOS: {way}, two steps"), []).append(rate)
    print(
        f"{WORKERS} workers, {options.pictures} pictures, median of {options.repeat} (least, most)"
    )
    for (kind, what), found in rates.items():
        middle = statistics.median(found)
        print(f"{kind:<11} {what:<38} {middle:7.1f} /s  ({min(found):.1f}, {max(found):.1f})")
    return 0


@contextmanager
def database_of(kind: str) -> Iterator[str]:
    """Give an empty database of a kind."""
    if kind == "postgresql":
        with new_database() as url:
            yield url
        return
    with tempfile.TemporaryDirectory() as folder:
        yield f"sqlite:///{folder}/vigil.sqlite3"


def leased_rows(url: str, count: int) -> tuple[float, float]:
    """Return pictures a second with and without recording them, by our own rows."""
    store = Store(url)
    leases = Leases(store)
    record = make_record()
    began = time.perf_counter()
    for number in range(count):
        store.add(make_arrival(number))
    recorded = time.perf_counter()

    def work() -> None:
        queue = PictureQueue(store, leases)
        while (claim := queue.claim()) is not None:
            with leases.held(claim.lease):
                store.record_result(claim.task.instance_id, record, claim.lease.token)

    threads = [threading.Thread(target=work) for _ in range(WORKERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ended = time.perf_counter()
    assert PictureQueue(store, leases).count() == 0
    store.close()
    return count / (ended - began), count / (ended - recorded)


def dbos(python: str, url: str, count: int, way: str) -> float:
    """Return pictures a second by DBOS Transact, as its side of the measurement prints them."""
    document = make_record().model_dump_json()
    found = subprocess.run(
        [python, str(DBOS_SIDE), url, str(count), way, str(WORKERS)],
        input=document,
        capture_output=True,
        text=True,
        check=True,
    )
    return float(found.stdout.split()[-1])


def make_arrival(number: int) -> Arrival:
    """Return one picture of a study of its own."""
    return Arrival(
        Header("1.2.840", f"1.2.{number}.1", f"1.2.{number}"),
        file_path=f"instances/{number}.dcm",
        sha256=f"{number:064x}",
        size_bytes=1,
        door="C-STORE",
        calling_ae_title="PACS",
        received_at=datetime.now(UTC),
    )


def make_record() -> AnalysisRecord:
    """Return a result of the usual size: fourteen findings."""
    finding = FindingRecord(
        key="Effusion", label="Effusion", probability=0.123456, threshold=0.5,
        critical_threshold=0.9, sensitivity=0.9, specificity=0.7, flagged=False,
        priority=Priority.ROUTINE, experimental=False, withheld=None, has_map=True,
    )  # fmt: skip
    return AnalysisRecord(
        status="analysed", code=None, reason="no finding over its threshold",
        priority=Priority.ROUTINE, findings=(finding,) * 14, notes=(), bundle_id="bench",
        bundle_digest="0" * 64, bundle_notice="", software_version="0", milliseconds=1.0,
        rows=3000, columns=3000, view="PA", age_years=50, has_preview=True,
    )  # fmt: skip


if __name__ == "__main__":
    raise SystemExit(main())
