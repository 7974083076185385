"""The nodes of an installation: each says now and then that it lives, and renews its leases."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

import structlog
from sqlalchemy import delete, select, update
from sqlalchemy.exc import SQLAlchemyError

import vigil
from vigil_inference.leases import Leases
from vigil_inference.repeated import Repeated
from vigil_inference.store import Store
from vigil_inference.tables import Node

log = structlog.get_logger(__name__)

_BEATS_A_LEASE = 4
_REMEMBERED = timedelta(days=1)
NodeKind = Literal["serve", "worker"]


@dataclass(frozen=True)
class ModelNews:
    """What a node says of its model: which one, or why it has none."""

    bundle_id: str
    bundle_digest: str
    problem: str


@dataclass(frozen=True)
class NodeRow:
    """A node as others see it."""

    id: str
    name: str
    kind: str
    address: str
    process_id: int
    software_version: str
    bundle_id: str
    bundle_digest: str
    problem: str
    in_work: int
    started_at: datetime
    seen_at: datetime
    silent_seconds: float
    """Since its last heartbeat."""
    is_alive: bool
    """Whether it was heard of within the length of a lease."""


def read_nodes(store: Store, lease_seconds: float) -> list[NodeRow]:
    """Return the nodes that are at work or fell silent within a day, the oldest first."""
    now = store.now()
    with store.reading() as session:
        rows = session.scalars(select(Node).order_by(Node.started_at, Node.id)).all()
    found = []
    for row in rows:
        silent = max(0.0, (now - row.seen_at).total_seconds())
        found.append(
            NodeRow(
                row.id,
                row.name,
                row.kind,
                row.address,
                row.process_id,
                row.software_version,
                row.bundle_id,
                row.bundle_digest,
                row.problem,
                row.in_work,
                row.started_at,
                row.seen_at,
                silent_seconds=silent,
                is_alive=silent <= lease_seconds,
            )
        )
    return found


class Heart:
    """Renews a process's leases and says that it lives, in one transaction, again and again.

    Parameters
    ----------
    store, leases
        The database, and what is renewed.
    name, kind, address
        What the node says of itself.
    model
        What it says of its model, asked at each beat.
    """

    def __init__(
        self,
        store: Store,
        leases: Leases,
        *,
        name: str,
        kind: NodeKind,
        address: str,
        model: Callable[[], ModelNews],
    ) -> None:
        self._store = store
        self._leases = leases
        self._name = name
        self._kind = kind
        self._address = address
        self._model = model
        self._started_at = store.now()
        self._beats = Repeated("heart", self.beat, leases.seconds / _BEATS_A_LEASE)

    def start(self) -> None:
        """Beat at once and from then on."""
        self._beats.start()

    def stop(self) -> None:
        """Beat no more, and take leave."""
        self._beats.stop()
        try:
            with self._store.writing() as session:
                session.execute(delete(Node).where(Node.id == self._store.node_id))
        except (SQLAlchemyError, TimeoutError) as error:
            log.warning("leave_not_taken", error=type(error).__name__)

    def beat(self) -> None:
        """Beat once.

        Raises SQLAlchemy's errors, or TimeoutError, where the database does not take it.
        """
        self._store.set_clock()
        now = self._store.now()
        model = self._model()
        said = {
            "bundle_id": model.bundle_id,
            "bundle_digest": model.bundle_digest,
            "problem": model.problem[:500],
            "in_work": self._leases.in_work,
            "seen_at": now,
        }
        with self._store.writing() as session:
            self._leases.renew(session)
            mine = Node.id == self._store.node_id
            known = session.scalar(update(Node).where(mine).values(**said).returning(Node.id))
            if known is None:
                session.add(
                    Node(
                        id=self._store.node_id,
                        name=self._name,
                        kind=self._kind,
                        address=self._address,
                        process_id=os.getpid(),
                        software_version=vigil.__version__,
                        started_at=self._started_at,
                        **said,
                    )
                )
                session.execute(delete(Node).where(Node.seen_at < now - _REMEMBERED))
