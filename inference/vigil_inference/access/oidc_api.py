"""The way to the OpenID provider and back."""

import structlog
from fastapi import APIRouter, Depends, Request
from fastapi.responses import RedirectResponse

from vigil.errors import VigilError
from vigil_inference.access.account import OPEN
from vigil_inference.access.api import Desk, address_of, set_session_cookie
from vigil_inference.access.gate import is_secure
from vigil_inference.access.oidc_errand import Errand, ProviderRefused
from vigil_inference.audit.trail import AuditEvent
from vigil_inference.service import Service

log = structlog.get_logger(__name__)

router = APIRouter(tags=["Accounts"], dependencies=[Depends(OPEN)])
_ERRAND_SECONDS = 600


def _cookie(request: Request) -> str:
    return "__Host-vigil-oidc" if is_secure(request.scope) else "vigil-oidc"


def _callback(request: Request) -> str:
    return str(request.url_for("finish_oidc_sign_in"))


@router.get("/api/oidc/sign-in", status_code=303, response_class=RedirectResponse)
def begin_oidc_sign_in(desk: Desk, request: Request) -> RedirectResponse:
    """Send the browser to the OpenID provider."""
    if desk.provider is None:
        raise ProviderRefused("OIDC_UNAVAILABLE", "this installation has no OpenID provider")
    errand = Errand.new()
    answer = RedirectResponse(desk.provider.address(errand, _callback(request)), 303)
    # Lax: the provider's page, another site, sends the browser back with it.
    answer.set_cookie(
        _cookie(request),
        errand.written(),
        max_age=_ERRAND_SECONDS,
        secure=is_secure(request.scope),
        httponly=True,
        samesite="lax",
    )
    return answer


@router.get("/api/oidc/callback", status_code=303, response_class=RedirectResponse)
def finish_oidc_sign_in(
    desk: Desk, request: Request, state: str = "", code: str = ""
) -> RedirectResponse:
    """Let in whom the provider vouches for, and show the page."""
    service: Service = request.app.state.service
    errand = Errand.read(request.cookies.get(_cookie(request), ""))
    refusal, name = "", ""
    answer = RedirectResponse("/", 303)
    try:
        if desk.provider is None or errand is None or not code:
            raise ProviderRefused("OIDC_REFUSED", "nobody was sent, or nobody came back")
        account_id = desk.provider.account_id(errand, state, code, _callback(request))
        secret = desk.sessions.open(account_id)
        session = desk.sessions.find(secret)
        name = session.account.name if session is not None else ""
        set_session_cookie(request, answer, secret)
    except VigilError as error:
        refusal = error.code
        log.warning("oidc_refused", code=error.code, reason=str(error))
        answer = RedirectResponse(f"/?sign-in={refusal}", 303)
    service.audit.append(
        AuditEvent(
            name,
            "sign_in",
            "",
            401 if refusal else 200,
            f"oidc {refusal}".strip(),
            address_of(request),
        )
    )
    answer.delete_cookie(
        _cookie(request), secure=is_secure(request.scope), httponly=True, samesite="lax"
    )
    return answer
