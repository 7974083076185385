"""How long the worklist takes with 100, 10,000 and 50,000 studies, on SQLite and PostgreSQL.

Each figure is the median of some rounds through ``read_worklist``, as the interface calls it: rows,
counts and what is hidden. Nine of ten studies were read, as in a place that has run for a while.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import insert, text

from tests.bench.report import Report
from tests.postgresql import new_database, server_url
from vigil.triage import Priority
from vigil_inference.analysis import ModelStatus
from vigil_inference.folding import searchable
from vigil_inference.records import AnalysisRecord, FindingRecord
from vigil_inference.store import Store
from vigil_inference.tables import PRIORITY_BY_RANK, Instance, Study, StudyFinding
from vigil_inference.worklist.filters import Filters, Status
from vigil_inference.worklist.page import read_worklist

NAME = "worklist"
_LOADED = ModelStatus(True, "", "bench", "d" * 64)
_NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
_TARGETS = {Priority.CRITICAL: 30, Priority.URGENT: 120, Priority.ROUTINE: 1440}
_FAMILIES = ("Nguyễn", "Trần", "Lê", "Phạm", "Hoàng", "Đặng", "Vũ", "Bùi", "Đỗ", "Hồ")
_MIDDLE = ("Văn", "Thị", "Minh", "Thu", "Đức", "Hoài")
_GIVEN = ("An", "Ân", "Bình", "Châu", "Dũng", "Hà", "Hạnh", "Lan", "Ước", "Yến")
_FINDINGS = ("Effusion", "Mass", "Tuberculosis", "Edema", "Cardiomegaly")
_AT_ONCE = 5000
_ROUNDS = 7

QUERIES: dict[str, tuple[Filters, int]] = {
    "first page": (Filters(status=Status.UNREAD), 0),
    "a later page": (Filters(status=Status.ALL), 40),
    "a finding and a priority": (
        Filters(status=Status.ALL, finding="Effusion", priority=Priority.URGENT),
        0,
    ),
    "a name": (Filters(status=Status.ALL, text="nguyen van an"), 0),
    "an accession number": (Filters(status=Status.ALL, text="2026/77"), 0),
    "overdue": (Filters(status=Status.OVERDUE), 0),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this part's own."""
    parser.add_argument(
        "--studies", type=int, nargs="+", default=[100, 10_000, 50_000], help="how many studies"
    )
    parser.add_argument("--plans", action="store_true", help="print how the database finds them")


def measure(options: argparse.Namespace) -> Report:
    """Fill databases and measure."""
    sizes = sorted(options.studies)
    report = Report(
        NAME,
        "A page of 50 studies, milliseconds (median), and what the largest costs beside the least",
        ("database, question", *(f"{size:,}" for size in sizes), "ratio"),
    )
    kinds = ["sqlite", *(["postgresql"] if server_url() is not None else [])]
    for kind in kinds:
        found: dict[str, list[float]] = {name: [] for name in QUERIES}
        for size in sizes:
            with ExitStack() as stack:
                store = _store(kind, stack)
                fill(store, size)
                for name, (filters, percent) in QUERIES.items():
                    ask = _question(store, filters, size * percent // 100)
                    found[name].append(_median(ask))
                if options.plans and size == sizes[-1]:
                    _print_plans(store)
        for name, milliseconds in found.items():
            ratio = milliseconds[-1] / milliseconds[0]
            report.rows.append(
                (f"{kind}, {name}", *(f"{value:.1f}" for value in milliseconds), f"{ratio:.1f}")
            )
        report.values[kind] = {
            name: dict(zip(map(str, sizes), values, strict=True)) for name, values in found.items()
        }
    return report


def _store(kind: str, stack: ExitStack) -> Store:
    if kind == "postgresql":
        url = stack.enter_context(new_database())
    else:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        url = f"sqlite:///{Path(folder) / 'bench.sqlite3'}"
    store = Store(url)
    stack.callback(store.close)
    return store


def _question(store: Store, filters: Filters, offset: int) -> Callable[[], Any]:
    return lambda: read_worklist(
        store, _LOADED, filters=filters, targets=_TARGETS, offset=offset, limit=50, now=_NOW
    )


def _median(ask: Callable[[], Any]) -> float:
    ask()
    seconds = []
    for _ in range(_ROUNDS):
        begun = time.perf_counter()
        ask()
        seconds.append(time.perf_counter() - begun)
    return statistics.median(seconds) * 1000


def fill(store: Store, count: int) -> None:
    """Write studies of one analysed picture each."""
    for first in range(0, count, _AT_ONCE):
        numbers = range(first, min(first + _AT_ONCE, count))
        with store.writing() as session:
            session.execute(insert(Study), [_study(number) for number in numbers])
            session.execute(insert(Instance), [_instance(number) for number in numbers])
            session.execute(insert(StudyFinding), list(_findings(numbers)))
    with store.engine.connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT").execute(text("ANALYZE"))


def _name(number: int) -> str:
    # Numbers without a common factor, so that names do not repeat in step.
    family = _FAMILIES[number % len(_FAMILIES)]
    middle = _MIDDLE[number // 7 % len(_MIDDLE)]
    return f"{family}^{middle} {_GIVEN[number // 3 % len(_GIVEN)]}"


def _study(number: int) -> dict[str, Any]:
    rank = (1, 1, 1, 2, 1, 0, 3, 1)[number % 8]
    name, patient, accession = _name(number), f"P{number:06d}", f"2026/{number}"
    received = _NOW - timedelta(minutes=number * 3)
    is_read = number % 10 != 0
    return {
        "id": number + 1, "study_instance_uid": f"1.2.826.{number}", "patient_name": name,
        "patient_id": patient, "accession_number": accession, "study_date": "20261120",
        "institution_name": f"Trạm y tế {number % 60}", "source": f"AE{number % 20}",
        "study_description": "X-quang ngực thẳng", "received_at": received, "state": "analysed",
        "priority_rank": rank, "reading_order": PRIORITY_BY_RANK[rank].reading_order,
        "read_at": received + timedelta(hours=1) if is_read else None,
        "read_by": "hanh" if is_read else "", "search_text": searchable(name, patient, accession),
    }  # fmt: skip


def _flagged(number: int) -> str | None:
    return _FINDINGS[number // 2 % len(_FINDINGS)] if number % 3 == 0 else None


def _instance(number: int) -> dict[str, Any]:
    return {
        "study_id": number + 1, "sop_instance_uid": f"1.2.826.{number}.1",
        "sop_class_uid": "1.2.840.10008.5.1.4.1.1.1.1", "modality": "DX", "file_path": "x.dcm",
        "sha256": f"{number:064d}", "size_bytes": 8_000_000, "door": "C-STORE",
        "received_at": _NOW, "state": "analysed", "priority": "ROUTINE", "has_preview": True,
        "result": _result(_flagged(number)),
    }  # fmt: skip


def _result(flagged: str | None) -> dict[str, Any]:
    findings = tuple(
        FindingRecord(
            key=label, label=label, probability=0.7 if label == flagged else 0.1, threshold=0.5,
            critical_threshold=0.9, sensitivity=0.9, specificity=0.7, flagged=label == flagged,
            priority=Priority.URGENT if label == flagged else Priority.ROUTINE, experimental=False,
            withheld=None, has_map=True,
        )
        for label in _FINDINGS
    )  # fmt: skip
    return AnalysisRecord(
        status="analysed", code=None, reason="bench", priority=Priority.ROUTINE,
        findings=findings, notes=(), bundle_id="bench", bundle_digest="d" * 64, bundle_notice="",
        software_version="", milliseconds=1.0, rows=3000, columns=2500, view="PA", age_years=40,
        has_preview=True,
    ).model_dump(mode="json")  # fmt: skip


def _findings(numbers: range) -> Iterator[dict[str, Any]]:
    for number in numbers:
        if (finding := _flagged(number)) is not None:
            yield {"study_id": number + 1, "finding": finding}


def _print_plans(store: Store) -> None:
    """Print how the database finds the first page and how it counts."""
    explain = "EXPLAIN" if store.is_shared else "EXPLAIN QUERY PLAN"
    statements = {
        "first page": "SELECT * FROM studies WHERE read_at IS NULL "
        "ORDER BY reading_order, received_at, id LIMIT 50",
        "counts": "SELECT priority_rank, count(*), sum(CASE WHEN read_at IS NULL THEN 1 ELSE 0 END)"
        " FROM studies GROUP BY priority_rank",
    }
    with store.engine.connect() as connection:
        for name, statement in statements.items():
            print(f"{store.engine.dialect.name}, {name}:")
            for row in connection.execute(text(f"{explain} {statement}")):
                print("   ", row[-1])
