"""The worklist's routes: pages of it, what there is to filter by, and marks on studies."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Response
from pydantic import BaseModel, Field

from vigil.errors import VigilError
from vigil.triage import Priority
from vigil_inference.access.account import EVERYBODY, Account, require
from vigil_inference.access.roles import Permission
from vigil_inference.api import Running
from vigil_inference.case_level import at_case_level, is_case_level
from vigil_inference.events import StudyChanged
from vigil_inference.service import Service
from vigil_inference.views import ChoicesView, Problem, WorklistPage
from vigil_inference.worklist.filters import Filters, Status
from vigil_inference.worklist.marks import Marks, Reader
from vigil_inference.worklist.page import Order, read_choices, read_worklist

router = APIRouter(tags=["Worklist"])

_Seer = Annotated[Account, Depends(require(Permission.SEE_WORKLIST))]
_Radiologist = Annotated[Account, Depends(require(Permission.READ_STUDIES))]
_Text = Query(max_length=256)
_ReaderId = Annotated[
    str,
    Query(
        pattern=r"^[a-z0-9]{0,32}$",
        description="Tells browsers apart where nobody signs in; else it is not looked at.",
    ),
]
_MARK_ERRORS: dict[int | str, dict[str, Any]] = {404: {"model": Problem}, 409: {"model": Problem}}


class FindingsOff(VigilError):
    """This site's profile says no finding, so that nothing can be filtered by one."""

    code = "FINDINGS_OFF"
    http_status = 409


class MarkBody(BaseModel):
    """How a mark is set."""

    take_over: bool = Field(False, description="Though another reader has the study.")
    reader: str = Field("", pattern=r"^[a-z0-9]{0,32}$", description="As in the worklist's query.")


def reader_of(account: Account, browser: str) -> Reader:
    """Return who marks: the account, or the browser where there are no accounts."""
    if account is EVERYBODY:
        return Reader(f"{account.name} {browser}".strip(), "")
    return Reader(account.name, account.display_name)


@router.get("/api/worklist")
def get_worklist(
    service: Running,
    account: _Seer,
    order: Annotated[Order, Query(description="`arrival` is the site's own order.")] = "priority",
    offset: Annotated[int, Query(ge=0, le=2**31)] = 0,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
    text: Annotated[
        str, Query(max_length=256, description="Beginnings of words; diacritics do not matter.")
    ] = "",
    priority: Priority | None = None,
    status: Status = Status.ALL,
    finding: Annotated[str, _Text] = "",
    institution: Annotated[str, _Text] = "",
    source: Annotated[str, _Text] = "",
    modality: Annotated[str, _Text] = "",
    patient_id: Annotated[str, _Text] = "",
    received_from: datetime | None = None,
    received_to: datetime | None = None,
    reader: _ReaderId = "",
) -> WorklistPage:
    """Return studies in the order in which they should be read, and what the filters leave out."""
    case_level = is_case_level(service.settings)
    if case_level and finding:
        raise FindingsOff("this site's profile says no findings, so there is none to filter by")
    page = read_worklist(
        service.store,
        service.analysis.status,
        filters=Filters(
            text=text,
            priority=priority,
            status=status,
            finding=finding,
            institution=institution,
            source=source,
            modality=modality,
            patient_id=patient_id,
            received_from=_with_zone(received_from),
            received_to=_with_zone(received_to),
        ),
        reader=reader_of(account, reader).account,
        targets=service.settings.reading_targets,
        order=order,
        offset=offset,
        limit=limit,
    )
    return at_case_level(page) if case_level else page


@router.get("/api/worklist/choices", dependencies=[Depends(require(Permission.SEE_WORKLIST))])
def get_choices(service: Running) -> ChoicesView:
    """Return the findings, institutions, sources and modalities that there are to filter by."""
    choices = read_choices(service.store)
    if is_case_level(service.settings):
        return choices.model_copy(update={"findings": ()})
    return choices


_STUDY = "/api/studies/{study_instance_uid}"
_Uid = Annotated[str, Path(max_length=64)]


@router.put(f"{_STUDY}/assignment", status_code=204, responses=_MARK_ERRORS)
def put_assignment(
    service: Running, account: _Radiologist, study_instance_uid: _Uid, body: MarkBody
) -> Response:
    """Take a study, so that others see who reads it."""
    Marks(service.store).assign(
        study_instance_uid, reader_of(account, body.reader), take_over=body.take_over
    )
    return _marked(service, study_instance_uid)


@router.delete(f"{_STUDY}/assignment", status_code=204, responses=_MARK_ERRORS)
def delete_assignment(
    service: Running, account: _Radiologist, study_instance_uid: _Uid, body: MarkBody
) -> Response:
    """Give a study back."""
    Marks(service.store).release(
        study_instance_uid, reader_of(account, body.reader), take_over=body.take_over
    )
    return _marked(service, study_instance_uid)


@router.put(f"{_STUDY}/being-read", status_code=204, responses=_MARK_ERRORS)
def put_being_read(
    service: Running, account: _Radiologist, study_instance_uid: _Uid, body: MarkBody
) -> Response:
    """Say that a study is open for reading; it counts for two minutes, unless said again."""
    Marks(service.store).begin_reading(
        study_instance_uid, reader_of(account, body.reader), take_over=body.take_over
    )
    return _marked(service, study_instance_uid)


@router.delete(f"{_STUDY}/being-read", status_code=204, responses=_MARK_ERRORS)
def delete_being_read(
    service: Running, account: _Radiologist, study_instance_uid: _Uid, body: MarkBody
) -> Response:
    """Say that a study is closed again."""
    Marks(service.store).end_reading(study_instance_uid, reader_of(account, body.reader))
    return _marked(service, study_instance_uid)


def _marked(service: Service, study_instance_uid: str) -> Response:
    service.hub.publish(StudyChanged(study_instance_uid))
    return Response(status_code=204)


def _with_zone(moment: datetime | None) -> datetime | None:
    # A time without a zone is the server's own.
    return moment.astimezone() if moment is not None and moment.tzinfo is None else moment
