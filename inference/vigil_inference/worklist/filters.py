"""What a reader looks for, as conditions that the database decides."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from sqlalchemy import ColumnElement, and_, false, or_, select, true

from vigil.triage import Priority
from vigil_inference.folding import ESCAPE, patterns
from vigil_inference.tables import PRIORITY_BY_RANK, RANK, Instance, State, Study, StudyFinding
from vigil_inference.worklist.rows import target_of


class Status(StrEnum):
    """How far a study's reading has come. All but ``read`` and ``all`` speak of unread studies."""

    UNREAD = "unread"
    WAITING = "waiting"
    """No picture of it was answered yet."""
    REFUSED = "refused"
    """None of its pictures could be analysed."""
    OVERDUE = "overdue"
    BEING_READ = "being_read"
    MINE = "mine"
    """Assigned to whoever asks."""
    READ = "read"
    ALL = "all"


@dataclass(frozen=True)
class Filters:
    """What studies must be like; an empty field asks for nothing.

    Attributes
    ----------
    text
        Beginnings of words of the name, the identifiers or the accession number, in any order.
    priority, status
        Counted apart from the others: the page shows how many there are of each.
    finding
        A label at or over its threshold in one of the study's pictures.
    institution, source, modality, patient_id
        Exactly as they were sent.
    received_from, received_to
        From the first moment up to, and without, the second.
    """

    text: str = ""
    priority: Priority | None = None
    status: Status = Status.ALL
    finding: str = ""
    institution: str = ""
    source: str = ""
    modality: str = ""
    patient_id: str = ""
    received_from: datetime | None = None
    received_to: datetime | None = None

    @property
    def has_detail(self) -> bool:
        """Whether something other than priority and status is asked for."""
        return bool(self.details())

    def details(self) -> list[ColumnElement[bool]]:
        """Return the conditions beside priority and status."""
        found: list[ColumnElement[bool]] = [
            Study.search_text.like(pattern, escape=ESCAPE) for pattern in patterns(self.text)
        ]
        if self.text.strip() and not found:
            found.append(false())  # signs that no name holds
        if self.finding:
            found.append(
                Study.id.in_(
                    select(StudyFinding.study_id).where(StudyFinding.finding == self.finding)
                )
            )
        if self.modality:
            found.append(
                Study.id.in_(select(Instance.study_id).where(Instance.modality == self.modality))
            )
        for column, value in (
            (Study.institution_name, self.institution),
            (Study.source, self.source),
            (Study.patient_id, self.patient_id),
        ):
            if value:
                found.append(column == value)
        if self.received_from is not None:
            found.append(Study.received_at >= self.received_from)
        if self.received_to is not None:
            found.append(Study.received_at < self.received_to)
        return found

    def priority_condition(self) -> list[ColumnElement[bool]]:
        """Return the condition on the priority, if there is one."""
        return [] if self.priority is None else [Study.priority_rank == RANK[self.priority]]


def status_condition(
    status: Status, now: datetime, targets: Mapping[Priority, float], reader: str
) -> ColumnElement[bool]:
    """Return what a status means at a moment, to a reader."""
    unread = Study.read_at.is_(None)
    late = [
        and_(
            Study.priority_rank == RANK[priority],
            Study.received_at < now - timedelta(seconds=seconds),
        )
        for priority in PRIORITY_BY_RANK
        if (seconds := target_of(priority, targets)) is not None
    ]
    meaning: dict[Status, ColumnElement[bool]] = {
        Status.UNREAD: unread,
        Status.WAITING: and_(unread, Study.state == State.RECEIVED.value),
        Status.REFUSED: and_(unread, Study.state == State.NOT_ANALYSED.value),
        Status.OVERDUE: and_(unread, or_(false(), *late)),
        Status.BEING_READ: and_(unread, Study.being_read_until > now),
        Status.MINE: and_(unread, Study.assigned_to == reader, Study.assigned_to != ""),
        Status.READ: Study.read_at.is_not(None),
        Status.ALL: true(),
    }
    return meaning[status]
