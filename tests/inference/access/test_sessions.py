"""Signing in and out, how sessions end, and what a foreign page cannot do."""

from collections.abc import Callable
from datetime import datetime, timedelta

import httpx
import pytest

from tests.inference.access.conftest import PASSWORD, SignIn
from tests.inference.conftest import Until
from vigil_inference.access import sessions, stream
from vigil_inference.access.desk import AccessDesk
from vigil_inference.access.gate import COOKIE
from vigil_inference.access.roles import Role
from vigil_inference.service import Service
from vigil_inference.settings import Settings
from vigil_inference.store import Store

JSON = {"Content-Type": "application/json"}


def code_of(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


def test_who_signs_in_is_told_what_he_may_do(stranger: httpx.Client) -> None:
    answer = stranger.post("/api/session", json={"name": "Radiologist ", "password": PASSWORD})
    me = answer.json()
    assert (me["name"], me["display_name"]) == ("radiologist", "The radiologist")
    assert me["roles"] == ["radiologist"]
    assert "read_studies" in me["permissions"]
    assert "see_audit_trail" not in me["permissions"]
    assert me["must_change_password"] is False
    assert stranger.get("/api/me").json() == me
    assert stranger.get("/api/worklist").status_code == 200


def test_no_script_and_no_other_site_gets_the_sessions_cookie(stranger: httpx.Client) -> None:
    answer = stranger.post("/api/session", json={"name": "radiologist", "password": PASSWORD})
    [cookie] = answer.headers.get_list("set-cookie")
    parts = {part.strip().lower() for part in cookie.split(";")[1:]}
    assert parts == {"httponly", "path=/", "samesite=strict"}
    by_tls = stranger.post(
        "/api/session",
        json={"name": "radiologist", "password": PASSWORD},
        headers={"X-Forwarded-Proto": "https"},
    )
    [cookie] = by_tls.headers.get_list("set-cookie")
    assert cookie.startswith("__Host-vigil-session=")
    parts = {part.strip().lower() for part in cookie.split(";")[1:]}
    assert parts == {"httponly", "path=/", "samesite=strict", "secure"}


def test_the_database_holds_neither_password_nor_secret(
    guarded: Service, stranger: httpx.Client
) -> None:
    stranger.post("/api/session", json={"name": "radiologist", "password": PASSWORD})
    secret = stranger.cookies[COOKIE]
    path = guarded.settings.data_dir
    content = b"".join(file.read_bytes() for file in path.glob("vigil.sqlite3*"))
    assert b"$argon2id$" in content
    assert sessions.digest_of(secret).encode() in content
    assert secret.encode() not in content
    assert PASSWORD.encode() not in content


@pytest.mark.parametrize(
    ("name", "password"),
    [("radiologist", "correct horse batteries"), ("nobody", PASSWORD), ("no name!", PASSWORD)],
)
def test_it_is_not_said_whether_the_name_or_the_password_is_wrong(
    stranger: httpx.Client, name: str, password: str
) -> None:
    answer = stranger.post("/api/session", json={"name": name, "password": password})
    assert code_of(answer) == (401, "SIGN_IN_REFUSED")
    assert answer.json()["message"] == "name and password do not belong together"
    assert "set-cookie" not in answer.headers


def test_an_unknown_name_costs_a_hash_like_a_known_one(
    guarded: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vigil_inference.access import passwords

    checked: list[str] = []
    verify = passwords._HASHER.verify

    class Counting:
        def verify(self, kept: str, password: str) -> bool:
            checked.append(kept)
            return verify(kept, password)

    passwords._nobodys()
    monkeypatch.setattr(passwords, "_HASHER", Counting())
    accounts = guarded.access.accounts
    assert accounts.check_password("nobody", PASSWORD) is None
    assert accounts.check_password("radiologist", "something else") is None
    parameters = [kept.rpartition("$")[0].rpartition("$")[0] for kept in checked]
    assert len(parameters) == 2
    assert parameters[0] == parameters[1]


def test_signing_out_ends_the_session(sign_in: SignIn) -> None:
    client = sign_in("radiologist")
    cookie = dict(client.cookies)
    assert client.delete("/api/session").status_code == 204
    assert COOKIE not in client.cookies
    client.cookies.update(cookie)  # as somebody would who had copied it
    assert code_of(client.get("/api/worklist")) == (401, "SESSION_EXPIRED")


def test_who_is_disabled_is_out_at_once(sign_in: SignIn, guarded: Service) -> None:
    client = sign_in("radiologist")
    assert client.get("/api/worklist").status_code == 200
    guarded.access.accounts.set_disabled("radiologist", True)
    guarded.access.sessions.forget_all()
    assert code_of(client.get("/api/worklist")) == (401, "SESSION_EXPIRED")
    answer = client.post("/api/session", json={"name": "radiologist", "password": PASSWORD})
    assert code_of(answer) == (401, "SIGN_IN_REFUSED")
    guarded.access.accounts.set_disabled("radiologist", False)
    assert sign_in("radiologist").get("/api/worklist").status_code == 200


def test_what_another_process_ends_is_out_within_seconds(
    sign_in: SignIn, guarded: Service, until: Until
) -> None:
    client = sign_in("radiologist")
    client.get("/api/worklist")
    other = AccessDesk(Store(guarded.settings.database), guarded.settings)
    other.accounts.set_disabled("radiologist", True)
    until(lambda: client.get("/api/worklist").status_code == 401, 5.0)


class Clock:
    """A store whose time is set by hand."""

    def __init__(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        self.moment = store.now()
        monkeypatch.setattr(store, "now", lambda: self.moment)

    def forward(self, **time: float) -> datetime:
        self.moment += timedelta(**time)
        return self.moment


@pytest.fixture
def desk(store: Store, settings: Settings) -> AccessDesk:
    desk = AccessDesk(store, settings)
    desk.accounts.add("hanh", "BS. Trần Thị Hạnh", {Role.RADIOLOGIST}, PASSWORD)
    return desk


def test_a_session_ends_when_its_owner_is_idle(
    desk: AccessDesk, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(store, monkeypatch)
    secret = desk.sign_in("hanh", PASSWORD, "")
    assert secret is not None
    for _ in range(3):
        clock.forward(minutes=29)
        assert desk.sessions.find(secret, is_activity=True) is not None
    clock.forward(minutes=20)
    assert desk.sessions.find(secret) is not None  # the page that renews itself
    clock.forward(minutes=11)
    assert desk.sessions.recall(secret) is None
    assert desk.sessions.find(secret, is_activity=True) is None


def test_a_session_ends_after_a_shift_whatever_its_owner_does(
    desk: AccessDesk, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(store, monkeypatch)
    secret = desk.sign_in("hanh", PASSWORD, "")
    assert secret is not None
    found = None
    for _ in range(35):
        clock.forward(minutes=20)
        found = desk.sessions.find(secret, is_activity=True)
    assert found is not None
    clock.forward(minutes=20)
    assert desk.sessions.find(secret, is_activity=True) is None


def test_a_session_that_the_page_keeps_open_by_itself_is_no_activity(
    sign_in: SignIn, guarded: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = sign_in("radiologist")
    clock = Clock(guarded.store, monkeypatch)
    clock.forward(minutes=20)
    assert client.get("/api/worklist", headers={"X-Background": "1"}).status_code == 200
    assert client.get("/api/me", headers={"Sec-Fetch-Dest": "image"}).status_code == 200
    clock.forward(minutes=11)
    assert code_of(client.get("/api/worklist")) == (401, "SESSION_EXPIRED")


def test_live_updates_end_with_the_session(
    sign_in: SignIn, guarded: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "LOOK_SECONDS", 0.1)
    client = sign_in("radiologist")
    with client.stream("GET", "/api/events") as events:
        lines = events.iter_lines()
        assert next(lines) == "event: hello"
        guarded.access.accounts.set_disabled("radiologist", True)
        guarded.access.sessions.forget_all()
        rest = list(lines)  # it ends by itself
    assert not [line for line in rest if line.startswith("event: study")]
    assert client.get("/api/events").status_code == 401


def test_a_one_time_password_allows_nothing_but_to_replace_it(
    sign_in: SignIn, guarded: Service
) -> None:
    _, once = guarded.access.accounts.add("new", "", {Role.RADIOLOGIST})
    client = sign_in("new", once)
    me = client.get("/api/me").json()
    assert me["must_change_password"] is True
    assert me["permissions"] == []
    assert code_of(client.get("/api/worklist")) == (403, "PASSWORD_CHANGE_REQUIRED")
    change = {"old_password": once, "new_password": "another horse battery"}
    former = dict(client.cookies)
    answer = client.put("/api/me/password", json=change)
    assert answer.json()["must_change_password"] is False
    assert client.get("/api/worklist").status_code == 200
    client.cookies.clear()
    assert code_of(client.get("/api/worklist", headers=cookies(former))) == (
        401,
        "SESSION_EXPIRED",
    )
    again = client.post("/api/session", json={"name": "new", "password": once})
    assert code_of(again) == (401, "SIGN_IN_REFUSED")


def cookies(jar: dict[str, str]) -> dict[str, str]:
    return {"Cookie": "; ".join(f"{name}={value}" for name, value in jar.items())}


def test_a_password_changes_only_with_the_old_one(sign_in: SignIn) -> None:
    client = sign_in("radiologist")
    change = {"old_password": "not this one at all", "new_password": "another horse battery"}
    assert code_of(client.put("/api/me/password", json=change)) == (422, "PASSWORD_WRONG")
    assert client.get("/api/worklist").status_code == 200


Change = Callable[[httpx.Client, dict[str, str]], httpx.Response]


def retry(client: httpx.Client, headers: dict[str, str]) -> httpx.Response:
    body = '{"destination": "pacs"}'
    return client.post("/api/deliveries/retry", content=body, headers=JSON | headers)


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"X-CSRF-Token": ""}, "CSRF_REFUSED"),
        ({"X-CSRF-Token": "0" * 64}, "CSRF_REFUSED"),
        ({"X-CSRF-Token": "é"}, "CSRF_REFUSED"),
        ({"Origin": "https://evil.example"}, "CSRF_REFUSED"),
        ({"Origin": "null"}, "CSRF_REFUSED"),
        ({"Sec-Fetch-Site": "cross-site"}, "CSRF_REFUSED"),
        ({"Sec-Fetch-Site": "same-site"}, "CSRF_REFUSED"),
        ({"Content-Type": "text/plain"}, "JSON_EXPECTED"),
        ({"Content-Type": "application/x-www-form-urlencoded"}, "JSON_EXPECTED"),
    ],
)
def test_a_change_that_the_page_did_not_ask_for_is_refused(
    sign_in: SignIn, headers: dict[str, str], code: str
) -> None:
    client = sign_in("administrator")
    encoded = {name: value.encode() for name, value in headers.items()}
    answer = client.post(
        "/api/deliveries/retry",
        content='{"destination": "pacs"}',
        headers=JSON | encoded,  # type: ignore[operator]
    )
    assert answer.json()["code"] == code
    assert answer.status_code in (403, 415)
    assert retry(client, {}).status_code == 200


def test_the_session_of_another_gives_no_token(sign_in: SignIn) -> None:
    one, other = sign_in("administrator"), sign_in("administrator")
    answer = retry(one, {"X-CSRF-Token": other.headers["X-CSRF-Token"]})
    assert code_of(answer) == (403, "CSRF_REFUSED")


def test_a_foreign_page_signs_nobody_in(stranger: httpx.Client) -> None:
    body = {"name": "radiologist", "password": PASSWORD}
    for headers in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        answer = stranger.post("/api/session", json=body, headers=headers)
        assert code_of(answer) == (403, "CSRF_REFUSED")


def test_a_foreign_page_changes_nothing_where_there_are_no_accounts(client: httpx.Client) -> None:
    assert code_of(retry(client, {"Sec-Fetch-Site": "cross-site"})) == (403, "CSRF_REFUSED")
    assert retry(client, {"Sec-Fetch-Site": "same-origin"}).status_code == 200
    assert retry(client, {}).status_code == 200


def test_without_accounts_the_page_is_told_so(client: httpx.Client) -> None:
    assert client.get("/api/configuration").json()["accounts"] == "off"
    me = client.get("/api/me").json()
    assert (me["name"], len(me["roles"])) == ("local", len(Role))
    answer = client.post("/api/session", json={"name": "radiologist", "password": PASSWORD})
    assert code_of(answer) == (422, "NO_ACCOUNTS")


def test_every_answer_has_the_security_headers(stranger: httpx.Client) -> None:
    for path in ("/", "/api/worklist", "/api/me", "/nothing-here", "/assets/main.js"):
        headers = stranger.get(path).headers
        policy = headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
        assert "unsafe" not in policy
        assert headers["x-frame-options"] == "DENY"
        assert headers["x-content-type-options"] == "nosniff"
