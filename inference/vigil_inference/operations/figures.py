"""What the database says of an installation's work. All nodes that share it see the same figures.

Nothing here names a study or a patient.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, and_, func, or_, select
from sqlalchemy.orm import Session

from vigil_inference.delivery.states import DeliveryState
from vigil_inference.delivery.tables import Delivery, ResultSet
from vigil_inference.tables import Instance, State, Study

_ON_THE_WAY = (DeliveryState.PENDING, DeliveryState.SENDING, DeliveryState.SENT)


@dataclass(frozen=True)
class QueueFigures:
    """Pictures that were acknowledged and have no answer yet."""

    pictures: int
    oldest_received_at: datetime | None


@dataclass(frozen=True)
class AnswerFigures:
    """What was received, and what became of it."""

    received: dict[str, int]
    """Objects by door."""
    analysed: int
    not_analysed: dict[str, int]
    """By refusal code."""


@dataclass(frozen=True)
class DeliveryProblem:
    """What the newest delivery in trouble met last, as the stable word; its text stays here."""

    delivery: int
    state: DeliveryState
    code: str
    attempts: int


@dataclass(frozen=True)
class DestinationFigures:
    """One destination's deliveries."""

    destination: str
    counts: dict[DeliveryState, int]
    oldest_created_at: datetime | None
    """Of those that are still on the way."""
    last_problem: DeliveryProblem | None


@dataclass(frozen=True)
class Answered:
    """A picture's answer."""

    id: int
    at: datetime
    received_at: datetime
    code: str
    """"" where it was analysed."""


@dataclass(frozen=True)
class Arrived:
    """A delivery that reached its end."""

    id: int
    at: datetime
    received_at: datetime
    """When the study's last picture before the release was acknowledged."""
    destination: str


def read_queue(session: Session) -> QueueFigures:
    """Return how many pictures wait for their analysis, and since when."""
    count, oldest = session.execute(
        select(func.count(), func.min(Instance.received_at)).where(
            Instance.state == State.RECEIVED.value
        )
    ).one()
    return QueueFigures(count, oldest)


def read_answers(session: Session, since: datetime | None = None) -> AnswerFigures:
    """Count what was received, since a moment or ever, and what became of it."""
    statement = select(Instance.door, Instance.state, Instance.code, func.count())
    if since is not None:
        statement = statement.where(Instance.received_at >= since)
    received: dict[str, int] = {}
    not_analysed: dict[str, int] = {}
    analysed = 0
    rows = session.execute(statement.group_by(Instance.door, Instance.state, Instance.code))
    for door, state, code, count in rows:
        received[door] = received.get(door, 0) + count
        if state == State.ANALYSED.value:
            analysed += count
        elif state == State.NOT_ANALYSED.value:
            not_analysed[code or ""] = not_analysed.get(code or "", 0) + count
    return AnswerFigures(received, analysed, not_analysed)


def read_deliveries(
    session: Session, destinations: Sequence[str], without_proof: Collection[str]
) -> list[DestinationFigures]:
    """Return each destination's deliveries, those of the settings first.

    Parameters
    ----------
    session
        Of the database.
    destinations
        Those that the settings name; others that the database knows come after them.
    without_proof
        Those for which ``SENT`` is the end.
    """
    counts: dict[str, dict[DeliveryState, int]] = {name: {} for name in destinations}
    rows = session.execute(
        select(Delivery.destination, Delivery.state, func.count()).group_by(
            Delivery.destination, Delivery.state
        )
    )
    for destination, state, count in rows:
        counts.setdefault(destination, {})[DeliveryState(state)] = count
    oldest_rows = session.execute(
        select(Delivery.destination, func.min(Delivery.created_at))
        .where(_is_on_the_way(without_proof))
        .group_by(Delivery.destination)
    )
    oldest = {row.destination: row[1] for row in oldest_rows}
    return [
        DestinationFigures(
            name, found, oldest.get(name), _last_problem(session, name, found, without_proof)
        )
        for name, found in counts.items()
    ]


def count_unbuilt(session: Session) -> int:
    """Return how many studies have results that could not be built."""
    return session.scalar(select(func.count()).where(Study.release_problem != "")) or 0


def count_conflicts(session: Session) -> int:
    """Return how many objects are held under whose UID other bytes came too."""
    return session.scalar(select(func.count()).where(Instance.conflicts > 0)) or 0


def answered_since(session: Session, moment: datetime) -> list[Answered]:
    """Return the pictures that were answered at or after a moment."""
    rows = session.execute(
        select(Instance.id, Instance.analysed_at, Instance.received_at, Instance.code).where(
            Instance.analysed_at >= moment
        )
    )
    return [Answered(number, at, received, code or "") for number, at, received, code in rows if at]


def arrived_since(
    session: Session, moment: datetime, without_proof: Collection[str]
) -> list[Arrived]:
    """Return the deliveries that were proved, or where nothing is proved taken, since a moment."""
    last = (
        select(func.max(Instance.received_at))
        .where(
            Instance.study_id == Delivery.study_id, Instance.received_at <= ResultSet.released_at
        )
        .scalar_subquery()
    )
    taken = and_(
        Delivery.destination.in_(without_proof),
        Delivery.state == DeliveryState.SENT.value,
        Delivery.sent_at >= moment,
    )
    rows = session.execute(
        select(Delivery.id, Delivery.delivered_at, Delivery.sent_at, last, Delivery.destination)
        .join(ResultSet, ResultSet.id == Delivery.result_set_id)
        .where(or_(Delivery.delivered_at >= moment, taken))
    )
    return [
        Arrived(number, at, received, destination)
        for number, delivered, sent, received, destination in rows
        if (at := delivered or sent) is not None and received is not None
    ]


def _is_on_the_way(without_proof: Collection[str]) -> ColumnElement[bool]:
    waiting = Delivery.state.in_([DeliveryState.PENDING.value, DeliveryState.SENDING.value])
    unproved = and_(
        Delivery.state == DeliveryState.SENT.value, Delivery.destination.not_in(without_proof)
    )
    return or_(waiting, unproved)


def _last_problem(
    session: Session,
    destination: str,
    counts: dict[DeliveryState, int],
    without_proof: Collection[str],
) -> DeliveryProblem | None:
    """Return what the newest failed delivery met; without one, the newest that has to be repeated.

    No statement is made where there is none in such a state: most destinations are well.
    """
    for state in (DeliveryState.FAILED, *_ON_THE_WAY):
        if not counts.get(state) or (state is DeliveryState.SENT and destination in without_proof):
            continue
        repeated = Delivery.checks > 0 if state is DeliveryState.SENT else Delivery.attempts > 0
        row = session.execute(
            select(Delivery.id, Delivery.code, Delivery.attempts)
            .where(
                Delivery.destination == destination,
                Delivery.state == state.value,
                Delivery.code != "",
                repeated,
            )
            .order_by(Delivery.id.desc())
            .limit(1)
        ).one_or_none()
        if row is not None:
            return DeliveryProblem(row.id, state, row.code, row.attempts)
    return None
