"""A study's results as DICOM objects, built from the record whenever somebody asks.

The objects are pure functions of what the database and the originals hold, so nothing is stored:
asked twice, the same bytes come back (:mod:`vigil_inference.results`).
"""

import contextlib
import os
import uuid
from collections.abc import Mapping
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select

from vigil.dicom import read_header
from vigil.errors import ImageRefused, StorageError, VigilError
from vigil.triage import Flag, Priority
from vigil_inference.intake import errno_name, sync_folder
from vigil_inference.pictures import PictureStore
from vigil_inference.records import AnalysisRecord, FindingRecord
from vigil_inference.settings import Settings
from vigil_inference.store import Store
from vigil_inference.tables import Instance, State, Study

if TYPE_CHECKING:
    from pydicom import Dataset

    from vigil_inference.results import PictureResult, ResultOptions


class ResultsUnavailable(VigilError):
    """A study has no result objects, and why."""

    code = "RESULTS_UNAVAILABLE"
    http_status = 409


def installation_namespace(data_dir: Path) -> uuid.UUID:
    """Return the installation's own UUID, made at its first use; its results' UIDs come from it.

    Raises
    ------
    StorageError
        If it can be neither read nor written.
    """
    path = data_dir / "installation-id"
    try:
        if not path.exists():
            fresh = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
            with fresh.open("x", encoding="ascii") as file:
                file.write(f"{uuid.uuid4()}\n")
                file.flush()
                os.fsync(file.fileno())
            # A link is made whole or not at all, and only the first one is.
            with contextlib.suppress(FileExistsError):
                os.link(fresh, path)
            fresh.unlink()
            sync_folder(data_dir)
        return uuid.UUID(path.read_text(encoding="ascii").strip())
    except (OSError, ValueError) as error:
        what = errno_name(error) if isinstance(error, OSError) else "not a UUID"
        raise StorageError(f"{path}: the installation's identity is unusable ({what})") from error


def build_study_objects(
    store: Store, pictures: PictureStore, settings: Settings, study_instance_uid: str
) -> "tuple[Dataset, ...]":
    """Build a study's result objects from what is recorded, the report first.

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
    bundles = {(row.bundle_id, row.bundle_digest) for row in rows if row.bundle_digest}
    if len(bundles) != 1:
        raise ResultsUnavailable("the study's pictures were judged by several bundles, or by none")
    [(bundle_id, bundle_digest)] = bundles
    study = StudyResult(
        pictures=tuple(_picture(row, pictures, settings.data_dir) for row in rows),
        bundle_id=str(bundle_id),
        bundle_digest=str(bundle_digest),
        namespace=installation_namespace(settings.data_dir),
        options=_options(settings),
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
