"""Accounts and tokens over HTTP, as ``vigil users`` and ``vigil tokens`` manage them.

The routes are called as the commands are in the audit trail, and say there what they were about.
"""

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field

from vigil_inference.access.account import Account, require
from vigil_inference.access.accounts import AccountRecord, AccountRefused, normal_name
from vigil_inference.access.api import Desk
from vigil_inference.access.roles import Permission, Role
from vigil_inference.access.tokens import TokenRecord
from vigil_inference.views import Problem

Manager = Annotated[Account, Depends(require(Permission.MANAGE_ACCOUNTS))]
_REFUSED: dict[int | str, dict[str, Any]] = {403: {"model": Problem}, 422: {"model": Problem}}


def _check_accounts_are_on(desk: Desk, request: Request) -> None:
    """Refuse to make what would open doors on the day that accounts are switched on."""
    if request.method != "GET" and desk.settings.accounts == "off":
        raise AccountRefused("NO_ACCOUNTS", "this installation has no accounts")


router = APIRouter(
    tags=["Accounts"], responses=_REFUSED, dependencies=[Depends(_check_accounts_are_on)]
)

_Roles = Annotated[frozenset[Role], Field(min_length=1)]
_LONGEST_NAME = 256


class _View(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class AccountView(_View):
    """An account as those who manage it see it."""

    name: str
    display_name: str
    roles: tuple[Role, ...]
    is_from_provider: bool = Field(description="An OpenID provider vouches for it.")
    must_change_password: bool = Field(description="It has a one-time password.")
    is_disabled: bool
    created_at: datetime
    last_sign_in_at: datetime | None


class NewAccount(_View):
    """Who shall be let in."""

    name: str = Field(max_length=_LONGEST_NAME)
    display_name: str = Field("", max_length=200, description="As people read it.")
    roles: _Roles


class RolesBody(_View):
    """What somebody is from now on."""

    roles: _Roles


class OneTimePassword(_View):
    """A password that allows nothing but to choose another; it is shown this once."""

    account: AccountView
    one_time_password: str


class TokenView(_View):
    """A token; its secret is nowhere."""

    name: str
    roles: tuple[Role, ...]
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None


class NewToken(_View):
    """Which machine or program may ask."""

    name: str = Field(max_length=_LONGEST_NAME)
    roles: _Roles
    days: int = Field(365, ge=1, le=3650, description="How long it is good for.")


class TokenSecret(_View):
    """A token's secret, shown this once."""

    name: str
    secret: str


@router.get("/api/accounts")
def get_accounts(desk: Desk, _manager: Manager) -> tuple[AccountView, ...]:
    """List the accounts, what they are, and when each was last there."""
    return tuple(_account(record) for record in desk.accounts.all())


@router.post("/api/accounts", status_code=201)
def add_account(
    desk: Desk, _manager: Manager, request: Request, body: NewAccount
) -> OneTimePassword:
    """Make an account, with a one-time password."""
    _note(request, body.name, body.roles)
    record, once = desk.accounts.add(body.name, body.display_name, body.roles)
    return OneTimePassword(account=_account(record), one_time_password=once)


@router.put("/api/accounts/{name}/roles")
def set_roles(
    desk: Desk, manager: Manager, request: Request, name: str, body: RolesBody
) -> AccountView:
    """Say what somebody is from now on, instead of what it was."""
    _note(request, name, body.roles)
    _check_other(manager, name)
    if desk.accounts.find(name).is_from_provider:
        raise AccountRefused("FROM_PROVIDER", "its OpenID provider says at each sign-in what it is")
    desk.accounts.set_roles(name, body.roles)
    return _changed(desk, name)


@router.post("/api/accounts/{name}/password")
def set_password(desk: Desk, manager: Manager, request: Request, name: str) -> OneTimePassword:
    """Give an account a one-time password; every session of it ends."""
    _note(request, name)
    _check_other(manager, name)
    if desk.accounts.find(name).is_from_provider:
        raise AccountRefused("NO_PASSWORD", "an OpenID provider vouches for it; it has no password")
    once = desk.accounts.set_password(name)
    return OneTimePassword(account=_changed(desk, name), one_time_password=once)


@router.post("/api/accounts/{name}/disable")
def disable_account(desk: Desk, manager: Manager, request: Request, name: str) -> AccountView:
    """Let somebody in no more; every session of it ends. Its name stays in the records."""
    _note(request, name)
    _check_other(manager, name)
    desk.accounts.set_disabled(name, True)
    return _changed(desk, name)


@router.post("/api/accounts/{name}/enable")
def enable_account(desk: Desk, _manager: Manager, request: Request, name: str) -> AccountView:
    """Let somebody in again."""
    _note(request, name)
    desk.accounts.set_disabled(name, False)
    return _changed(desk, name)


@router.get("/api/tokens")
def get_tokens(desk: Desk, _manager: Manager) -> tuple[TokenView, ...]:
    """List the tokens, what they are, until when, and when each was last used."""
    return tuple(_token(record) for record in desk.tokens.all())


@router.post("/api/tokens", status_code=201)
def create_token(desk: Desk, _manager: Manager, request: Request, body: NewToken) -> TokenSecret:
    """Make a token, to be sent as `Authorization: Bearer TOKEN`."""
    _note(request, body.name, body.roles)
    secret = desk.tokens.create(body.name, body.roles, timedelta(days=body.days))
    return TokenSecret(name=normal_name(body.name), secret=secret)


@router.delete("/api/tokens/{name}", status_code=204)
def revoke_token(desk: Desk, _manager: Manager, request: Request, name: str) -> None:
    """Let a token in no more."""
    _note(request, name)
    desk.tokens.revoke(name)


def _note(request: Request, name: str, roles: Collection[Role] = ()) -> None:
    """Say in the audit trail what it is about, as the commands do.

    Raises
    ------
    AccountRefused
        If it is no name.
    """
    said = [normal_name(name), *sorted(role.value for role in roles)]
    request.state.audit_detail = " ".join(said)


def _check_other(manager: Account, name: str) -> None:
    """Refuse what would lock whoever asks out of managing; another administrator can do it."""
    if normal_name(name) == manager.name:
        raise AccountRefused("OWN_ACCOUNT", "another administrator must change this account")


def _changed(desk: Desk, name: str) -> AccountView:
    desk.sessions.forget_all()
    return _account(desk.accounts.find(name))


def _account(record: AccountRecord) -> AccountView:
    return AccountView(
        name=record.account.name,
        display_name=record.account.display_name,
        roles=tuple(sorted(record.account.roles)),
        is_from_provider=record.is_from_provider,
        must_change_password=record.must_change_password,
        is_disabled=record.is_disabled,
        created_at=record.created_at,
        last_sign_in_at=record.last_sign_in_at,
    )


def _token(record: TokenRecord) -> TokenView:
    return TokenView(
        name=record.name,
        roles=tuple(sorted(record.roles)),
        created_at=record.created_at,
        expires_at=record.expires_at,
        last_used_at=record.last_used_at,
        revoked_at=record.revoked_at,
    )
