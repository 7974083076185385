"""A second reading that does not know the first."""

import uuid
from typing import Any

import httpx
import pytest

from tests.inference.reading.conftest import HANH
from tests.inference.reading.test_api import picture, say, study
from vigil_inference.access.account import Account
from vigil_inference.access.roles import Role
from vigil_inference.reading.records import NewStatement
from vigil_inference.reading.statements import Act
from vigil_inference.reading.views import readings_view
from vigil_inference.service import Service
from vigil_inference.settings import Settings

__all__ = ["study"]


@pytest.fixture
def settings(settings: Settings, request: pytest.FixtureRequest) -> Settings:
    """The settings of a site that asks for a blind second reading, or not."""
    return settings.model_copy(update={"second_reading_blind": getattr(request, "param", True)})


def first_reading(service: Service, client: httpx.Client, uid: str) -> None:
    """Let another radiologist agree and sign."""
    sop = picture(client, uid)
    said: list[dict[str, Any]] = [
        {"act": Act.AGREE, "sop_instance_uid": sop, "label": "Effusion"},
        {"act": Act.SIGN_OFF},
    ]
    for version, fields in enumerate(said):
        new = NewStatement(id=uuid.uuid4(), seen_version=version, **fields)
        service.readings.say(uid, HANH, new)


def test_the_first_reading_is_hidden_until_the_second_is_signed(
    service: Service, client: httpx.Client, study: str
) -> None:
    first_reading(service, client, study)
    found = client.get(f"/api/studies/{study}/readings").json()
    assert (found["others"], found["hidden_others"]) == ([], 1)
    draft = say(client, study, "disagree", 0, label="Effusion")
    assert (draft.json()["others"], draft.json()["hidden_others"]) == ([], 1)
    stale = say(client, study, "note", 0, note="x").json()
    assert (stale["code"], stale["readings"]["others"]) == ("READING_CHANGED", [])
    assert "hanh" not in draft.text.casefold()
    [signed] = say(client, study, "sign_off", 1).json()["others"]
    assert (signed["reader"], signed["findings"][0]["present"]) == ("hanh", True)


def test_a_signature_that_showed_the_others_is_amended_and_not_taken_back(
    service: Service, client: httpx.Client, study: str
) -> None:
    alone = say(client, study, "sign_off", 0).json()["mine"]
    undone = say(client, study, "undo", 1, undoes=alone["to_undo"])
    assert undone.json()["mine"]["standing"] == "empty"  # there was nothing to see
    first_reading(service, client, study)
    signed = say(client, study, "sign_off", 2).json()
    assert len(signed["others"]) == 1
    refused = say(client, study, "undo", 3, undoes=signed["mine"]["to_undo"])
    assert (refused.status_code, refused.json()["code"]) == (409, "READING_SIGNED")
    amended = say(client, study, "agree", 3, label="Effusion", amendment=True)
    undone = say(client, study, "undo", 4, undoes=amended.json()["mine"]["to_undo"])
    assert undone.status_code == 200


@pytest.mark.parametrize("settings", [False], indirect=True)
def test_where_the_site_does_not_ask_for_it_readings_are_shown(
    service: Service, client: httpx.Client, study: str
) -> None:
    assert not Settings().second_reading_blind
    first_reading(service, client, study)
    found = client.get(f"/api/studies/{study}/readings").json()
    assert ([one["reader"] for one in found["others"]], found["hidden_others"]) == (["hanh"], 0)


def test_who_does_not_read_studies_sees_the_readings(
    service: Service, client: httpx.Client, study: str
) -> None:
    first_reading(service, client, study)
    technician = Account("binh", "", frozenset({Role.TECHNICIAN}))
    found = readings_view(study, service.readings.read(study), technician, is_blind=True)
    assert ([one.reader for one in found.others], found.hidden_others) == (["hanh"], 0)
