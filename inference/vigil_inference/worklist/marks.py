"""Marks on a study: who took it, and who has it open, so that two people do not read one study.

A mark binds nobody: another may take the study over, explicitly, and everybody sees who has it.
Being read is a lease: it ends two minutes after the page that renews it was closed or lost.
"""

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from vigil.errors import VigilError
from vigil_inference.store import Store, StudyUnknown
from vigil_inference.tables import Study

BEING_READ_SECONDS = 120.0


class MarkedByOther(VigilError):
    """Somebody else has the study; it can be taken over explicitly."""

    code = "MARKED_BY_OTHER"
    http_status = 409


@dataclass(frozen=True)
class Reader:
    """Who marks: an account, or a browser where nobody signs in.

    Attributes
    ----------
    account
        What tells one from another.
    name
        As people read it; may be empty.
    """

    account: str
    name: str


class Marks:
    """Sets and clears marks in a store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def assign(self, study_instance_uid: str, reader: Reader, *, take_over: bool = False) -> None:
        """Note that a reader took a study.

        Raises
        ------
        StudyUnknown
            If there is none.
        MarkedByOther
            If another took it and it is not to be taken over.
        """
        with self._store.writing() as session:
            study = _locked(session, study_instance_uid)
            _refuse_other(study.assigned_to, reader, take_over=take_over)
            if study.assigned_to != reader.account:
                study.assigned_to, study.assigned_name = reader.account, reader.name
                study.assigned_at = self._store.now()
            self._store.announce(session, study_instance_uid)

    def release(self, study_instance_uid: str, reader: Reader, *, take_over: bool = False) -> None:
        """Note that nobody has taken a study any more; raises as `assign` does."""
        with self._store.writing() as session:
            study = _locked(session, study_instance_uid)
            _refuse_other(study.assigned_to, reader, take_over=take_over)
            study.assigned_to, study.assigned_name, study.assigned_at = "", "", None
            self._store.announce(session, study_instance_uid)

    def begin_reading(
        self, study_instance_uid: str, reader: Reader, *, take_over: bool = False
    ) -> None:
        """Note for two minutes that a reader has a study open; raises as `assign` does."""
        with self._store.writing() as session:
            study = _locked(session, study_instance_uid)
            now = self._store.now()
            if study.being_read_until is not None and study.being_read_until > now:
                _refuse_other(study.being_read_by, reader, take_over=take_over)
            study.being_read_by, study.being_read_name = reader.account, reader.name
            study.being_read_until = now + timedelta(seconds=BEING_READ_SECONDS)
            self._store.announce(session, study_instance_uid)

    def end_reading(self, study_instance_uid: str, reader: Reader) -> None:
        """Note that a reader closed a study; what another has open stays marked."""
        with self._store.writing() as session:
            study = _locked(session, study_instance_uid)
            if study.being_read_by != reader.account:
                return
            study.being_read_by, study.being_read_name, study.being_read_until = "", "", None
            self._store.announce(session, study_instance_uid)


def _locked(session: Session, study_instance_uid: str) -> Study:
    study = session.scalars(
        select(Study).where(Study.study_instance_uid == study_instance_uid).with_for_update()
    ).one_or_none()
    if study is None:
        raise StudyUnknown
    return study


def _refuse_other(holder: str, reader: Reader, *, take_over: bool) -> None:
    if holder and holder != reader.account and not take_over:
        raise MarkedByOther("another reader has this study; take_over takes it explicitly")
