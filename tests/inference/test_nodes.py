"""Several nodes on one PostgreSQL and one folder, in one process; see also tests/system."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from tests.inference.conftest import FakeModel, MakeFile, Until, serving
from tests.inference.test_analysis import all_done, rows
from tests.postgresql import unreachable
from vigil.errors import BundleError, StorageError
from vigil_inference.delivery.desk import DeliveryRow, Selection
from vigil_inference.delivery.release import Overtaken
from vigil_inference.events import Event, EventHub, Missed, StudyChanged
from vigil_inference.intake import Source
from vigil_inference.nodes import read_nodes
from vigil_inference.picture_queue import PictureQueue
from vigil_inference.service import Service
from vigil_inference.settings import Settings
from vigil_inference.tables import Instance

SOURCE = Source("FOLDER")


class Reader:
    """A browser's live stream, in a thread: what it was told."""

    def __init__(self, hub: EventHub) -> None:
        self.events: list[Event] = []
        self._hub = hub
        self._listening = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._read()), daemon=True)
        self._thread.start()
        assert self._listening.wait(60)

    async def _read(self) -> None:
        async with self._hub.listen() as events:
            self._listening.set()
            async for event in events:
                self.events.append(event)


@pytest.fixture
def start_node(
    tmp_path: Path, postgresql: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Service]]:
    """Start a node: ``start_node(model, has_doors=True, **settings)``."""
    monkeypatch.setattr("vigil_inference.analysis._RETRY_SECONDS", 0.1)
    started: list[Service] = []

    def start(model: FakeModel | None = None, *, has_doors: bool = True, **values: Any) -> Service:
        common: dict[str, Any] = {
            "data_dir": tmp_path / "shared",
            "database_url": postgresql,
            "dicom_host": "127.0.0.1",
            "dicom_port": 0,
            "storage_reserve_bytes": 0,
            "analysis_workers": 1,
            "lease_seconds": 20,
            "result_quiet_seconds": 0,
            "node_name": f"node-{len(started)}",
        }
        service = Service(Settings(**common | values), model or FakeModel(), has_doors=has_doors)
        service.start()
        started.append(service)
        return service

    yield start
    for service in started:
        service.stop()


def test_two_nodes_share_the_pictures_and_answer_each_once(
    start_node: Callable[..., Service], make_file: MakeFile, until: Until
) -> None:
    models = FakeModel(), FakeModel()
    for model in models:
        model.may_go_on.clear()
    door, worker = start_node(models[0]), start_node(models[1], has_doors=False)
    until(lambda: door.analysis.status.available and worker.analysis.status.available)
    for _ in range(12):
        door.intake.accept(make_file("0.7"), SOURCE)
    until(lambda: models[0].seen and models[1].seen)
    for model in models:
        model.may_go_on.set()
    until(all_done(door))
    seen = models[0].seen + models[1].seen
    assert len(seen) == len(set(seen)) == 12
    assert {row.attempts for row in rows(door)} == {1}


def test_what_one_node_receives_another_answers_at_once_and_readers_of_the_first_hear_of_it(
    start_node: Callable[..., Service],
    make_file: MakeFile,
    until: Until,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Were it not told, the worker would look an hour later.
    monkeypatch.setattr("vigil_inference.analysis._LOOK_SECONDS", 3600.0)
    monkeypatch.setattr(Service, "_load_model", no_model)
    door = start_node()
    monkeypatch.undo()
    worker = start_node(has_doors=False)
    until(lambda: worker.analysis.status.available)
    reader = Reader(door.hub)
    receipt = door.intake.accept(make_file("0.95"), SOURCE)
    until(all_done(door))
    told = StudyChanged(receipt.study_instance_uid)
    until(lambda: reader.events.count(told) == 2)  # received here, answered there
    assert rows(door)[0].priority == "CRITICAL"


def no_model(_service: Service) -> None:
    raise BundleError("this node has no bundle")


def test_a_silent_nodes_picture_is_taken_over_and_its_late_answer_is_not_taken(
    start_node: Callable[..., Service], make_file: MakeFile, until: Until
) -> None:
    door = start_node(lease_seconds=50)
    door.analysis.stop()
    receipt = door.intake.accept(make_file("0.95"), SOURCE)
    silent = PictureQueue(door.store, door.leases).claim()  # and then it hangs, unrenewed
    assert silent is not None
    with door.store.writing() as session:
        session.get_one(Instance, receipt.instance_id).leased_until = door.store.now()
    worker = start_node(has_doors=False)
    until(all_done(door))
    [row] = rows(door)
    assert (row.attempts, row.priority) == (2, "CRITICAL")
    record = worker.analysis._triage(FakeModel(), silent.task)
    assert not door.store.record_result(receipt.instance_id, record, silent.lease.token)


def test_work_that_lasts_longer_than_a_lease_is_not_taken_over(
    start_node: Callable[..., Service], make_file: MakeFile, until: Until
) -> None:
    slow, idle = FakeModel(), FakeModel()
    slow.pause_seconds = 5
    door = start_node(slow, lease_seconds=2)
    until(lambda: door.analysis.status.available)
    door.intake.accept(make_file("0.7"), SOURCE)
    until(lambda: slow.seen)
    start_node(idle, has_doors=False, lease_seconds=2)
    until(all_done(door))
    assert (len(slow.seen), idle.seen) == (1, [])
    assert rows(door)[0].attempts == 1


def test_a_node_on_another_folder_is_refused(
    start_node: Callable[..., Service], tmp_path: Path
) -> None:
    start_node()
    with pytest.raises(StorageError, match="is it mounted"):
        start_node(data_dir=tmp_path / "not mounted")
    other = tmp_path / "other"
    other.mkdir()
    (other / "installation-id").write_text("8d5f9c0e-4b57-4a39-9d5c-0a3f1f2b7c11\n")
    with pytest.raises(StorageError, match="belongs to another installation"):
        start_node(data_dir=other)


def test_each_node_tells_of_itself_until_it_stops_and_one_that_died_is_silent(
    start_node: Callable[..., Service], until: Until
) -> None:
    door, worker = start_node(lease_seconds=1), start_node(has_doors=False, lease_seconds=1)

    def ready() -> list[Any]:
        found = read_nodes(door.store, 30)
        return found if [node.problem for node in found] == ["", ""] else []

    first, second = until(ready)
    assert (first.name, first.kind, first.is_alive) == ("node-0", "serve", True)
    assert (second.name, second.kind, second.address) == ("node-1", "worker", "")
    assert (second.bundle_id, second.bundle_digest) == ("fake", "d" * 64)
    assert second.id == worker.store.node_id
    worker.heart._beats.stop()
    # Long enough for the living one not to miss it on a busy machine.
    until(lambda: [node.is_alive for node in read_nodes(door.store, 3)] == [True, False])
    worker.heart.stop()
    assert [node.name for node in read_nodes(door.store, 1)] == ["node-0"]


def test_a_database_that_goes_away_and_comes_back_costs_nothing(
    start_node: Callable[..., Service],
    make_file: MakeFile,
    until: Until,
    postgresql: str,
) -> None:
    model = FakeModel()
    model.pause_seconds = 0.5
    door = start_node(model, lease_seconds=1)
    until(lambda: door.analysis.status.available)
    reader = Reader(door.hub)
    receipts = [door.intake.accept(make_file("0.7"), SOURCE) for _ in range(3)]
    until(lambda: model.seen)
    refused = make_file("0.95")
    with unreachable(postgresql):
        with pytest.raises(StorageError):
            door.intake.accept(refused, SOURCE)
        time.sleep(2)  # longer than a lease, and than the picture in work takes
    until(lambda: len(answered(door)) == 3)
    assert model.seen == [receipt.sop_instance_uid for receipt in receipts]
    assert door.intake.accept(refused, SOURCE).outcome == "new"
    until(lambda: len(answered(door)) == 4)
    until(lambda: Missed() in reader.events)  # who may have missed something is told to look again


def answered(service: Service) -> list[str]:
    return [row.sop_instance_uid for row in rows(service) if row.state != "received"]


def test_two_nodes_deliver_each_result_once(
    start_node: Callable[..., Service], make_file: MakeFile, until: Until, tmp_path: Path
) -> None:
    place = tmp_path / "results"
    place.mkdir()
    destination = {"name": "share", "kind": "folder", "path": place}
    door = start_node(destinations=[destination])
    start_node(has_doors=False, destinations=[destination])
    for _ in range(8):
        door.intake.accept(make_file("0.95"), SOURCE)

    def delivered() -> list[DeliveryRow]:
        found = door.delivery.desk.rows(Selection(), limit=100)
        done = [row for row in found if row.state == "DELIVERED"]
        return found if len(done) == len(found) == 16 else []

    found = until(delivered)
    assert {row.attempts for row in found} == {1}
    assert len({row.sop_instance_uid for row in found}) == 16
    assert {row.release for row in found} == {1}


def test_a_study_whose_results_one_node_builds_is_not_built_by_another(
    start_node: Callable[..., Service], make_file: MakeFile, until: Until, tmp_path: Path
) -> None:
    place = tmp_path / "results"
    place.mkdir()
    door = start_node(destinations=[{"name": "share", "kind": "folder", "path": place}])
    door.delivery.stop()
    door.intake.accept(make_file("0.95"), SOURCE)
    until(all_done(door))
    release = door.delivery._release
    due = release.due()
    assert due is not None
    release._take(due)
    assert release.due() is None
    with pytest.raises(Overtaken):
        release.release(due)


def test_a_worker_opens_no_door(start_node: Callable[..., Service]) -> None:
    worker = start_node(has_doors=False)
    assert not worker.listener.is_listening
    assert "dicom" not in worker.checks()
    with worker.store.reading() as session:
        assert session.scalar(select(func.count()).select_from(Instance)) == 0


def test_pages_searches_and_figures_are_read_from_postgresql(
    tmp_path: Path, postgresql: str, make_file: MakeFile, until: Until
) -> None:
    settings = Settings(
        data_dir=tmp_path / "shared",
        database_url=postgresql,
        dicom_host="127.0.0.1",
        dicom_port=0,
        storage_reserve_bytes=0,
        accounts="off",
    )
    service = Service(settings, FakeModel())
    with serving(settings, service) as client:
        study = service.intake.accept(make_file("0.95"), SOURCE).study_instance_uid
        until(all_done(service))
        [row] = client.get("/api/worklist").raise_for_status().json()["studies"]
        assert (row["study_instance_uid"], row["priority"]) == (study, "CRITICAL")
        assert [flag["label"] for flag in row["flags"]] == ["Effusion"]
        for search in ("studies?PatientName=nguyễn*", "series?Modality=cr", "instances"):
            [found] = client.get(f"/dicomweb/{search}").raise_for_status().json()
            assert found["0020000D"]["Value"] == [study], search
        for path in (f"/api/studies/{study}", "/api/deliveries", "/api/worklist?order=arrival"):
            assert client.get(path).status_code == 200, path
        assert "vigil_received_total" in client.get("/metrics").raise_for_status().text
