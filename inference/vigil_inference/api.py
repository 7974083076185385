"""The HTTP interface for the page and for programs: worklist, studies, pictures, live updates."""

from collections.abc import AsyncIterator
from typing import Annotated, Any

import cv2
from fastapi import APIRouter, Depends, Query, Request, Response
from pydicom.uid import UID
from sqlalchemy import select
from sse_starlette import EventSourceResponse, ServerSentEvent

import vigil
from vigil.errors import VigilError
from vigil_inference.events import StudyChanged
from vigil_inference.pictures import encode_jpeg, encode_png, fitted_size, render_heat_map
from vigil_inference.records import AnalysisRecord, FindingRecord
from vigil_inference.service import Service
from vigil_inference.study_results import StudyObject, read_study_objects
from vigil_inference.tables import Instance, Study
from vigil_inference.views import (
    PageConfiguration,
    Problem,
    ResultView,
    StudyDetail,
    WorklistPage,
)
from vigil_inference.worklist import Order, read_study, read_worklist

_PING_SECONDS = 15
_HEAT_MAP_SIDE = 768
# Pictures may be kept by the reader's own browser, which must ask whether they are current.
_PICTURE_CACHE = {"Cache-Control": "private, no-cache"}


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
_NOT_FOUND: dict[int | str, dict[str, Any]] = {404: {"model": Problem}}
_PNG: dict[int | str, dict[str, Any]] = {200: {"content": {"image/png": {}}}, **_NOT_FOUND}
_JPEG: dict[int | str, dict[str, Any]] = {200: {"content": {"image/jpeg": {}}}, **_NOT_FOUND}
Size = Annotated[int | None, Query(ge=16, le=4096, description="Longer side in pixels, at most.")]

router = APIRouter()


@router.get("/api/worklist", tags=["Worklist"])
def get_worklist(
    service: Running,
    order: Annotated[Order, Query(description="`arrival` is the site's own order.")] = "priority",
    offset: Annotated[int, Query(ge=0, le=2**31)] = 0,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> WorklistPage:
    """Return studies in the order in which they should be read."""
    return read_worklist(
        service.store, service.analysis.status, order=order, offset=offset, limit=limit
    )


@router.get("/api/studies/{study_instance_uid}", tags=["Worklist"], responses=_NOT_FOUND)
def get_study(service: Running, study_instance_uid: str) -> StudyDetail:
    """Return a study with findings, thresholds, what is withheld, reasons and provenance."""
    study = read_study(
        service.store,
        service.analysis.status,
        study_instance_uid,
        heat_maps=service.settings.heat_maps,
    )
    if study is None:
        raise NotFound("STUDY_UNKNOWN", "no study with this UID was received")
    return study


_INSTANCE = "/api/studies/{study_instance_uid}/instances/{sop_instance_uid}"


@router.get(f"{_INSTANCE}/image.jpg", tags=["Pictures"], responses=_JPEG, response_class=Response)
def get_image_jpeg(
    service: Running,
    request: Request,
    study_instance_uid: str,
    sop_instance_uid: str,
    size: Size = None,
) -> Response:
    """Return the picture as it was analysed (upright, bone bright), 8 bits, as JPEG."""
    return _image(service, request, study_instance_uid, sop_instance_uid, size, "jpg")


@router.get(f"{_INSTANCE}/image.png", tags=["Pictures"], responses=_PNG, response_class=Response)
def get_image_png(
    service: Running,
    request: Request,
    study_instance_uid: str,
    sop_instance_uid: str,
    size: Size = None,
) -> Response:
    """Return the same as PNG. It is made from the stored JPEG and shows no more than that."""
    return _image(service, request, study_instance_uid, sop_instance_uid, size, "png")


@router.get(
    f"{_INSTANCE}/heatmap/{{label}}.png", tags=["Pictures"], responses=_PNG, response_class=Response
)
def get_heat_map(
    service: Running,
    request: Request,
    study_instance_uid: str,
    sop_instance_uid: str,
    label: str,
    size: Size = None,
) -> Response:
    """Return a finding's heat map as a transparent overlay with the picture's proportions."""
    if not service.settings.heat_maps:
        raise NotFound("HEAT_MAPS_OFF", "heat maps are switched off at this site")
    instance, finding = _find(service, study_instance_uid, sop_instance_uid, label)
    tag = f'"{instance.sha256[:32]}-{label}-{size or 0}"'
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=_PICTURE_CACHE | {"ETag": tag})
    grid = service.pictures.load_map(instance.sha256, label)
    if finding is None or grid is None:
        raise NotFound("NO_HEAT_MAP", "there is no heat map of this finding for this picture")
    record = AnalysisRecord.model_validate(instance.result)
    rows, columns = fitted_size(
        record.rows or grid.shape[0], record.columns or grid.shape[1], size or _HEAT_MAP_SIDE
    )
    if (rows > columns) != (grid.shape[0] > grid.shape[1]) and rows != columns:
        rows, columns = columns, rows  # the picture was turned before it was analysed
    overlay = render_heat_map(grid, rows, columns, finding.threshold or 0.0)
    return Response(
        encode_png(overlay), media_type="image/png", headers=_PICTURE_CACHE | {"ETag": tag}
    )


_RESULTS = "/api/studies/{study_instance_uid}/results"
_RESULT_ERRORS: dict[int | str, dict[str, Any]] = {**_NOT_FOUND, 409: {"model": Problem}}


@router.get(_RESULTS, tags=["Results"], responses=_RESULT_ERRORS)
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
)
def get_result(service: Running, study_instance_uid: str, sop_instance_uid: str) -> Response:
    """Return one of the study's results as a DICOM file."""
    for document in _results(service, study_instance_uid):
        if document.sop_instance_uid == sop_instance_uid:
            name = f"attachment; filename={sop_instance_uid}.dcm"
            headers = _PICTURE_CACHE | {"Content-Disposition": name}
            return Response(document.content, media_type="application/dicom", headers=headers)
    raise NotFound("RESULT_UNKNOWN", "the study has no such result")


@router.get("/api/events", tags=["Worklist"], response_class=EventSourceResponse)
async def get_events(service: Running) -> EventSourceResponse:
    """Stream changes: `study` names one that arrived or changed, `resync` asks to look again."""

    async def stream() -> AsyncIterator[ServerSentEvent]:
        async with service.hub.listen() as events:
            yield ServerSentEvent(vigil.__version__, event="hello", retry=2000)
            async for event in events:
                if isinstance(event, StudyChanged):
                    yield ServerSentEvent(event.study_instance_uid, event="study")
                else:
                    yield ServerSentEvent("", event="resync")

    return EventSourceResponse(stream(), ping=_PING_SECONDS)


@router.get("/api/configuration", tags=["Service"])
def get_configuration(service: Running) -> PageConfiguration:
    """Return what the page needs to know of this installation."""
    settings = service.settings
    return PageConfiguration(
        site=settings.site,
        language=settings.language,
        heat_maps=settings.heat_maps,
        software_version=vigil.__version__,
        notice=vigil.RESEARCH_USE,
    )


def _results(service: Service, study_instance_uid: str) -> tuple[StudyObject, ...]:
    status = service.analysis.status
    if read_study(service.store, status, study_instance_uid, heat_maps=False) is None:
        raise NotFound("STUDY_UNKNOWN", "no study with this UID was received")
    return read_study_objects(service.store, service.pictures, service.settings, study_instance_uid)


def _image(
    service: Service,
    request: Request,
    study_instance_uid: str,
    sop_instance_uid: str,
    size: int | None,
    extension: str,
) -> Response:
    instance, _ = _find(service, study_instance_uid, sop_instance_uid)
    tag = f'"{instance.sha256[:32]}-{size or 0}-{extension}"'
    headers = _PICTURE_CACHE | {"ETag": tag}
    if instance.has_preview and request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    picture = service.pictures.load_preview(instance.sha256, size) if instance.has_preview else None
    if picture is None:
        raise NotFound("NO_PICTURE", "there is no picture of this object to show")
    if size is not None and size < max(picture.shape):
        rows, columns = fitted_size(picture.shape[0], picture.shape[1], size)
        picture = cv2.resize(picture, (columns, rows), interpolation=cv2.INTER_AREA)
    elif extension == "jpg":
        content = service.pictures.preview_path(instance.sha256).read_bytes()
        return Response(content, media_type="image/jpeg", headers=headers)
    if extension == "jpg":
        return Response(encode_jpeg(picture), media_type="image/jpeg", headers=headers)
    return Response(encode_png(picture), media_type="image/png", headers=headers)


def _find(
    service: Service, study_instance_uid: str, sop_instance_uid: str, label: str = ""
) -> tuple[Instance, FindingRecord | None]:
    """Return a picture of a study and, if asked for, one of its findings that has a map."""
    with service.store.reading() as session:
        instance = session.scalars(
            select(Instance)
            .join(Study)
            .where(
                Instance.sop_instance_uid == sop_instance_uid,
                Study.study_instance_uid == study_instance_uid,
            )
        ).one_or_none()
    if instance is None:
        raise NotFound("PICTURE_UNKNOWN", "the study holds no such picture")
    if not label or instance.result is None:
        return instance, None
    record = AnalysisRecord.model_validate(instance.result)
    return instance, next((f for f in record.findings if f.label == label and f.has_map), None)
