from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import select, text

from tests.inference.conftest import FakeModel
from vigil.errors import RefusalCode
from vigil.triage import Priority
from vigil_inference.arrivals import Arrival, Outcome
from vigil_inference.database import (
    WRITING,
    _migrations,
    create_store_engine,
    migrate,
    normal_url,
)
from vigil_inference.headers import Header
from vigil_inference.records import AnalysisRecord, FindingRecord, refuse
from vigil_inference.store import Store
from vigil_inference.tables import Base, Instance, State, Study, StudyFinding


def arrival(sop: str, study: str = "1.2", sha256: str = "", **header: str) -> Arrival:
    return Arrival(
        Header("1.2.840", sop, study, **header),
        file_path=f"instances/{sop}.dcm",
        sha256=sha256 or sop.replace(".", "a").ljust(64, "0"),
        size_bytes=10,
        door="C-STORE",
        calling_ae_title="PACS",
        received_at=datetime(2026, 11, 21, 8, tzinfo=UTC),
    )


def analysed(priority: Priority) -> AnalysisRecord:
    return refuse(RefusalCode.NOT_CHEST, "").model_copy(
        update={"status": "analysed", "code": None, "priority": priority, "reason": "x"}
    )


def read_study(store: Store) -> Study:
    with store.reading() as session:
        return session.scalars(select(Study)).one()


def test_migrations_from_nothing_give_the_tables_that_the_code_expects(database: str) -> None:
    engine = create_store_engine(database)
    migrate(engine)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []
    migrate(engine)  # a second time changes nothing
    engine.dispose()


def test_sqlite_is_in_wal_mode_and_commits_survive_a_power_cut(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 'vigil.sqlite3'}")
    with store.engine.connect() as connection:
        assert connection.execute(text("PRAGMA journal_mode")).scalar() == "wal"
        assert connection.execute(text("PRAGMA synchronous")).scalar() == 2  # FULL
        assert connection.execute(text("PRAGMA foreign_keys")).scalar() == 1
        assert connection.execute(text("PRAGMA busy_timeout")).scalar() == 30000
    store.close()


def test_on_postgresql_commits_survive_a_power_cut_whatever_the_servers_default_says(
    postgresql: str,
) -> None:
    name = postgresql.rpartition("/")[2]
    with psycopg.connect(postgresql, autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {name} SET synchronous_commit = off")
    store = Store(postgresql)
    with store.engine.connect() as connection:
        assert connection.execute(text("SHOW synchronous_commit")).scalar() == "on"
        # What a node that lost its power had locked is free within the time of a lease.
        assert (
            connection.execute(text("SHOW idle_in_transaction_session_timeout")).scalar() == "20s"
        )
    store.close()


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("postgresql://u@h/d", "postgresql+psycopg://u@h/d"),
        (
            "postgres://u:p@h:5433/d?sslmode=require",
            "postgresql+psycopg://u:p@h:5433/d?sslmode=require",
        ),
        ("sqlite:////var/lib/vigil.db", "sqlite:////var/lib/vigil.db"),
    ],
)
def test_a_databases_url_is_taken_as_people_write_it(given: str, used: str) -> None:
    assert normal_url(given) == used


@pytest.mark.parametrize("url", ["mysql://u@h/d", "vigil.db", "postgresql+psycopg2://u@h/d"])
def test_a_url_of_another_database_is_an_error(url: str) -> None:
    with pytest.raises(ValueError, match="expected sqlite"):
        normal_url(url)


def test_two_nodes_that_start_at_once_make_one_schema(postgresql: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        for store in pool.map(lambda _: Store(postgresql), range(4)):
            store.close()


def test_two_nodes_that_record_the_same_study_at_once_make_one(database: str) -> None:
    stores = [Store(database) for _ in range(2)]
    jobs = [(stores[n % 2], arrival(f"1.2.{n // 4}.{n // 2}", f"1.2.{n // 4}")) for n in range(80)]
    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(lambda job: job[0].add(job[1]).outcome, jobs))
    assert outcomes.count(Outcome.NEW) == outcomes.count(Outcome.REPEATED) == 40
    with stores[0].reading() as session:
        assert len(session.scalars(select(Study)).all()) == 20
        assert len(session.scalars(select(Instance)).all()) == 40
    for store in stores:
        store.close()


def test_the_first_bytes_under_a_uid_are_kept(store: Store) -> None:
    first = store.add(arrival("1.2.3", sha256="a" * 64))
    again = store.add(arrival("1.2.3", sha256="a" * 64))
    other = store.add(arrival("1.2.3", sha256="b" * 64))
    elsewhere = store.add(arrival("1.2.3", study="1.9", sha256="c" * 64))
    assert [r.outcome for r in (first, again, other, elsewhere)] == [
        Outcome.NEW,
        Outcome.REPEATED,
        Outcome.DIFFERS,
        Outcome.OTHER_STUDY,
    ]
    assert {r.instance_id for r in (first, again, other, elsewhere)} == {first.instance_id}
    assert elsewhere.study_instance_uid == "1.2"
    with store.reading() as session:
        assert session.scalars(select(Instance.sha256)).all() == ["a" * 64]
        assert session.scalars(select(Study.study_instance_uid)).all() == ["1.2"]


@pytest.mark.parametrize(
    ("priorities", "expected"),
    [
        ([Priority.CRITICAL, Priority.ROUTINE], Priority.CRITICAL),
        ([Priority.ROUTINE, Priority.URGENT, Priority.ROUTINE], Priority.URGENT),
        ([Priority.ROUTINE], Priority.ROUTINE),
    ],
)
def test_a_priority_is_raised_and_never_lowered_by_a_later_picture(
    store: Store, priorities: list[Priority], expected: Priority
) -> None:
    for number, priority in enumerate(priorities):
        recorded = store.add(arrival(f"1.2.{number}"))
        assert store.record_result(recorded.instance_id, analysed(priority))
    study = read_study(store)
    assert study.priority is expected
    assert study.reading_order == expected.reading_order


def test_a_refused_picture_lowers_nothing_and_hides_nothing(store: Store) -> None:
    first, second = store.add(arrival("1.2.1")), store.add(arrival("1.2.2"))
    store.record_result(first.instance_id, analysed(Priority.URGENT))
    store.record_result(second.instance_id, refuse(RefusalCode.NOT_FRONTAL, "lateral"))
    assert read_study(store).priority is Priority.URGENT
    assert read_study(store).state == State.ANALYSED


def test_a_result_is_recorded_once(store: Store) -> None:
    recorded = store.add(arrival("1.2.1"))
    assert store.record_result(recorded.instance_id, analysed(Priority.URGENT))
    assert not store.record_result(recorded.instance_id, analysed(Priority.CRITICAL))
    assert read_study(store).priority is Priority.URGENT
    assert store.waiting() == []


def test_a_study_is_not_analysed_only_when_all_its_pictures_are_not(store: Store) -> None:
    first, second = store.add(arrival("1.2.1")), store.add(arrival("1.2.2"))
    store.record_result(first.instance_id, refuse(RefusalCode.NOT_CHEST, "hand"))
    assert read_study(store).state == State.RECEIVED
    store.record_result(second.instance_id, refuse(RefusalCode.NOT_CHEST, "hand"))
    assert read_study(store).state == State.NOT_ANALYSED
    store.add(arrival("1.2.3"))
    assert read_study(store).state == State.RECEIVED


def test_a_failed_transaction_leaves_nothing(store: Store) -> None:
    def fail() -> None:
        with store.writing() as session:
            session.add(Study(study_instance_uid="1.2", received_at=datetime.now(UTC)))
            session.flush()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    with store.reading() as session:
        assert session.scalars(select(Study)).all() == []
    assert store.add(arrival("1.2.1")).outcome is Outcome.NEW


def test_a_picture_of_another_patient_in_the_same_study_is_marked(store: Store) -> None:
    store.add(arrival("1.2.1", patient_id="P1", patient_name="Nguyễn^An"))
    assert not read_study(store).identity_conflict
    store.add(arrival("1.2.2", patient_id="P2", patient_name="Trần^Bình"))
    study = read_study(store)
    assert study.identity_conflict
    assert (study.patient_id, study.patient_name) == ("P1", "Nguyễn^An")


def test_the_stored_document_names_threshold_bundle_and_software(store: Store) -> None:
    assert FakeModel().manifest.findings[0].flag.threshold == 0.5
    recorded = store.add(arrival("1.2.1"))
    store.record_result(recorded.instance_id, analysed(Priority.ROUTINE))
    with store.reading() as session:
        instance = session.scalars(select(Instance)).one()
    assert AnalysisRecord.model_validate(instance.result) == analysed(Priority.ROUTINE)
    assert instance.analysed_at is not None
    assert instance.analysed_at.tzinfo is UTC
    assert instance.received_at == datetime(2026, 11, 21, 8, tzinfo=UTC)


def test_a_later_picture_makes_a_study_that_was_read_unread_again(store: Store) -> None:
    store.add(arrival("1.2.1"))
    with store.writing() as session:
        study = session.scalars(select(Study)).one()
        study.read_at, study.read_by = datetime(2026, 11, 21, 9, tzinfo=UTC), "hanh"
    assert store.add(arrival("1.2.1")).outcome is Outcome.REPEATED
    assert read_study(store).read_by == "hanh"
    store.add(arrival("1.2.2"))
    assert (read_study(store).read_at, read_study(store).read_by) == (None, "")


def test_flagged_findings_and_folded_names_are_kept_to_be_found_by(store: Store) -> None:
    flag = FindingRecord(
        key="Effusion:child", label="Effusion", probability=0.9, threshold=0.5,
        critical_threshold=None, sensitivity=None, specificity=None, flagged=True,
        priority=Priority.URGENT, experimental=False, withheld=None, has_map=False,
    )  # fmt: skip
    low = flag.model_copy(update={"label": "Mass", "flagged": False})
    record = analysed(Priority.URGENT).model_copy(update={"findings": (flag, low)})
    for sop in ("1.2.1", "1.2.2"):
        recorded = store.add(arrival(sop, patient_name="Nguyễn^Văn Ân", patient_id="P-1"))
        assert store.record_result(recorded.instance_id, record)
    with store.reading() as session:
        found = [(row.study_id, row.finding) for row in session.scalars(select(StudyFinding))]
    assert found == [(read_study(store).id, "Effusion")]
    assert read_study(store).search_text == " nguyen van an p-1 p 1"


def test_a_store_from_before_the_search_is_filled_when_it_is_opened(database: str) -> None:
    store = Store(database)
    recorded = store.add(arrival("1.2.1", patient_name="Đặng^Thị Ước", patient_id="P1"))
    flag = FindingRecord(
        key="Mass", label="Mass", probability=0.9, threshold=0.5, critical_threshold=None,
        sensitivity=None, specificity=None, flagged=True, priority=Priority.URGENT,
        experimental=False, withheld=None, has_map=False,
    )  # fmt: skip
    record = analysed(Priority.URGENT).model_copy(update={"findings": (flag,)})
    store.record_result(recorded.instance_id, record)
    config = _migrations()
    with store.engine.execution_options(**{WRITING: True}).begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0006")
    store.close()
    again = Store(database)
    assert read_study(again).search_text == " dang thi uoc p1"
    with again.reading() as session:
        assert session.scalars(select(StudyFinding.finding)).all() == ["Mass"]
    again.close()
