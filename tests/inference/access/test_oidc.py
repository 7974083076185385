"""Signing in at a real OpenID provider, run from a package."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from pydantic import SecretStr

from tests.inference.conftest import FakeModel, serving
from tests.system.peers import HOST, Program, free_port, wait_until
from vigil_inference.access.roles import Role
from vigil_inference.audit.tables import AuditRow
from vigil_inference.service import Service
from vigil_inference.settings import Settings

USERS: list[dict[str, Any]] = [
    {"sub": "u-1", "name": "BS. Hạnh", "preferred_username": "Hanh", "groups": ["readers", "x"]},
    {"sub": "u-2", "preferred_username": "guest", "groups": ["visitors"]},
    {"sub": "u-3", "preferred_username": "admin", "groups": ["readers"]},
]


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    port = free_port()
    command = [str(Path(sys.executable).parent / "oidc-provider-mock"), "--port", str(port)]
    for user in USERS:
        command += ["--user-claims", json.dumps(user)]
    program = Program(
        [*command, "--require-nonce", "true"], tmp_path_factory.mktemp("oidc") / "log"
    )
    url = f"http://{HOST}:{port}"
    wait_until(lambda: program.answers(f"{url}/.well-known/openid-configuration"), "it answers")
    yield url
    try:
        program.stop(timeout_seconds=5)
    except subprocess.TimeoutExpired:
        program.process.kill()


@pytest.fixture
def service(settings: Settings, model: FakeModel, provider: str) -> Service:
    configuration = httpx.get(f"{provider}/.well-known/openid-configuration", timeout=60).json()
    given = settings.model_copy(
        update={
            "accounts": "required",
            "oidc_issuer": configuration["issuer"],
            "oidc_client_id": "vigil",
            "oidc_client_secret": SecretStr("between us"),
            "oidc_name": "Hospital account",
            "oidc_roles_claim": "groups",
            "oidc_roles": {"readers": [Role.RADIOLOGIST]},
        }
    )
    service = Service(given, model)
    service.access.accounts.add("admin", "", {Role.ADMINISTRATOR}, "correct horse battery")
    return service


@pytest.fixture
def browser(service: Service) -> Iterator[httpx.Client]:
    with serving(service.settings, service) as client:
        yield client


def go_there(browser: httpx.Client) -> str:
    """Begin to sign in; return the provider's address."""
    answer = browser.get("/api/oidc/sign-in")
    assert answer.status_code == 303
    return str(answer.headers["location"])


def say_who(address: str, subject: str) -> str:
    """Sign in at the provider; return where it sends the browser back to."""
    answer = httpx.post(address, data={"sub": subject}, timeout=60)
    assert answer.status_code in (302, 303), answer.text
    return str(answer.headers["location"])


def signs_in(service: Service) -> list[tuple[str, int, str]]:
    with service.store.reading() as session:
        rows = session.query(AuditRow).order_by(AuditRow.id)
        return [(row.account, row.outcome, row.detail) for row in rows]


def test_who_the_provider_vouches_for_gets_the_roles_that_his_groups_mean(
    browser: httpx.Client, service: Service
) -> None:
    assert browser.get("/api/configuration").json()["oidc_name"] == "Hospital account"
    address = go_there(browser)
    asked = parse_qs(urlsplit(address).query)
    assert asked["code_challenge_method"] == ["S256"]
    assert {"state", "nonce", "code_challenge"} <= set(asked)
    back = browser.get(say_who(address, "u-1"))
    assert (back.status_code, back.headers["location"]) == (303, "/")
    me = browser.get("/api/me").json()
    assert (me["name"], me["display_name"], me["roles"]) == ("hanh", "BS. Hạnh", ["radiologist"])
    assert browser.get("/api/worklist").status_code == 200
    assert signs_in(service) == [("hanh", 200, "oidc")]
    # A second time it is the same account; there is no password to it.
    browser.get(say_who(go_there(browser), "u-1"))
    assert [record.account.name for record in service.access.accounts.all()] == ["admin", "hanh"]
    assert service.access.accounts.check_password("hanh", "") is None


@pytest.mark.parametrize(("subject", "code"), [("u-2", "OIDC_NO_ROLE"), ("u-3", "NAME_TAKEN")])
def test_who_has_no_role_or_the_name_of_a_local_account_stays_outside(
    browser: httpx.Client, service: Service, subject: str, code: str
) -> None:
    back = browser.get(say_who(go_there(browser), subject))
    assert back.headers["location"] == f"/?sign-in={code}"
    assert browser.get("/api/me").status_code == 401
    assert signs_in(service) == [("", 401, f"oidc {code}")]


def test_an_answer_to_another_question_lets_nobody_in(browser: httpx.Client) -> None:
    """State and nonce bind the answer to the browser that was sent."""
    first = say_who(go_there(browser), "u-1")
    go_there(browser)
    assert browser.get(first).headers["location"] == "/?sign-in=OIDC_REFUSED"
    lured = say_who(go_there(browser), "u-1")
    browser.cookies.clear()
    assert browser.get(lured).headers["location"] == "/?sign-in=OIDC_REFUSED"
    assert browser.get("/api/oidc/callback").headers["location"] == "/?sign-in=OIDC_REFUSED"


def test_a_code_of_another_sign_in_does_not_fit_the_verifier_and_the_nonce(
    browser: httpx.Client,
) -> None:
    stolen = parse_qs(urlsplit(say_who(go_there(browser), "u-1")).query)["code"][0]
    own = parse_qs(urlsplit(go_there(browser)).query)["state"][0]
    back = browser.get("/api/oidc/callback", params={"state": own, "code": stolen})
    assert back.headers["location"] == "/?sign-in=OIDC_REFUSED"
    assert browser.get("/api/me").status_code == 401


def test_an_account_that_is_disabled_here_stays_outside(
    browser: httpx.Client, service: Service
) -> None:
    browser.get(say_who(go_there(browser), "u-1"))
    service.access.accounts.set_disabled("hanh", True)
    back = browser.get(say_who(go_there(browser), "u-1"))
    assert back.headers["location"] == "/?sign-in=OIDC_REFUSED"
