"""Which bundle serves, and how a new one compares, over HTTP.

Changes are made by commands on a machine of the installation: whoever may change what judges
pictures has an account there.
"""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request

from vigil_inference.access.account import Account, require
from vigil_inference.access.roles import Permission
from vigil_inference.promotion.comparison import read_comparison
from vigil_inference.promotion.comparison_views import ModelComparison
from vigil_inference.promotion.record import read_models
from vigil_inference.promotion.views import RecordView, record_view
from vigil_inference.service import Service
from vigil_inference.views import Problem

router = APIRouter(prefix="/api/models", tags=["Models"])

Seeing = Annotated[Account, Depends(require(Permission.SEE_OPERATIONS))]
_REFUSED: dict[int | str, dict[str, Any]] = {403: {"model": Problem}}
_NONE: dict[int | str, dict[str, Any]] = {**_REFUSED, 409: {"model": Problem}}


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


Running = Annotated[Service, Depends(_service)]


@router.get("", responses=_REFUSED)
def get_record(service: Running, _account: Seeing) -> RecordView:
    """Say which bundle is at which stage, since when, by whom and why."""
    return record_view(read_models(service.store))


@router.get("/comparison", responses=_NONE)
def get_comparison(service: Running, _account: Seeing) -> ModelComparison:
    """Compare the bundle in shadow with the one that serves; 409 where none ever was."""
    return read_comparison(service.store)
