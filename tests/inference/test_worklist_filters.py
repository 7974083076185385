"""What readers look for, on both databases."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select

from vigil.errors import RefusalCode
from vigil.triage import Priority
from vigil_inference.analysis import ModelStatus
from vigil_inference.arrivals import Arrival
from vigil_inference.headers import Header
from vigil_inference.records import FindingRecord, refuse
from vigil_inference.store import Store
from vigil_inference.tables import Study
from vigil_inference.worklist.filters import Filters, Status
from vigil_inference.worklist.page import read_choices, read_rows, read_worklist

LOADED = ModelStatus(True, "", "fake", "d" * 64)
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
TARGETS = {Priority.CRITICAL: 30, Priority.URGENT: 120}


def flagged(label: str, priority: Priority) -> FindingRecord:
    return FindingRecord(
        key=label, label=label, probability=0.62, threshold=0.5, critical_threshold=0.9,
        sensitivity=None, specificity=None, flagged=True, priority=priority, experimental=False,
        withheld=None, uncertain=(0.4, 0.65), has_map=False,
    )  # fmt: skip


def add(
    store: Store,
    number: int,
    name: str,
    priority: Priority | None,
    *labels: str,
    minutes: int = 10,
    modality: str = "DX",
    **header: str,
) -> None:
    """Add study `number`; without a priority it waits for its analysis."""
    fields = {"patient_id": f"P-{number}", "accession_number": f"2026/{number}"} | header
    recorded = store.add(
        Arrival(
            Header(
                "1.2.840", f"1.2.{number}.1", f"1.2.{number}", patient_name=name,
                modality=modality, **fields,
            ),
            file_path=f"instances/{number}.dcm",
            sha256=str(number).ljust(64, "a"),
            size_bytes=10,
            door="C-STORE",
            calling_ae_title=fields.get("source", "PACS"),
            received_at=NOW - timedelta(minutes=minutes),
        )
    )  # fmt: skip
    if priority is None:
        return
    record = refuse(RefusalCode.ROTATED, "it is upside down")
    if priority is not Priority.NOT_ANALYSED:
        findings = tuple(flagged(label, priority) for label in labels)
        record = record.model_copy(
            update={
                "status": "analysed", "code": None, "priority": priority, "findings": findings,
            }
        )  # fmt: skip
    assert store.record_result(recorded.instance_id, record)


@pytest.fixture
def filled(store: Store) -> Store:
    add(store, 1, "Nguyễn^Văn Ân", Priority.ROUTINE, institution_name="Trạm y tế Hòa Bình")
    add(store, 2, "Đặng^Thị Ước", Priority.CRITICAL, "Effusion", "Mass", minutes=31)
    add(store, 3, "Tran^An Nguyen", Priority.URGENT, "Effusion", minutes=29, modality="CR")
    add(store, 4, 'O\'Brien^"Bob"=欧文', Priority.NOT_ANALYSED, minutes=5)
    add(store, 5, "Le^50%_off", None, minutes=1)
    return store


def found(store: Store, **filters: object) -> list[str]:
    page = read_worklist(
        store, LOADED, filters=Filters(**filters), targets=TARGETS, now=NOW, reader="hanh"
    )  # type: ignore[arg-type]
    assert page.total == len(page.studies)
    assert page.everything == 5
    return [study.study_instance_uid.removeprefix("1.2.") for study in page.studies]


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("nguyen an", ["3", "1"]),
        ("AN nguyễn", ["3", "1"]),
        ("ân văn", ["1"]),
        ("guyen", []),
        ("đang uoc", ["2"]),
        ("DANG", ["2"]),
        ("p-4", ["4"]),
        ("2026/3", ["3"]),
        ("o'br", ["4"]),
        ('"bob"', ["4"]),
        ("欧", ["4"]),
        ("'; DROP TABLE studies; --", []),
        ("%", []),
        ("_", []),
        ("50%_", ["5"]),
        ("\\", []),
        ("^^", []),
        ("  ", ["2", "3", "1", "4", "5"]),
        ("a\x00n", ["3", "1"]),
    ],
)
def test_a_search_finds_words_by_their_beginnings_without_diacritics(
    filled: Store, text: str, numbers: list[str]
) -> None:
    assert found(filled, text=text) == numbers


@pytest.mark.parametrize(
    ("filters", "numbers"),
    [
        ({"priority": Priority.URGENT}, ["3"]),
        ({"finding": "Effusion"}, ["2", "3"]),
        ({"finding": "Mass"}, ["2"]),
        ({"finding": "Hernia"}, []),
        ({"status": Status.WAITING}, ["5"]),
        ({"status": Status.REFUSED}, ["4"]),
        ({"status": Status.OVERDUE}, ["2"]),
        ({"status": Status.READ}, []),
        ({"institution": "Trạm y tế Hòa Bình"}, ["1"]),
        ({"source": "PACS", "modality": "CR"}, ["3"]),
        ({"patient_id": "P-1"}, ["1"]),
        ({"received_from": NOW - timedelta(minutes=29)}, ["3", "1", "4", "5"]),
        ({"received_to": NOW - timedelta(minutes=29)}, ["2"]),
        ({"finding": "Effusion", "text": "tran", "priority": Priority.CRITICAL}, []),
    ],
)
def test_each_filter_leaves_what_it_asks_for(
    filled: Store, filters: dict[str, object], numbers: list[str]
) -> None:
    assert found(filled, **filters) == numbers


def test_counts_follow_the_other_filters_and_say_what_is_hidden(filled: Store) -> None:
    with filled.writing() as session:
        study = session.scalars(select(Study).where(Study.patient_id == "P-3")).one()
        study.read_at, study.read_by = NOW, "hanh"
        taken = session.scalars(select(Study).where(Study.patient_id == "P-1")).one()
        taken.assigned_to, taken.assigned_at = "hanh", NOW
        taken.being_read_by, taken.being_read_until = "hanh", NOW + timedelta(seconds=1)
    page = read_worklist(
        filled, LOADED, filters=Filters(status=Status.UNREAD, priority=Priority.CRITICAL),
        targets=TARGETS, reader="hanh", now=NOW,
    )  # fmt: skip
    assert (page.total, page.everything, len(page.studies)) == (1, 5, 1)
    # Of every priority, among the unread: what a click on it would show.
    assert page.counts == {"CRITICAL": 1, "URGENT": 0, "ROUTINE": 1, "NOT_ANALYSED": 2}
    assert page.statuses == {
        "unread": 1, "waiting": 0, "refused": 0, "overdue": 1, "being_read": 0, "mine": 0,
        "read": 0, "all": 1,
    }  # fmt: skip
    effusions = read_worklist(filled, LOADED, filters=Filters(finding="Effusion"), now=NOW)
    assert effusions.statuses["read"] == effusions.statuses["unread"] == 1
    assert effusions.everything == 5
    assert found(filled, status=Status.MINE) == found(filled, status=Status.BEING_READ) == ["1"]


def test_a_row_says_its_target_marks_and_what_is_uncertain(filled: Store) -> None:
    with filled.writing() as session:
        study = session.scalars(select(Study).where(Study.patient_id == "P-2")).one()
        study.assigned_to, study.assigned_name, study.assigned_at = "hanh", "BS. Hạnh", NOW
        study.being_read_by, study.being_read_until = "minh", NOW  # run out just now
    rows = read_rows(filled, LOADED, ["1.2.2", "1.2.3", "9.9"], targets=TARGETS, now=NOW)
    critical, urgent = sorted(rows, key=lambda row: row.reading_order)
    assert (critical.target_seconds, critical.overdue, urgent.overdue) == (1800, True, False)
    assert critical.assigned is not None
    assert (critical.assigned.account, critical.assigned.name) == ("hanh", "BS. Hạnh")
    assert critical.being_read is None
    assert [flag.uncertain for flag in critical.flags] == [True, True]
    assert urgent.modalities == ("CR",)


def test_what_there_is_to_filter_by_is_told(filled: Store) -> None:
    choices = read_choices(filled)
    assert choices.findings == ("Effusion", "Mass")
    assert choices.institutions == ("Trạm y tế Hòa Bình",)
    assert (choices.sources, choices.modalities) == (("PACS",), ("CR", "DX"))
