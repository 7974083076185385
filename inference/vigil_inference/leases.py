"""Leases: how threads and nodes share rows, so that nothing is done twice and nothing is left.

One conditional UPDATE decides who works on a row: it takes a row that is free and marks it with a
token that nobody else has. While the work lasts the lease is renewed; when a process dies it is
not, ends, and the row is free again. A result is written only where the token still stands.
Pictures, the release of a study's results and deliveries are leased in this one way.
"""

import itertools
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, Update, and_, bindparam, or_, update
from sqlalchemy.orm import Session

from vigil_inference.store import Store
from vigil_inference.tables import Base, Leased, UtcDateTime

LEASE_SECONDS = 45.0


@dataclass(frozen=True)
class Lease:
    """A row that this process works on, until the lease ends or is given back."""

    table: type[Leased]
    row_id: int
    token: str

    @property
    def still_stands(self) -> ColumnElement[bool]:
        """Whether nobody took the row over meanwhile; to be asked with every result."""
        return and_(self.table.id == self.row_id, self.table.owner == self.token)


class Leases:
    """The leases of one process.

    Parameters
    ----------
    store
        The database.
    seconds
        How long a process may be silent before its work is taken over.
    """

    def __init__(self, store: Store, seconds: float = LEASE_SECONDS) -> None:
        self._store = store
        self.seconds = seconds
        self._numbers = itertools.count(1)
        self._held: set[Lease] = set()
        self._lock = threading.Lock()

    @property
    def in_work(self) -> int:
        """How many rows this process works on."""
        return len(self._held)

    def take(
        self,
        session: Session,
        table: type[Leased],
        *conditions: ColumnElement[bool],
        **values: object,
    ) -> Lease | None:
        """Take a free row that meets the conditions, in the session's transaction.

        Parameters
        ----------
        session
            A writing one.
        table
            Whose row.
        conditions
            They name one row; with a subquery that finds it, the search is part of the taking.
        values
            What else is to be written.

        Returns
        -------
        Lease or None
            None if there is no such row, or somebody else has it.
        """
        now = self._store.now()
        token = self._new_token()
        row_id = session.scalar(
            update(table)
            .where(*conditions, is_free(table, now))
            .values(owner=token, leased_until=now + self._term, **values)
            .returning(table.id)
            .execution_options(synchronize_session=False)
        )
        return None if row_id is None else Lease(table, row_id, token)

    def take_by(
        self, connection: Connection, table: type[Leased], statement: Update
    ) -> Lease | None:
        """Take a free row by a statement that :func:`taking` made, None if there is none."""
        now = self._store.now()
        token = self._new_token()
        row_id = connection.execute(
            statement, {"lease_now": now, "lease_token": token, "lease_end": now + self._term}
        ).scalar_one_or_none()
        return None if row_id is None else Lease(table, row_id, token)

    @contextmanager
    def held(self, lease: Lease) -> Iterator[None]:
        """Renew a lease while the work lasts."""
        with self._lock:
            self._held.add(lease)
        try:
            yield
        finally:
            with self._lock:
                self._held.discard(lease)

    def renew(self, session: Session) -> None:
        """Say that this process still works on all that it holds.

        A lease that ended during a silence of the database is renewed too, unless somebody took
        the row over: then its token is gone.
        """
        with self._lock:
            held = list(self._held)
        by_table: defaultdict[type[Leased], list[Lease]] = defaultdict(list)
        for lease in held:
            by_table[lease.table].append(lease)
        for table, leases in by_table.items():
            session.execute(
                update(table)
                .where(
                    table.id.in_([lease.row_id for lease in leases]),
                    table.owner.in_([lease.token for lease in leases]),
                )
                .values(leased_until=self._store.now() + self._term)
                .execution_options(synchronize_session=False)
            )

    def give_back(self, lease: Lease) -> None:
        """Let others have a row whose work was not done."""
        with self._store.writing() as session:
            session.execute(update(lease.table).where(lease.still_stands).values(**FREE))

    def free_all(self) -> None:
        """Take every row back from whoever has it; only where no other process can be at work."""
        with self._store.writing() as session:
            for table in _leased_tables():
                session.execute(
                    update(table)
                    .where(or_(table.owner != "", table.leased_until.is_not(None)))
                    .values(**FREE)
                )

    def _new_token(self) -> str:
        return f"{self._store.node_id}{next(self._numbers):x}"

    @property
    def _term(self) -> timedelta:
        return timedelta(seconds=self.seconds)


FREE: dict[str, Any] = {"owner": "", "leased_until": None}
"""What a row says that nobody works on."""


def is_free(table: type[Leased], now: datetime) -> ColumnElement[bool]:
    """Return whether nobody works on a row."""
    return or_(table.leased_until.is_(None), table.leased_until < now)


def is_free_row(table: Table) -> ColumnElement[bool]:
    """Return the same of a table's row, at the moment that :meth:`Leases.take_by` gives."""
    now = bindparam("lease_now", type_=UtcDateTime)
    return or_(table.c.leased_until.is_(None), table.c.leased_until < now)


def taking(table: Table, condition: ColumnElement[bool], **values: object) -> Update:
    """Return a statement for :meth:`Leases.take_by`, to be made once: see :meth:`Leases.take`."""
    return (
        update(table)
        .where(condition, is_free_row(table))
        .values(owner=bindparam("lease_token"), leased_until=bindparam("lease_end"), **values)
        .returning(table.c.id)
    )


def _leased_tables() -> list[type[Leased]]:
    mapped = (mapper.class_ for mapper in Base.registry.mappers)
    return [table for table in mapped if issubclass(table, Leased)]
