"""Forged requests: a page of another site that makes a reader's browser change something here.

Four things stand against it, each enough alone: the cookie is ``SameSite=Strict``; bodies are JSON,
which a foreign page cannot send without being asked for permission first; the browser says where
the request comes from; and a header carries a token that only our page was told.
"""

import hmac
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from vigil.errors import VigilError
from vigil_inference.access.sessions import OpenSession

CSRF_HEADER = "x-csrf-token"


class RequestForged(VigilError):
    """A change that the page did not ask for."""

    code = "CSRF_REFUSED"
    http_status = 403


class JsonExpected(VigilError):
    """A change by a person has a body of JSON."""

    code = "JSON_EXPECTED"
    http_status = 415


def check_same_origin(headers: Headers) -> None:
    """Refuse a change that a browser says comes from another site; programs say nothing."""
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is not None:
        is_ours = site in ("same-origin", "none")
    else:  # an older browser, or a plain http:// address other than this machine's
        is_ours = origin is None or _host(origin) == headers.get("host", "").lower()
    if not is_ours:
        raise RequestForged("the request comes from another site")


def _host(origin: str) -> str:
    return urlsplit(origin).netloc.lower()


def check_session_token(headers: Headers, session: OpenSession, *, is_json: bool) -> None:
    """Refuse a change by cookie that lacks the session's token, or a body that is no JSON."""
    sent = headers.get(CSRF_HEADER, "").encode()
    if not hmac.compare_digest(sent, session.csrf_token.encode()):
        raise RequestForged(f"expected the session's token in {CSRF_HEADER}")
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    has_body = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
    if is_json and has_body and kind != "application/json":
        raise JsonExpected("expected a body of application/json")
