"""Accounts and tokens managed over HTTP."""

import re

import httpx

from tests.inference.access.conftest import PASSWORD, SignIn
from tests.inference.access.test_commands import bearer
from tests.inference.access.test_sessions import code_of
from vigil_inference.access.roles import Role
from vigil_inference.access.tables import AccountRow
from vigil_inference.service import Service

NEW = {"name": "Hạnh", "display_name": "BS. Trần Thị Hạnh", "roles": ["radiologist"]}


def test_an_account_is_made_with_a_one_time_password_that_must_be_replaced(
    sign_in: SignIn,
) -> None:
    admin = sign_in("administrator")
    answer = admin.post("/api/accounts", json=NEW)
    assert answer.status_code == 201, answer.text
    once = answer.json()["one_time_password"]
    assert answer.json()["account"]["name"] == "hạnh"
    assert answer.headers["cache-control"] == "no-store"
    listed = {one["name"]: one for one in admin.get("/api/accounts").json()}
    assert listed["hạnh"]["must_change_password"]
    assert listed["hạnh"]["roles"] == ["radiologist"]
    assert once not in admin.get("/api/accounts").text
    reader = sign_in("hạnh", once)
    assert code_of(reader.get("/api/worklist")) == (403, "PASSWORD_CHANGE_REQUIRED")
    assert code_of(admin.post("/api/accounts", json=NEW)) == (422, "NAME_TAKEN")
    wrong = NEW | {"name": "two words"}
    assert code_of(admin.post("/api/accounts", json=wrong)) == (422, "NAME_SIGNS")
    nobody = NEW | {"name": "new", "roles": []}
    assert code_of(admin.post("/api/accounts", json=nobody)) == (422, "REQUEST_INVALID")


def test_roles_passwords_and_closing_take_hold_at_once(sign_in: SignIn) -> None:
    admin, reader = sign_in("administrator"), sign_in("radiologist")
    assert reader.get("/api/worklist").status_code == 200
    path = "/api/accounts/radiologist"
    changed = admin.put(f"{path}/roles", json={"roles": ["researcher", "technician"]})
    assert changed.json()["roles"] == ["researcher", "technician"]
    assert reader.get("/api/me").json()["roles"] == ["researcher", "technician"]
    once = admin.post(f"{path}/password", json={}).json()["one_time_password"]
    assert code_of(reader.get("/api/worklist")) == (401, "SESSION_EXPIRED")
    again = sign_in("radiologist", once)
    assert admin.post(f"{path}/disable", json={}).json()["is_disabled"]
    assert code_of(again.get("/api/me")) == (401, "SESSION_EXPIRED")
    refused = again.post("/api/session", json={"name": "radiologist", "password": once})
    assert code_of(refused) == (401, "SIGN_IN_REFUSED")
    assert not admin.post(f"{path}/enable", json={}).json()["is_disabled"]
    sign_in("radiologist", once)
    assert code_of(admin.post("/api/accounts/nobody/disable", json={})) == (422, "ACCOUNT_UNKNOWN")


def test_nobody_locks_himself_out(sign_in: SignIn) -> None:
    admin = sign_in("administrator")
    path = "/api/accounts/Administrator"
    for answer in (
        admin.put(f"{path}/roles", json={"roles": ["radiologist"]}),
        admin.post(f"{path}/disable", json={}),
        admin.post(f"{path}/password", json={}),
    ):
        assert code_of(answer) == (422, "OWN_ACCOUNT")
    assert admin.get("/api/me").json()["roles"] == ["administrator"]


def test_the_roles_of_whom_a_provider_vouches_for_are_the_providers(
    sign_in: SignIn, guarded: Service
) -> None:
    guarded.access.accounts.insert(
        AccountRow(
            name="minh", display_name="BS. Minh", roles=["administrator"], password_hash="",
            must_change_password=False, is_disabled=False, oidc_issuer="https://id.example",
            oidc_subject="1", created_at=guarded.store.now(),
        )
    )  # fmt: skip
    admin = sign_in("administrator")
    changed = admin.put("/api/accounts/minh/roles", json={"roles": ["radiologist"]})
    assert code_of(changed) == (422, "FROM_PROVIDER")
    assert admin.post("/api/accounts/minh/disable", json={}).json()["is_disabled"]


def test_without_accounts_none_is_made_that_would_open_doors_later(client: httpx.Client) -> None:
    body = {"name": "pacs", "roles": ["administrator"], "days": 3650}
    assert code_of(client.post("/api/tokens", json=body)) == (422, "NO_ACCOUNTS")
    assert code_of(client.post("/api/accounts", json=NEW)) == (422, "NO_ACCOUNTS")
    assert client.get("/api/tokens").json() == []


def test_a_token_is_made_shown_once_and_revoked(sign_in: SignIn, stranger: httpx.Client) -> None:
    admin = sign_in("administrator")
    body = {"name": "Pacs", "roles": ["service"], "days": 30}
    answer = admin.post("/api/tokens", json=body)
    secret = answer.json()["secret"]
    assert (answer.status_code, answer.json()["name"]) == (201, "pacs")
    assert re.fullmatch(r"vigil_[\w-]{43}", secret)
    assert stranger.get("/api/worklist", headers=bearer(secret)).status_code == 200
    [listed] = admin.get("/api/tokens").json()
    assert (listed["roles"], listed["revoked_at"]) == (["service"], None)
    assert secret not in admin.get("/api/tokens").text
    assert admin.delete("/api/tokens/pacs").status_code == 204
    answer = stranger.get("/api/worklist", headers=bearer(secret))
    assert code_of(answer) == (401, "TOKEN_EXPIRED")
    assert code_of(admin.delete("/api/tokens/other")) == (422, "TOKEN_UNKNOWN")


def test_a_change_needs_the_pages_own_token(sign_in: SignIn, guarded: Service) -> None:
    admin = sign_in("administrator")
    del admin.headers["X-CSRF-Token"]
    assert code_of(admin.post("/api/accounts", json=NEW)) == (403, "CSRF_REFUSED")
    assert code_of(admin.delete("/api/tokens/pacs")) == (403, "CSRF_REFUSED")
    assert {one.account.name for one in guarded.access.accounts.all()} == set(Role)


def test_what_was_changed_and_by_whom_is_in_the_trail_without_a_secret(sign_in: SignIn) -> None:
    admin = sign_in("administrator")
    admin.post("/api/accounts", json=NEW)
    admin.put("/api/accounts/hạnh/roles", json={"roles": ["technician", "researcher"]})
    secret = admin.post("/api/tokens", json={"name": "pacs", "roles": ["service"]}).json()["secret"]
    admin.delete("/api/tokens/pacs")
    admin.post("/api/accounts/administrator/disable", json={})
    reader = sign_in("radiologist", PASSWORD)
    assert code_of(reader.post("/api/accounts", json=NEW)) == (403, "NOT_ALLOWED")
    trail = admin.get("/api/audit")
    said = [
        (one["account"], one["action"], one["detail"], one["outcome"])
        for one in reversed(trail.json()["events"])
        if "sign_in" not in one["action"] and "audit" not in one["action"]
    ]
    assert said == [
        ("administrator", "add_account", "hạnh radiologist", 201),
        ("administrator", "set_roles", "hạnh researcher technician", 200),
        ("administrator", "create_token", "pacs service", 201),
        ("administrator", "revoke_token", "pacs", 204),
        ("administrator", "disable_account", "administrator", 422),
        ("radiologist", "add_account", "NOT_ALLOWED", 403),
    ]
    assert secret not in trail.text


def test_whether_the_trail_is_whole_is_said_to_who_may_see_it(sign_in: SignIn) -> None:
    admin = sign_in("administrator")
    found = admin.get("/api/audit/verification").json()
    assert found["problems"] == []
    assert found["last_id"] >= 1
    assert re.fullmatch("[0-9a-f]{64}", found["sha256"])
    reader = sign_in("radiologist")
    assert code_of(reader.get("/api/audit/verification")) == (403, "NOT_ALLOWED")
