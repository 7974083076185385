"""QIDO-RS: searching studies, series and instances that are held (DICOM PS3.18 section 10.6).

What the database knows is matched; numbers and descriptions below the study are read from the
files of the page that is returned.
"""

from collections.abc import Callable, Sequence
from typing import Annotated, Any

import pydicom
from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import JSONResponse
from pydicom.datadict import dictionary_VR, keyword_for_tag, tag_for_keyword
from sqlalchemy import ColumnElement, Select, func, or_, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from vigil_inference.access.account import require
from vigil_inference.access.roles import Permission
from vigil_inference.service import Service
from vigil_inference.tables import Instance, Study

MEDIA_TYPE = "application/dicom+json"
_OPTIONS = frozenset({"limit", "offset", "includefield", "fuzzymatching"})
_FROM_FILE = (
    "SeriesNumber",
    "SeriesDescription",
    "InstanceNumber",
    "Rows",
    "Columns",
    "BitsAllocated",
    "NumberOfFrames",
)

router = APIRouter(
    prefix="/dicomweb",
    tags=["DICOMweb"],
    default_response_class=Response,
    dependencies=[Depends(require(Permission.SEE_PICTURES))],
)
Limit = Annotated[int, Query(ge=1, le=1000)]
Offset = Annotated[int, Query(ge=0, le=2**31)]
Json = dict[str, Any]


@router.get("/studies")
def search_studies(request: Request, limit: Limit = 100, offset: Offset = 0) -> Response:
    """Search studies (QIDO-RS), the latest first."""
    conditions, ignored = _conditions(request, STUDY_KEYS)
    query = select(Study).where(*conditions).order_by(Study.id.desc())
    with _service(request).store.reading() as session:
        rows = session.scalars(query.offset(offset).limit(limit + 1)).all()
        found = [_study(request, session, study) for study in rows[:limit]]
    return _answer(found, ignored, more=len(rows) > limit)


@router.get("/series")
@router.get("/studies/{study_instance_uid}/series")
def search_series(
    request: Request, study_instance_uid: str = "", limit: Limit = 100, offset: Offset = 0
) -> Response:
    """Search series, of all studies or of one (QIDO-RS)."""
    conditions, ignored = _conditions(request, STUDY_KEYS | SERIES_KEYS)
    query = _below(
        select(func.min(Instance.id), func.count(), func.count(Instance.removed_at)).join(Study),
        conditions,
        study_instance_uid,
    )
    query = query.group_by(Instance.study_id, Instance.series_instance_uid)
    with _service(request).store.reading() as session:
        page = query.order_by(func.min(Instance.id)).offset(offset).limit(limit + 1)
        rows = session.execute(page).all()
        found = [
            _series(request, session.get_one(Instance, first), count, is_online=removed < count)
            for first, count, removed in rows[:limit]
        ]
    return _answer(found, ignored, more=len(rows) > limit)


@router.get("/instances")
@router.get("/studies/{study_instance_uid}/instances")
@router.get("/studies/{study_instance_uid}/series/{series_instance_uid}/instances")
def search_instances(
    request: Request,
    study_instance_uid: str = "",
    series_instance_uid: str = "",
    limit: Limit = 100,
    offset: Offset = 0,
) -> Response:
    """Search instances, of all studies, of one, or of one series (QIDO-RS)."""
    conditions, ignored = _conditions(request, STUDY_KEYS | SERIES_KEYS | INSTANCE_KEYS)
    query = _below(select(Instance).join(Study), conditions, study_instance_uid)
    if series_instance_uid:
        query = query.where(Instance.series_instance_uid == series_instance_uid)
    with _service(request).store.reading() as session:
        page = query.order_by(Instance.id).offset(offset).limit(limit + 1)
        rows = session.scalars(page).all()
        found = [_instance(request, row) for row in rows[:limit]]
    return _answer(found, ignored, more=len(rows) > limit)


def json_element(keyword: str, *values: Any) -> Json:
    """Return an attribute in the DICOM JSON model (PS3.18 annex F); without a value, empty."""
    tag = tag_for_keyword(keyword)
    if tag is None:
        raise ValueError(f"{keyword}: expected a keyword of the DICOM dictionary")
    element: Json = {"vr": dictionary_VR(tag)}
    present = [value for value in values if value not in ("", None)]
    if element["vr"] == "PN":
        names = ("Alphabetic", "Ideographic", "Phonetic")
        present = [
            {name: group for name, group in zip(names, text.split("="), strict=False) if group}
            for text in present
        ]
    if present:
        element["Value"] = present
    return {f"{tag:08X}": element}


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


def _text_match(column: InstrumentedAttribute[str]) -> Callable[[str], ColumnElement[bool]]:
    """Match with the wildcards of DICOM PS3.4 C.2.2.2.4, whatever the letters' case."""

    def match(value: str) -> ColumnElement[bool]:
        pattern = value.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        pattern = pattern.replace("*", "%").replace("?", "_")
        whole = column.ilike(pattern, escape="\\")
        # A name may hold ideographic and phonetic groups behind the alphabetic one.
        if column is Study.patient_name:
            return or_(whole, column.ilike(f"{pattern}=%", escape="\\"))
        return whole

    return match


def _uid_match(column: InstrumentedAttribute[str]) -> Callable[[str], ColumnElement[bool]]:
    return lambda value: column.in_(value.replace("\\", ",").split(","))


def _date_match(value: str) -> ColumnElement[bool]:
    first, dash, last = value.partition("-")
    if not dash:
        return Study.study_date == value
    return Study.study_date.between(first or "0", last or "99999999") & (Study.study_date != "")


STUDY_KEYS: dict[str, Callable[[str], ColumnElement[bool]]] = {
    "StudyInstanceUID": _uid_match(Study.study_instance_uid),
    "PatientName": _text_match(Study.patient_name),
    "PatientID": _text_match(Study.patient_id),
    "AccessionNumber": _text_match(Study.accession_number),
    "StudyDescription": _text_match(Study.study_description),
    "StudyDate": _date_match,
    "ModalitiesInStudy": lambda value: Study.instances.any(
        Instance.modality.in_(value.replace("\\", ",").split(","))
    ),
}
SERIES_KEYS: dict[str, Callable[[str], ColumnElement[bool]]] = {
    "SeriesInstanceUID": _uid_match(Instance.series_instance_uid),
    "Modality": _text_match(Instance.modality),
}
INSTANCE_KEYS: dict[str, Callable[[str], ColumnElement[bool]]] = {
    "SOPInstanceUID": _uid_match(Instance.sop_instance_uid),
    "SOPClassUID": _uid_match(Instance.sop_class_uid),
}


def _conditions(
    request: Request, keys: dict[str, Callable[[str], ColumnElement[bool]]]
) -> tuple[list[ColumnElement[bool]], list[str]]:
    """Return what a request asks for, and which of its keys are not matched here."""
    conditions, ignored = [], []
    for name, value in request.query_params.multi_items():
        if name in _OPTIONS or not value:
            continue
        is_tag = len(name) == 8 and all(c in "0123456789abcdefABCDEF" for c in name)
        keyword = keyword_for_tag(int(name, 16)) if is_tag else name
        if keyword in keys:
            conditions.append(keys[keyword](value))
        else:
            ignored.append(name)
    return conditions, ignored


def _below(
    query: Select[*tuple[Any, ...]],
    conditions: Sequence[ColumnElement[bool]],
    study_instance_uid: str,
) -> Select[*tuple[Any, ...]]:
    # An object without a series cannot be named in DICOMweb.
    query = query.where(Instance.series_instance_uid != "", *conditions)
    if study_instance_uid:
        query = query.where(Study.study_instance_uid == study_instance_uid)
    return query


def _answer(found: list[Json], ignored: list[str], *, more: bool) -> Response:
    """Answer; what was not done is said in a Warning (PS3.18 section 8.3.4.4)."""
    warnings = []
    if ignored:
        names = ", ".join(name for name in ignored if name.isascii() and name.isalnum())
        warnings.append(f'299 vigil "these parameters were not matched: {names}"')
    if more:
        warnings.append('299 vigil "there are more results; ask with limit and offset"')
    headers = {"Warning": ", ".join(warnings)} if warnings else {}
    return JSONResponse(found, headers=headers, media_type=MEDIA_TYPE)


def study_url(request: Request, study_instance_uid: str) -> str:
    """Return where a study is retrieved."""
    return f"{request.base_url}dicomweb/studies/{study_instance_uid}"


def _study_part(request: Request, study: Study, *, is_online: bool) -> Json:
    return {
        **json_element("StudyDate", study.study_date),
        **json_element("StudyTime", study.study_time),
        **json_element("AccessionNumber", study.accession_number),
        **json_element("InstanceAvailability", "ONLINE" if is_online else "UNAVAILABLE"),
        **json_element("ReferringPhysicianName"),
        **json_element("StudyDescription", study.study_description),
        **json_element("RetrieveURL", study_url(request, study.study_instance_uid)),
        **json_element("PatientName", study.patient_name),
        **json_element("PatientID", study.patient_id),
        **json_element("PatientBirthDate", study.patient_birth_date),
        **json_element("PatientSex", study.patient_sex),
        **json_element("StudyInstanceUID", study.study_instance_uid),
        **json_element("StudyID"),
    }


def _study(request: Request, session: Session, study: Study) -> Json:
    mine = Instance.study_id == study.id
    modalities = session.scalars(select(Instance.modality).where(mine).distinct()).all()
    series, instances, removed = session.execute(
        select(
            func.count(func.distinct(Instance.series_instance_uid)),
            func.count(),
            func.count(Instance.removed_at),
        ).where(mine)
    ).one()
    return {
        **_study_part(request, study, is_online=removed < instances),
        **json_element("ModalitiesInStudy", *sorted(modalities)),
        **json_element("NumberOfStudyRelatedSeries", series),
        **json_element("NumberOfStudyRelatedInstances", instances),
    }


def _series(request: Request, first: Instance, instances: int, *, is_online: bool) -> Json:
    url = f"{study_url(request, first.study.study_instance_uid)}/series/{first.series_instance_uid}"
    return {
        **_study_part(request, first.study, is_online=is_online),
        **json_element("Modality", first.modality),
        **json_element("SeriesInstanceUID", first.series_instance_uid),
        **json_element("NumberOfSeriesRelatedInstances", instances),
        **_from_file(request, first, ("SeriesNumber", "SeriesDescription")),
        **json_element("RetrieveURL", url),
    }


def _instance(request: Request, row: Instance) -> Json:
    study = study_url(request, row.study.study_instance_uid)
    url = f"{study}/series/{row.series_instance_uid}/instances/{row.sop_instance_uid}"
    return {
        **_study_part(request, row.study, is_online=row.removed_at is None),
        **json_element("Modality", row.modality),
        **json_element("SeriesInstanceUID", row.series_instance_uid),
        **json_element("SOPClassUID", row.sop_class_uid),
        **json_element("SOPInstanceUID", row.sop_instance_uid),
        **json_element("AvailableTransferSyntaxUID", row.transfer_syntax_uid),
        **_from_file(request, row, _FROM_FILE),
        **json_element("RetrieveURL", url),
    }


def _from_file(request: Request, row: Instance, keywords: Sequence[str]) -> Json:
    """Return attributes that only the file holds; an unreadable one is empty."""
    path = _service(request).settings.data_dir / row.file_path
    found: Json = {}
    try:
        dataset = pydicom.dcmread(
            path, stop_before_pixels=True, force=True, specific_tags=list(keywords)
        )
        for keyword in keywords:
            value = dataset.get(keyword)
            number = dictionary_VR(keyword) in ("US", "IS")
            text = "" if value is None else int(value) if number else str(value)
            found |= json_element(keyword, text)
    except Exception:  # pydicom's parser raises whatever a damaged file makes it meet
        return found
    return found
