"""The gate before the application: who asks, whether the route lets them, whether it is forged.

It decides before a byte of the body is read, from one table made of the routes themselves: a route
that declares no :class:`~vigil_inference.access.account.Requirement` answers nobody. So a forgotten
declaration is a closed door, and a test that walks over all routes finds it.
"""

import functools
import ipaddress
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie

import structlog
from fastapi.concurrency import run_in_threadpool
from fastapi.dependencies.models import Dependant
from fastapi.routing import iter_route_contexts
from sqlalchemy.exc import SQLAlchemyError
from starlette.datastructures import Headers
from starlette.routing import BaseRoute, Mount, compile_path
from starlette.types import ASGIApp, Receive, Scope, Send

from vigil.errors import VigilError
from vigil_inference.access.account import (
    EVERYBODY,
    NOBODY,
    OPEN,
    Account,
    NotAllowed,
    PasswordChangeRequired,
    Requirement,
    SessionExpired,
    SignInRequired,
)
from vigil_inference.access.desk import AccessDesk
from vigil_inference.access.forgery import check_same_origin, check_session_token
from vigil_inference.access.roles import Role
from vigil_inference.audit.recording import READING_METHODS, Recorder, action_of, study_of
from vigil_inference.operations.opening import Opening
from vigil_inference.problems import problem_response
from vigil_inference.settings import Settings

log = structlog.get_logger(__name__)

COOKIE, SECURE_COOKIE = "vigil-session", "__Host-vigil-session"
BACKGROUND_HEADER = "x-background"
"""With it the page says that no person asked: a session that only listens becomes idle."""
# The page's own files, and what the interface is: the same in every installation.
_OPEN_BY_NAME = frozenset({"assets", "openapi"})


@dataclass(frozen=True)
class Entry:
    """A route, as the gate knows it."""

    name: str
    path: str
    pattern: re.Pattern[str]
    methods: frozenset[str]
    requirement: Requirement | None


def entries_of(routes: Sequence[BaseRoute]) -> Iterator[Entry]:
    """Return what each route asks; ``requirement`` is None where it says nothing."""
    for context in iter_route_contexts(routes):
        path, name = context.path or "", context.name or ""
        is_mount = isinstance(context.original_route, Mount)
        pattern, _, _ = compile_path(f"{path}/{{path:path}}" if is_mount else path)
        dependant: Dependant | None = getattr(context, "dependant", None)
        requirement = _declared(dependant) if dependant is not None else None
        if dependant is None and name in _OPEN_BY_NAME:
            requirement = OPEN
        yield Entry(name, path, pattern, frozenset(context.methods or ()), requirement)


def _declared(dependant: Dependant) -> Requirement | None:
    """Return the requirement among a route's dependencies, the strictest of several."""
    found = []
    for needed in dependant.dependencies:
        if isinstance(needed.call, Requirement):
            found.append(needed.call)
        elif (deeper := _declared(needed)) is not None:
            found.append(deeper)
    return min(found, key=lambda one: (one.is_open, one.permission is None), default=None)


class Gate:
    """Finds the account behind each request and lets through what it may do.

    Parameters
    ----------
    app
        What is behind it.
    routes
        Of the application; looked at when the first request comes, when all are there.
    settings
        Of the deployment.
    opening
        Of the service: until it is open there are no accounts to ask.
    """

    def __init__(
        self, app: ASGIApp, routes: Sequence[BaseRoute], settings: Settings, opening: Opening
    ) -> None:
        self._app = app
        self._routes = routes
        self._settings = settings
        self._opening = opening

    @functools.cached_property
    def entries(self) -> tuple[Entry, ...]:
        """What each route asks."""
        return tuple(entries_of(self._routes))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        state["account"] = NOBODY
        entry, match = self._entry(scope["path"], scope["method"])
        recorder = self._recorder(scope, entry, match, send)
        try:
            await self._admit(scope, entry)
        except SQLAlchemyError as error:
            log.error("database_failed", error=type(error).__name__)
            answer = problem_response(
                503, "DATABASE_UNAVAILABLE", "the database does not answer; try again"
            )
            await answer(scope, receive, send)
            return
        except VigilError as refusal:
            headers = {}
            if refusal.http_status == HTTPStatus.UNAUTHORIZED:
                headers["WWW-Authenticate"] = 'Bearer realm="vigil"'
            elif recorder is not None:
                recorder.refused(refusal)
            answer = problem_response(refusal.http_status, refusal.code, str(refusal), headers)
            await answer(scope, receive, send)
            return
        await self._app(scope, receive, send if recorder is None else recorder)

    def _recorder(
        self, scope: Scope, entry: Entry | None, match: re.Match[str] | None, send: Send
    ) -> Recorder | None:
        """Return what records the request in the audit trail, None where it need not be."""
        service = self._opening.service
        if entry is None or entry.requirement is None or match is None or service is None:
            return None
        action = action_of(entry.name, entry.path, scope["method"], entry.requirement)
        return Recorder(service.audit, scope, action, study_of(match), send) if action else None

    async def _admit(self, scope: Scope, entry: Entry | None) -> None:
        """Write into the request whose it is, or refuse it."""
        if entry is None:
            return  # the application says 404 or 405
        requirement = entry.requirement
        if requirement is None:
            log.error("route_without_permission", route=entry.name)
            raise NotAllowed("this route declares no permission")
        headers = Headers(scope=scope)
        changes = scope["method"] not in READING_METHODS
        if changes and "authorization" not in headers:
            check_same_origin(headers)
        state = scope["state"]
        if self._settings.accounts == "off":
            state["account"] = EVERYBODY
        elif requirement.is_open:
            pass
        elif requirement.is_open_here and _is_here(scope):
            state["is_admitted"] = True
        else:
            state["account"] = await self._authenticate(scope, headers, changes, requirement)
            requirement.check(state["account"])

    def _entry(self, path: str, method: str) -> tuple[Entry | None, re.Match[str] | None]:
        for entry in self.entries:
            if entry.methods and method not in entry.methods:
                continue
            if (match := entry.pattern.match(path)) is not None:
                return entry, match
        return None, None

    async def _authenticate(
        self, scope: Scope, headers: Headers, changes: bool, requirement: Requirement
    ) -> Account:
        service = self._opening.service
        if service is None:
            raise SignInRequired("the service is starting; there is nobody to ask yet")
        desk = service.access
        kind, _, secret = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer":
            scope["state"]["token"] = token = secret.strip()
            if (known := desk.tokens.recall(token)) is not None:
                return known
            return await run_in_threadpool(desk.tokens.find, token)
        if kind:
            raise SignInRequired("expected a token: Authorization: Bearer …")
        if (cookie := session_secret(scope, headers)) is not None:
            return await self._of_session(scope, headers, cookie, desk, changes, requirement)
        if self._is_trusted(scope):
            return Account(f"dicomweb:{scope['client'][0]}", "", frozenset({Role.SERVICE}))
        raise SignInRequired("sign in, or send a token")

    async def _of_session(
        self,
        scope: Scope,
        headers: Headers,
        secret: str,
        desk: AccessDesk,
        changes: bool,
        requirement: Requirement,
    ) -> Account:
        is_activity = _is_activity(headers)
        session = desk.sessions.recall(secret, is_activity=is_activity)
        if session is None:
            session = await run_in_threadpool(desk.sessions.find, secret, is_activity=is_activity)
        if session is None:
            raise SessionExpired("the session has ended; sign in again")
        if changes:
            check_session_token(headers, session, is_json=scope["path"].startswith("/api/"))
        if session.must_change_password and requirement.permission is not None:
            raise PasswordChangeRequired("replace the one-time password first")
        scope["state"]["session"] = session
        scope["state"]["session_secret"] = secret
        return session.account

    def _is_trusted(self, scope: Scope) -> bool:
        """Whether a PACS that can send no token asks for DICOMweb."""
        networks = self._settings.dicomweb_trusted_addresses
        address = _address(scope)
        return (
            address is not None
            and scope["path"].startswith("/dicomweb/")
            and any(address in network for network in networks)
        )


def _is_activity(headers: Headers) -> bool:
    """Whether a person did this; pictures are asked for by a list that renews itself, too."""
    return BACKGROUND_HEADER not in headers and headers.get("sec-fetch-dest", "empty") == "empty"


def is_secure(scope: Scope) -> bool:
    """Whether the request came by TLS, here or at the proxy before us."""
    return scope.get("scheme") == "https"


def session_secret(scope: Scope, headers: Headers) -> str | None:
    """Return the secret of the session's cookie; one that came by TLS counts only there."""
    jar: SimpleCookie = SimpleCookie()
    for line in headers.getlist("cookie"):
        try:
            jar.load(line)
        except CookieError:
            continue
    cookie = jar.get(SECURE_COOKIE if is_secure(scope) else COOKIE)
    return cookie.value or None if cookie is not None else None


def _address(scope: Scope) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    client = scope.get("client")
    try:
        found = ipaddress.ip_address(client[0]) if client else None
    except ValueError:
        return None
    mapped = getattr(found, "ipv4_mapped", None)
    return mapped or found


def _is_here(scope: Scope) -> bool:
    address = _address(scope)
    return address is not None and address.is_loopback
