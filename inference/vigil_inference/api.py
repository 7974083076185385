"""The HTTP interface for the page and for programs: worklist, studies, pictures, live updates."""

from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from pydicom.uid import UID
from sse_starlette import EventSourceResponse, ServerSentEvent

import vigil
from vigil.errors import VigilError
from vigil_inference.access.account import OPEN, require
from vigil_inference.access.roles import Permission
from vigil_inference.access.stream import while_signed_in
from vigil_inference.case_level import is_case_level, study_at_case_level
from vigil_inference.events import RowsReady, StudyChanged
from vigil_inference.service import Service
from vigil_inference.store import StudyUnknown
from vigil_inference.study_results import StudyObject, read_study_objects
from vigil_inference.views import (
    PageConfiguration,
    Problem,
    ResultView,
    StudyDetail,
)
from vigil_inference.worklist import read_study

_PING_SECONDS = 15
# Pictures may be kept by the reader's own browser, which must ask whether they are current.
PICTURE_CACHE = {"Cache-Control": "private, no-cache"}


class NotFound(VigilError):
    """What was asked for is not there; the code says what is missing."""

    http_status = 404

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


Running = Annotated[Service, Depends(_service)]
NOT_FOUND: dict[int | str, dict[str, Any]] = {404: {"model": Problem}}

_SEE_WORKLIST = [Depends(require(Permission.SEE_WORKLIST))]
_SEE_PICTURES = [Depends(require(Permission.SEE_PICTURES))]

router = APIRouter()


@router.get(
    "/api/studies/{study_instance_uid}",
    tags=["Worklist"],
    responses=NOT_FOUND,
    dependencies=_SEE_WORKLIST,
)
def get_study(service: Running, study_instance_uid: str) -> StudyDetail:
    """Return a study with findings, thresholds, what is withheld, reasons and provenance."""
    study = read_study(
        service.store,
        service.analysis.status,
        study_instance_uid,
        heat_maps=service.settings.heat_maps,
        targets=service.settings.reading_targets,
    )
    if study is None:
        raise StudyUnknown
    return study_at_case_level(study) if is_case_level(service.settings) else study


_RESULTS = "/api/studies/{study_instance_uid}/results"
_RESULT_ERRORS: dict[int | str, dict[str, Any]] = {**NOT_FOUND, 409: {"model": Problem}}


@router.get(_RESULTS, tags=["Results"], responses=_RESULT_ERRORS, dependencies=_SEE_PICTURES)
def get_results(service: Running, study_instance_uid: str) -> list[ResultView]:
    """List the study's results as DICOM objects: report, captures and, if wanted, key objects."""
    return [
        ResultView(
            sop_class_uid=document.sop_class_uid,
            sop_class=UID(document.sop_class_uid).name,
            sop_instance_uid=document.sop_instance_uid,
            series_instance_uid=document.series_instance_uid,
            url=f"/api/studies/{study_instance_uid}/results/{document.sop_instance_uid}",
        )
        for document in _results(service, study_instance_uid)
    ]


@router.get(
    f"{_RESULTS}/{{sop_instance_uid}}",
    tags=["Results"],
    responses={200: {"content": {"application/dicom": {}}}, **_RESULT_ERRORS},
    response_class=Response,
    dependencies=_SEE_PICTURES,
)
def get_result(service: Running, study_instance_uid: str, sop_instance_uid: str) -> Response:
    """Return one of the study's results as a DICOM file."""
    for document in _results(service, study_instance_uid):
        if document.sop_instance_uid == sop_instance_uid:
            name = f"attachment; filename={sop_instance_uid}.dcm"
            headers = PICTURE_CACHE | {"Content-Disposition": name}
            return Response(document.content, media_type="application/dicom", headers=headers)
    raise NotFound("RESULT_UNKNOWN", "the study has no such result")


@router.get(
    "/api/events",
    tags=["Worklist"],
    response_class=EventSourceResponse,
    dependencies=_SEE_WORKLIST,
)
async def get_events(
    service: Running,
    request: Request,
    rows: Annotated[bool, Query(description="Gathered rows instead of single studies.")] = False,
) -> EventSourceResponse:
    """Stream changes: `study` names one that arrived or changed, `resync` asks to look again.

    With `rows`, an event `rows` brings the changed rows of the worklist, at most one a second.
    It ends with the session that asked for it.
    """

    async def stream() -> AsyncIterator[ServerSentEvent]:
        async with service.hub.listen(rows=rows) as events:
            yield ServerSentEvent(vigil.__version__, event="hello", retry=2000)
            async for event in while_signed_in(request, service.access, events):
                if isinstance(event, StudyChanged):
                    yield ServerSentEvent(event.study_instance_uid, event="study")
                elif isinstance(event, RowsReady):
                    yield ServerSentEvent(event.text, event="rows")
                else:
                    yield ServerSentEvent("", event="resync")

    return EventSourceResponse(stream(), ping=_PING_SECONDS)


@router.get("/api/configuration", tags=["Service"], dependencies=[Depends(OPEN)])
def get_configuration(service: Running) -> PageConfiguration:
    """Return what the page needs to know of this installation."""
    settings = service.settings
    return PageConfiguration(
        site=settings.site,
        language=settings.language,
        heat_maps=settings.heat_maps and not is_case_level(settings),
        case_level=is_case_level(settings),
        software_version=vigil.__version__,
        notice=vigil.RESEARCH_USE,
        accounts=settings.accounts,
        oidc_name=settings.oidc_name if service.access.provider is not None else "",
    )


def _results(service: Service, study_instance_uid: str) -> tuple[StudyObject, ...]:
    status = service.analysis.status
    if read_study(service.store, status, study_instance_uid, heat_maps=False) is None:
        raise StudyUnknown
    return read_study_objects(service.store, service.pictures, service.settings, study_instance_uid)
