"""The book of readings: takes statements and priorities raised by hand, one transaction each."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from vigil.errors import VigilError
from vigil.triage import Priority
from vigil_inference.access.account import Account
from vigil_inference.reading.records import (
    NewStatement,
    ReaderStatements,
    moment_of_sign_off,
    read_statements,
    row_of,
    said_by_model,
    unflagged,
)
from vigil_inference.reading.statements import (
    ON_FINDINGS,
    Act,
    Confirmed,
    ModelSaid,
    Reading,
    Region,
    Standing,
    Statement,
    fold,
)
from vigil_inference.reading.tables import PriorityRaise, StatementRow
from vigil_inference.reading.vocabulary import VOCABULARY
from vigil_inference.store import Store, StudyUnknown
from vigil_inference.study_state import raise_priority
from vigil_inference.tables import RANK, Instance, Study


class StatementInvalid(VigilError):
    """A statement that says nothing, or what cannot be said of this study."""

    code = "STATEMENT_INVALID"
    http_status = 422


class ReadingChanged(VigilError):
    """The reader's own reading has moved on since the version that was seen."""

    code = "READING_CHANGED"
    http_status = 409


class ReadingSigned(VigilError):
    """The reading is signed; what is said now must be marked as an amendment."""

    code = "READING_SIGNED"
    http_status = 409


class IdentityTaken(VigilError):
    """Something else was said, or asked for, under this identity already."""

    code = "IDENTITY_TAKEN"
    http_status = 409


class PriorityOnlyRises(VigilError):
    """A priority can be raised by hand, and never lowered by anybody."""

    code = "PRIORITY_ONLY_RISES"
    http_status = 409


@dataclass(frozen=True)
class Raise:
    """That somebody raised a study's priority, and why."""

    priority_before: Priority
    priority: Priority
    reason: str
    raised_by: str
    raised_by_name: str
    raised_at: datetime


@dataclass(frozen=True)
class StudyReadings:
    """All readings of a study by reader, and the priorities that were raised, oldest first."""

    readings: dict[str, ReaderStatements]
    raises: tuple[Raise, ...]


class ReadingBook:
    """Keeps what readers say.

    Parameters
    ----------
    store
        Where.
    shows_findings
        Whether readers see what the model says of each finding.
    is_blind
        Whether others' readings are shown to a reader only once the own one is signed.
    """

    def __init__(self, store: Store, *, shows_findings: bool, is_blind: bool = False) -> None:
        self._store = store
        self._shows_findings = shows_findings
        self._is_blind = is_blind

    def read(self, study_instance_uid: str) -> StudyReadings:
        """Return a study's readings.

        Raises
        ------
        StudyUnknown
            If there is no such study.
        """
        with self._store.reading() as session:
            study_id = session.scalar(
                select(Study.id).where(Study.study_instance_uid == study_instance_uid)
            )
            if study_id is None:
                raise StudyUnknown
            return StudyReadings(
                read_statements(session, study_id), raises_of(session, [study_id])[study_id]
            )

    def next_unread(self, after: str) -> str | None:
        """Return the most pressing study that nobody has signed, but not the one just read."""
        with self._store.reading() as session:
            return session.scalar(
                select(Study.study_instance_uid)
                .where(Study.read_at.is_(None), Study.study_instance_uid != after)
                .order_by(Study.reading_order, Study.received_at, Study.id)
                .limit(1)
            )

    def say(self, study_instance_uid: str, account: Account, new: NewStatement) -> bool:
        """Keep a statement, and with it whether the study counts as read.

        Returns
        -------
        bool
            False if it was kept before: the same was sent again.

        Raises
        ------
        StudyUnknown, StatementInvalid, IdentityTaken
            If it makes no sense here.
        ReadingChanged, ReadingSigned
            If the reader must look again.
        """
        with self._store.writing() as session:
            study = _locked(session, study_instance_uid)
            readings = read_statements(session, study.id)
            own = readings.get(account.name)
            said = own.statements if own is not None else ()
            if self._is_repeated(session, study, account, new):
                return False
            reading = fold(said)
            if new.seen_version != reading.version:
                raise ReadingChanged(
                    f"version {new.seen_version} of the reading was seen, and it is at "
                    f"{reading.version}"
                )
            statement = self._statement(session, study, reading, new)
            if self._is_blind and readings.keys() - {account.name}:
                _check_blind(reading, new)
            session.add(row_of(statement, study.id, account.name, account.display_name))
            readings[account.name] = ReaderStatements(
                reader=account.name,
                reader_name=account.display_name,
                statements=(*said, statement),
                reading=fold((*said, statement)),
            )
            first = moment_of_sign_off(readings, _last_picture_at(session, study))
            study.read_at, study.read_by = first if first is not None else (None, "")
            self._store.announce(session, study_instance_uid)
        return True

    def _is_repeated(
        self, session: Session, study: Study, account: Account, new: NewStatement
    ) -> bool:
        row = session.scalars(
            select(StatementRow).where(StatementRow.statement_id == str(new.id))
        ).one_or_none()
        if row is None:
            return False
        same = (row.study_id, row.reader, row.act, row.sop_instance_uid, row.label, row.note)
        if same != (
            study.id, account.name, new.act.value, new.sop_instance_uid, new.label, clean(new.note)
        ):  # fmt: skip
            raise IdentityTaken("another statement was kept under this identity")
        return True

    def _statement(
        self, session: Session, study: Study, reading: Reading, new: NewStatement
    ) -> Statement:
        _check_form(new)
        if reading.standing is Standing.SIGNED and new.act is not Act.UNDO and not new.amendment:
            raise ReadingSigned("the reading is signed; what is said now must be an amendment")
        model = ModelSaid()
        instead_model: ModelSaid | None = None
        confirmed: tuple[Confirmed, ...] = ()
        if new.act in ON_FINDINGS:
            instance = _instance(session, study, new.sop_instance_uid)
            model = said_by_model(instance, new.label, was_shown=self._shows_findings)
            if new.act is Act.CORRECT:
                instead_model = said_by_model(instance, new.instead, was_shown=self._shows_findings)
            self._check_verdict(reading, new, model)
        elif new.act is Act.UNDO:
            _check_undo(reading, new)
        elif new.act is Act.SIGN_OFF:
            confirmed = self._confirmed(session, study, reading, new.rest_absent)
        return Statement(
            statement_id=str(new.id),
            version=reading.version + 1,
            act=new.act,
            said_at=self._store.now(),
            sop_instance_uid=new.sop_instance_uid,
            label=new.label,
            instead=new.instead,
            regions=tuple(Region(r.x, r.y, r.width, r.height) for r in new.regions),
            note=clean(new.note),
            undoes="" if new.undoes is None else str(new.undoes),
            confirmed=confirmed,
            is_amendment=bool(reading.editions) and new.act is not Act.UNDO,
            model=model,
            instead_model=instead_model,
        )

    def _check_verdict(self, reading: Reading, new: NewStatement, model: ModelSaid) -> None:
        is_answer = new.act in (Act.AGREE, Act.DISAGREE)
        if is_answer and (model.flagged is None or not self._shows_findings):
            raise StatementInvalid(
                "the model showed nothing of this finding to agree or disagree with; "
                "expected add or rule_out"
            )
        place = (new.sop_instance_uid, new.label)
        if new.act is Act.WITHDRAW and place not in reading.findings:
            raise StatementInvalid("nothing stands of this finding that could be withdrawn")

    def _confirmed(
        self, session: Session, study: Study, reading: Reading, pictures: Sequence[str]
    ) -> tuple[Confirmed, ...]:
        """Return the unflagged findings that were listed and that the reader did not speak of.

        A flag that nobody spoke of is not answered by silence; where the page lists no findings,
        there is nothing that silence could confirm.
        """
        if not self._shows_findings:
            return ()
        return tuple(
            one
            for picture in pictures
            for one in unflagged(_instance(session, study, picture))
            if (picture, one.label) not in reading.findings
        )

    def raise_by_hand(
        self,
        study_instance_uid: str,
        account: Account,
        request_id: str,
        priority: Priority,
        reason: str,
    ) -> bool:
        """Raise a study's priority for a reason that a person gives.

        Returns
        -------
        bool
            False if the same request was answered before.

        Raises
        ------
        StudyUnknown, StatementInvalid, IdentityTaken
            If it makes no sense.
        PriorityOnlyRises
            If the study's priority is as high already.
        """
        reason = clean(reason)
        if not reason:
            raise StatementInvalid("a priority is raised for a reason, and none was given")
        with self._store.writing() as session:
            study = _locked(session, study_instance_uid)
            known = session.scalars(
                select(PriorityRaise).where(PriorityRaise.request_id == request_id)
            ).one_or_none()
            if known is not None:
                same = (known.study_id, known.priority, known.raised_by)
                if same != (study.id, priority.value, account.name):
                    raise IdentityTaken("another request was answered under this identity")
                return False
            if RANK[priority] <= study.priority_rank:
                raise PriorityOnlyRises(
                    f"the study's priority is {study.priority.value}; it can only be raised"
                )
            now = self._store.now()
            session.add(
                PriorityRaise(
                    study_id=study.id,
                    request_id=request_id,
                    priority_before=study.priority.value,
                    priority=priority.value,
                    reason=reason,
                    raised_by=account.name,
                    raised_by_name=account.display_name,
                    raised_at=now,
                )
            )
            raise_priority(session, study.id, priority, release_due_at=now)
            self._store.announce(session, study_instance_uid)
        return True


def raises_of(session: Session, study_ids: Sequence[int]) -> dict[int, tuple[Raise, ...]]:
    """Return the priorities that were raised by hand, by study, oldest first."""
    found: dict[int, list[Raise]] = {study_id: [] for study_id in study_ids}
    rows = session.scalars(
        select(PriorityRaise)
        .where(PriorityRaise.study_id.in_(study_ids))
        .order_by(PriorityRaise.id)
    )
    for row in rows:
        found[row.study_id].append(
            Raise(
                Priority(row.priority_before),
                Priority(row.priority),
                row.reason,
                row.raised_by,
                row.raised_by_name,
                row.raised_at,
            )
        )
    return {study_id: tuple(raises) for study_id, raises in found.items()}


def clean(text: str) -> str:
    """Return a text without what no keyboard writes; lines stay."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n")
    return "".join(c for c in lines if c == "\n" or (c >= " " and c != "\x7f")).strip()


def _locked(session: Session, study_instance_uid: str) -> Study:
    study = session.scalars(
        select(Study).where(Study.study_instance_uid == study_instance_uid).with_for_update()
    ).one_or_none()
    if study is None:
        raise StudyUnknown
    return study


def _last_picture_at(session: Session, study: Study) -> datetime:
    last = select(func.max(Instance.received_at)).where(Instance.study_id == study.id)
    return session.scalar(last) or study.received_at


def _instance(session: Session, study: Study, sop_instance_uid: str) -> Instance:
    instance = session.scalars(
        select(Instance).where(
            Instance.sop_instance_uid == sop_instance_uid, Instance.study_id == study.id
        )
    ).one_or_none()
    if instance is None:
        raise StatementInvalid("the study holds no such picture")
    return instance


def _check_form(new: NewStatement) -> None:
    """Refuse a statement whose parts do not fit its act."""
    wrong = ""
    if new.act in ON_FINDINGS:
        if new.label not in VOCABULARY:
            wrong = "label is not in the vocabulary"
        elif (new.act is Act.CORRECT) != (new.instead in VOCABULARY and new.instead != new.label):
            wrong = "a correction, and nothing else, names another finding of the vocabulary"
        elif any(r.x + r.width > 1.001 or r.y + r.height > 1.001 for r in new.regions):
            wrong = "a region leaves the picture"
    elif new.label or new.instead or new.regions or new.sop_instance_uid:
        wrong = "this act speaks of the study, not of a finding"
    if new.rest_absent and new.act is not Act.SIGN_OFF:
        wrong = "only a sign-off says that the rest is absent"
    if (new.act is Act.UNDO) != (new.undoes is not None):
        wrong = "an undo, and nothing else, names what it takes back"
    if wrong:
        raise StatementInvalid(wrong)


def _check_blind(reading: Reading, new: NewStatement) -> None:
    """Refuse to take back a signature that has shown what others said."""
    last = reading.to_undo
    if new.act is Act.UNDO and last is not None and last.act is Act.SIGN_OFF:
        raise ReadingSigned(
            "since it was signed, others' readings are shown; what is said now must be an amendment"
        )


def _check_undo(reading: Reading, new: NewStatement) -> None:
    if reading.to_undo is None:
        raise StatementInvalid("there is nothing left to take back")
    if str(new.undoes) != reading.to_undo.statement_id:
        raise StatementInvalid("an undo takes back the last statement that stands")
