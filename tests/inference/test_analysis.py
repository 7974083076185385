import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest
from sqlalchemy import select, update
from sqlalchemy.exc import OperationalError

from tests.inference.conftest import FakeModel, MakeFile, Until
from vigil.errors import BundleError, RefusalCode
from vigil.triage import Priority
from vigil.triager import TriageResult
from vigil_inference import analysis as analysis_module
from vigil_inference.intake import Source
from vigil_inference.records import AnalysisRecord
from vigil_inference.service import Service
from vigil_inference.settings import Settings
from vigil_inference.tables import Instance

SOURCE = Source("FOLDER")


def rows(service: Service) -> list[Instance]:
    with service.store.reading() as session:
        return list(session.scalars(select(Instance).order_by(Instance.id)))


def all_done(service: Service) -> Callable[[], bool]:
    return lambda: all(row.state != "received" for row in rows(service))


def test_a_restart_goes_on_with_what_was_accepted_and_analyses_it_once(
    settings: Settings, model: FakeModel, make_file: MakeFile, until: Until
) -> None:
    first = Service(settings, model)
    for _ in range(3):
        first.intake.accept(make_file("0.7"), SOURCE)
    first.store.close()  # it never came to analysing, as after a power cut
    second = Service(settings, model)
    second.start()
    until(all_done(second))
    second.stop()
    third = Service(settings, model)
    third.start()
    time.sleep(0.2)
    third.stop()
    assert len(model.seen) == len(set(model.seen)) == 3
    fourth = Service(settings, model)
    assert [row.priority for row in rows(fourth)] == ["URGENT"] * 3
    fourth.store.close()


def test_an_error_that_nobody_expected_is_not_met_again_and_again_without_a_pause(
    service: Service, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(analysis_module, "_RETRY_SECONDS", 600.0)
    met: list[int] = []

    def fail(**_: object) -> NoReturn:
        met.append(threading.get_ident())
        raise RuntimeError("a bug")

    monkeypatch.setattr(service.analysis._queue, "claim", fail)
    service.start()
    until(lambda: len(set(met)) == len(service.analysis._threads))
    service.stop()  # which ends the pause
    assert len(met) == len(set(met))


def test_a_picture_that_a_stop_cannot_wait_for_is_handed_back_and_its_attempt_counts(
    settings: Settings, model: FakeModel, make_file: MakeFile, until: Until
) -> None:
    model.may_go_on.clear()
    service = Service(settings.model_copy(update={"stop_seconds": 0.1}), model)
    service.start()
    service.intake.accept(make_file("0.7"), SOURCE)
    until(lambda: model.seen)
    service.stop()
    again = Service(settings, model)
    [row] = rows(again)
    assert (row.state, row.owner, row.leased_until, row.attempts) == ("received", "", None, 1)
    model.may_go_on.set()
    for thread in service.analysis._threads:
        thread.join(60)
        assert not thread.is_alive()
    # What the old worker found after all is not its to say any more.
    [row] = rows(again)
    assert row.state == "received"
    service.store.close()
    again.store.close()


def test_a_stop_finishes_the_picture_in_work_and_leaves_the_others(
    settings: Settings, model: FakeModel, make_file: MakeFile, until: Until
) -> None:
    model.may_go_on.clear()
    service = Service(settings, model)
    for _ in range(3):
        service.intake.accept(make_file(), SOURCE)
    service.start()
    until(lambda: model.seen)
    stop = threading.Thread(target=service.stop)
    stop.start()
    until(service.analysis._stopping.is_set)
    model.may_go_on.set()
    stop.join()
    again = Service(settings, model)
    states = [row.state for row in rows(again)]
    again.store.close()
    assert states == ["analysed", "received", "received"]


def test_a_result_holds_findings_thresholds_and_what_is_withheld(
    service: Service, make_file: MakeFile, until: Until
) -> None:
    service.intake.accept(make_file("0.7"), SOURCE)
    service.start()
    until(all_done(service))
    [row] = rows(service)
    service.stop()
    record = AnalysisRecord.model_validate(row.result)
    effusion, mass = record.findings
    assert (effusion.label, effusion.probability, effusion.threshold) == ("Effusion", 0.7, 0.5)
    assert (effusion.critical_threshold, effusion.flagged) == (0.9, True)
    assert (effusion.sensitivity, effusion.specificity) == (0.9, 0.7)
    assert (mass.label, mass.probability, mass.experimental) == ("Mass", None, True)
    assert mass.withheld == "validated on patients of 15 years and over only"
    assert record.notes == ("the picture was inverted before it was analysed",)
    assert (record.bundle_id, record.bundle_digest) == ("fake", "d" * 64)
    assert record.age_years == 45


@pytest.mark.parametrize(("wish", "error"), [("CRASH", "RuntimeError"), ("PANIC", "_Panic")])
def test_a_crash_of_the_analysis_is_a_refusal_that_quotes_nothing(
    service: Service,
    make_file: MakeFile,
    until: Until,
    capsys: pytest.CaptureFixture[str],
    wish: str,
    error: str,
) -> None:
    service.intake.accept(make_file(wish), SOURCE)
    service.intake.accept(make_file("0.95"), SOURCE)
    service.start()
    until(all_done(service))
    crashed, fine = rows(service)
    service.stop()
    assert (crashed.state, crashed.code) == ("not_analysed", "INTERNAL_ERROR")
    assert crashed.reason == f"the analysis failed inside the program ({error})"
    assert fine.priority == "CRITICAL"
    assert "Nguyễn" not in "".join(capsys.readouterr())


def test_a_picture_that_took_the_process_down_too_often_is_refused_and_others_go_first(
    settings: Settings, model: FakeModel, make_file: MakeFile, until: Until
) -> None:
    service = Service(settings, model)
    bad = service.intake.accept(make_file("0.1"), SOURCE)
    with service.store.writing() as session:  # as often it was taken, and then the process died
        attempts = {"attempts": settings.analysis_attempts}
        session.execute(update(Instance).where(Instance.id == bad.instance_id).values(**attempts))
    service.intake.accept(make_file("0.1"), SOURCE)
    service.store.close()
    again = Service(settings, model)
    again.start()
    until(all_done(again))
    first, second = rows(again)
    again.stop()
    assert (first.code, second.state) == ("INTERNAL_ERROR", "analysed")
    assert model.seen == [second.sop_instance_uid]


def test_a_suspect_gets_its_turn_though_others_wait(
    settings: Settings, model: FakeModel, make_file: MakeFile, until: Until
) -> None:
    service = Service(settings, model)
    receipts = [service.intake.accept(make_file(), SOURCE) for _ in range(12)]
    suspect = receipts[0]
    with service.store.writing() as session:  # it was in work when a process ended
        session.get_one(Instance, suspect.instance_id).attempts = 1
    service.start()
    until(all_done(service))
    service.stop()
    assert model.seen.index(suspect.sop_instance_uid) == 7


def test_without_a_model_pictures_wait_and_are_analysed_when_it_comes(
    settings: Settings,
    model: FakeModel,
    make_file: MakeFile,
    until: Until,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    service = Service(settings.model_copy(update={"model_retry_seconds": 0.05}))
    monkeypatch.setattr(
        service.analysis, "_load_model", lambda: (_ for _ in ()).throw(BundleError("altered"))
    )
    service.start()
    service.intake.accept(make_file("0.95"), SOURCE)
    until(lambda: service.analysis.status.reason == "altered")
    assert service.checks()["model"] == "altered"
    assert rows(service)[0].state == "received"
    monkeypatch.setattr(service.analysis, "_load_model", lambda: model)
    until(all_done(service))
    assert service.checks()["model"] == "ok"
    assert rows(service)[0].priority == "CRITICAL"
    service.stop()


def test_a_bundle_that_is_missing_is_told_and_the_doors_stay_open(
    settings: Settings, tmp_path: Path, make_file: MakeFile, until: Until
) -> None:
    service = Service(settings.model_copy(update={"bundle": tmp_path / "none"}))
    service.start()
    until(lambda: "no bundle can be read" in service.analysis.status.reason)
    service.intake.accept(make_file(), SOURCE)
    assert service.listener.is_listening
    assert rows(service)[0].state == "received"
    service.stop()


def test_a_database_that_fails_for_a_moment_costs_no_result(
    service: Service,
    make_file: MakeFile,
    until: Until,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real, failures = service.store.record_result, [1]

    def once(*arguments: object) -> bool:
        if failures:
            failures.pop()
            raise OperationalError("UPDATE", {}, Exception("locked"))
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr("vigil_inference.analysis._RETRY_SECONDS", 0.05)
    monkeypatch.setattr(service.store, "record_result", once)
    service.intake.accept(make_file(), SOURCE)
    service.start()
    until(all_done(service))
    service.stop()
    assert failures == []


def test_a_database_that_fails_often_is_not_taken_for_a_picture_that_ends_the_program(
    service: Service, make_file: MakeFile, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, failures = service.store.record_result, [1] * 8

    def often(*arguments: object) -> bool:
        if failures:
            failures.pop()
            raise OperationalError("UPDATE", {}, Exception("locked"))
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr("vigil_inference.analysis._RETRY_SECONDS", 0.01)
    monkeypatch.setattr(service.store, "record_result", often)
    service.intake.accept(make_file("0.95"), SOURCE)
    service.start()
    until(all_done(service))
    service.stop()
    [row] = rows(service)
    assert (row.state, row.priority, row.attempts) == ("analysed", "CRITICAL", 1)


def test_an_original_that_cannot_be_opened_for_a_moment_is_put_off(
    service: Service,
    settings: Settings,
    make_file: MakeFile,
    until: Until,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("vigil_inference.analysis._RETRY_SECONDS", 0.3)
    service.intake.accept(make_file("0.95"), SOURCE)
    [original] = settings.data_dir.glob("instances/**/*.dcm")
    hidden = original.rename(original.with_suffix(".away"))
    service.start()
    time.sleep(0.2)
    hidden.rename(original)
    until(all_done(service))
    service.stop()
    assert rows(service)[0].priority == "CRITICAL"


def test_a_lost_original_that_is_sent_again_is_analysed_after_all(
    service: Service,
    settings: Settings,
    model: FakeModel,
    make_file: MakeFile,
    until: Until,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("vigil_inference.analysis._RETRY_SECONDS", 0.01)
    monkeypatch.setattr("vigil_inference.analysis._LOOK_SECONDS", 0.05)
    judge = model.triage

    def triage(path: Path) -> TriageResult:
        if path.exists():
            return judge(path)
        code = RefusalCode.FILE_UNREADABLE
        return TriageResult(
            status="not_analysed", code=code, reason="gone", priority=Priority.NOT_ANALYSED,
            bundle_id="fake", bundle_digest="d", milliseconds=1.0,
        )  # fmt: skip

    monkeypatch.setattr(model, "triage", triage)
    path = make_file("0.95")
    service.intake.accept(path, SOURCE)
    [original] = settings.data_dir.glob("instances/**/*.dcm")
    original.unlink()
    service.start()
    until(all_done(service))
    assert rows(service)[0].code == "FILE_UNREADABLE"
    service.intake.accept(path, SOURCE)
    until(lambda: rows(service)[0].state == "analysed")
    service.stop()
    assert (rows(service)[0].code, rows(service)[0].priority) == (None, "CRITICAL")


@pytest.mark.parametrize(
    "failure", [OSError(28, "No space left on device"), MemoryError("Nguyễn Văn An")]
)
def test_a_preview_that_cannot_be_stored_does_not_cost_the_result(
    service: Service,
    make_file: MakeFile,
    until: Until,
    monkeypatch: pytest.MonkeyPatch,
    failure: Exception,
) -> None:
    def full(*_: object) -> NoReturn:
        raise failure

    monkeypatch.setattr(service.pictures, "save", full)
    service.intake.accept(make_file("0.95"), SOURCE)
    service.start()
    until(all_done(service))
    [row] = rows(service)
    service.stop()
    assert (row.priority, row.has_preview) == ("CRITICAL", False)


@pytest.mark.parametrize("code", list(RefusalCode))
def test_every_refusal_code_fits_its_column(code: RefusalCode) -> None:
    assert len(code) <= 32
