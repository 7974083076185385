"""Appending to the audit trail, and reading it.

What changes something is written before its answer goes out. What was only seen is kept for a
second and written together, off the request's way; a process that is killed loses that second.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import structlog
from sqlalchemy import select, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from vigil_inference.audit.chain import FIRST, seal
from vigil_inference.audit.tables import AuditHead, AuditRow
from vigil_inference.repeated import Repeated
from vigil_inference.store import Store

log = structlog.get_logger(__name__)

FLUSH_SECONDS = 1.0
_MOST_WAITING = 10_000
_AGAIN_SECONDS = 3600.0
_MOST_SEEN = 20_000
_HEAD_TOLD_SECONDS = 3600.0


@dataclass(frozen=True)
class AuditEvent:
    """Something that somebody saw or did; see :class:`~vigil_inference.audit.tables.AuditRow`."""

    account: str
    action: str
    study_instance_uid: str = ""
    outcome: int = 0
    detail: str = ""
    address: str = ""
    at: datetime | None = None


class AuditTrail:
    """The audit trail of an installation, shared by its nodes."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._flushing = threading.Lock()
        self._waiting: list[AuditEvent] = []
        self._seen: OrderedDict[tuple[str, ...], float] = OrderedDict()
        self._lost = 0
        self._head_told = -_HEAD_TOLD_SECONDS
        self._job = Repeated("audit-trail", self.flush, FLUSH_SECONDS)

    def start(self) -> None:
        """Write what waits each second from now on."""
        self._job.start()

    def stop(self, timeout_seconds: float) -> None:
        """Write what waits, and no more of it later."""
        self._job.stop(timeout_seconds)
        self.flush()

    def append(self, *events: AuditEvent) -> None:
        """Write events now; returns when they are durable."""
        with self._flushing:
            self._write([self._timed(event) for event in events])

    def note(self, event: AuditEvent) -> None:
        """Write an event within a second or two."""
        with self._lock:
            if len(self._waiting) < _MOST_WAITING:
                self._waiting.append(self._timed(event))
            else:
                self._lost += 1

    def note_once(self, event: AuditEvent, session: str) -> None:
        """Write an event unless the same session did the same with the same study an hour ago."""
        key, now = (
            (session, event.account, event.action, event.study_instance_uid),
            time.monotonic(),
        )
        with self._lock:
            last = self._seen.get(key)
            if last is not None and now - last < _AGAIN_SECONDS:
                return
            self._seen[key] = now
            self._seen.move_to_end(key)
            while len(self._seen) > _MOST_SEEN:
                self._seen.popitem(last=False)
        self.note(event)

    def flush(self) -> None:
        """Write what waits; what cannot be written now waits on."""
        with self._flushing:
            with self._lock:
                events, self._waiting = self._waiting, []
                lost, self._lost = self._lost, 0
            if lost:
                log.error("audit_events_lost", events=lost)
                events.append(
                    self._timed(AuditEvent("", "events_lost", detail=f"{lost} events, no database"))
                )
            try:
                head = self._write(events)
            except SQLAlchemyError as error:
                log.error("audit_not_written", error=type(error).__name__, events=len(events))
                with self._lock:
                    self._waiting = events + self._waiting
                return
        if head is not None and time.monotonic() - self._head_told >= _HEAD_TOLD_SECONDS:
            # Kept wherever the log is kept, it shows later whether the end was cut off.
            self._head_told = time.monotonic()
            log.info("audit_head", number=head.last_id, sha256=head.sha256)

    def _timed(self, event: AuditEvent) -> AuditEvent:
        return event if event.at is not None else replace(event, at=self._store.now())

    def _write(self, events: Sequence[AuditEvent]) -> AuditHead | None:
        if not events:
            return None
        with self._store.writing() as session:
            return write_events(session, events)


def write_events(session: Session, events: Sequence[AuditEvent]) -> AuditHead:
    """Add events to the end of the chain, in a transaction that writes; return its new head."""
    head = session.scalars(select(AuditHead).with_for_update()).one_or_none()
    last_id, sha256 = (head.last_id, head.sha256) if head is not None else (0, FIRST)
    for event in events:
        last_id += 1
        row = AuditRow(
            id=last_id,
            at=event.at,
            account=event.account[:80],
            action=event.action[:64],
            study_instance_uid=event.study_instance_uid[:64],
            outcome=event.outcome,
            detail=event.detail[:200],
            address=event.address[:64],
        )
        row.sha256 = sha256 = seal(sha256, row)
        session.add(row)
    session.flush()
    session.execute(
        update(AuditHead).where(AuditHead.id == 1).values(last_id=last_id, sha256=sha256)
    )
    return AuditHead(id=1, last_id=last_id, sha256=sha256)
