"""What each role may do, tried on every route of the application."""

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from tests.conftest import PROJECT
from tests.inference import conftest
from tests.inference.access.conftest import PASSWORD
from tests.inference.conftest import FakeModel, serving
from vigil_inference.access.account import OPEN, Requirement
from vigil_inference.access.gate import COOKIE, Entry, entries_of
from vigil_inference.access.roles import ALLOWED, WHAT_FOR, Permission, Role
from vigil_inference.access.table import roles_table
from vigil_inference.app import create_app
from vigil_inference.service import Service
from vigil_inference.settings import Settings

ENTRIES = tuple(entries_of(create_app(Settings()).router.routes))
GUARDED = tuple(entry for entry in ENTRIES if entry.requirement != OPEN)
NEED_PERMISSION = tuple(
    entry for entry in GUARDED if entry.requirement and entry.requirement.permission
)


def method_of(entry: Entry) -> str:
    return min(entry.methods)


def named(entry: Entry) -> str:
    return f"{method_of(entry) if entry.methods else 'ANY'} {entry.path}"


def path_of(entry: Entry) -> str:
    return re.sub(r"\{[^}]+\}", "1", entry.path)


@pytest.fixture(scope="module")
def clients(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[Role | None, httpx.Client]]:
    """One service for all routes, and a client for each role, and for nobody."""
    folder: Path = tmp_path_factory.mktemp("routes")
    settings = Settings(
        data_dir=folder,
        dicom_host="127.0.0.1",
        dicom_port=0,
        storage_reserve_bytes=0,
        # The tests come from this machine; as if they came through a proxy from elsewhere.
        http_trusted_proxies=["127.0.0.1"],
    )
    service = Service(settings, FakeModel())
    for role in Role:
        service.access.accounts.add(role.value, "", {role}, PASSWORD)
    with serving(settings, service) as nobody:
        found: dict[Role | None, httpx.Client] = {None: nobody}
        nobody.headers["X-Forwarded-For"] = "192.0.2.77"
        for role in Role:
            client = found[role] = httpx.Client(
                base_url=nobody.base_url, timeout=60, trust_env=False, headers=nobody.headers
            )
            body = {"name": role.value, "password": PASSWORD}
            answer = client.post("/api/session", json=body).raise_for_status()
            client.headers["X-CSRF-Token"] = answer.json()["csrf_token"]
        yield found
        for role in Role:
            found[role].close()


@pytest.mark.parametrize("entry", ENTRIES, ids=named)
def test_every_route_declares_what_it_asks(entry: Entry) -> None:
    assert isinstance(entry.requirement, Requirement), f"{named(entry)} declares no permission"


def test_what_is_open_is_a_short_list() -> None:
    assert sorted({entry.path for entry in ENTRIES if entry.requirement == OPEN}) == [
        "/",
        "/accounts",
        "/agreement",
        "/api/configuration",
        "/api/oidc/callback",
        "/api/oidc/sign-in",
        "/api/session",
        "/assets",
        "/audit",
        "/health",
        "/live",
        "/openapi.json",
        "/ready",
        "/studies/{study_instance_uid}",
    ]


@pytest.mark.parametrize("entry", GUARDED, ids=named)
def test_nobody_gets_in_without_signing_in(
    clients: dict[Role | None, httpx.Client], entry: Entry
) -> None:
    answer = clients[None].request(method_of(entry), path_of(entry))
    assert (answer.status_code, answer.json()["code"]) == (401, "SIGN_IN_REQUIRED")
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("entry", NEED_PERMISSION, ids=named)
def test_a_role_may_what_the_table_says_and_nothing_else(
    clients: dict[Role | None, httpx.Client], entry: Entry, role: Role
) -> None:
    requirement = entry.requirement
    assert requirement is not None
    permission = requirement.permission
    assert permission is not None
    if permission in ALLOWED[role] and entry.name == "get_events":
        with clients[role].stream("GET", path_of(entry)) as stream:
            assert stream.status_code == 200
        return
    answer = clients[role].request(method_of(entry), path_of(entry))
    if permission in ALLOWED[role]:
        assert answer.status_code not in (401, 403), answer.text
    else:
        assert (answer.status_code, answer.json()["code"]) == (403, "NOT_ALLOWED")
        assert permission.value in answer.json()["message"]


def test_every_permission_is_somebodys_and_nobody_has_all() -> None:
    assert set().union(*ALLOWED.values()) == set(Permission)
    assert all(set(permissions) != set(Permission) for permissions in ALLOWED.values())


def test_a_route_that_declares_nothing_answers_nobody(
    guarded_settings: Settings, guarded: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    def create_with_another(settings: Settings, service: Service) -> FastAPI:
        app = create_app(settings, service)

        @app.get("/forgotten")
        def forgotten() -> str:
            return "patients"

        return app

    monkeypatch.setattr(conftest, "create_app", create_with_another)
    secret = guarded.access.sign_in(Role.RADIOLOGIST, PASSWORD, "")
    with serving(guarded_settings, guarded) as client:
        client.cookies[COOKIE] = str(secret)
        assert client.get("/api/worklist").status_code == 200
        answer = client.get("/forgotten")
    assert (answer.status_code, answer.json()["code"]) == (403, "NOT_ALLOWED")


def test_the_documentation_shows_the_table_that_is_used() -> None:
    text = (PROJECT / "docs" / "access.md").read_text(encoding="utf-8")
    assert roles_table() in text
    assert set(WHAT_FOR) == set(Permission)
