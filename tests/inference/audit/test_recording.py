"""What of people's and machines' doings stands in the audit trail."""

import json
from collections.abc import Callable

import httpx
import pytest
import typer
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from typer.testing import CliRunner

from tests.inference.access.conftest import PASSWORD, SignIn
from tests.inference.conftest import MakeFile, Until, make_dataset
from vigil_inference.access.roles import Role
from vigil_inference.audit.tables import AuditRow
from vigil_inference.cli import register
from vigil_inference.service import Service

app = typer.Typer()
register(app)


def events(service: Service) -> list[tuple[str, str, str, int, str]]:
    service.audit.flush()
    with service.store.reading() as session:
        rows = session.query(AuditRow).order_by(AuditRow.id).all()
    return [(r.account, r.action, r.study_instance_uid, r.outcome, r.detail) for r in rows]


@pytest.fixture
def study(
    guarded: Service,
    stranger: httpx.Client,
    stow: Callable[..., httpx.Response],
    make_file: MakeFile,
    until: Until,
) -> tuple[str, str]:
    """UIDs of a study and its picture, sent by a machine and analysed."""
    dataset = make_dataset()
    uids = dataset.StudyInstanceUID, dataset.SOPInstanceUID
    token = guarded.access.tokens.create("pacs", {Role.SERVICE}, None)
    stranger.headers["Authorization"] = f"Bearer {token}"
    path = make_file("0.95", StudyInstanceUID=uids[0], SOPInstanceUID=uids[1])
    assert stow(stranger, path).status_code == 200
    until(lambda: stranger.get("/api/worklist").json()["pending"] == 0)
    del stranger.headers["Authorization"]
    return uids


def test_who_saw_and_did_what(
    guarded: Service,
    stranger: httpx.Client,
    sign_in: SignIn,
    study: tuple[str, str],
) -> None:
    uid, sop = study
    before = len(events(guarded))
    stranger.post("/api/session", json={"name": "radiologist", "password": "wrong"})
    stranger.post("/api/session", json={"name": "correct horse battery", "password": "typed"})
    client = sign_in("radiologist")
    client.get("/api/worklist")
    client.get(f"/api/studies/{uid}")
    for _ in range(5):
        client.get(f"/api/studies/{uid}/instances/{sop}/image.jpg", params={"size": 64})
        client.get(f"/api/studies/{uid}/instances/{sop}/image.png")
    client.get(f"/api/studies/{uid}/results")
    client.get(f"/dicomweb/studies/{uid}/metadata")
    client.get("/api/studies/1.2.3.4.5")  # not there: nothing was seen
    client.post("/api/deliveries/retry", json={"destination": "pacs"})
    client.delete("/api/session")
    found = sorted(events(guarded)[before:])
    assert found == sorted(
        [
            ("radiologist", "sign_in", "", 401, ""),
            ("", "sign_in", "", 401, ""),  # what was typed there is not kept
            ("radiologist", "sign_in", "", 200, ""),
            ("radiologist", "worklist_seen", "", 200, ""),
            ("radiologist", "study_opened", uid, 200, ""),
            ("radiologist", "picture_seen", uid, 200, ""),
            ("radiologist", "results_fetched", uid, 200, ""),
            ("radiologist", "dicomweb_retrieved", uid, 200, ""),
            ("radiologist", "retry_deliveries", "", 403, "NOT_ALLOWED"),
            ("radiologist", "sign_out", "", 204, ""),
        ]
    )


def test_a_machine_is_named_by_its_token_and_no_patient_is_named(
    guarded: Service,
    study: tuple[str, str],
) -> None:
    assert ("token:pacs", "store_instances", "", 200, "") in events(guarded)
    with guarded.store.engine.connect() as connection:
        rows = [str(row) for row in connection.execute(text("SELECT * FROM audit_events"))]
    assert not [row for row in rows if "Nguy" in row or "P1" in row]


def test_a_change_is_recorded_before_its_answer_goes_out(
    guarded: Service,
    sign_in: SignIn,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client = sign_in("administrator")

    def fail(*_events: object) -> None:
        raise OperationalError("", None, Exception())

    append = guarded.audit.append
    monkeypatch.setattr(guarded.audit, "append", fail)
    answer = client.post("/api/deliveries/retry", json={"destination": "pacs"})
    assert (answer.status_code, answer.json()["code"]) == (503, "DATABASE_UNAVAILABLE")
    monkeypatch.setattr(guarded.audit, "append", append)
    # Not lost either: it is written when the database answers again.
    assert ("administrator", "retry_deliveries", "", 200, "") in events(guarded)


def test_the_trail_is_seen_by_administrators_and_that_is_recorded(
    guarded: Service,
    sign_in: SignIn,
) -> None:
    client = sign_in("administrator")
    page = client.get("/api/audit", params={"account": "administrator"}).json()
    assert page["last_id"] == len(page["events"]) == 1
    assert page["events"][0]["action"] == "sign_in"
    assert page["events"][0]["sha256"] == page["sha256"]
    assert ("administrator", "get_audit_trail", "", 200, "") in events(guarded)
    assert sign_in("radiologist").get("/api/audit").status_code == 403


def test_commands_verify_export_and_are_recorded_themselves(guarded: Service) -> None:
    place = ["--data-dir", str(guarded.settings.data_dir)]

    def run(*arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(app, [*arguments, *place])
        return result.exit_code, result.stdout

    assert run("users", "add", "hạnh", "--role", "radiologist")[0] == 0
    assert run("users", "add", "hạnh", "--role", "radiologist")[0] != 0
    code, said = run("audit", "verify")
    assert code == 0
    head = said.splitlines()[-1].removeprefix("head ")
    assert run("users", "disable", "hạnh")[0] == 0
    assert run("audit", "verify", "--head", head)[0] == 0
    assert run("audit", "verify", "--head", f"9:{'0' * 64}") == (
        1,
        "the end is cut off: event 9 was noted, the last is 2\n",
    )
    code, lines = run("audit", "export")
    exported = [json.loads(line) for line in lines.splitlines()]
    assert [(e["id"], e["action"], e["detail"]) for e in exported] == [
        (1, "add_account", "hạnh radiologist"),
        (2, "disable_account", "hạnh"),
    ]
    assert all(e["account"].startswith("cli:") for e in exported)
    assert exported[0]["sha256"] == head.partition(":")[2]
    assert PASSWORD not in lines
