"""What a service says while it is not open yet, or never will be."""

import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.inference.conftest import FakeModel, Until, serving
from tests.system.peers import Vigil, wait_until
from vigil.errors import StorageError
from vigil_inference.analysis import ModelStatus
from vigil_inference.operations.opening import Opening
from vigil_inference.service import Service
from vigil_inference.settings import Settings


@contextmanager
def held_up(settings: Settings, model: FakeModel) -> Iterator[tuple[Opening, threading.Event]]:
    """A service whose making waits for an event, as it does for long migrations."""
    event = threading.Event()

    def make() -> Service:
        event.wait(120)
        return Service(settings, model)

    yield Opening(make), event
    event.set()


def test_while_the_schema_is_brought_up_to_date_it_lives_and_is_not_ready(
    settings: Settings, model: FakeModel, until: Until
) -> None:
    with held_up(settings, model) as (opening, event), serving(settings, opening) as client:
        assert client.get("/live").json()["status"] == "ok"
        answer = client.get("/ready")
        assert answer.status_code == 503
        assert answer.json()["ready"] is False
        assert answer.json()["checks"]["database"] == "its schema is being brought up to date"
        assert answer.json()["checks"]["dicom"] == "the DICOM port is closed"
        for path in ("/api/worklist", "/metrics", "/", "/dicomweb/studies"):
            closed = client.get(path)
            assert (closed.status_code, closed.json()["code"]) == (503, "STARTING"), path
            assert closed.headers["Retry-After"] == "5"
        assert client.get("/api/status").json()["ready"] is False
        event.set()
        until(lambda: client.get("/ready").status_code == 200)
        assert client.get("/api/worklist").json()["total"] == 0


def test_a_service_that_cannot_start_says_so_and_its_reason_is_kept(
    settings: Settings, model: FakeModel, until: Until
) -> None:
    first = Service(settings, model)
    first.start()
    told = threading.Event()
    second = Opening(lambda: Service(settings, model), on_failure=told.set)
    with serving(settings, second) as client:
        assert told.wait(60)
        assert client.get("/ready").json()["checks"]["database"] == "the service could not start"
        assert client.get("/ready").status_code == 503
    first.stop()
    assert isinstance(second.error, StorageError)
    assert "in use by another Vigil service" in str(second.error)


Break = Callable[[Service, pytest.MonkeyPatch], None]


def fill_the_disk(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service.intake, "_reserve_bytes", 2**60)


def close_the_port(service: Service, _monkeypatch: pytest.MonkeyPatch) -> None:
    service.listener.stop()


def lose_the_model(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service.analysis, "_status", ModelStatus(False, "the model is away"))


@pytest.mark.parametrize(
    ("part", "why", "break_it"),
    [
        ("storage", "the disk is full up to its reserve; try again later", fill_the_disk),
        ("dicom", "the DICOM port is closed", close_the_port),
        ("model", "the model is away", lose_the_model),
    ],
)
def test_it_is_not_ready_while_a_part_is_missing_and_lives_all_the_same(
    client: httpx.Client,
    service: Service,
    until: Until,
    monkeypatch: pytest.MonkeyPatch,
    part: str,
    why: str,
    break_it: Break,
) -> None:
    until(lambda: client.get("/ready").status_code == 200)
    break_it(service, monkeypatch)
    answer = client.get("/ready")
    assert answer.status_code == 503
    assert answer.json()["checks"][part] == why
    assert client.get("/live").status_code == 200


@pytest.mark.system
def test_a_bundle_that_computes_something_else_is_not_ready(
    tmp_path: Path, stand_in_bundle: Path
) -> None:
    """An altered network is a model that is not verified."""
    bundle = tmp_path / "altered"
    shutil.copytree(stand_in_bundle, bundle)
    with (bundle / "model.onnx").open("ab") as file:
        file.write(b"\0")
    vigil = Vigil(tmp_path, bundle).start(wait=False)
    try:
        wait_until(lambda: vigil.program.answers(f"{vigil.url}/live"), "it lives")

        def model() -> str:
            answer = httpx.get(f"{vigil.url}/ready", timeout=60)
            return str(answer.json()["checks"]["model"])

        wait_until(lambda: "altered" in model(), "the model was looked at")
        assert "the network was altered" in model()
        assert httpx.get(f"{vigil.url}/ready", timeout=60).status_code == 503
    finally:
        vigil.stop()


@pytest.mark.system
def test_the_real_service_answers_while_its_database_is_held_by_another(
    tmp_path: Path, stand_in_bundle: Path
) -> None:
    """A migration that waits for the database's lock, as after an interrupted backup tool."""
    vigil = Vigil(tmp_path, stand_in_bundle)
    data = tmp_path / "data"
    data.mkdir()
    holder = sqlite3.connect(data / "vigil.sqlite3", isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    try:
        vigil.start(wait=False)
        wait_until(lambda: vigil.program.answers(f"{vigil.url}/live"), "it lives")
        answer = httpx.get(f"{vigil.url}/ready", timeout=60)
        assert answer.status_code == 503
        assert answer.json()["checks"]["database"] == "its schema is being brought up to date"
        holder.execute("ROLLBACK")
        wait_until(lambda: vigil.program.answers(f"{vigil.url}/ready"), "it is ready")
    finally:
        holder.close()
        vigil.stop()
