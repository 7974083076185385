"""A study's results as DICOM objects: as they were released, else built from the record.

The objects are pure functions of what the database and the originals hold
(:mod:`vigil_inference.results`): asked twice, the same bytes come back. What was released to a
destination is kept, and is what is shown as long as it speaks of all the study's pictures.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select
from sqlalchemy.orm import Session

from vigil.dicom import read_header
from vigil.errors import ImageRefused, RefusalCode, VigilError
from vigil.triage import Flag, Priority
from vigil_inference.delivery.tables import ResultObject, ResultSet
from vigil_inference.installation import installation_namespace
from vigil_inference.intake import errno_name
from vigil_inference.pictures import PictureStore
from vigil_inference.records import AnalysisRecord, FindingRecord
from vigil_inference.settings import Settings
from vigil_inference.store import Store
from vigil_inference.tables import Instance, State, Study

if TYPE_CHECKING:
    from pydicom import Dataset

    from vigil_inference.results import PictureResult, Predecessor, ResultOptions


# Refusals by what the object is.
_NO_PICTURES = frozenset({RefusalCode.NOT_RADIOGRAPH, RefusalCode.NO_PIXELS, RefusalCode.DERIVED})
# Modalities (DICOM PS3.3 C.7.3.1.1.1) of objects that speak of others.
_DOCUMENTS = frozenset({"SR", "KO", "PR", "SEG", "REG", "DOC", "AU"})


class ResultsUnavailable(VigilError):
    """A study has no result objects, and why."""

    code = "RESULTS_UNAVAILABLE"
    http_status = 409


class ResultsRemoved(VigilError):
    """A study's results were delivered, and their files were removed by rule since."""

    code = "RESULTS_REMOVED"
    http_status = 410


@dataclass(frozen=True)
class LastRelease:
    """The latest release of a study's results.

    Attributes
    ----------
    number
        Which of the study's releases it is, from 1.
    basis
        What it speaks of, see :func:`basis_of`.
    objects
        SOP Instance UIDs of its objects.
    report
        The study's latest report, of this release or an earlier one.
    """

    number: int
    basis: str
    objects: tuple[str, ...]
    report: "Predecessor | None"


@dataclass(frozen=True)
class StudyObject:
    """One of a study's results as a DICOM file."""

    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    content: bytes


def reported(rows: Iterable[Instance]) -> list[Instance]:
    """Return the pictures that a study's results speak of.

    Of other objects only where there is nothing else, and never of results: a PACS that forwards
    whole studies sends ours back, and a report for each would call forth the next one.
    """
    held = list(rows)
    pictures = [row for row in held if row.code not in _NO_PICTURES]
    return pictures or [row for row in held if not _is_result(row)]


def _is_result(row: Instance) -> bool:
    is_capture = row.code == RefusalCode.DERIVED and row.modality == "OT"
    return is_capture or row.modality in _DOCUMENTS


def basis_of(rows: Iterable[Instance]) -> str:
    """Return the SHA-256 of which pictures there are, how each was judged, and by what."""
    judged = sorted(
        f"{row.sop_instance_uid}={row.code or row.state}:{row.bundle_digest}"
        for row in reported(rows)
    )
    return hashlib.sha256("\n".join(judged).encode()).hexdigest()


def last_release(session: Session, study_id: int) -> LastRelease | None:
    """Return the latest release of a study's results, if there is any."""
    result_set = session.scalars(
        select(ResultSet)
        .where(ResultSet.study_id == study_id)
        .order_by(ResultSet.number.desc())
        .limit(1)
    ).one_or_none()
    if result_set is None:
        return None
    row = session.execute(
        select(ResultObject, Study.study_instance_uid)
        .join(ResultSet, ResultSet.id == ResultObject.result_set_id)
        .join(Study, Study.id == ResultSet.study_id)
        .where(ResultSet.study_id == study_id, ResultObject.kind == "report")
        .order_by(ResultSet.number.desc())
        .limit(1)
    ).one_or_none()
    report = None
    if row is not None:
        from vigil_inference.results import Predecessor

        report = Predecessor(
            study_instance_uid=row.study_instance_uid,
            series_instance_uid=row.ResultObject.series_instance_uid,
            sop_instance_uid=row.ResultObject.sop_instance_uid,
            instance_number=row.ResultObject.instance_number,
            sop_class_uid=row.ResultObject.sop_class_uid,
        )
    return LastRelease(result_set.number, result_set.basis, tuple(result_set.objects), report)


def read_study_objects(
    store: Store, pictures: PictureStore, settings: Settings, study_instance_uid: str
) -> tuple[StudyObject, ...]:
    """Return a study's results: as released if all its pictures were, else built now.

    Raises
    ------
    ResultsUnavailable
        As :func:`build_study_objects`, or if what was released is not on the disk any more.
    ResultsRemoved
        If what was released was removed by rule.
    """
    with store.reading() as session:
        rows = session.scalars(
            select(Instance).join(Study).where(Study.study_instance_uid == study_instance_uid)
        ).all()
        latest = last_release(session, rows[0].study_id) if rows else None
        if latest is not None and latest.basis == basis_of(rows):
            released = _released(session, latest)
            if released:
                return tuple(_read_kept(row, settings.data_dir) for row in released)
    predecessor = None if latest is None else latest.report
    from vigil_inference.results import to_bytes

    documents = build_study_objects(store, pictures, settings, study_instance_uid, predecessor)
    return tuple(
        StudyObject(
            sop_class_uid=str(document.SOPClassUID),
            sop_instance_uid=str(document.SOPInstanceUID),
            series_instance_uid=str(document.SeriesInstanceUID),
            content=to_bytes(document),
        )
        for document in documents
    )


def _released(session: Session, latest: LastRelease) -> list[ResultObject]:
    """Return a release's objects in their order, those too that an earlier release made."""
    found = {
        row.sop_instance_uid: row
        for row in session.scalars(
            select(ResultObject).where(ResultObject.sop_instance_uid.in_(latest.objects))
        )
    }
    return [found[uid] for uid in latest.objects if uid in found]


def _read_kept(row: ResultObject, data_dir: Path) -> StudyObject:
    if row.removed_at is not None:
        raise ResultsRemoved(
            f"the file was removed on {row.removed_at:%Y-%m-%d}: {row.removal_reason}; the "
            "destinations hold it"
        )
    try:
        content = (data_dir / row.file_path).read_bytes()
    except OSError as error:
        raise ResultsUnavailable(
            f"a released result cannot be read ({errno_name(error)})"
        ) from error
    return StudyObject(row.sop_class_uid, row.sop_instance_uid, row.series_instance_uid, content)


def build_study_objects(
    store: Store,
    pictures: PictureStore,
    settings: Settings,
    study_instance_uid: str,
    predecessor: "Predecessor | None" = None,
) -> "tuple[Dataset, ...]":
    """Build a study's result objects from what is recorded, the report first.

    Parameters
    ----------
    store, pictures, settings
        The record, the pictures and maps, the site's options.
    study_instance_uid
        Whose.
    predecessor
        The report that the new one replaces.

    Raises
    ------
    ResultsUnavailable
        If a picture of the study still waits for its analysis, its pictures were judged by several
        bundles, or an original cannot be read any more.
    """
    # highdicom takes a quarter of a second and 23 MiB that a service without readers saves.
    from vigil_inference.results import StudyResult, build_results

    with store.reading() as session:
        rows = session.scalars(
            select(Instance)
            .join(Study)
            .where(Study.study_instance_uid == study_instance_uid)
            .order_by(Instance.id)
        ).all()
    # A report that says "no finding" while a picture waits would say it of one nobody looked at.
    if not rows or any(row.state == State.RECEIVED.value for row in rows):
        raise ResultsUnavailable("pictures of this study still wait for their analysis")
    rows = reported(rows)
    if not rows:
        return ()
    bundles = {(row.bundle_id, row.bundle_digest) for row in rows if row.bundle_digest}
    if len(bundles) > 1:
        raise ResultsUnavailable("the study's pictures were judged by several bundles")
    # By none: all were refused before the bundle was asked, and the report says why.
    bundle_id, bundle_digest = next(iter(bundles), ("", ""))
    study = StudyResult(
        pictures=tuple(_picture(row, pictures, settings.data_dir) for row in rows),
        bundle_id=str(bundle_id),
        bundle_digest=str(bundle_digest),
        namespace=installation_namespace(settings.data_dir),
        options=_options(settings),
        predecessor=predecessor,
    )
    return build_results(study)


def _options(settings: Settings) -> "ResultOptions":
    from vigil_inference.results import Language, Profile, ResultOptions

    return ResultOptions(
        profile=Profile(settings.result_profile),
        language=Language("en" if settings.language == "auto" else settings.language),
        regions=settings.heat_maps,
        captures=settings.heat_maps,
        key_objects=settings.result_key_objects,
        negatives=settings.result_negatives,
        refusals=settings.result_refusals,
    )


def _picture(row: Instance, pictures: PictureStore, data_dir: Path) -> "PictureResult":
    from vigil_inference.results import PictureResult

    record = AnalysisRecord.model_validate(row.result)
    try:
        source = read_header(data_dir / row.file_path)
    except ImageRefused as refusal:
        raise ResultsUnavailable(f"an original cannot be read: {refusal.reason}") from refusal
    analysed_at = row.analysed_at
    if analysed_at is None:
        raise ResultsUnavailable("a picture has a result without a time")
    return PictureResult(
        source=source,
        analysed_at=analysed_at if analysed_at.tzinfo else analysed_at.replace(tzinfo=UTC),
        priority=record.priority,
        code=record.code,
        reason=record.reason,
        findings={f.label: f.probability for f in record.findings if f.probability is not None},
        flags=tuple(_flag(f) for f in record.findings if f.flagged),
        withheld={f.label: f.withheld for f in record.findings if f.withheld},
        notes=record.notes,
        maps=_maps(record, row.sha256, pictures),
        pixels=pictures.load_preview(row.sha256) if record.has_preview else None,
        anatomy=None if record.anatomy is None else record.anatomy.anatomy(),
    )


def _flag(finding: FindingRecord) -> Flag:
    is_critical = finding.priority is Priority.CRITICAL
    threshold = finding.critical_threshold if is_critical else finding.threshold
    return Flag(
        finding.key, finding.label, finding.probability or 0.0, threshold or 0.0, finding.priority
    )


def _maps(
    record: AnalysisRecord, sha256: str, pictures: PictureStore
) -> Mapping[str, NDArray[np.float32]]:
    found = {f.label: pictures.load_map(sha256, f.label) for f in record.findings if f.has_map}
    return {label: grid for label, grid in found.items() if grid is not None}
