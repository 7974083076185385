"""Releasing a study's results: built once it is quiet, kept as bytes, and due to be delivered.

A release is one transaction: the set, its objects, their deliveries, and the end of the study's
mark. The bytes are on disk before it, under their own digest, so that a process that dies in
between leaves nothing but a file that the next attempt writes again.
"""

import hashlib
import json
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import structlog
from pydicom.uid import (
    Comprehensive3DSRStorage,
    KeyObjectSelectionDocumentStorage,
    SecondaryCaptureImageStorage,
)
from sqlalchemy import ColumnElement, exists, select, update
from sqlalchemy.orm import Session

import vigil
from vigil_inference.delivery.destinations import AnyDestination, ResultKind
from vigil_inference.delivery.durable import write_durably
from vigil_inference.delivery.release_rows import Kept, kept_before, plan, record_object
from vigil_inference.delivery.rules import StudyFacts, destinations_of
from vigil_inference.delivery.tables import Delivery, ResultSet
from vigil_inference.leases import FREE, Lease, Leases, is_free
from vigil_inference.pictures import PictureStore
from vigil_inference.records import AnalysisRecord
from vigil_inference.settings import Settings
from vigil_inference.store import Store
from vigil_inference.study_results import (
    LastRelease,
    basis_of,
    build_study_objects,
    last_release,
    reported,
)
from vigil_inference.tables import Instance, State, Study

if TYPE_CHECKING:
    from pydicom import Dataset

log = structlog.get_logger(__name__)

FOLDER = "results"
_RELEASED: dict[str, Any] = {"release_due_at": None, "release_attempts": 0, "release_problem": ""}
_RELEASED |= FREE
KINDS: dict[str, ResultKind] = {
    Comprehensive3DSRStorage: "report",
    SecondaryCaptureImageStorage: "capture",
    KeyObjectSelectionDocumentStorage: "key_objects",
}


class Overtaken(Exception):
    """Another picture was answered, or another node was faster: look at the study again."""


@dataclass(frozen=True)
class DueStudy:
    """A quiet study whose results wait to be released."""

    study_id: int
    study_instance_uid: str
    release_due_at: datetime
    attempts: int


class Release:
    """Finds quiet studies and releases their results.

    Parameters
    ----------
    store, leases, pictures
        Where results come from, and by what a study is taken so that one node builds them.
    settings
        The site's: quiet period, options of the results, destinations and rules.
    """

    def __init__(
        self, store: Store, leases: Leases, pictures: PictureStore, settings: Settings
    ) -> None:
        self._store = store
        self._leases = leases
        self._pictures = pictures
        self._settings = settings
        self._destinations: Sequence[AnyDestination] = settings.destinations

    def due(self) -> DueStudy | None:
        """Return the most urgent of the quiet studies whose pictures are all answered."""
        statement = (
            select(Study.id, Study.study_instance_uid, Study.release_due_at, Study.release_attempts)
            .where(*self._is_due())
            .order_by(Study.reading_order, Study.release_due_at)
            .limit(1)
        )
        with self._store.reading() as session:
            row = session.execute(statement).one_or_none()
        if row is None or row.release_due_at is None:
            return None
        return DueStudy(row.id, row.study_instance_uid, row.release_due_at, row.release_attempts)

    @property
    def has_destinations(self) -> bool:
        """Whether any results go anywhere."""
        return bool(self._destinations)

    def pass_over(self) -> None:
        """End the marks of all studies that are due, where no results go anywhere.

        A destination that is set up later gets no old study: as if each had been looked at.
        """
        statement = update(Study).where(*self._is_due()).values(**_RELEASED)
        with self._store.writing() as session:
            session.execute(statement.execution_options(synchronize_session=False))

    def _is_due(self) -> tuple[ColumnElement[bool], ...]:
        now = self._store.now()
        quiet_since = now - timedelta(seconds=self._settings.result_quiet_seconds)
        stirring = exists().where(
            Instance.study_id == Study.id,
            (Instance.state == State.RECEIVED.value) | (Instance.received_at > quiet_since),
        )
        return Study.release_due_at <= now, is_free(Study, now), ~stirring

    def release(self, due: DueStudy) -> bool:
        """Build, keep and record a study's results; return whether there was anything new.

        Raises
        ------
        ResultsUnavailable
            If they cannot be built.
        OSError
            If their bytes cannot be kept.
        Overtaken
            If the study changed meanwhile, or another node is at it.
        """
        study, rows, previous = self._read(due.study_id)
        wanted, went = self._destinations_of(study, rows)
        basis = basis_of(rows)
        is_known = previous is not None and previous.basis == basis
        # Raised by hand, it may meet a rule that sends it where it never went.
        fresh = [one for one in wanted if one.name not in went] if is_known else wanted
        if not rows or not fresh:
            self._end(due)
            return False
        lease = self._take(due)
        try:
            with self._leases.held(lease):
                if previous is not None and is_known:
                    return self._send_further(due, study, rows, previous, fresh)
                self._build(due, study, rows, previous, wanted)
        except BaseException:
            self._leases.give_back(lease)
            raise
        return True

    def _take(self, due: DueStudy) -> Lease:
        with self._store.writing() as session:
            lease = self._leases.take(
                session,
                Study,
                Study.id == due.study_id,
                Study.release_due_at == due.release_due_at,
            )
        if lease is None:
            raise Overtaken
        return lease

    def _build(
        self,
        due: DueStudy,
        study: Study,
        rows: Sequence[Instance],
        previous: LastRelease | None,
        wanted: Iterable[AnyDestination],
    ) -> None:
        predecessor = None if previous is None else previous.report
        documents = build_study_objects(
            self._store, self._pictures, self._settings, due.study_instance_uid, predecessor
        )
        kept = [self._keep(document) for document in documents]
        number = 1 if previous is None else previous.number + 1
        superseded = None if predecessor is None else predecessor.sop_instance_uid
        result_set = self._result_set(study, rows, kept, number, superseded)
        self._record(due, result_set, kept, wanted)

    def _send_further(
        self,
        due: DueStudy,
        study: Study,
        rows: Sequence[Instance],
        previous: LastRelease,
        fresh: Iterable[AnyDestination],
    ) -> bool:
        """Send what was released to destinations that only now are to have it, byte by byte.

        What was removed by rule meanwhile goes nowhere; those that take no objects are told still.
        """
        with self._store.reading() as session:
            kept, is_whole = kept_before(session, previous.objects)
        kinds = {item.kind for item in kept}
        receivers = [
            one
            for one in fresh
            if not one.has_objects or (is_whole and kinds.intersection(one.objects))
        ]
        if not is_whole:
            log.error("results_removed_before_they_went_further", study=due.study_id)
        if not receivers:
            self._end(due)
            return False
        result_set = self._result_set(study, rows, kept, previous.number + 1, None)
        self._record(due, result_set, kept if is_whole else (), receivers)
        return True

    def _result_set(
        self,
        study: Study,
        rows: Sequence[Instance],
        kept: Sequence[Kept],
        number: int,
        superseded: str | None,
    ) -> ResultSet:
        message_id = f"msg_{uuid.uuid4().hex}"
        return ResultSet(
            study_id=study.id,
            number=number,
            basis=basis_of(rows),
            objects=[item.sop_instance_uid for item in kept],
            message_id=message_id,
            message=self._message(study, rows, kept, number, message_id, superseded),
            released_at=self._store.now(),
        )

    def put_off(self, due: DueStudy, problem: str, retry_at: datetime | None) -> None:
        """Remember why a study's results could not be released; None is not tried again."""
        with self._store.writing() as session:
            session.execute(
                update(Study)
                .where(Study.id == due.study_id, Study.release_due_at == due.release_due_at)
                .values(
                    release_due_at=retry_at,
                    release_attempts=due.attempts + 1,
                    release_problem=problem[:500],
                )
            )

    def _read(self, study_id: int) -> tuple[Study, Sequence[Instance], LastRelease | None]:
        with self._store.reading() as session:
            study = session.scalars(select(Study).where(Study.id == study_id)).one()
            rows = session.scalars(
                select(Instance).where(Instance.study_id == study_id).order_by(Instance.id)
            ).all()
            return study, reported(rows), last_release(session, study_id)

    def _destinations_of(
        self, study: Study, rows: Iterable[Instance]
    ) -> tuple[list[AnyDestination], set[str]]:
        """Return where a study's results go, and the names of where they went before.

        They go where a rule says, and wherever an earlier release went: there it would otherwise
        stand uncorrected.
        """
        facts = facts_of(study, rows)
        names = set(destinations_of(self._destinations, self._settings.delivery_rules, facts))
        with self._store.reading() as session:
            went = set(
                session.scalars(
                    select(Delivery.destination).where(Delivery.study_id == study.id).distinct()
                )
            )
        wanted = names | went
        return [one for one in self._destinations if one.name in wanted], went

    def _keep(self, document: "Dataset") -> Kept:
        from vigil_inference.results import to_bytes

        content = to_bytes(document)
        sha256 = hashlib.sha256(content).hexdigest()
        data_dir = self._settings.data_dir
        path = data_dir / FOLDER / sha256[:2] / f"{sha256}.dcm"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_durably(path, content, path.with_name(f"{uuid.uuid4().hex}.part"))
        return Kept(
            kind=KINDS[document.SOPClassUID],
            sop_class_uid=str(document.SOPClassUID),
            sop_instance_uid=str(document.SOPInstanceUID),
            series_instance_uid=str(document.SeriesInstanceUID),
            instance_number=int(document.InstanceNumber or 1),
            file_path=path.relative_to(data_dir).as_posix(),
            sha256=sha256,
            size_bytes=len(content),
        )

    def _record(
        self,
        due: DueStudy,
        result_set: ResultSet,
        kept: Iterable[Kept],
        wanted: Iterable[AnyDestination],
    ) -> None:
        with self._store.writing() as session:
            self._end_in(session, due)
            session.add(result_set)
            session.flush()
            objects = [record_object(session, item, result_set.id) for item in kept]
            for destination in wanted:
                if not destination.has_objects:
                    plan(session, result_set, destination.name, None)
                for item in objects:
                    if item.kind in destination.objects:
                        plan(session, result_set, destination.name, item)

    def _end(self, due: DueStudy) -> None:
        with self._store.writing() as session:
            self._end_in(session, due)

    def _end_in(self, session: Session, due: DueStudy) -> None:
        """Take the mark from the study, first of all: the row's lock keeps other nodes out."""
        ended = session.execute(
            update(Study)
            .where(Study.id == due.study_id, Study.release_due_at == due.release_due_at)
            .values(**_RELEASED)
            .returning(Study.id)
        ).first()
        if ended is None:
            raise Overtaken

    def _message(
        self,
        study: Study,
        rows: Iterable[Instance],
        kept: Iterable[Kept],
        number: int,
        message_id: str,
        superseded: str | None,
    ) -> str:
        """Return the webhook's body: no name, no birth date, no patient's number."""
        records = [AnalysisRecord.model_validate(row.result) for row in rows]
        best: dict[str, float] = {}
        for record in records:
            for finding in record.findings:
                if finding.flagged and finding.probability is not None:
                    best[finding.label] = max(finding.probability, best.get(finding.label, 0.0))
        with_findings = self._settings.result_profile == "findings"
        report = next((item for item in kept if item.kind == "report"), None)
        bundles = {row.bundle_digest: row.bundle_id for row in rows if row.bundle_digest}
        content = {
            "type": "study.released",
            "id": message_id,
            "timestamp": datetime.now(UTC).isoformat(timespec="seconds"),
            "data": {
                "study_instance_uid": study.study_instance_uid,
                "accession_number": study.accession_number,
                "release": number,
                "priority": study.priority.value,
                "flagged": bool(best),
                "findings": [
                    {"label": label, "probability": round(probability, 4)}
                    for label, probability in sorted(best.items())
                ]
                if with_findings
                else None,
                "not_analysed": sorted({record.code for record in records if record.code}),
                "report_sop_instance_uid": None if report is None else report.sop_instance_uid,
                "supersedes_sop_instance_uid": superseded,
                "objects": [item.sop_instance_uid for item in kept],
                "bundles": [{"id": name, "sha256": digest} for digest, name in bundles.items()],
                "software_version": vigil.__version__,
                "site": self._settings.site,
                "notice": vigil.RESEARCH_USE,
            },
        }
        return json.dumps(content, ensure_ascii=False, separators=(",", ":"))


def facts_of(study: Study, rows: Iterable[Instance]) -> StudyFacts:
    """Return what rules may ask of a study that is recorded."""
    findings = set()
    sources = set()
    for row in rows:
        sources.add(row.calling_ae_title or row.door)
        if row.result is not None:
            record = AnalysisRecord.model_validate(row.result)
            findings |= {finding.label for finding in record.findings if finding.flagged}
    return StudyFacts(
        frozenset(sources), study.institution_name, frozenset(findings), study.priority
    )
