"""The HTTP interface to pictures: previews, full depth, heat maps, DICOM tags, other studies."""

import asyncio
from typing import Annotated, Any

import cv2
from fastapi import APIRouter, Depends, Query, Request, Response
from sqlalchemy import select

from vigil.errors import ImageRefused, VigilError
from vigil_inference.access.account import require
from vigil_inference.access.roles import Permission
from vigil_inference.api import NOT_FOUND, PICTURE_CACHE, NotFound, Running
from vigil_inference.case_level import is_case_level
from vigil_inference.dicom_tags import read_tags
from vigil_inference.full_depth import Coded
from vigil_inference.other_studies import read_other_studies
from vigil_inference.picture_views import OtherStudies, PresentationView, TagView
from vigil_inference.pictures import encode_jpeg, encode_png, fitted_size, render_heat_map
from vigil_inference.presentations import describe_depth, read_presentation
from vigil_inference.records import AnalysisRecord, FindingRecord
from vigil_inference.service import Service
from vigil_inference.store import StudyUnknown
from vigil_inference.tables import Instance, Study
from vigil_inference.views import Problem

_HEAT_MAP_SIDE = 768
_PNG: dict[int | str, dict[str, Any]] = {200: {"content": {"image/png": {}}}, **NOT_FOUND}
_JPEG: dict[int | str, dict[str, Any]] = {200: {"content": {"image/jpeg": {}}}, **NOT_FOUND}
_GONE: dict[int | str, dict[str, Any]] = {**NOT_FOUND, 410: {"model": Problem}}
_DEPTH: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/gzip": {}}},
    503: {"model": Problem},
    **_GONE,
}
Size = Annotated[int | None, Query(ge=16, le=4096, description="Longer side in pixels, at most.")]

router = APIRouter(tags=["Pictures"], dependencies=[Depends(require(Permission.SEE_PICTURES))])
_STUDY = "/api/studies/{study_instance_uid}"
_INSTANCE = _STUDY + "/instances/{sop_instance_uid}"


class OriginalRemoved(VigilError):
    """The original's pixels were removed by rule; the message says when and by which."""

    code = "ORIGINAL_REMOVED"
    http_status = 410


@router.get(f"{_INSTANCE}/image.jpg", responses=_JPEG, response_class=Response)
def get_image_jpeg(
    service: Running,
    request: Request,
    study_instance_uid: str,
    sop_instance_uid: str,
    size: Size = None,
) -> Response:
    """Return the picture as it was analysed (upright, bone bright), 8 bits, as JPEG."""
    return _image(service, request, study_instance_uid, sop_instance_uid, size, "jpg")


@router.get(f"{_INSTANCE}/image.png", responses=_PNG, response_class=Response)
def get_image_png(
    service: Running,
    request: Request,
    study_instance_uid: str,
    sop_instance_uid: str,
    size: Size = None,
) -> Response:
    """Return the same as PNG. It is made from the stored JPEG and shows no more than that."""
    return _image(service, request, study_instance_uid, sop_instance_uid, size, "png")


@router.get(f"{_INSTANCE}/presentation", responses=NOT_FOUND)
async def get_presentation(
    service: Running, study_instance_uid: str, sop_instance_uid: str
) -> PresentationView:
    """Return how a picture is shown: spacing, windows, what the gate did, and `pixels`' layout.

    It answers for pictures that cannot be given at full depth too, and says why.
    """
    instance = await asyncio.to_thread(_find, service, study_instance_uid, sop_instance_uid)
    path = service.settings.data_dir / instance.file_path
    presentation = await asyncio.to_thread(read_presentation, path, instance)
    try:
        coded = await _coded(service, instance)
    except (ImageRefused, OriginalRemoved, NotFound) as error:
        return presentation.model_copy(update={"code": str(error.code), "reason": str(error)})
    return presentation.model_copy(update={"depth": describe_depth(coded)})


@router.get(f"{_INSTANCE}/pixels", responses=_DEPTH, response_class=Response)
async def get_pixels(
    service: Running, request: Request, study_instance_uid: str, sop_instance_uid: str
) -> Response:
    """Return the picture at full depth, without loss; `presentation` says how to read it."""
    instance = await asyncio.to_thread(_find, service, study_instance_uid, sop_instance_uid)
    tag = f'"{_depth_key(instance)}"'
    headers = PICTURE_CACHE | {"ETag": tag}
    if instance.removed_at is None and request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    coded = await _coded(service, instance)
    return Response(coded.content, media_type="application/gzip", headers=headers)


@router.get(f"{_INSTANCE}/tags", responses=NOT_FOUND)
def get_tags(
    service: Running, study_instance_uid: str, sop_instance_uid: str
) -> tuple[TagView, ...]:
    """Return the DICOM attributes as they came, without pixels; long values are cut."""
    instance = _find(service, study_instance_uid, sop_instance_uid)
    path = service.settings.data_dir / instance.file_path
    if not path.is_file():
        raise NotFound("NO_ORIGINAL", "the original file is not where it was stored")
    return read_tags(path)


@router.get(f"{_STUDY}/others", responses=NOT_FOUND)
def get_other_studies(service: Running, study_instance_uid: str) -> OtherStudies:
    """Return the studies under the same patient ID and issuer; differing names are said."""
    others = read_other_studies(service.store, study_instance_uid)
    if others is None:
        raise StudyUnknown
    return others


@router.get(f"{_INSTANCE}/heatmap/{{label}}.png", responses=_PNG, response_class=Response)
def get_heat_map(
    service: Running,
    request: Request,
    study_instance_uid: str,
    sop_instance_uid: str,
    label: str,
    size: Size = None,
) -> Response:
    """Return a finding's heat map as a transparent overlay with the picture's proportions."""
    if not service.settings.heat_maps or is_case_level(service.settings):
        raise NotFound("HEAT_MAPS_OFF", "heat maps are switched off at this site")
    instance = _find(service, study_instance_uid, sop_instance_uid)
    finding = _finding_with_map(instance, label)
    tag = f'"{instance.sha256[:32]}-{label}-{size or 0}"'
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=PICTURE_CACHE | {"ETag": tag})
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
        encode_png(overlay), media_type="image/png", headers=PICTURE_CACHE | {"ETag": tag}
    )


def _image(
    service: Service,
    request: Request,
    study_instance_uid: str,
    sop_instance_uid: str,
    size: int | None,
    extension: str,
) -> Response:
    instance = _find(service, study_instance_uid, sop_instance_uid)
    tag = f'"{instance.sha256[:32]}-{size or 0}-{extension}"'
    headers = PICTURE_CACHE | {"ETag": tag}
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


async def _coded(service: Service, instance: Instance) -> Coded:
    """Return a picture at full depth; raise ImageRefused, OriginalRemoved or NotFound."""
    if instance.removed_at is not None:
        when = f"{instance.removed_at:%Y-%m-%d}"
        raise OriginalRemoved(
            f"the original was removed on {when}: {instance.removal_reason}; "
            "the stored preview is all that is left of the picture"
        )
    path = service.settings.data_dir / instance.file_path
    if not await asyncio.to_thread(path.is_file):
        raise NotFound("NO_ORIGINAL", "the original file is not where it was stored")
    quarter_turns, inverted = _correction(instance)
    future = service.full_depth.ask(
        path, _depth_key(instance), quarter_turns=quarter_turns, inverted=inverted
    )
    # One reader who leaves must not cancel what others wait for.
    return await asyncio.shield(asyncio.wrap_future(future))


def _correction(instance: Instance) -> tuple[int, bool]:
    if instance.result is None:
        return 0, False
    return AnalysisRecord.model_validate(instance.result).correction()


def _depth_key(instance: Instance) -> str:
    quarter_turns, inverted = _correction(instance)
    return f"{instance.sha256[:32]}-{quarter_turns}{'i' if inverted else ''}-depth1"


def _find(service: Service, study_instance_uid: str, sop_instance_uid: str) -> Instance:
    """Return a picture of a study."""
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
    return instance


def _finding_with_map(instance: Instance, label: str) -> FindingRecord | None:
    if instance.result is None:
        return None
    record = AnalysisRecord.model_validate(instance.result)
    return next((f for f in record.findings if f.label == label and f.has_map), None)
