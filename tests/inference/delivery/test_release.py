"""When a study's results are released, and where they go."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset, dcmread
from sqlalchemy import select, update

from tests.inference.conftest import FakeModel, MakeFile, Until
from tests.inference.delivery.conftest import QUICK, Site
from vigil.triage import Priority
from vigil_inference.access.account import Account
from vigil_inference.access.roles import Role
from vigil_inference.delivery.desk import Selection
from vigil_inference.delivery.states import DeliveryState
from vigil_inference.delivery.tables import ResultObject
from vigil_inference.intake import Source
from vigil_inference.service import Service
from vigil_inference.settings import Settings
from vigil_inference.tables import Study

StartSite = Callable[..., Site]


@pytest.fixture
def share(tmp_path: Path) -> Path:
    folder = tmp_path / "share"
    folder.mkdir()
    return folder


def to(folder: Path) -> dict[str, Any]:
    return {"name": "share", "kind": "folder", "path": str(folder), "objects": ["report"]}


def reports(folder: Path) -> list[Dataset]:
    found = [dcmread(path) for path in folder.glob("*.dcm")]
    return sorted(found, key=lambda report: report.InstanceNumber)


def comments(report: Dataset) -> str:
    return " ".join(str(item.TextValue) for item in _items(report) if item.ValueType == "TEXT")


def _items(item: Dataset) -> list[Dataset]:
    children = list(item.get("ContentSequence", ()))
    return children + [deeper for child in children for deeper in _items(child)]


def test_a_study_is_released_once_it_is_quiet_and_each_picture_starts_the_wait_anew(
    start_site: StartSite, share: Path
) -> None:
    site = start_site(to(share), result_quiet_seconds=4)
    study = site.receive("0.95")
    time.sleep(2)
    last = time.monotonic()
    site.receive("0.1", StudyInstanceUID=study)
    site.wait_for("DELIVERED")
    assert time.monotonic() - last >= 4
    [report] = reports(share)
    [evidence] = report.CurrentRequestedProcedureEvidenceSequence
    assert sum(len(s.ReferencedSOPSequence) for s in evidence.ReferencedSeriesSequence) == 2


def test_an_error_that_nobody_expected_does_not_end_the_releasing(
    start_site: StartSite, share: Path, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = start_site(to(share))
    met = []

    def fail() -> None:
        met.append(1)
        raise RuntimeError("a bug")

    with monkeypatch.context() as patch:
        patch.setattr(site.service.delivery._release, "due", fail)
        until(lambda: met)
    site.receive("0.95")
    site.wait_for("DELIVERED")


def test_where_an_earlier_report_went_its_correction_goes_whatever_the_rules_say_by_then(
    start_site: StartSite, share: Path
) -> None:
    rules = [{"to": ["share"], "priorities": ["NOT_ANALYSED"]}]
    site = start_site(to(share), delivery_rules=rules)
    site.receive("0.6")
    study = site.receive("NOT_CHEST")
    site.wait_for("DELIVERED", study=study)
    site.receive("0.6", StudyInstanceUID=study)
    site.wait_for("DELIVERED", "DELIVERED")
    first, second = reports(share)
    assert {first.StudyInstanceUID, second.StudyInstanceUID} == {study}
    [named] = second.PredecessorDocumentsSequence
    [document] = named.ReferencedSeriesSequence[0].ReferencedSOPSequence
    assert document.ReferencedSOPInstanceUID == first.SOPInstanceUID
    assert "URGENT" in comments(second)


def test_a_study_that_is_raised_by_hand_goes_where_its_new_priority_sends_it(
    start_site: StartSite, share: Path, tmp_path: Path
) -> None:
    for name in ("critical", "urgent"):
        (tmp_path / name).mkdir()
    folders = [to(share), to(tmp_path / "critical"), to(tmp_path / "urgent")]
    for folder, name in zip(folders, ("share", "critical", "urgent"), strict=True):
        folder["name"] = name
    rules = [
        {"to": ["share"], "priorities": ["ROUTINE"]},
        {"to": ["urgent"], "priorities": ["URGENT"]},
        {"to": ["critical"], "priorities": ["CRITICAL"]},
    ]
    site = start_site(*folders, delivery_rules=rules)
    study = site.receive("0.1")
    site.wait_for("DELIVERED", study=study)
    reader = Account("hanh", "BS. Hạnh", frozenset({Role.RADIOLOGIST}))
    book = site.service.readings
    book.raise_by_hand(study, reader, "1", Priority.CRITICAL, "khó thở nặng")
    rows = site.wait_for("DELIVERED", "DELIVERED", study=study)
    assert [(row.destination, row.release) for row in rows] == [("share", 1), ("critical", 2)]
    # The same object, for the pictures and what the model says of them are the same.
    [before], [after] = list(share.glob("*.dcm")), list((tmp_path / "critical").glob("*.dcm"))
    assert before.read_bytes() == after.read_bytes()
    # What comes later corrects it in both places.
    site.receive("0.1", StudyInstanceUID=study)
    site.wait_for(*["DELIVERED"] * 4, study=study)
    for folder in (share, tmp_path / "critical"):
        first, second = reports(folder)
        [named] = second.PredecessorDocumentsSequence
        [document] = named.ReferencedSeriesSequence[0].ReferencedSOPSequence
        assert document.ReferencedSOPInstanceUID == first.SOPInstanceUID
    assert list((tmp_path / "urgent").iterdir()) == []


def test_what_was_removed_goes_nowhere_when_the_study_is_raised_and_holds_nothing_up(
    start_site: StartSite, share: Path, tmp_path: Path
) -> None:
    critical = to(tmp_path / "critical") | {"name": "critical"}
    (tmp_path / "critical").mkdir()
    rules = [
        {"to": ["share"], "priorities": ["ROUTINE"]},
        {"to": ["critical"], "priorities": ["CRITICAL"]},
    ]
    site = start_site(to(share), critical, delivery_rules=rules)
    study = site.receive("0.1")
    site.wait_for("DELIVERED", study=study)
    with site.service.store.writing() as session:
        session.execute(
            update(ResultObject).values(removed_at=site.service.store.now(), removal_reason="old")
        )
    reader = Account("hanh", "BS. Hạnh", frozenset({Role.RADIOLOGIST}))
    site.service.readings.raise_by_hand(study, reader, "1", Priority.CRITICAL, "khó thở nặng")

    def is_settled() -> bool:
        with site.service.store.reading() as session:
            row = session.scalars(select(Study)).one()
            assert row.release_problem == ""  # which would keep retention from the study for good
            return row.release_due_at is None

    site.wait_until(is_settled)
    [row] = site.wait_for("DELIVERED", study=study)
    assert row.destination == "share"
    with site.service.store.reading() as session:
        assert session.scalars(select(ResultObject.removed_at)).one() is not None


def test_a_study_that_no_rule_sent_is_sent_once_it_is_raised(
    start_site: StartSite, share: Path
) -> None:
    rules = [{"to": ["share"], "priorities": ["CRITICAL"]}]
    site = start_site(to(share), delivery_rules=rules)
    study = site.receive("0.1")

    def is_settled() -> bool:
        with site.service.store.reading() as session:
            row = session.scalars(select(Study)).one()
            return row.state == "analysed" and row.release_due_at is None

    site.wait_until(is_settled)
    reader = Account("hanh", "BS. Hạnh", frozenset({Role.RADIOLOGIST}))
    site.service.readings.raise_by_hand(study, reader, "1", Priority.CRITICAL, "khó thở")
    [row] = site.wait_for("DELIVERED")
    assert (row.study_instance_uid, row.destination) == (study, "share")


def test_a_study_that_the_program_failed_on_has_a_report_that_says_so(
    start_site: StartSite, share: Path
) -> None:
    site = start_site(to(share))
    site.receive("CRASH")
    site.wait_for("DELIVERED")
    [report] = reports(share)
    assert "INTERNAL_ERROR" in comments(report)


def test_what_no_rule_sends_is_not_built_and_a_later_destination_gets_no_old_study(
    start_site: StartSite, share: Path
) -> None:
    site = start_site()
    study = site.receive("0.95")

    def is_settled() -> bool:
        with site.service.store.reading() as session:
            row = session.scalars(select(Study)).one()
            return row.state == "analysed" and row.release_due_at is None

    site.wait_until(is_settled)
    assert not (site.service.settings.data_dir / "results").exists()
    site.service.stop()
    again = start_site(to(share))
    again.receive("0.95")
    [row] = again.wait_for("DELIVERED")
    assert row.study_instance_uid != study


def test_the_critical_study_that_came_last_is_released_and_sent_first(
    tmp_path: Path, share: Path, make_file: MakeFile, until: Until
) -> None:
    values = QUICK | {"data_dir": tmp_path / "var", "destinations": [to(share)]}
    service = Service(Settings(**values), FakeModel())
    wishes = ["0.1", "0.1", "0.7", "0.1", "0.95"]
    studies = [
        service.intake.accept(make_file(wish), Source("C-STORE")).study_instance_uid
        for wish in wishes
    ]
    service.analysis.start()
    until(lambda: not service.store.waiting())
    service.delivery.start()
    desk = service.delivery.desk
    until(lambda: desk.counts(Selection()) == {DeliveryState.DELIVERED: 5})
    rows = desk.rows(Selection(), limit=5)
    service.stop()
    expected = [studies[4], studies[2], studies[0], studies[1], studies[3]]
    for moment in ("created_at", "sent_at"):
        ordered = sorted(rows, key=lambda row: getattr(row, moment))
        assert [row.study_instance_uid for row in ordered] == expected, moment


def test_results_that_come_back_call_forth_no_others(start_site: StartSite, share: Path) -> None:
    site = start_site(to(share))
    study = site.receive("0.95")
    site.wait_for("DELIVERED")
    site.receive("NOT_RADIOGRAPH", StudyInstanceUID=study, Modality="SR")
    site.receive("DERIVED", StudyInstanceUID=study, Modality="OT", Manufacturer="Vigil")
    # Released after whatever these have set off.
    site.receive("0.95")
    site.wait_for("DELIVERED", "DELIVERED")
    assert [row.release for row in site.deliveries(study)] == [1]
    later = site.receive("0.1", StudyInstanceUID=study)
    site.wait_for("DELIVERED", "DELIVERED", study=later)
    [evidence] = reports(share)[-1].CurrentRequestedProcedureEvidenceSequence
    named = [item for s in evidence.ReferencedSeriesSequence for item in s.ReferencedSOPSequence]
    assert len(named) == 2


def test_a_study_that_holds_only_others_reports_has_none_of_ours(
    start_site: StartSite, share: Path
) -> None:
    site = start_site(to(share))
    only_reports = site.receive("NOT_RADIOGRAPH", Modality="SR")
    site.receive("0.95")
    site.wait_for("DELIVERED")
    assert site.deliveries(only_reports) == []


@pytest.mark.parametrize(
    ("setting", "wish", "words"),
    [
        ("result_refusals", "NOT_CHEST", "NOT_CHEST"),
        ("result_negatives", "0.1", "ROUTINE"),
    ],
)
@pytest.mark.parametrize("is_wanted", [True, False])
def test_a_study_without_a_flag_is_reported_where_the_site_wants_it(
    start_site: StartSite, share: Path, setting: str, wish: str, words: str, is_wanted: bool
) -> None:
    site = start_site(to(share), **{setting: is_wanted})
    study = site.receive(wish)
    flagged = site.receive("0.95")
    site.wait_for(*["DELIVERED"] * (1 + is_wanted))
    assert len(site.deliveries(flagged)) == 1
    assert len(site.deliveries(study)) == is_wanted
    found = [report for report in reports(share) if report.StudyInstanceUID == study]
    assert [words in comments(report) for report in found] == [True] * is_wanted
