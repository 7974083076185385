from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import update

from tests.inference.conftest import MakeFile, Until
from vigil.triage import Priority
from vigil_inference.analysis import ModelStatus
from vigil_inference.intake import Source
from vigil_inference.service import Service
from vigil_inference.tables import Study
from vigil_inference.worklist import age_of, display_name, read_study, read_worklist

LOADED = ModelStatus(True, "", "fake", "d" * 64)
MISSING = ModelStatus(False, "no model bundle was found")
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


@pytest.fixture
def fill(service: Service, make_file: MakeFile, until: Until):
    """Take pictures, one study each, a minute apart, and let them be analysed."""

    def run(*wishes: str) -> list[str]:
        uids = []
        for number, wish in enumerate(wishes):
            receipt = service.intake.accept(
                make_file(wish, PatientID=f"P{number}"), Source("FOLDER")
            )
            uids.append(receipt.study_instance_uid)
            with service.store.writing() as session:
                session.execute(
                    update(Study)
                    .where(Study.study_instance_uid == receipt.study_instance_uid)
                    .values(received_at=NOW - timedelta(minutes=60 - number))
                )
        service.start()
        until(lambda: not service.store.waiting())
        service.stop()
        return uids

    return run


def patients(service: Service, **options: object) -> list[str]:
    page = read_worklist(service.store, LOADED, now=NOW, **options)  # type: ignore[arg-type]
    return [study.patient.id for study in page.studies]


def test_studies_are_ordered_by_priority_and_then_by_waiting_time(service: Service, fill) -> None:
    fill("0.1", "NOT_CHEST", "0.95", "0.6", "0.1", "0.99", "0.7")
    assert patients(service) == ["P2", "P5", "P3", "P6", "P0", "P1", "P4"]


def test_what_was_not_analysed_stands_among_the_routine_by_its_arrival(
    service: Service, fill
) -> None:
    fill("0.1", "NOT_FRONTAL", "0.2")
    page = read_worklist(service.store, LOADED, now=NOW)
    assert [study.priority for study in page.studies] == ["ROUTINE", "NOT_ANALYSED", "ROUTINE"]
    [refusal] = page.studies[1].refusals
    assert (refusal.code, refusal.reason, refusal.pictures) == (
        "NOT_FRONTAL",
        "refused as NOT_FRONTAL",
        1,
    )


def test_the_sites_own_order_is_one_option_away(service: Service, fill) -> None:
    fill("0.1", "0.95", "NOT_CHEST", "0.6")
    assert patients(service, order="arrival") == ["P0", "P1", "P2", "P3"]


def test_pages_hold_every_study_once(service: Service, fill) -> None:
    fill("0.1", "0.95", "0.6", "0.1", "0.7")
    pages = [patients(service, offset=offset, limit=2) for offset in (0, 2, 4)]
    assert [p for page in pages for p in page] == patients(service)
    page = read_worklist(service.store, LOADED, offset=4, limit=2)
    assert (page.total, len(page.studies)) == (5, 1)
    assert page.counts == {
        Priority.CRITICAL: 1,
        Priority.URGENT: 2,
        Priority.ROUTINE: 2,
        Priority.NOT_ANALYSED: 0,
    }


def test_a_row_says_who_why_and_how_long(service: Service, fill) -> None:
    fill("0.95")
    [study] = read_worklist(service.store, LOADED, now=NOW).studies
    assert (study.patient.display_name, study.patient.age) == ("Nguyễn Văn An", "045Y")
    assert study.waiting_seconds == 3600
    [flag] = study.flags
    assert (flag.label, flag.probability, flag.threshold, flag.priority) == (
        "Effusion",
        0.95,
        0.5,
        "CRITICAL",
    )
    assert study.reason == "Effusion 0.95 (threshold 0.90)"
    assert study.preview_sop_instance_uid is not None


def test_a_study_without_a_model_is_shown_as_waiting_for_one(
    service: Service, make_file: MakeFile
) -> None:
    receipt = service.intake.accept(make_file(), Source("FOLDER"))
    page = read_worklist(service.store, MISSING)
    service.store.close()
    assert (page.model.available, page.model.code) == (False, "MODEL_UNAVAILABLE")
    [study] = page.studies
    assert (study.state, study.pending) == ("received", 1)
    assert [refusal.code for refusal in study.refusals] == ["MODEL_UNAVAILABLE"]
    detail = read_study(service.store, MISSING, receipt.study_instance_uid, heat_maps=True)
    assert detail is not None
    assert detail.instances[0].code == "MODEL_UNAVAILABLE"


def test_a_later_picture_raises_a_study_and_a_lower_one_changes_nothing(
    service: Service, make_file: MakeFile, until: Until
) -> None:
    study = "1.2.3.4"
    service.start()
    seen = []
    for wish in ("0.6", "0.95", "0.1", "NOT_FRONTAL"):
        service.intake.accept(make_file(wish, StudyInstanceUID=study), Source("FOLDER"))
        until(lambda: not service.store.waiting())
        detail = read_study(service.store, LOADED, study, heat_maps=True)
        assert detail is not None
        seen.append(detail.priority)
    service.stop()
    assert seen == ["URGENT", "CRITICAL", "CRITICAL", "CRITICAL"]
    assert [flag.probability for flag in detail.flags] == [0.95]
    assert detail.reason == "Effusion 0.95 (threshold 0.90)"
    assert detail.preview_sop_instance_uid == detail.instances[1].sop_instance_uid
    assert [refusal.code for refusal in detail.refusals] == ["NOT_FRONTAL"]


def test_an_unknown_study_is_none(service: Service) -> None:
    assert read_study(service.store, LOADED, "1.2", heat_maps=True) is None
    service.store.close()


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("Nguyễn^Thị Ánh", "Nguyễn Thị Ánh"),
        ("Yamada^Tarou=山田^太郎=やまだ^たろう", "Yamada Tarou (山田 太郎)"),
        ("=山田^太郎", "山田 太郎"),
        ("Adams^John Robert Quincy^^Rev.^B.A. M.Div.", "Adams John Robert Quincy Rev. B.A. M.Div."),
        ("", ""),
    ],
)
def test_a_name_is_shown_for_reading(name: str, shown: str) -> None:
    assert display_name(name) == shown


@pytest.mark.parametrize(
    ("age", "born", "seen", "expected"),
    [
        ("045Y", "", "", "045Y"),
        ("", "19800601", "20260531", "045Y"),
        ("", "19800601", "20260601", "046Y"),
        ("", "20260110", "20260309", "001M"),
        ("", "20300101", "20260101", ""),
        ("", "nonsense", "20260101", ""),
        ("", "18000101", "20260101", ""),
    ],
)
def test_an_age_comes_from_the_birth_date_where_it_is_not_given(
    age: str, born: str, seen: str, expected: str
) -> None:
    assert age_of(age, born, seen) == expected
