"""The HTTP interface of readings: what was said of a study, saying more, and raising a priority."""

import tempfile
from collections.abc import Iterator
from typing import IO, Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import JSONResponse, StreamingResponse

from vigil_inference.access.account import Account, require
from vigil_inference.access.roles import Permission
from vigil_inference.events import StudyChanged
from vigil_inference.reading.book import ReadingBook, ReadingChanged, ReadingSigned
from vigil_inference.reading.export import Export, source_of, zipped
from vigil_inference.reading.pictures import Pictures
from vigil_inference.reading.records import NewStatement
from vigil_inference.reading.statistics import ReadingStatistics, read_statistics
from vigil_inference.reading.views import (
    NewRaise,
    NextUnread,
    StudyReadingsView,
    WordView,
    readings_view,
    vocabulary,
)
from vigil_inference.service import Service
from vigil_inference.views import Problem

router = APIRouter(tags=["Readings"])


class ReadingProblem(Problem):
    """A statement that came too late, and what stands now."""

    readings: StudyReadingsView


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


Running = Annotated[Service, Depends(_service)]
Seeing = Annotated[Account, Depends(require(Permission.SEE_WORKLIST))]
Reader = Annotated[Account, Depends(require(Permission.READ_STUDIES))]
Raiser = Annotated[Account, Depends(require(Permission.RAISE_PRIORITY))]
Exporter = Annotated[Account, Depends(require(Permission.EXPORT_READINGS))]
_CHUNK_BYTES = 1024 * 1024
_ZIP: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/zip": {}}},
    403: {"model": Problem},
}
_UNKNOWN: dict[int | str, dict[str, Any]] = {403: {"model": Problem}, 404: {"model": Problem}}
_CHANGED: dict[int | str, dict[str, Any]] = {**_UNKNOWN, 409: {"model": ReadingProblem}}
_READINGS = "/api/studies/{study_instance_uid}/readings"


@router.get("/api/readings/vocabulary")
def get_vocabulary(_account: Seeing) -> tuple[WordView, ...]:
    """List what a reader may speak of: the findings' labels and a few more, all coded."""
    return vocabulary()


@router.get("/api/readings/next", responses={403: {"model": Problem}})
def get_next(
    service: Running,
    _account: Reader,
    after: Annotated[str, Query(max_length=64, description="The study that was just read.")] = "",
) -> NextUnread:
    """Return the most pressing study that nobody has signed."""
    return NextUnread(study_instance_uid=service.readings.next_unread(after))


@router.get("/api/readings/statistics", responses={403: {"model": Problem}})
def get_statistics(service: Running, _account: Exporter) -> ReadingStatistics:
    """Say how far signed readings agree with the model and with each other, with intervals."""
    return read_statistics(service.store)


@router.get("/api/readings/export", responses=_ZIP, response_class=StreamingResponse)
def get_export(
    service: Running, _account: Exporter, pictures: Pictures = Pictures.NONE
) -> StreamingResponse:
    """Return signed readings as a manifest that training reads, under pseudonyms, in a ZIP file."""
    settings = service.settings
    export = Export(
        service.store, settings.data_dir, source=source_of(settings.site), pictures=pictures
    )
    # On the data folder's own disk, and without a name: it is gone when it was sent, or nobody is
    # left to send it.
    file = tempfile.TemporaryFile(dir=settings.data_dir)  # noqa: SIM115
    try:
        zipped(export.files(), file)
    except BaseException:
        file.close()
        raise
    file.seek(0)
    return StreamingResponse(
        _chunks(file),
        media_type="application/zip",
        headers={"Content-Disposition": "attachment; filename=readings.zip"},
    )


def _chunks(file: IO[bytes]) -> Iterator[bytes]:
    with file:
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk


@router.get(_READINGS, responses=_UNKNOWN)
def get_readings(service: Running, account: Seeing, study_instance_uid: str) -> StudyReadingsView:
    """Return what was said of a study, by whom and when: the own reading and those of others."""
    return _view(service, account, study_instance_uid)


@router.post(f"{_READINGS}/statements", responses=_CHANGED, response_model=StudyReadingsView)
def post_statement(
    service: Running, account: Reader, study_instance_uid: str, statement: NewStatement
) -> StudyReadingsView | JSONResponse:
    """Say something of a study. A repetition changes nothing; 409 says what stands now instead.

    `READING_CHANGED`: the own reading moved on since `seen_version`. `READING_SIGNED`: it is
    signed, and what is said now must say that it amends it.
    """
    book = service.readings
    try:
        is_new = book.say(study_instance_uid, account, statement)
    except (ReadingChanged, ReadingSigned) as error:
        stands = _view(service, account, study_instance_uid)
        problem = ReadingProblem(code=error.code, message=str(error), readings=stands)
        return JSONResponse(
            problem.model_dump(mode="json"), 409, media_type="application/problem+json"
        )
    if is_new:
        service.hub.publish(StudyChanged(study_instance_uid))
    return _view(service, account, study_instance_uid)


@router.post("/api/studies/{study_instance_uid}/priority", responses=_CHANGED)
def post_priority(
    service: Running, account: Raiser, study_instance_uid: str, wanted: NewRaise
) -> StudyReadingsView:
    """Raise a study's priority by hand. 409 `PRIORITY_ONLY_RISES`: it is as high already."""
    book: ReadingBook = service.readings
    is_new = book.raise_by_hand(
        study_instance_uid, account, str(wanted.id), wanted.priority, wanted.reason
    )
    if is_new:
        service.hub.publish(StudyChanged(study_instance_uid))
    return _view(service, account, study_instance_uid)


def _view(service: Service, account: Account, study_instance_uid: str) -> StudyReadingsView:
    return readings_view(
        study_instance_uid,
        service.readings.read(study_instance_uid),
        account,
        is_blind=service.settings.second_reading_blind,
    )
