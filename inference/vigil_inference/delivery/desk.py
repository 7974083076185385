"""What people see of deliveries, and what they decide: to try again, or to stop."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, exists, func, select, update

from vigil_inference.delivery.ledger import changed
from vigil_inference.delivery.states import DeliveryState
from vigil_inference.delivery.tables import Delivery, ResultObject, ResultSet
from vigil_inference.leases import FREE, is_free
from vigil_inference.store import Store
from vigil_inference.tables import Study

_ENDED = (DeliveryState.FAILED, DeliveryState.CANCELLED)


@dataclass(frozen=True)
class DeliveryRow:
    """A delivery as people see it."""

    id: int
    study_instance_uid: str
    destination: str
    kind: str
    """``report``, ``capture``, ``key_objects`` or ``message``."""
    sop_instance_uid: str
    release: int
    """The number of the study's release that it belongs to."""
    state: DeliveryState
    attempts: int
    code: str
    reason: str
    created_at: datetime
    due_at: datetime | None
    """When the next step may be taken, where there is one."""
    sent_at: datetime | None
    delivered_at: datetime | None


@dataclass(frozen=True)
class Selection:
    """Which deliveries are meant; what is left out does not matter."""

    ids: tuple[int, ...] = ()
    states: tuple[DeliveryState, ...] = ()
    destination: str = ""
    study_instance_uid: str = ""


class Desk:
    """Deliveries as people look after them."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def retry(self, selection: Selection) -> list[int]:
        """Send again, from now on and for the whole time; return which.

        Without ids only what failed or was cancelled. By its id also what waits, which is then due
        now, and what arrived, which is then sent once more. What is being sent is left alone, and
        what cannot be sent since its file was removed by rule.
        """
        states: tuple[DeliveryState, ...] = _ENDED
        if selection.ids:
            states = (*_ENDED, DeliveryState.PENDING, DeliveryState.SENT, DeliveryState.DELIVERED)
        removed = exists().where(
            ResultObject.id == Delivery.result_object_id, ResultObject.removed_at.is_not(None)
        )
        return self._set_aside(
            selection,
            states,
            ~removed.correlate(Delivery),
            state=DeliveryState.PENDING.value,
            due_at=self._store.now(),
            attempts=0,
            checks=0,
            give_up_at=None,
            sent_at=None,
            delivered_at=None,
            commitment_uid="",
            code="",
            reason="",
        )

    def cancel(self, selection: Selection) -> list[int]:
        """Send no more of what waits or has failed; return which."""
        return self._set_aside(
            selection,
            (DeliveryState.PENDING, DeliveryState.FAILED),
            state=DeliveryState.CANCELLED.value,
            code="CANCELLED",
            reason="cancelled by a person",
        )

    def rows(self, selection: Selection, *, limit: int, offset: int = 0) -> list[DeliveryRow]:
        """Return deliveries as people see them, the newest first."""
        statement = (
            select(Delivery, ResultObject, ResultSet.number, Study.study_instance_uid)
            .join(Study, Study.id == Delivery.study_id)
            .join(ResultSet, ResultSet.id == Delivery.result_set_id)
            .outerjoin(ResultObject, ResultObject.id == Delivery.result_object_id)
            .where(*_meant(selection))
            .order_by(Delivery.id.desc())
            .limit(limit)
            .offset(offset)
        )
        with self._store.reading() as session:
            return [_row(*found) for found in session.execute(statement)]

    def counts(self, selection: Selection) -> dict[DeliveryState, int]:
        """Return how many deliveries are in each state."""
        statement = (
            select(Delivery.state, func.count())
            .join(Study, Study.id == Delivery.study_id)
            .where(*_meant(selection))
            .group_by(Delivery.state)
        )
        with self._store.reading() as session:
            return {DeliveryState(state): n for state, n in session.execute(statement)}

    def unreleased(self) -> list[tuple[str, str]]:
        """Return studies whose results could not be built, each with the reason."""
        statement = (
            select(Study.study_instance_uid, Study.release_problem)
            .where(Study.release_problem != "")
            .order_by(Study.id)
        )
        with self._store.reading() as session:
            return [(uid, problem) for uid, problem in session.execute(statement)]

    def release_again(self, study_instance_uid: str = "") -> list[str]:
        """Let results that could not be built be built now; return of which studies."""
        statement = update(Study).where(Study.release_problem != "")
        if study_instance_uid:
            statement = statement.where(Study.study_instance_uid == study_instance_uid)
        with self._store.writing() as session:
            return list(
                session.scalars(
                    statement.values(
                        release_due_at=self._store.now(), release_attempts=0, release_problem=""
                    ).returning(Study.study_instance_uid)
                )
            )

    def _set_aside(
        self,
        selection: Selection,
        states: Sequence[DeliveryState],
        *conditions: ColumnElement[bool],
        **values: object,
    ) -> list[int]:
        now = self._store.now()
        with self._store.writing() as session:
            ids = session.scalars(
                select(Delivery.id)
                .join(Study, Study.id == Delivery.study_id)
                .where(*_meant(selection), Delivery.state.in_([s.value for s in states]))
                .order_by(Delivery.id)
            ).all()
            met = []
            for delivery_id in ids:
                statement = (
                    update(Delivery)
                    .where(
                        Delivery.id == delivery_id,
                        Delivery.state.in_([s.value for s in states]),
                        is_free(Delivery, now),
                        *conditions,
                    )
                    .values(**FREE, **values)
                )
                if changed(session, statement):
                    met.append(delivery_id)
            return met


def _meant(selection: Selection) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if selection.ids:
        conditions.append(Delivery.id.in_(selection.ids))
    if selection.states:
        conditions.append(Delivery.state.in_([state.value for state in selection.states]))
    if selection.destination:
        conditions.append(Delivery.destination == selection.destination)
    if selection.study_instance_uid:
        conditions.append(Study.study_instance_uid == selection.study_instance_uid)
    return conditions


def _row(
    delivery: Delivery, item: ResultObject | None, release: int, study_uid: str
) -> DeliveryRow:
    state = DeliveryState(delivery.state)
    return DeliveryRow(
        id=delivery.id,
        study_instance_uid=study_uid,
        destination=delivery.destination,
        kind="message" if item is None else item.kind,
        sop_instance_uid="" if item is None else item.sop_instance_uid,
        release=release,
        state=state,
        attempts=delivery.attempts,
        code=delivery.code,
        reason=delivery.reason,
        created_at=delivery.created_at,
        due_at=delivery.due_at if state is DeliveryState.PENDING else None,
        sent_at=delivery.sent_at,
        delivered_at=delivery.delivered_at,
    )
