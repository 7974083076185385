"""Signing in and out over HTTP, and what the page knows of whoever is signed in."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from vigil.errors import VigilError
from vigil_inference.access.account import OPEN, SIGNED_IN, Account, SessionExpired, current_account
from vigil_inference.access.accounts import AccountRefused
from vigil_inference.access.desk import AccessDesk
from vigil_inference.access.gate import COOKIE, SECURE_COOKIE, is_secure, session_secret
from vigil_inference.access.passwords import MOST_LENGTH
from vigil_inference.access.roles import ALLOWED, Permission, Role
from vigil_inference.access.sessions import OpenSession, csrf_token_of
from vigil_inference.service import Service
from vigil_inference.views import Problem

router = APIRouter(tags=["Accounts"])

_Secret = Annotated[str, Field(max_length=MOST_LENGTH)]


class SignInRefused(VigilError):
    """Name and password do not belong together; it is not said which is wrong."""

    code = "SIGN_IN_REFUSED"
    http_status = 401


class _View(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SignIn(_View):
    """Who wants to sign in."""

    name: str = Field(max_length=256)
    password: _Secret


class PasswordChange(_View):
    """Somebody's own new password."""

    old_password: _Secret
    new_password: _Secret


class Me(_View):
    """Who is signed in, and what the page may offer."""

    name: str
    display_name: str
    roles: tuple[Role, ...]
    permissions: tuple[Permission, ...]
    must_change_password: bool = Field(
        description="True with a one-time password: nothing else is allowed until it is replaced."
    )
    csrf_token: str = Field(
        description="To be sent as `X-CSRF-Token` with each change that a session asks for; empty "
        "for a token, which needs none."
    )


def _desk(request: Request) -> AccessDesk:
    service: Service = request.app.state.service
    return service.access


Desk = Annotated[AccessDesk, Depends(_desk)]
_REFUSED: dict[int | str, dict[str, Any]] = {
    401: {"model": Problem},
    403: {"model": Problem},
    429: {"model": Problem},
}


@router.post("/api/session", dependencies=[Depends(OPEN)], responses=_REFUSED)
def sign_in(desk: Desk, request: Request, body: SignIn, response: Response) -> Me:
    """Sign in with a password: the answer sets the session's cookie."""
    if desk.settings.accounts == "off":
        raise AccountRefused("NO_ACCOUNTS", "this installation has no accounts")
    request.state.audit_account = desk.accounts.known_name(body.name)
    secret = desk.sign_in(body.name, body.password, address_of(request))
    if secret is None:
        raise SignInRefused("name and password do not belong together")
    if (former := session_secret(request.scope, request.headers)) is not None:
        desk.sessions.end(former)
    set_session_cookie(request, response, secret)
    return _me_of(desk, secret)


@router.delete("/api/session", dependencies=[Depends(SIGNED_IN)], status_code=204)
def sign_out(desk: Desk, request: Request) -> Response:
    """Sign out: the session ends on every node."""
    response = Response(status_code=204)
    secret = getattr(request.state, "session_secret", None)
    if secret is not None:
        desk.sessions.end(secret)
        secure = is_secure(request.scope)
        response.delete_cookie(
            SECURE_COOKIE if secure else COOKIE, secure=secure, httponly=True, samesite="strict"
        )
    return response


@router.get("/api/me", dependencies=[Depends(SIGNED_IN)], responses=_REFUSED)
def get_me(request: Request) -> Me:
    """Say who is signed in, and what may be done."""
    session: OpenSession | None = getattr(request.state, "session", None)
    return me(
        current_account(request),
        must_change_password=session is not None and session.must_change_password,
        csrf_token=session.csrf_token if session is not None else "",
    )


@router.put("/api/me/password", dependencies=[Depends(SIGNED_IN)], responses=_REFUSED)
def change_password(desk: Desk, request: Request, body: PasswordChange, response: Response) -> Me:
    """Choose another password; every other session of the account ends."""
    if getattr(request.state, "session", None) is None:
        raise AccountRefused("NO_PASSWORD", "only a person who is signed in has a password")
    name = current_account(request).name
    changed = desk.change_password(name, body.old_password, body.new_password, address_of(request))
    if changed is None:
        raise AccountRefused("PASSWORD_WRONG", "the old password is not this account's")
    set_session_cookie(request, response, changed[1])
    return _me_of(desk, changed[1])


def address_of(request: Request) -> str:
    """Return where a request comes from, as far as the proxies before us say."""
    return request.client.host if request.client is not None else ""


def set_session_cookie(request: Request, response: Response, secret: str) -> None:
    """Give the browser a session: no script reads it, no other site sends it."""
    secure = is_secure(request.scope)
    response.set_cookie(
        SECURE_COOKIE if secure else COOKIE,
        secret,
        secure=secure,
        httponly=True,
        samesite="strict",
        path="/",
    )


def me(account: Account, *, must_change_password: bool, csrf_token: str) -> Me:
    """Return what the page knows of an account."""
    permissions = {permission for role in account.roles for permission in ALLOWED[role]}
    return Me(
        name=account.name,
        display_name=account.display_name,
        roles=tuple(sorted(account.roles)),
        permissions=() if must_change_password else tuple(sorted(permissions)),
        must_change_password=must_change_password,
        csrf_token=csrf_token,
    )


def _me_of(desk: AccessDesk, secret: str) -> Me:
    session = desk.sessions.find(secret)
    if session is None:  # it was ended in this very moment
        raise SessionExpired("the session has ended; sign in again")
    return me(
        session.account,
        must_change_password=session.must_change_password,
        csrf_token=csrf_token_of(secret),
    )
