"""WADO-RS: what is held as pictures to look at, at any size (DICOM PS3.18 section 10.4)."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from fastapi import APIRouter, Depends, Request, Response
from numpy.typing import NDArray

from vigil.dicom import read_dicom
from vigil.errors import ImageRefused
from vigil_inference.access.account import require
from vigil_inference.access.roles import Permission
from vigil_inference.dicomweb_retrieve import (
    INSTANCE,
    SERIES,
    STUDY,
    NotAcceptable,
    RequestMalformed,
    accepted_types,
    find_instances,
    held_still,
    service_of,
)
from vigil_inference.pictures import encode_jpeg, encode_png, reduce_picture
from vigil_inference.tables import Instance

_LARGEST_SIDE = 4096
_THUMBNAIL_SIDE = 256

router = APIRouter(
    prefix="/dicomweb",
    tags=["DICOMweb"],
    default_response_class=Response,
    dependencies=[Depends(require(Permission.SEE_PICTURES))],
)


@router.get(INSTANCE + "/rendered")
@router.get(INSTANCE + "/frames/1/rendered")
def retrieve_rendered(
    request: Request,
    study_instance_uid: str,
    series_instance_uid: str,
    sop_instance_uid: str,
    viewport: str = "",
) -> Response:
    """Return the picture through its display pipeline, as JPEG or PNG (WADO-RS)."""
    rows = find_instances(request, study_instance_uid, series_instance_uid, sop_instance_uid)
    return _rendered(request, rows, viewport, _LARGEST_SIDE)


@router.get(STUDY + "/thumbnail")
@router.get(SERIES + "/thumbnail")
@router.get(INSTANCE + "/thumbnail")
@router.get(INSTANCE + "/frames/1/thumbnail")
def retrieve_thumbnail(
    request: Request,
    study_instance_uid: str,
    series_instance_uid: str = "",
    sop_instance_uid: str = "",
    viewport: str = "",
) -> Response:
    """Return a small picture that stands for a study, a series or an instance (WADO-RS)."""
    rows = find_instances(request, study_instance_uid, series_instance_uid, sop_instance_uid)
    return _rendered(request, rows, viewport, _THUMBNAIL_SIDE)


def _rendered(
    request: Request, rows: Sequence[Instance], viewport: str, longest_side: int
) -> Response:
    """Return the first of the pictures that can be rendered."""
    kinds = [accepted.media_type for accepted in accepted_types(request)]
    as_png = "image/png" in kinds and "image/jpeg" not in kinds
    if not as_png and not {"image/jpeg", "image/*", "*/*"} & set(kinds):
        raise NotAcceptable("expected image/jpeg or image/png to be acceptable")
    folder = service_of(request).settings.data_dir
    pixels = _first_pixels(folder / row.file_path for row in held_still(rows))
    side = _longer_side(viewport, pixels.shape[0], pixels.shape[1], longest_side)
    picture = reduce_picture(pixels, side)
    if as_png:
        return Response(encode_png(picture), media_type="image/png")
    return Response(encode_jpeg(picture), media_type="image/jpeg")


def _first_pixels(paths: Iterable[Path]) -> NDArray[np.uint16]:
    reason = ""
    for path in paths:
        try:
            return read_dicom(path).pixels
        except ImageRefused as refusal:
            reason = reason or refusal.reason
    raise NotAcceptable(f"the object cannot be rendered: {reason}")


def _longer_side(viewport: str, rows: int, columns: int, longest_side: int) -> int:
    """Return the longer side of a picture that fits a viewport, ``WIDTH,HEIGHT`` in pixels."""
    if not viewport:
        return longest_side
    try:
        width, height = (float(text) for text in viewport.split(",")[:2])
    except ValueError:
        raise RequestMalformed("expected viewport=WIDTH,HEIGHT") from None
    if not (1 <= width <= _LARGEST_SIDE and 1 <= height <= _LARGEST_SIDE):
        raise RequestMalformed(f"expected a viewport of 1 to {_LARGEST_SIDE} pixels")
    return max(1, round(max(rows, columns) * min(width / columns, height / rows)))
