"""Whether the service lives, is ready, how it stands, and its metrics, over HTTP."""

from typing import Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse

import vigil
from vigil_inference.access.account import OPEN, require
from vigil_inference.access.roles import Permission
from vigil_inference.operations.metrics import MEDIA_TYPE
from vigil_inference.operations.opening import Opening
from vigil_inference.operations.status import ServiceStatus, opening_status, read_status
from vigil_inference.service import Service
from vigil_inference.views import Health, Readiness

router = APIRouter(tags=["Service"])

ALWAYS = frozenset({"/health", "/live", "/ready", "/api/status"})
"""What answers before the service is open."""
# What watches the service from this machine needs no account; nothing here names a patient.
_WATCH = [Depends(require(Permission.SEE_OPERATIONS, is_open_here=True))]
_METRICS: dict[int | str, dict[str, Any]] = {200: {"content": {MEDIA_TYPE: {}}}}


@router.get("/live", dependencies=[Depends(OPEN)])
@router.get("/health", dependencies=[Depends(OPEN)])
def get_health() -> Health:
    """Say that the process lives, whatever else is wrong."""
    return Health(status="ok", software_version=vigil.__version__)


@router.get("/ready", responses={503: {"model": Readiness}}, dependencies=[Depends(OPEN)])
def get_readiness(request: Request) -> JSONResponse:
    """Say whether pictures are received and analysed; 503 while something is missing."""
    opening: Opening = request.app.state.opening
    checks = opening.checks()
    ready = all(check == "ok" for check in checks.values())
    body = Readiness(ready=ready, checks=checks)
    return JSONResponse(body.model_dump(), 200 if ready else 503)


@router.get("/api/status", dependencies=_WATCH)
def get_status(request: Request) -> ServiceStatus:
    """Say how the service stands; no study and no patient is named."""
    opening: Opening = request.app.state.opening
    if opening.service is None:
        return opening_status(opening.checks())
    return read_status(opening.service)


@router.get("/metrics", responses=_METRICS, response_class=Response, dependencies=_WATCH)
def get_metrics(request: Request) -> Response:
    """Return the metrics in Prometheus' text form; no label names a study or a patient."""
    service: Service = request.app.state.service
    return Response(service.metrics.scrape(), media_type=MEDIA_TYPE)
