"""What a study takes over from its pictures: priority, state and findings."""

from datetime import datetime

from sqlalchemy import (
    Connection,
    Exists,
    Integer,
    Table,
    bindparam,
    case,
    exists,
    insert,
    select,
    update,
)
from sqlalchemy.orm import Session

from vigil.triage import Priority
from vigil_inference.records import AnalysisRecord
from vigil_inference.tables import RANK, Instance, State, Study, StudyFinding, table_of

# Made once: building a statement takes longer than SQLite takes to answer it.
_INSTANCES: Table = table_of(Instance)
_STUDIES: Table = table_of(Study)
_FINDINGS: Table = table_of(StudyFinding)
_THIS = _STUDIES.c.id == bindparam("study")
_RANK = bindparam("rank", type_=Integer)
_ORDER = bindparam("order", type_=Integer)
_IS_LOWER = _STUDIES.c.priority_rank < _RANK
_RAISE = (
    update(_STUDIES)
    .where(_THIS)
    .values(
        priority_rank=case((_IS_LOWER, _RANK), else_=_STUDIES.c.priority_rank),
        reading_order=case((_IS_LOWER, _ORDER), else_=_STUDIES.c.reading_order),
        release_due_at=bindparam("due"),
        release_attempts=0,
        release_problem="",
    )
)


def _has(state: State) -> Exists:
    return exists().where(
        _INSTANCES.c.study_id == bindparam("study"), _INSTANCES.c.state == state.value
    )


_SETTLE = (
    update(_STUDIES)
    .where(_THIS)
    .values(
        state=case(
            (_has(State.ANALYSED), State.ANALYSED.value),
            (_has(State.RECEIVED), State.RECEIVED.value),
            else_=State.NOT_ANALYSED.value,
        )
    )
)
_KNOWN_FINDINGS = select(_FINDINGS.c.finding).where(_FINDINGS.c.study_id == bindparam("study"))


def raise_priority(
    connection: Connection | Session, study_id: int, priority: Priority, *, release_due_at: datetime
) -> None:
    """Raise a study's priority, never lower it: the comparison is made by the database.

    In the same statement the study's results become due to be released (again). The row stays
    locked until the commit, so that nobody settles its state beside us.
    """
    connection.execute(
        _RAISE,
        {
            "study": study_id,
            "rank": RANK[priority],
            "order": priority.reading_order,
            "due": release_due_at,
        },
    )


def settle_state(connection: Connection | Session, study_id: int) -> None:
    """Let a study's state follow its pictures: analysed as soon as one of them is.

    The study's row is locked by an earlier statement, so that this one sees all of them.
    """
    connection.execute(_SETTLE, {"study": study_id})


def add_findings(connection: Connection, study_id: int, record: AnalysisRecord) -> None:
    """Note a picture's flagged findings; the study's row is locked, so nobody is beside us."""
    flagged = {finding.label for finding in record.findings if finding.flagged}
    if not flagged:
        return
    known = connection.scalars(_KNOWN_FINDINGS, {"study": study_id})
    new = sorted(flagged.difference(known))
    if new:
        connection.execute(
            insert(_FINDINGS), [{"study_id": study_id, "finding": finding} for finding in new]
        )
