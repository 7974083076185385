"""A service with accounts, and clients that are signed in."""

from collections.abc import Callable, Iterator

import httpx
import pytest

from tests.inference.conftest import FakeModel, serving
from vigil_inference.access.roles import Role
from vigil_inference.service import Service
from vigil_inference.settings import Settings

PASSWORD = "correct horse battery"


@pytest.fixture
def guarded_settings(settings: Settings) -> Settings:
    """The settings of a service whose users sign in."""
    return settings.model_copy(update={"accounts": "required"})


@pytest.fixture
def guarded(guarded_settings: Settings, model: FakeModel) -> Service:
    """A service that is not started, with one account for each role, named as the role."""
    service = Service(guarded_settings, model)
    for role in Role:
        service.access.accounts.add(role.value, f"The {role.value}", {role}, PASSWORD)
    return service


@pytest.fixture
def stranger(guarded_settings: Settings, guarded: Service) -> Iterator[httpx.Client]:
    """A client of that service, running, that is not signed in."""
    with serving(guarded_settings, guarded) as client:
        yield client


SignIn = Callable[..., httpx.Client]


@pytest.fixture
def sign_in(stranger: httpx.Client) -> Iterator[SignIn]:
    """Sign in, and return a client that sends the session's token with what it asks."""
    clients: list[httpx.Client] = []

    def enter(name: str, password: str = PASSWORD) -> httpx.Client:
        client = httpx.Client(base_url=stranger.base_url, timeout=60, trust_env=False)
        clients.append(client)
        answer = client.post("/api/session", json={"name": name, "password": password})
        assert answer.status_code == 200, answer.text
        client.headers["X-CSRF-Token"] = answer.json()["csrf_token"]
        return client

    yield enter
    for client in clients:
        client.close()
