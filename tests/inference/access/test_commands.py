"""``vigil users`` and ``vigil tokens``, and what a token opens."""

import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
import typer
from typer.testing import CliRunner, Result

from tests.inference.access.conftest import PASSWORD
from tests.inference.access.test_sessions import Clock, code_of
from tests.inference.conftest import FakeModel, MakeFile, Until, serving
from vigil_inference.access.roles import Role
from vigil_inference.cli import register
from vigil_inference.service import Service
from vigil_inference.settings import Settings

app = typer.Typer()
register(app)
Run = Callable[..., Result]


@pytest.fixture
def run(guarded: Service) -> Run:
    """Run a command on the service's database."""

    def command(*arguments: str, given: str | None = None) -> Result:
        place = ["--data-dir", str(guarded.settings.data_dir)]
        return CliRunner().invoke(app, [*arguments, *place], input=given)

    return command


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


def test_an_account_is_made_with_a_one_time_password(run: Run, guarded: Service) -> None:
    made = run("users", "add", "Hạnh", "--role", "radiologist", "--display-name", "BS. Hạnh")
    assert made.exit_code == 0, made.output
    [name, once] = made.stdout.split()
    assert name == "hạnh"
    found = guarded.access.accounts.check_password("HẠNH", once)
    assert found is not None
    assert found.must_change_password
    assert found.account.roles == {Role.RADIOLOGIST}
    listed = run("users", "list").stdout
    assert "hạnh  BS. Hạnh  radiologist  last never  one-time password" in listed
    assert once not in listed


def test_a_name_is_given_once(run: Run) -> None:
    again = run("users", "add", "Radiologist", "--role", "radiologist")
    assert again.exit_code != 0
    assert "there is an account radiologist already" in str(again.exception) + again.output
    odd = run("users", "add", "two words", "--role", "radiologist")
    assert "letters, digits" in str(odd.exception) + odd.output


def test_a_password_is_read_from_standard_input_and_judged(run: Run, guarded: Service) -> None:
    short = run("users", "set-password", "radiologist", "--password-stdin", given="short\n")
    assert "12 to 256" in str(short.exception) + short.output
    done = run("users", "set-password", "radiologist", "--password-stdin", given="a new horse 1\n")
    assert done.exit_code == 0
    assert guarded.access.accounts.check_password("radiologist", PASSWORD) is None
    found = guarded.access.accounts.check_password("radiologist", "a new horse 1")
    assert found is not None
    assert not found.must_change_password


def test_roles_change_and_accounts_close_and_open(run: Run, guarded: Service) -> None:
    assert run("users", "set-role", "technician", "--role", "researcher").exit_code == 0
    assert guarded.access.accounts.find("technician").account.roles == {Role.RESEARCHER}
    assert run("users", "disable", "technician").exit_code == 0
    assert (
        "technician  The technician  researcher  last never  disabled"
        in run("users", "list").stdout
    )
    assert guarded.access.accounts.check_password("technician", PASSWORD) is None
    assert run("users", "enable", "technician").exit_code == 0
    assert guarded.access.accounts.check_password("technician", PASSWORD) is not None


def test_a_token_opens_what_its_roles_allow_and_needs_no_other(
    run: Run, stranger: httpx.Client, until: Until
) -> None:
    secret = run("tokens", "create", "pacs", "--role", "service").stdout.strip()
    assert re.fullmatch(r"vigil_[\w-]{43}", secret)
    me = stranger.get("/api/me", headers=bearer(secret)).json()
    assert (me["name"], me["roles"], me["csrf_token"]) == ("token:pacs", ["service"], "")
    assert stranger.get("/dicomweb/studies", headers=bearer(secret)).status_code in (200, 204)
    body = {"destination": "pacs"}
    answer = stranger.post("/api/deliveries/retry", json=body, headers=bearer(secret))
    assert code_of(answer) == (403, "NOT_ALLOWED")
    assert code_of(stranger.get("/api/worklist", headers=bearer("vigil_wrong"))) == (
        401,
        "SIGN_IN_REQUIRED",
    )
    basic = stranger.get("/api/worklist", headers={"Authorization": "Basic YTpi"})
    assert code_of(basic) == (401, "SIGN_IN_REQUIRED")
    listed = run("tokens", "list").stdout
    assert re.search(r"pacs  service  until \d{4}-\d\d-\d\d \d\d:\d\d  last \d{4}-", listed)
    assert secret not in listed
    assert run("tokens", "revoke", "pacs").exit_code == 0
    until(lambda: stranger.get("/api/worklist", headers=bearer(secret)).status_code == 401, 5.0)
    assert code_of(stranger.get("/api/worklist", headers=bearer(secret))) == (401, "TOKEN_EXPIRED")


def test_a_token_whose_time_is_over_is_told_so(
    guarded: Service, stranger: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = guarded.access.tokens.create("pacs", {Role.SERVICE}, timedelta(days=1))
    assert stranger.get("/api/worklist", headers=bearer(secret)).status_code == 200
    Clock(guarded.store, monkeypatch).forward(days=1, seconds=1)
    assert code_of(stranger.get("/api/worklist", headers=bearer(secret))) == (401, "TOKEN_EXPIRED")


def test_a_token_is_asked_where_a_cookie_is_there_too(
    guarded: Service, stranger: httpx.Client
) -> None:
    stranger.post("/api/session", json={"name": "radiologist", "password": PASSWORD})
    secret = guarded.access.tokens.create("pacs", {Role.SERVICE}, None)
    assert stranger.get("/api/me", headers=bearer(secret)).json()["name"] == "token:pacs"


def test_a_pacs_that_can_send_no_token_is_known_by_its_address(
    guarded_settings: Settings,
    model: FakeModel,
    make_file: MakeFile,
    stow: Callable[..., httpx.Response],
) -> None:
    trusted = guarded_settings.model_copy(
        update={"dicomweb_trusted_addresses": [_network("192.0.2.0/24")]}
    )
    with serving(trusted, Service(trusted, model)) as client:
        client.headers["X-Forwarded-For"] = "192.0.2.9"
        assert stow(client, make_file()).status_code == 200
        assert client.get("/dicomweb/studies").status_code == 200
        assert client.get("/api/worklist").status_code == 401
        client.headers["X-Forwarded-For"] = "198.51.100.9"
        assert stow(client, make_file()).status_code == 401
        # What somebody writes before the proxy's own word counts for nothing.
        client.headers["X-Forwarded-For"] = "192.0.2.9, 198.51.100.9"
        assert client.get("/dicomweb/studies").status_code == 401


def _network(text: str) -> object:
    import ipaddress

    return ipaddress.ip_network(text)


def test_what_watches_the_service_is_open_to_this_machine_only(stranger: httpx.Client) -> None:
    for path in ("/metrics", "/api/status"):
        assert stranger.get(path).status_code == 200
        elsewhere = stranger.get(path, headers={"X-Forwarded-For": "192.0.2.9"})
        assert elsewhere.status_code == 401, path


def test_the_first_account_is_told_on_the_terminal_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from contextlib import closing

    from vigil_inference.access.desk import AccessDesk
    from vigil_inference.access.first_start import tell_first_password
    from vigil_inference.store import Store

    settings = Settings(data_dir=tmp_path)
    with closing(Store(settings.database)) as store:
        desk = AccessDesk(store, settings)
        monkeypatch.setattr("sys.stdout.isatty", lambda: True)
        tell_first_password(desk, settings)
        said = capsys.readouterr().out
        [once] = re.findall(r"admin  ((?:\w{4}-){3}\w{4})", said)
        found = desk.accounts.check_password("admin", once)
        assert found is not None
        assert found.must_change_password
        assert found.account.roles == {Role.ADMINISTRATOR}
        tell_first_password(desk, settings)
        assert capsys.readouterr().out == ""
    assert not (tmp_path / "first-password").exists()


def test_accounts_are_only_off_where_nobody_else_reaches_the_page() -> None:
    assert Settings().accounts == "required"
    with pytest.raises(ValueError, match="only this machine reaches"):
        Settings(accounts="off", http_host="0.0.0.0")
    assert Settings(accounts="off", http_host="::1").accounts == "off"
