"""What threads write at the same time is committed together, and nobody hears of it before."""

import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine, ExceptionContext, event, text
from sqlalchemy.exc import IntegrityError, OperationalError

from tests.inference.conftest import Until
from tests.inference.test_store import analysed, arrival
from vigil.triage import Priority
from vigil_inference import commits
from vigil_inference import database as database_module
from vigil_inference.commits import Commits
from vigil_inference.database import QUICK, WRITING, create_store_engine
from vigil_inference.leases import Leases
from vigil_inference.picture_queue import PictureQueue
from vigil_inference.store import Store


class Database:
    """A table of numbers, and a turn that the test may hold."""

    def __init__(self, folder: Path) -> None:
        self.engine = create_store_engine(f"sqlite:///{folder / 'numbers.sqlite3'}")
        writer = self.engine.execution_options(**{WRITING: True})
        self.turn = threading.Lock()
        self.commits = Commits(writer, writer.execution_options(**{QUICK: True}), self.turn)
        with writer.begin() as connection:
            connection.execute(text("CREATE TABLE numbers (n INTEGER PRIMARY KEY)"))
        self.levels = levels_of_commits(self.engine)

    def add(self, number: int) -> int:
        def work(connection: Connection) -> int:
            connection.execute(text("INSERT INTO numbers VALUES (:n)"), {"n": number})
            return -number

        return self.commits.make(work)

    def numbers(self) -> list[int]:
        with self.engine.connect() as connection:
            return list(connection.scalars(text("SELECT n FROM numbers ORDER BY n")))


def levels_of_commits(engine: Engine) -> list[int]:
    """Return a list that takes SQLite's ``synchronous`` of each commit to come."""
    levels: list[int] = []

    @event.listens_for(engine, "commit")
    def _note(connection: Connection) -> None:
        levels.append(connection.exec_driver_sql("PRAGMA synchronous").scalar_one())

    return levels


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(tmp_path)
    yield database
    database.engine.dispose()


def begin(pool: ThreadPoolExecutor, database: Database, numbers: list[int]) -> list[Future[int]]:
    return [pool.submit(database.add, number) for number in numbers]


def test_what_waits_for_its_turn_is_one_commit(database: Database, until: Until) -> None:
    with ThreadPoolExecutor(8) as pool:
        with database.turn:
            added = begin(pool, database, [1, 2, 3, 4])
            until(lambda: len(database.commits._waiting) == 4)
            assert not any(one.done() for one in added)
        assert [one.result(30) for one in added] == [-1, -2, -3, -4]
    assert database.numbers() == [1, 2, 3, 4]
    assert len(database.levels) == 1


def test_one_that_fails_takes_no_other_with_it(database: Database, until: Until) -> None:
    database.add(7)
    with ThreadPoolExecutor(8) as pool:
        with database.turn:
            added = begin(pool, database, [1, 7, 2])
            until(lambda: len(database.commits._waiting) == 3)
        assert added[0].result(30) == -1
        assert isinstance(added[1].exception(30), IntegrityError)
        assert added[2].result(30) == -2
    assert database.numbers() == [1, 2, 7]


def test_what_waited_in_vain_is_not_written_later(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commits, "BUSY_TIMEOUT_SECONDS", 0.05)
    with database.turn, pytest.raises(TimeoutError):
        database.add(1)
    database.add(2)
    assert database.numbers() == [2]


def test_a_commit_that_fails_is_told_to_all_who_were_part_of_it(
    database: Database, until: Until
) -> None:
    columns = "n INTEGER REFERENCES numbers (n) DEFERRABLE INITIALLY DEFERRED"
    with database.engine.begin() as connection:
        connection.execute(text(f"CREATE TABLE later ({columns})"))

    def dangling(connection: Connection) -> None:
        connection.execute(text("INSERT INTO later VALUES (99)"))

    with ThreadPoolExecutor(8) as pool:
        with database.turn:
            added = begin(pool, database, [1])
            failing = pool.submit(database.commits.make, dangling)
            until(lambda: len(database.commits._waiting) == 2)
        assert isinstance(added[0].exception(30), IntegrityError)
        assert isinstance(failing.exception(30), IntegrityError)
    assert database.numbers() == []


def test_a_database_that_another_process_holds_is_waited_for_once_for_all(
    tmp_path: Path, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "BUSY_TIMEOUT_SECONDS", 0.1)
    database = Database(tmp_path)
    failed: list[ExceptionContext] = []
    event.listen(database.engine, "handle_error", failed.append)
    with (
        closing(sqlite3.connect(tmp_path / "numbers.sqlite3", isolation_level=None)) as other,
        ThreadPoolExecutor(8) as pool,
    ):
        other.execute("BEGIN IMMEDIATE")
        with database.turn:
            added = begin(pool, database, [1, 2, 3])
            until(lambda: len(database.commits._waiting) == 3)
        assert all(isinstance(one.exception(30), OperationalError) for one in added)
    assert len(failed) == 1
    assert database.numbers() == []
    database.engine.dispose()


def test_arrivals_and_results_wait_for_the_disk_and_a_claim_does_not(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 'vigil.sqlite3'}")
    levels = levels_of_commits(store.engine)
    store.add(arrival("1.2.3"))
    store.add(arrival("1.2.4"))
    queue = PictureQueue(store, Leases(store))
    # The first claim of a process is kept: one that takes the machine down is known the next time.
    assert queue.claim() is not None
    claim = queue.claim()
    assert claim is not None
    store.record_result(claim.task.instance_id, analysed(Priority.URGENT), claim.lease.token)
    full, normal = 2, 1
    assert levels == [full, full, full, normal, full]
    store.close()
