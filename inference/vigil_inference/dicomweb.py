"""The DICOMweb door: STOW-RS (DICOM PS3.18 section 10.5).

The whole body is read into the spool before the first object is taken, so a malformed body stores
nothing. Each object then has the same way as one that comes by C-STORE.
"""

from dataclasses import dataclass
from typing import Any

import structlog
from fastapi import APIRouter, Depends, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from python_multipart.multipart import parse_options_header
from starlette.requests import ClientDisconnect

from vigil.errors import StorageError, VigilError
from vigil_inference.access.account import require
from vigil_inference.access.roles import Permission
from vigil_inference.arrivals import Outcome
from vigil_inference.dicomweb_query import MEDIA_TYPE, json_element, study_url
from vigil_inference.headers import Header, ObjectUnreadable, read_intake_header
from vigil_inference.intake import Intake, Receipt, Source, errno_name
from vigil_inference.multipart import BodyMalformed, Part, PartSplitter
from vigil_inference.service import Service

log = structlog.get_logger(__name__)

_COERCED = 0xB000
_PROCESSING_FAILURE = 0x0110

RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"description": "All objects are stored.", "content": {MEDIA_TYPE: {}}},
    202: {"description": "Some objects are not stored, or one is held with other bytes."},
    400: {"description": "The body is malformed; nothing is stored."},
    409: {"description": "No object is stored."},
    413: {"description": "The body is larger than the site allows."},
    415: {"description": "The body is not multipart/related of application/dicom."},
    507: {"description": "There is no room; send again later."},
}

router = APIRouter(
    prefix="/dicomweb",
    tags=["DICOMweb"],
    dependencies=[Depends(require(Permission.SEND_PICTURES))],
)


class MediaTypeUnsupported(VigilError):
    """The body is of a type that STOW-RS does not take here."""

    code = "MEDIA_TYPE_UNSUPPORTED"
    http_status = 415


class BodyTooLarge(VigilError):
    """The body is larger than the site allows."""

    code = "BODY_TOO_LARGE"
    http_status = 413


@dataclass(frozen=True)
class _Failure:
    status: int
    """A DIMSE status: the Failure Reason (0008,1197)."""
    error: VigilError
    header: Header | None


@router.post("/studies", responses=RESPONSES, response_class=Response)
async def store_instances(request: Request) -> Response:
    """Store objects of any studies (STOW-RS)."""
    return await _store(request, "")


@router.post("/studies/{study_instance_uid}", responses=RESPONSES, response_class=Response)
async def store_instances_of_study(request: Request, study_instance_uid: str) -> Response:
    """Store objects of one study (STOW-RS); those of another study are refused."""
    return await _store(request, study_instance_uid)


async def _store(request: Request, study_instance_uid: str) -> Response:
    service: Service = request.app.state.service
    intake = service.intake
    splitter = PartSplitter(_boundary(request), intake.new_spool_path, intake.discard_spool_path)
    try:
        parts = await _receive(request, splitter, service.settings.stow_max_bytes)
        source = Source("STOW-RS", study_instance_uid=study_instance_uid)
        answers = [await run_in_threadpool(_accept, intake, part, source) for part in parts]
    except ClientDisconnect:
        log.info("sender_left", door="STOW-RS")
        return Response(status_code=400)
    finally:
        await run_in_threadpool(splitter.discard)
    return _answer(request, answers)


def _boundary(request: Request) -> bytes:
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    if kind.lower() != b"multipart/related":
        raise MediaTypeUnsupported("expected a body of type multipart/related")
    if options.get(b"type", b"application/dicom").lower() != b"application/dicom":
        raise MediaTypeUnsupported('expected multipart/related; type="application/dicom"')
    boundary = options.get(b"boundary", b"")
    if not boundary:
        raise BodyMalformed("the content type names no boundary")
    return boundary


async def _receive(request: Request, splitter: PartSplitter, limit: int) -> list[Part]:
    received = 0
    try:
        async for chunk in request.stream():
            received += len(chunk)
            if received > limit:
                raise BodyTooLarge(f"the body is larger than {limit} bytes; send fewer objects")
            splitter.write(chunk)
    except OSError as error:
        raise StorageError(f"the disk did not take the bytes ({errno_name(error)})") from error
    return splitter.finish()


def _accept(intake: Intake, part: Part, source: Source) -> Receipt | _Failure:
    """Take one object; a failure is an answer like another."""
    try:
        if part.content_type and not part.content_type.lower().startswith("application/dicom"):
            raise MediaTypeUnsupported("expected a part of type application/dicom")
        return intake.accept(part.path, source)
    except MediaTypeUnsupported as error:
        intake.doors.refuse("STOW-RS", error.code)
        return _Failure(_PROCESSING_FAILURE, error, None)
    except VigilError as error:
        log.warning("refused", door="STOW-RS", code=error.code)
        intake.doors.refuse("STOW-RS", error.code)
        return _Failure(error.dimse_status, error, _header(part))
    except Exception as error:  # the other objects must get their answer too
        log.error("store_failed", door="STOW-RS", error=type(error).__name__)
        intake.doors.refuse("STOW-RS", "INTERNAL_ERROR")
        return _Failure(_PROCESSING_FAILURE, VigilError("the service failed"), _header(part))


def _header(part: Part) -> Header | None:
    try:
        return read_intake_header(part.path)
    except (ObjectUnreadable, OSError):
        return None


def _answer(request: Request, answers: list[Receipt | _Failure]) -> Response:
    """Build the Store Instances Response Module (DICOM PS3.18 annex I) and its status.

    A failure that names no object stands among the Other Failures (0008,119A).
    """
    stored = [answer for answer in answers if isinstance(answer, Receipt)]
    failed = [answer for answer in answers if isinstance(answer, _Failure)]
    studies = {receipt.study_instance_uid for receipt in stored}
    url = study_url(request, studies.pop()) if len(studies) == 1 else ""
    module: dict[str, Any] = json_element("RetrieveURL", url)
    items = {
        "00081198": [_failed_item(failure) for failure in failed if failure.header],
        "00081199": [_stored_item(request, receipt) for receipt in stored],
        "0008119A": [_failed_item(failure) for failure in failed if not failure.header],
    }
    module |= {tag: {"vr": "SQ", "Value": found} for tag, found in items.items() if found}
    return JSONResponse(module, _http_status(stored, failed), media_type=MEDIA_TYPE)


def _http_status(stored: list[Receipt], failed: list[_Failure]) -> int:
    """Follow DICOM PS3.18 table 10.5.3-1; nothing stored for want of room is 507."""
    if stored:
        differs = any(receipt.outcome is Outcome.DIFFERS for receipt in stored)
        return 202 if failed or differs else 200
    if any(isinstance(failure.error, StorageError) for failure in failed):
        return StorageError.http_status
    if all(isinstance(failure.error, MediaTypeUnsupported) for failure in failed):
        return MediaTypeUnsupported.http_status
    return 409


def _stored_item(request: Request, receipt: Receipt) -> dict[str, Any]:
    item = _reference(receipt.sop_class_uid, receipt.sop_instance_uid)
    if receipt.series_instance_uid:
        study = study_url(request, receipt.study_instance_uid)
        series = f"{study}/series/{receipt.series_instance_uid}"
        item |= json_element("RetrieveURL", f"{series}/instances/{receipt.sop_instance_uid}")
    if receipt.outcome is Outcome.DIFFERS:
        item["00081196"] = {"vr": "US", "Value": [_COERCED]}
    return item


def _failed_item(failure: _Failure) -> dict[str, Any]:
    header = failure.header
    item = _reference(header.sop_class_uid, header.sop_instance_uid) if header else {}
    item["00081197"] = {"vr": "US", "Value": [failure.status]}
    return item


def _reference(sop_class_uid: str, sop_instance_uid: str) -> dict[str, Any]:
    return {
        "00081150": {"vr": "UI", "Value": [sop_class_uid]},
        "00081155": {"vr": "UI", "Value": [sop_instance_uid]},
    }
