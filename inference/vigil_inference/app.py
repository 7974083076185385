"""The web application: interface, DICOMweb and page on one service, with its guards."""

import asyncio
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
from fastapi import Depends, FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import vigil
from vigil.errors import VigilError
from vigil_inference import (
    api,
    dicomweb,
    dicomweb_query,
    dicomweb_rendered,
    dicomweb_retrieve,
    model_card,
    picture_api,
)
from vigil_inference.access import api as access_api
from vigil_inference.access import manage_api, oidc_api
from vigil_inference.access.account import OPEN
from vigil_inference.access.gate import Gate
from vigil_inference.audit import api as audit_api
from vigil_inference.compression import Compressed
from vigil_inference.delivery import api as delivery_api
from vigil_inference.operations import api as operations_api
from vigil_inference.operations.opening import Opening
from vigil_inference.page_files import WEB, Assets, page
from vigil_inference.problems import problem_response
from vigil_inference.promotion import api as promotion_api
from vigil_inference.reading import api as reading_api
from vigil_inference.service import Service
from vigil_inference.settings import Settings
from vigil_inference.views import Problem
from vigil_inference.worklist import api as worklist_api

log = structlog.get_logger(__name__)

SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self'; connect-src 'self'; manifest-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}


class Guard:
    """Adds the security headers to every answer, and answers where the code below it failed.

    Patient data is kept out of caches, and an error's own words, which may quote it, out of logs.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def send_guarded(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = list(message.get("headers", ()))
                present = {name.lower() for name, _ in headers}
                for name, value in (SECURITY_HEADERS | {"Cache-Control": "no-store"}).items():
                    if name.lower().encode() not in present:
                        headers.append((name.lower().encode(), value.encode()))
                message["headers"] = headers
            await send(message)

        try:
            await self._app(scope, receive, send_guarded)
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{place.name}, line {place.lineno}"
            log.error("request_failed", error=type(error).__name__, where=where)
            if not started:
                answer = problem_response(
                    500, "INTERNAL_ERROR", "the service failed on this request"
                )
                await answer(scope, receive, send_guarded)


class _Closed:
    """Answers while the service is not open: only whether it lives and what it waits for."""

    def __init__(self, app: ASGIApp, opening: Opening) -> None:
        self._app = app
        self._opening = opening

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if (
            scope["type"] != "http"
            or self._opening.service is not None
            or scope["path"] in operations_api.ALWAYS
        ):
            await self._app(scope, receive, send)
            return
        answer = problem_response(
            503, "STARTING", "the service is starting; /ready says what it awaits"
        )
        answer.headers["Retry-After"] = "5"
        await answer(scope, receive, send)


def create_app(settings: Settings, service: Service | Opening | None = None) -> FastAPI:
    """Return the web application; starting it starts the service, stopping it stops it.

    Parameters
    ----------
    settings
        How it runs.
    service
        The service to use, which is open when the application has started; or how to open one
        while the application answers already. Left out: one from the settings, opened so.
    """
    opening = service if isinstance(service, Opening) else Opening(lambda: Service(settings))
    given = service if isinstance(service, Service) else None

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        if given is not None:
            await run_in_threadpool(given.start)
            app.state.service = opening.service = given
            try:
                yield
            finally:
                await run_in_threadpool(given.stop)
            return

        def keep(open_service: Service) -> None:
            app.state.service = open_service

        opened = asyncio.create_task(run_in_threadpool(opening.open, keep))
        try:
            yield
        finally:
            await opened
            await run_in_threadpool(opening.close)

    app = FastAPI(
        title="Vigil",
        version=vigil.__version__,
        description=f"Chest X-ray triage: a prioritised worklist. {vigil.RESEARCH_USE}.",
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        lifespan=lifespan,
        # The usual documentation pages load scripts from elsewhere, which a station offline lacks.
        docs_url=None,
        redoc_url=None,
        responses={422: {"model": Problem}, 500: {"model": Problem}},
    )
    app.state.opening = opening
    app.add_middleware(Gate, routes=app.router.routes, settings=settings, opening=opening)
    app.add_middleware(_Closed, opening=opening)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=settings.allowed_hosts)
    app.add_middleware(Compressed)
    app.add_middleware(Guard)
    app.include_router(operations_api.router)
    app.include_router(access_api.router)
    app.include_router(oidc_api.router)
    app.include_router(manage_api.router)
    app.include_router(audit_api.router)
    app.include_router(api.router)
    app.include_router(worklist_api.router)
    app.include_router(picture_api.router)
    app.include_router(model_card.router)
    for door in (dicomweb, dicomweb_query, dicomweb_retrieve, dicomweb_rendered):
        app.include_router(door.router)
    app.include_router(delivery_api.router)
    app.include_router(reading_api.router)
    app.include_router(promotion_api.router)
    _add_error_handlers(app)
    app.mount("/assets", Assets(directory=WEB), name="assets")

    # The shell of the page holds nothing of anybody; what it asks for next is guarded.
    @app.get("/", include_in_schema=False, dependencies=[Depends(OPEN)])
    @app.get("/agreement", include_in_schema=False, dependencies=[Depends(OPEN)])
    @app.get("/accounts", include_in_schema=False, dependencies=[Depends(OPEN)])
    @app.get("/audit", include_in_schema=False, dependencies=[Depends(OPEN)])
    def get_page() -> Response:
        return HTMLResponse(page(), headers={"Cache-Control": "no-cache"})

    @app.get("/studies/{study_instance_uid}", include_in_schema=False, dependencies=[Depends(OPEN)])
    def get_study_page() -> Response:
        return HTMLResponse(page("study.js"), headers={"Cache-Control": "no-cache"})

    return app


def _add_error_handlers(app: FastAPI) -> None:
    """Let every error become a code and a sentence; none shows how it came about."""

    @app.exception_handler(VigilError)
    def foreseen(_request: Request, error: VigilError) -> Response:
        headers = getattr(error, "headers", None)
        return problem_response(error.http_status, error.code, str(error), headers)

    @app.exception_handler(HTTPException)
    def routing(_request: Request, error: HTTPException) -> Response:
        code = {404: "NOT_FOUND", 405: "METHOD_NOT_ALLOWED"}.get(error.status_code, "HTTP_ERROR")
        return problem_response(error.status_code, code, str(error.detail))

    @app.exception_handler(RequestValidationError)
    def wrong_parameter(_request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return problem_response(422, "REQUEST_INVALID", f"{where}: {first['msg']}")

    @app.exception_handler(SQLAlchemyError)
    def database(_request: Request, error: SQLAlchemyError) -> Response:
        log.error("database_failed", error=type(error).__name__)
        return problem_response(
            503, "DATABASE_UNAVAILABLE", "the database does not answer; try again"
        )
