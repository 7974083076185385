"""The chain: each row's seal is a hash over the one before it and over the row itself."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from datetime import UTC

from sqlalchemy import select
from sqlalchemy.orm import Session

from vigil_inference.audit.tables import AuditHead, AuditRow

FIRST = "0" * 64
"""What the first row is sealed with."""


def seal(previous: str, row: AuditRow) -> str:
    """Return a row's seal: SHA-256 over the previous one and the row in canonical JSON."""
    content = json.dumps(
        [
            row.id,
            row.at.astimezone(UTC).isoformat(timespec="microseconds"),
            row.account,
            row.action,
            row.study_instance_uid,
            row.outcome,
            row.detail,
            row.address,
        ],
        ensure_ascii=False,
        separators=(",", ":"),
    )
    return hashlib.sha256(f"{previous}\n{content}".encode()).hexdigest()


def verify(session: Session, noted: tuple[int, str] | None = None) -> tuple[list[str], int, str]:
    """Look for rows that were changed, removed, put elsewhere, or cut off.

    Parameters
    ----------
    session
        On one state of the database.
    noted
        Number and seal of an event, as noted earlier outside of the database.

    Returns
    -------
    A sentence for each place where the chain does not hold, and the last row's number and seal.
    """
    head = session.scalars(select(AuditHead)).one_or_none()
    rows = session.scalars(select(AuditRow).order_by(AuditRow.id).execution_options(yield_per=1000))
    state = _Walk(noted)
    problems = list(state.walk(rows))
    if head is None:
        problems.append("the chain's head is missing")
    elif head.last_id != state.last_id:
        problems.append(
            f"the end is cut off: the head says {head.last_id} events, found {state.last_id}"
            if head.last_id > state.last_id
            else f"the head says {head.last_id} events, found {state.last_id}"
        )
    elif head.sha256 != state.last_sha256:
        problems.append(f"the head was changed, or event {state.last_id}")
    if noted is not None and noted[0] > state.last_id:
        problems.append(
            f"the end is cut off: event {noted[0]} was noted, the last is {state.last_id}"
        )
    return problems, state.last_id, state.last_sha256


class _Walk:
    """Goes along the chain and remembers where it is."""

    def __init__(self, noted: tuple[int, str] | None) -> None:
        self._noted = noted
        self.last_id = 0
        self.last_sha256 = FIRST

    def walk(self, rows: Iterable[AuditRow]) -> Iterator[str]:
        for row in rows:
            missing = range(self.last_id + 1, row.id)
            if missing:
                yield (
                    f"event {missing[0]} is missing"
                    if len(missing) == 1
                    else f"events {missing[0]} to {missing[-1]} are missing"
                )
            # After a gap nothing tells whether this row is as it was; the next ones do.
            elif seal(self.last_sha256, row) != row.sha256:
                yield f"event {row.id} is not what was written there"
            if self._noted is not None and self._noted == (row.id, row.sha256):
                self._noted = None
            elif self._noted is not None and self._noted[0] == row.id:
                yield f"event {row.id} has another seal than was noted"
            self.last_id, self.last_sha256 = row.id, row.sha256
