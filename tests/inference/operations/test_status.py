"""``vigil status``: what it says, and with which exit code."""

import io
import json
import socket
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from rich.console import Console
from sqlalchemy import update
from typer.testing import CliRunner, Result

from tests.inference.conftest import FakeModel, MakeFile, Until, serving
from vigil.cli import app
from vigil_inference.analysis import ModelStatus
from vigil_inference.cli import register
from vigil_inference.delivery.states import DeliveryState
from vigil_inference.operations.judgement import Level, Limits, judge_status, size_text
from vigil_inference.operations.status import (
    DatabaseView,
    DestinationView,
    DiskView,
    NodeView,
    ProblemView,
    ServiceStatus,
    WorkView,
)
from vigil_inference.operations.terminal import address_of, print_status
from vigil_inference.service import Service
from vigil_inference.settings import Settings
from vigil_inference.tables import Instance


@pytest.fixture(scope="module", autouse=True)
def commands() -> None:
    if "status" not in {command.callback.__name__ for command in app.registered_commands}:
        register(app)


def ask(client: httpx.Client, *options: str) -> Result:
    return CliRunner().invoke(
        app, ["status", "--url", str(client.base_url), *options], env={"COLUMNS": "200"}
    )


def ask_json(client: httpx.Client) -> dict[str, Any]:
    """Return the answer for programs.

    The service runs in this very process and may say a line of its own log beside it.
    """
    said = ask(client, "--json").stdout
    document: dict[str, Any] = json.loads(said[said.index("{") : said.rindex("}") + 1])
    return document


def test_a_service_at_rest_is_well(client: httpx.Client, service: Service, until: Until) -> None:
    until(lambda: client.get("/ready").status_code == 200)
    result = ask(client)
    assert result.exit_code == 0, result.output
    for said in (
        " OK  ready",
        "fake",
        "d" * 64,
        f"VIGIL@127.0.0.1:{service.listener.port}",
        "0 received, 0 analysed",
        "Research use only",
    ):
        assert said in result.output


def test_what_was_received_analysed_and_refused_is_counted(
    client: httpx.Client, make_file: MakeFile, stow: Callable[..., httpx.Response], until: Until
) -> None:
    stow(client, make_file("0.95"), make_file("0.1"), make_file("NOT_FRONTAL"))
    broken = make_file()
    broken.write_bytes(b"no DICOM")
    stow(client, broken)
    until(lambda: client.get("/api/worklist").json()["pending"] == 0)
    result = ask(client)
    assert result.exit_code == 0, result.output
    assert "3 received (STOW-RS 3), 2 analysed, 1 not: NOT_FRONTAL 1" in result.output
    assert "OBJECT_UNREADABLE 1 (since it started)" in result.output
    document = ask_json(client)
    assert document["level"] == "OK"
    assert document["status"]["database"]["last_day"]["received"] == {"STOW-RS": 3}


def test_a_picture_that_waits_too_long_is_a_warning(
    settings: Settings, model: FakeModel, make_file: MakeFile, stow: Any, until: Until
) -> None:
    model.may_go_on.clear()
    service = Service(settings, model)
    with serving(settings, service) as client:
        until(lambda: client.get("/ready").status_code == 200)
        stow(client, make_file(), make_file())
        with service.store.writing() as session:
            session.execute(
                update(Instance).values(received_at=datetime.now(UTC) - timedelta(minutes=9))
            )
        result = ask(client)
        assert result.exit_code == 1, result.output
        assert "a picture has waited 9 min for its analysis" in result.output
        assert ask(client, "--waiting-limit", "3600").exit_code == 0
        model.may_go_on.set()


def test_a_service_that_is_not_ready_is_critical_and_says_why(
    client: httpx.Client, service: Service, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Its own thread says so once, that the model is loaded.
    until(lambda: client.get("/ready").status_code == 200)
    monkeypatch.setattr(service.analysis, "_status", ModelStatus(False, "there is no bundle"))
    result = ask(client)
    assert result.exit_code == 2
    assert "CRITICAL  not ready" in result.output
    assert "model: there is no bundle" in result.output
    document = ask_json(client)
    assert document["problems"] == ["model: there is no bundle"]
    assert document["status"]["model"] is None


def test_nothing_that_answers_is_critical_and_one_sentence() -> None:
    result = CliRunner().invoke(app, ["status", "--url", "http://127.0.0.1:1"])
    assert result.exit_code == 2
    assert result.output.startswith("CRITICAL  http://127.0.0.1:1: nothing answers")
    assert "is `vigil serve` running there?" in result.output
    assert result.output.count("\n") == 1
    document = json.loads(
        CliRunner().invoke(app, ["status", "--url", "http://127.0.0.1:1", "--json"]).stdout
    )
    assert (document["level"], document["status"]) == ("CRITICAL", None)


def test_a_port_that_takes_connections_and_says_nothing_is_critical(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("vigil_inference.operations.terminal._TIMEOUT_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        result = CliRunner().invoke(app, ["status", "--url", url])
    assert result.exit_code == 2
    assert "no answer within" in result.output


@pytest.mark.parametrize("url", ["ftp://127.0.0.1", "nonsense"])
def test_an_address_that_is_none_is_unknown(url: str) -> None:
    result = CliRunner().invoke(app, ["status", "--url", url])
    assert result.exit_code == 3
    assert "expected an address such as" in result.output


def test_something_else_that_answers_is_unknown(client: httpx.Client) -> None:
    result = CliRunner().invoke(app, ["status", "--url", f"{client.base_url}/assets"])
    assert result.exit_code == 3
    assert "expected a status, found HTTP 404" in result.output


def test_wrong_settings_are_unknown_and_named(tmp_path: Path) -> None:
    path = tmp_path / "vigil.toml"
    path.write_text("http_prot = 1\n", encoding="utf-8")
    result = CliRunner().invoke(app, ["status", "--config", str(path)])
    assert result.exit_code == 3
    assert "http_prot" in result.output


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, ("http://127.0.0.1:8080", "127.0.0.1")),
        ({"http_host": "0.0.0.0", "http_port": 81}, ("http://127.0.0.1:81", "")),
        ({"http_host": "::"}, ("http://[::1]:8080", "")),
        (
            {"http_host": "192.0.2.7", "http_allowed_hosts": ["vigil.example"]},
            ("http://192.0.2.7:8080", "vigil.example"),
        ),
        ({"http_allowed_hosts": ["*.example"]}, ("http://127.0.0.1:8080", "example")),
    ],
)
def test_the_settings_say_where_to_ask(values: dict[str, Any], expected: tuple[str, str]) -> None:
    assert address_of(Settings(**values)) == expected


def make_status(**changes: Any) -> ServiceStatus:
    work = {
        "last_day": WorkView(received={}, analysed=0, not_analysed={}),
        "all_time": WorkView(received={}, analysed=0, not_analysed={}),
        "waiting_pictures": 0,
        "waiting_oldest_seconds": 0.0,
        "destinations": (),
        "nodes": (),
        "results_not_built": 0,
        "uid_conflicts": 0,
    }
    disk = {"free_bytes": 10 * 1024**3, "total_bytes": 20 * 1024**3, "reserve_bytes": 1024**3}
    for name, value in changes.items():
        (disk if name in disk else work)[name] = value
    return ServiceStatus(
        ready=True,
        checks={"database": "ok"},
        software_version="0",
        disk=DiskView(**disk),
        database=DatabaseView(**work),
    )


def make_destination(counts: dict[DeliveryState, int], oldest_seconds: float) -> DestinationView:
    problem = ProblemView(delivery=17, state=DeliveryState.FAILED, code="C_STORE_A900", attempts=1)
    return DestinationView(
        destination="pacs", counts=counts, oldest_seconds=oldest_seconds, last_problem=problem
    )


def make_node(name: str, *, alive: bool, digest: str = "d") -> NodeView:
    return NodeView(
        name=name,
        kind="worker",
        alive=alive,
        silent_seconds=1.0 if alive else 180.0,
        in_work=0,
        software_version="0",
        bundle_id="b",
        bundle_digest=digest,
        problem="",
    )


FAILED = make_destination({DeliveryState.FAILED: 2, DeliveryState.DELIVERED: 40}, 0.0)
OLD = make_destination({DeliveryState.PENDING: 1}, 7300.0)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"destinations": (FAILED,)}, "2 deliveries to pacs failed: vigil deliveries list"),
        ({"destinations": (OLD,)}, "a delivery to pacs has been on its way for 2 h 01"),
        ({"nodes": (make_node("a", alive=False),)}, "the node a has been silent for 3 min"),
        (
            {"nodes": (make_node("a", alive=True), make_node("b", alive=True, digest="e"))},
            "the nodes have different bundles",
        ),
        ({"results_not_built": 1}, "the results of 1 studies cannot be built"),
        ({"free_bytes": 1024**3 * 3 // 2}, "the disk has 1.5 GiB left; at 1.0 GiB"),
    ],
)
def test_what_waits_for_a_person_is_a_warning(changes: dict[str, Any], sentence: str) -> None:
    judgement = judge_status(make_status(**changes), Limits())
    assert judgement.level is Level.WARNING
    [said] = judgement.sentences
    assert said.startswith(sentence)


def test_everyday_work_is_no_warning() -> None:
    everyday = make_status(
        waiting_pictures=40,
        waiting_oldest_seconds=20.0,
        destinations=(make_destination({DeliveryState.PENDING: 5}, 60.0),),
        # The second was killed, and started again as the first.
        nodes=(make_node("a", alive=True), make_node("a", alive=False)),
    )
    assert judge_status(everyday, Limits()).level is Level.OK


def test_each_destination_is_a_row_with_its_states_its_oldest_and_its_trouble() -> None:
    status = make_status(destinations=(FAILED, OLD))
    console = Console(width=160, record=True, file=io.StringIO())
    print_status(status, judge_status(status, Limits()), console)
    lines = [line.split() for line in console.export_text().splitlines() if "pacs" in line]
    rows = [[cell for cell in line if cell != "│"] for line in lines if line[0] == "│"]
    assert rows[0] == ["pacs", "0", "0", "0", "40", "2", "0", "C_STORE_A900,", "no.", "17"]
    assert rows[1][:7] == ["pacs", "1", "0", "0", "0", "0", "0"]
    assert rows[1][7:10] == ["2", "h", "01"]


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (2048, "2 KiB"), (512 * 1024**2, "512 MiB"), (3 * 1024**4, "3.0 TiB")],
)
def test_sizes_are_for_reading(count: int, text: str) -> None:
    assert size_text(count) == text
