"""Two real nodes on one PostgreSQL and one folder; one is killed in the middle of its work."""

import json
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from tests.postgresql import new_database
from tests.system.peers import HOST, VIGIL, Program, Vigil, wait_until
from tests.system.test_restart import Sender

LEASE_SECONDS = 5


class Site:
    """A database, a folder, and the nodes that share them."""

    def __init__(self, folder: Path, database: str, bundle: Path) -> None:
        self.folder, self.database, self.bundle = folder, database, bundle
        self.results = folder / "results-there"
        self.results.mkdir()
        destination = {"name": "share", "kind": "folder", "path": str(self.results)}
        self.environment = {
            "VIGIL_LEASE_SECONDS": str(LEASE_SECONDS),
            "VIGIL_RESULT_QUIET_SECONDS": "1",
            "VIGIL_DICOM_HOST": HOST,
            "VIGIL_DESTINATIONS": json.dumps([destination]),
        }
        self.programs: list[Program] = []

    def _settings(self, name: str) -> dict[str, str]:
        """What a node is told; by its name PostgreSQL knows its sessions."""
        return self.environment | {"VIGIL_DATABASE_URL": f"{self.database}?application_name={name}"}

    def serve(self, name: str) -> Vigil:
        vigil = Vigil(self.folder, self.bundle).start(**self._settings(name))
        assert vigil.program is not None
        self.programs.append(vigil.program)
        return vigil

    def work(self, name: str) -> Program:
        command = [str(VIGIL), "worker", "--data-dir", str(self.folder / "data")]
        environment = self._settings(name) | {"VIGIL_BUNDLE": str(self.bundle)}
        self.programs.append(Program(command, self.folder / "worker.log", **environment))
        return self.programs[-1]

    def ask(self, query: str) -> list[tuple[object, ...]]:
        with psycopg.connect(self.database) as connection:
            return connection.execute(query).fetchall()

    def node_of(self, program: Program) -> str | None:
        found = self.ask(f"SELECT id FROM nodes WHERE process_id = {program.process.pid}")
        return str(found[0][0]) if found else None

    @contextmanager
    def no_finding_is_written(self) -> Iterator[None]:
        """Keep every node waiting where it writes a finding, as an index that is built does."""
        with psycopg.connect(self.database) as connection:
            connection.execute("LOCK TABLE study_findings IN SHARE MODE")
            yield

    def kill_in_mid_work(self, program: Program, name: str) -> list[str]:
        """Kill a node while pictures are in its hands; return which ones."""
        node = wait_until(lambda: self.node_of(program), "the node has told of itself")
        held = (
            "SELECT sop_instance_uid FROM instances "
            f"WHERE state = 'received' AND owner LIKE '{node}%'"
        )
        wait_until(lambda: self.ask(held), "the node has pictures in work")
        program.stop(signal.SIGKILL)
        # What it had asked the database for before it died is done when its sessions have ended;
        # what waits to write a finding will never be committed.
        sessions = (
            f"SELECT 1 FROM pg_stat_activity WHERE application_name = '{name}' "
            "AND wait_event_type IS DISTINCT FROM 'Lock'"
        )
        wait_until(lambda: not self.ask(sessions), "the killed node's sessions have ended")
        found = self.ask(held)
        assert found, "what it holds cannot be finished while no finding is written"
        return [str(row[0]) for row in found]


@pytest.fixture
def site(tmp_path: Path, stand_in_bundle: Path) -> Iterator[Site]:
    with new_database() as database:
        site = Site(tmp_path, database, stand_in_bundle)
        yield site
        for program in site.programs:
            program.stop()


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["serve", "worker"])
def test_what_a_killed_node_had_in_work_is_answered_and_delivered_once_by_another(
    site: Site, phantom_file: Callable[..., Path], victim: str
) -> None:
    door = site.serve("door")
    other = site.serve("other") if victim == "serve" else site.work("other")
    program, name = (door.program, "door") if victim == "serve" else (other, "other")
    assert isinstance(program, Program)
    wait_until(lambda: len(site.ask("SELECT 1 FROM nodes WHERE problem = ''")) == 2, "both work")
    paths = [phantom_file(seed, "effusion", size=(1024, 1024)) for seed in range(10)]
    with site.no_finding_is_written():
        sender = Sender(door.dicom_port, paths)
        held = site.kill_in_mid_work(program, name)
    killed_at = time.monotonic()
    acknowledged = sender.wait()
    assert set(held) <= {str(row[0]) for row in site.ask("SELECT sop_instance_uid FROM instances")}

    left = f"SELECT 1 FROM instances WHERE state = 'received' AND sop_instance_uid = '{held[0]}'"
    wait_until(lambda: not site.ask(left), "the picture in work is answered", 60)
    assert time.monotonic() - killed_at < 60
    reader = other if isinstance(other, Vigil) else door
    instances = reader.wait_for(len(set(acknowledged) | set(held)))
    assert set(acknowledged) | set(held) <= set(instances)
    assert {instance["state"] for instance in instances.values()} == {"analysed"}
    attempts = dict(site.ask("SELECT sop_instance_uid, attempts FROM instances"))
    assert {attempts.pop(uid) for uid in held} == {2}
    assert set(attempts.values()) <= {1}

    undelivered = (
        "SELECT 1 FROM studies WHERE release_due_at IS NOT NULL UNION ALL "
        "SELECT 1 FROM deliveries WHERE state <> 'DELIVERED'"
    )
    wait_until(lambda: not site.ask(undelivered), "everything is delivered")
    sent = site.ask("SELECT subject, attempts FROM deliveries")
    reports = site.ask("SELECT count(*) FROM result_objects WHERE kind = 'report'")
    assert len({subject for subject, _ in sent}) == len(sent) >= len(instances)
    assert reports == [(len(instances),)]  # one a study, and no second release
    assert {count for _, count in sent} <= {1, 2}  # 2 where the killed node was at it
    assert len(list(site.results.rglob("*.dcm"))) == len(sent)


def test_a_worker_stops_in_order_and_takes_leave(site: Site) -> None:
    site.serve("door")
    worker = site.work("worker")
    wait_until(lambda: site.node_of(worker), "the worker has told of itself")
    assert len(site.ask("SELECT 1 FROM nodes")) == 2
    assert worker.stop(signal.SIGTERM) == 0
    assert len(site.ask("SELECT 1 FROM nodes")) == 1


def test_a_worker_without_a_shared_database_is_refused(tmp_path: Path) -> None:
    command = [str(VIGIL), "worker", "--data-dir", str(tmp_path / "data")]
    program = Program(command, tmp_path / "log")
    assert program.process.wait(60) != 0
    assert "expected postgresql://" in (tmp_path / "log").read_text()
