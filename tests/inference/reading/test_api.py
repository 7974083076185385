import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.inference.conftest import MakeFile, Until
from vigil_inference.access.account import Account
from vigil_inference.access.roles import Role
from vigil_inference.service import Service

Stow = Callable[..., httpx.Response]


@pytest.fixture
def study(client: httpx.Client, stow: Stow, make_file: MakeFile, until: Until) -> str:
    """The UID of a study whose only picture was analysed, with effusion flagged."""
    path: Path = make_file("0.8")
    assert stow(client, path).is_success

    def analysed() -> str | None:
        [found] = client.get("/api/worklist").json()["studies"] or [{}]
        return found.get("study_instance_uid") if found.get("state") == "analysed" else None

    uid: str = until(analysed)
    return uid


def picture(client: httpx.Client, study: str) -> str:
    return str(client.get(f"/api/studies/{study}").json()["instances"][0]["sop_instance_uid"])


def say(client: httpx.Client, study: str, act: str, seen: int, **fields: Any) -> httpx.Response:
    if "label" in fields:
        fields["sop_instance_uid"] = picture(client, study)
    body = {"id": str(uuid.uuid4()), "seen_version": seen, "act": act} | fields
    return client.post(f"/api/studies/{study}/readings/statements", json=body)


def test_a_reading_from_the_first_word_to_the_sign_off(client: httpx.Client, study: str) -> None:
    found = client.get(f"/api/studies/{study}/readings").json()
    assert (found["mine"]["version"], found["mine"]["standing"]) == (0, "empty")
    answer = say(client, study, "agree", 0, label="Effusion")
    assert answer.status_code == 200
    [finding] = answer.json()["mine"]["findings"]
    assert (finding["label"], finding["present"]) == ("Effusion", True)
    assert finding["model"]["probability"] == 0.8
    assert finding["model"]["bundle_digest"] == "d" * 64
    answer = say(client, study, "sign_off", 1)
    assert answer.json()["mine"]["standing"] == "signed"
    [edition] = answer.json()["mine"]["editions"]
    assert edition["number"] == 1
    assert [one["act"] for one in answer.json()["mine"]["statements"]] == ["agree", "sign_off"]


def test_a_stale_statement_is_answered_with_what_stands_now(
    client: httpx.Client, study: str
) -> None:
    say(client, study, "agree", 0, label="Effusion")
    answer = say(client, study, "disagree", 0, label="Effusion")
    assert answer.status_code == 409
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == "READING_CHANGED"
    [finding] = answer.json()["readings"]["mine"]["findings"]
    assert finding["act"] == "agree"
    say(client, study, "sign_off", 1)
    answer = say(client, study, "disagree", 2, label="Effusion")
    assert (answer.status_code, answer.json()["code"]) == (409, "READING_SIGNED")
    assert answer.json()["readings"]["mine"]["standing"] == "signed"
    answer = say(client, study, "disagree", 2, label="Effusion", amendment=True)
    assert answer.json()["mine"]["standing"] == "amending"


def test_a_priority_is_raised_and_said_and_never_lowered(client: httpx.Client, study: str) -> None:
    url = f"/api/studies/{study}/priority"
    wish = {"id": str(uuid.uuid4()), "priority": "CRITICAL", "reason": "khó thở"}
    for _ in range(2):  # the first answer may have been lost
        [raised] = client.post(url, json=wish).raise_for_status().json()["raises"]
        assert (raised["priority_before"], raised["priority"]) == ("URGENT", "CRITICAL")
        assert raised["reason"] == "khó thở"
    assert client.get(f"/api/studies/{study}").json()["priority"] == "CRITICAL"
    [row] = client.get("/api/worklist").json()["studies"]
    assert (row["raised"]["priority"], row["raised"]["reason"]) == ("CRITICAL", "khó thở")
    lower = client.post(url, json=wish | {"id": str(uuid.uuid4()), "priority": "ROUTINE"})
    assert (lower.status_code, lower.json()["code"]) == (409, "PRIORITY_ONLY_RISES")
    silent = client.post(url, json=wish | {"id": str(uuid.uuid4()), "reason": ""})
    assert (silent.status_code, silent.json()["code"]) == (422, "REQUEST_INVALID")


def test_an_open_page_hears_of_a_statement(client: httpx.Client, study: str) -> None:
    with client.stream("GET", "/api/events") as events:
        lines = events.iter_lines()
        while next(lines) != "event: hello":
            pass
        say(client, study, "note", 0, note="x")
        while not (line := next(lines)).startswith("event: study"):
            pass
        assert line == "event: study"
        assert next(lines) == f"data: {study}"


def test_a_statement_sent_again_makes_no_second_event(
    client: httpx.Client,
    study: str,
    service: Service,
    until: Until,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The result is kept a moment before it is told of.
    until(lambda: not service.analysis.is_working)
    told: list[object] = []
    monkeypatch.setattr(service.hub, "publish", told.append)
    body = {"id": str(uuid.uuid4()), "seen_version": 0, "act": "note", "note": "x"}
    url = f"/api/studies/{study}/readings/statements"
    answers = [client.post(url, json=body).json() for _ in range(2)]
    assert answers[0] == answers[1]
    assert len(told) == 1


def test_errors_do_not_repeat_what_was_typed(client: httpx.Client, study: str) -> None:
    for fields in ({"act": "agree", "label": "Zyzzyva"}, {"act": "note", "note": "Zyzzyva" * 900}):
        answer = say(client, study, fields.pop("act"), 0, **fields)
        assert answer.status_code == 422
        assert "Zyzzyva" not in answer.text
    unknown = client.get("/api/studies/1.2.3/readings")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "STUDY_UNKNOWN")


def test_the_vocabulary_is_coded_and_says_what_training_knows(client: httpx.Client) -> None:
    words = {word["label"]: word for word in client.get("/api/readings/vocabulary").json()}
    assert words["Pneumothorax"]["in_manifest"]
    assert words["Rib_Fracture"] == {
        "label": "Rib_Fracture",
        "code": "33737001",
        "scheme": "SCT",
        "meaning": "Fracture of rib",
        "in_manifest": False,
    }


@pytest.mark.parametrize(
    ("role", "may_read", "may_raise"),
    [
        (Role.TECHNICIAN, False, True),
        (Role.RADIOLOGIST, True, True),
        (Role.RESEARCHER, False, False),
        (Role.ADMINISTRATOR, False, False),
        (Role.SERVICE, False, False),
    ],
)
def test_who_may_not_read_or_raise_is_refused(
    client: httpx.Client, study: str, monkeypatch: pytest.MonkeyPatch,
    role: Role, may_read: bool, may_raise: bool,
) -> None:  # fmt: skip
    account = Account("a", "A", frozenset({role}))
    monkeypatch.setattr("vigil_inference.access.gate.EVERYBODY", account)
    assert say(client, study, "note", 0, note="x").is_success is may_read
    wish = {"id": str(uuid.uuid4()), "priority": "CRITICAL", "reason": "x"}
    assert client.post(f"/api/studies/{study}/priority", json=wish).is_success is may_raise
