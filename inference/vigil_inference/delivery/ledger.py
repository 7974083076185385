"""Every step that workers take between the states of a delivery (people's are in ``desk``).

A step is taken by whoever leased its row (:mod:`vigil_inference.leases`), so a delivery is never
sent twice at the same time, and when a node falls silent another goes on.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, func, or_, select, update
from sqlalchemy.orm import Session

from vigil_inference.delivery.states import DeliveryState
from vigil_inference.delivery.tables import Delivery, ResultObject, ResultSet
from vigil_inference.leases import FREE, Lease, Leases, is_free
from vigil_inference.store import Store
from vigil_inference.tables import Study


class Step(StrEnum):
    """What is to be done with a delivery next."""

    SEND = "send"
    PROVE = "prove"


@dataclass(frozen=True)
class Parcel:
    """One delivery in work: what goes, and what is known of its way so far.

    Attributes
    ----------
    lease
        By which it is in work.
    step
        What is to be done now.
    was_interrupted
        Whether an attempt was cut short, so that the destination may hold it already.
    attempts, checks
        How often it was sent, this time included; how often proof was asked for.
    give_up_at
        When sending it ends.
    sent_at
        When it was acknowledged, if it was.
    kind, sop_class_uid, sop_instance_uid, series_instance_uid, file_path, sha256
        Of the object; "" for a message.
    message_id, message
        The study's message.
    """

    delivery_id: int
    lease: Lease
    step: Step
    was_interrupted: bool
    attempts: int
    checks: int
    give_up_at: datetime
    sent_at: datetime | None
    study_instance_uid: str
    kind: str
    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    file_path: str
    sha256: str
    message_id: str
    message: str
    commitment_uid: str


class Ledger:
    """Deliveries in the database.

    Parameters
    ----------
    store
        The database.
    leases
        By which rows are taken.
    give_up_seconds
        How long after its first attempt a delivery is tried again.
    """

    def __init__(self, store: Store, leases: Leases, *, give_up_seconds: float) -> None:
        self._store = store
        self._leases = leases
        self._give_up = timedelta(seconds=give_up_seconds)

    def claim(self, destination: str, *, with_proof: bool) -> Parcel | None:
        """Lease the delivery to a destination that matters most now, None if nothing is due.

        What is to be sent comes before what is to be proved, critical studies before others, and
        then the older ones. An attempt is counted before it is made.
        """
        while True:
            now = self._store.now()
            found = self._most_urgent(destination, now, with_proof=with_proof)
            if found is None:
                return None
            if (parcel := self._lease_row(*found)) is not None:
                return parcel

    def sent(self, parcel: Parcel, code: str, reason: str) -> bool:
        """Record that the destination acknowledged it; proof may be asked for at once."""
        now = self._store.now()
        return self._move(
            parcel, DeliveryState.SENT, code, reason, sent_at=now, due_at=now, checks=0
        )

    def delivered(self, parcel: Parcel, code: str, reason: str) -> bool:
        """Record that the destination proved to hold it."""
        now = self._store.now()
        return self._move(
            parcel,
            DeliveryState.DELIVERED,
            code,
            reason,
            sent_at=parcel.sent_at or now,
            delivered_at=now,
        )

    def put_off(self, parcel: Parcel, seconds: float, code: str, reason: str) -> bool:
        """Leave it in the state it had before the step, and take the step again later."""
        due_at = self._store.now() + timedelta(seconds=seconds)
        if parcel.step is Step.SEND:
            return self._move(parcel, DeliveryState.PENDING, code, reason, due_at=due_at)
        return self._move(
            parcel, DeliveryState.SENT, code, reason, due_at=due_at, checks=parcel.checks + 1
        )

    def send_again(self, parcel: Parcel, seconds: float, code: str, reason: str) -> bool:
        """Send again what the destination acknowledged and yet does not hold."""
        due_at = self._store.now() + timedelta(seconds=seconds)
        return self._move(
            parcel, DeliveryState.PENDING, code, reason, due_at=due_at, commitment_uid=""
        )

    def fail(self, parcel: Parcel, code: str, reason: str) -> bool:
        """Give it up, visibly."""
        return self._move(parcel, DeliveryState.FAILED, code, reason)

    def note_commitment(self, parcel: Parcel, transaction_uid: str) -> bool:
        """Remember a storage commitment's transaction before it is asked for."""
        with self._store.writing() as session:
            return changed(
                session,
                update(Delivery).where(*_held_by(parcel)).values(commitment_uid=transaction_uid),
            )

    def committed(self, transaction_uid: str) -> bool:
        """Record that a destination committed itself; False if nobody asked it to."""
        now = self._store.now()
        return self._report(
            transaction_uid,
            state=DeliveryState.DELIVERED.value,
            delivered_at=now,
            code="COMMITTED",
            reason="the destination committed itself to its storage",
            commitment_uid="",
        )

    def not_committed(
        self, transaction_uid: str, code: str, reason: str, wait: Callable[[int], float]
    ) -> bool:
        """Record that a destination does not hold an object: sent again, unless its time is over.

        ``wait`` says how many seconds to wait after so many attempts.
        """
        now = self._store.now()
        with self._store.reading() as session:
            row = session.execute(
                select(Delivery.attempts, Delivery.give_up_at).where(
                    Delivery.commitment_uid == transaction_uid
                )
            ).first()
        is_over = row is not None and row.give_up_at is not None and row.give_up_at <= now
        state = DeliveryState.FAILED if is_over else DeliveryState.PENDING
        return self._report(
            transaction_uid,
            state=state.value,
            due_at=now + timedelta(seconds=wait(1 if row is None else row.attempts)),
            code=code,
            reason=reason,
            commitment_uid="",
        )

    def _most_urgent(
        self, destination: str, now: datetime, *, with_proof: bool
    ) -> tuple[int, DeliveryState] | None:
        # Its lease has ended, or was taken from it when its process ended.
        abandoned = and_(Delivery.state == DeliveryState.SENDING.value, is_free(Delivery, now))
        waiting = and_(Delivery.state == DeliveryState.PENDING.value, Delivery.due_at <= now)
        unproved = and_(
            Delivery.state == DeliveryState.SENT.value,
            Delivery.due_at <= now,
            is_free(Delivery, now),
        )
        with self._store.reading() as session:
            row = session.execute(_first(destination, or_(waiting, abandoned))).first()
            if row is None and with_proof:
                row = session.execute(_first(destination, unproved)).first()
        return None if row is None else (row.id, DeliveryState(row.state))

    def _lease_row(self, delivery_id: int, state: DeliveryState) -> Parcel | None:
        values: dict[str, Any] = {}
        if state is not DeliveryState.SENT:
            values = {
                "state": DeliveryState.SENDING.value,
                "attempts": Delivery.attempts + 1,
                "give_up_at": func.coalesce(Delivery.give_up_at, self._store.now() + self._give_up),
            }
        with self._store.writing() as session:
            lease = self._leases.take(
                session,
                Delivery,
                Delivery.id == delivery_id,
                Delivery.state == state.value,
                **values,
            )
            return None if lease is None else _parcel(session, lease, state)

    def _move(
        self,
        parcel: Parcel,
        state: DeliveryState,
        code: str,
        reason: str,
        **values: object,
    ) -> bool:
        """Take a step's result in, unless somebody else decided meanwhile."""
        values |= {"code": code[:32], "reason": reason[:500]}
        with self._store.writing() as session:
            return changed(
                session,
                update(Delivery)
                .where(*_held_by(parcel))
                .values(state=state.value, **FREE, **values),
            )

    def _report(self, transaction_uid: str, **values: object) -> bool:
        """Take in what a destination reported by itself, whoever asks it something just now."""
        with self._store.writing() as session:
            return bool(transaction_uid) and changed(
                session,
                update(Delivery)
                .where(
                    Delivery.commitment_uid == transaction_uid,
                    Delivery.state == DeliveryState.SENT.value,
                )
                .values(**FREE, **values),
            )


def _first(destination: str, condition: ColumnElement[bool]) -> Select[int, str]:
    return (
        select(Delivery.id, Delivery.state)
        .join(Study, Study.id == Delivery.study_id)
        .where(Delivery.destination == destination, condition)
        .order_by(Study.reading_order, Delivery.id)
        .limit(1)
    )


def _held_by(parcel: Parcel) -> tuple[ColumnElement[bool], ...]:
    state = DeliveryState.SENDING if parcel.step is Step.SEND else DeliveryState.SENT
    return parcel.lease.still_stands, Delivery.state == state.value


def changed(session: Session, statement: Any) -> bool:
    """Return whether an UPDATE of deliveries met any."""
    return session.execute(statement.returning(Delivery.id)).first() is not None


def _parcel(session: Session, lease: Lease, found: DeliveryState) -> Parcel:
    delivery, item, result_set, study_uid = session.execute(
        select(Delivery, ResultObject, ResultSet, Study.study_instance_uid)
        .join(Study, Study.id == Delivery.study_id)
        .join(ResultSet, ResultSet.id == Delivery.result_set_id)
        .outerjoin(ResultObject, ResultObject.id == Delivery.result_object_id)
        .where(Delivery.id == lease.row_id)
    ).one()
    return Parcel(
        delivery_id=delivery.id,
        lease=lease,
        step=Step.PROVE if found is DeliveryState.SENT else Step.SEND,
        was_interrupted=found is DeliveryState.SENDING,
        attempts=delivery.attempts,
        checks=delivery.checks,
        give_up_at=delivery.give_up_at or delivery.due_at,
        sent_at=delivery.sent_at,
        study_instance_uid=study_uid,
        kind="message" if item is None else item.kind,
        sop_class_uid="" if item is None else item.sop_class_uid,
        sop_instance_uid="" if item is None else item.sop_instance_uid,
        series_instance_uid="" if item is None else item.series_instance_uid,
        file_path="" if item is None else item.file_path,
        sha256="" if item is None else item.sha256,
        message_id=result_set.message_id,
        message=result_set.message,
        commitment_uid=delivery.commitment_uid,
    )
