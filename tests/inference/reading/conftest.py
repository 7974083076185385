"""Studies with results, and readers who speak of them."""

import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from vigil.triage import Priority
from vigil_inference.access.account import Account
from vigil_inference.access.roles import Role
from vigil_inference.arrivals import Arrival
from vigil_inference.headers import Header
from vigil_inference.reading.book import ReadingBook
from vigil_inference.reading.records import NewStatement, ReaderStatements
from vigil_inference.reading.statements import Reading, fold
from vigil_inference.records import AnalysisRecord, FindingRecord
from vigil_inference.store import Store
from vigil_inference.tables import Study

THRESHOLD = 0.5
HANH = Account("hanh", "BS. Trần Thị Hạnh", frozenset({Role.RADIOLOGIST}))
MINH = Account("minh", "BS. Lê Minh", frozenset({Role.RADIOLOGIST}))


def finding(label: str, probability: float | None, key: str = "") -> FindingRecord:
    """Return a finding as it is stored: flagged from 0.5 on, withheld without a probability."""
    flagged = probability is not None and probability >= THRESHOLD
    return FindingRecord(
        key=key or label,
        label=label,
        probability=probability,
        threshold=THRESHOLD,
        critical_threshold=None,
        sensitivity=0.9,
        specificity=0.7,
        flagged=flagged,
        priority=Priority.URGENT if flagged else Priority.ROUTINE,
        experimental=False,
        withheld=None if probability is not None else "validated on adults only",
        has_map=False,
    )


def record_of(findings: dict[str, float | None], digest: str = "d" * 64) -> AnalysisRecord:
    """Return an analysed picture's document."""
    found = tuple(finding(label, probability) for label, probability in findings.items())
    flagged = any(one.flagged for one in found)
    return AnalysisRecord(
        status="analysed",
        code=None,
        reason="x",
        priority=Priority.URGENT if flagged else Priority.ROUTINE,
        findings=found,
        notes=(),
        bundle_id="fake",
        bundle_digest=digest,
        bundle_notice="",
        software_version="0",
        milliseconds=1.0,
        rows=64,
        columns=48,
        view="PA",
        age_years=45.0,
        has_preview=False,
    )


class Room:
    """A store with studies, and a book for what is said of them."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.book = ReadingBook(store, shows_findings=True)

    def receive(self, number: int, findings: dict[str, float | None] | None, **options: Any) -> str:
        """Add a study of one picture, analysed if findings are given; return its UID.

        Its picture is ``{study}.1``. ``digest`` is the bundle's, ``patient_id`` the patient's;
        ``study`` and ``sop`` add a later picture to a study.
        """
        study = options.get("study", f"1.2.{number}")
        sop = options.get("sop", f"{study}.1")
        digest = options.get("digest", "d" * 64)
        patient = options.get("patient_id", f"P{number}")
        recorded = self.store.add(
            Arrival(
                Header("1.2.840", sop, study, patient_id=patient, patient_name="Nguyễn^An"),
                file_path=f"instances/{sop}.dcm",
                sha256=uuid.uuid5(uuid.NAMESPACE_OID, sop).hex * 2,
                size_bytes=10,
                door="C-STORE",
                calling_ae_title="PACS",
                received_at=options.get(
                    "received_at", datetime(2026, 11, 21, 8, number % 60, tzinfo=UTC)
                ),
            )
        )
        if findings is not None:
            assert self.store.record_result(recorded.instance_id, record_of(findings, digest))
        return study

    def say(self, study: str, act: str, reader: Account = HANH, **fields: Any) -> uuid.UUID:
        """Say something with the newest version seen; return the statement's identity."""
        identity = fields.pop("id", None) or uuid.uuid4()
        if "label" in fields:
            fields.setdefault("sop_instance_uid", f"{study}.1")
        seen = fields.pop("seen_version", self.reading(study, reader).version)
        self.book.say(
            study, reader, NewStatement(id=identity, seen_version=seen, act=act, **fields)
        )
        return identity

    def undo(self, study: str, reader: Account = HANH) -> None:
        """Take back the last statement that stands."""
        last = self.reading(study, reader).to_undo
        assert last is not None
        self.say(study, "undo", reader, undoes=last.statement_id)

    def sign(self, study: str, reader: Account = HANH, *, rest: bool = False, **more: Any) -> None:
        """Sign off."""
        self.say(study, "sign_off", reader, rest_absent=(f"{study}.1",) if rest else (), **more)

    def own(self, study: str, reader: Account = HANH) -> ReaderStatements | None:
        """Return a reader's statements."""
        return self.book.read(study).readings.get(reader.name)

    def reading(self, study: str, reader: Account = HANH) -> Reading:
        """Return what a reader's statements come to."""
        own = self.own(study, reader)
        return fold(()) if own is None else own.reading

    def study(self, uid: str) -> Study:
        """Return a study's row."""
        with self.store.reading() as session:
            return session.query(Study).filter_by(study_instance_uid=uid).one()


@pytest.fixture
def room(store: Store) -> Room:
    return Room(store)


MakeRoom = Callable[[Store], Room]
