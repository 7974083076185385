"""What other nodes did: PostgreSQL tells, readers and workers of this node hear of it.

A notification goes out with the commit that it speaks of. None is kept for a node that did not
listen; after a lost connection readers are told to look at everything again, and workers look now
and then anyway.
"""

import threading
from collections.abc import Callable

import structlog
from psycopg import Connection as Wire
from psycopg import Error
from sqlalchemy.exc import SQLAlchemyError

from vigil_inference.events import EventHub, Missed, StudyChanged
from vigil_inference.store import CHANNEL, Store

log = structlog.get_logger(__name__)

_LISTEN_SECONDS = 1.0
_RETRY_SECONDS = 1.0


class RemoteChanges:
    """Listens on a connection of its own, in a thread.

    Parameters
    ----------
    store
        A shared database.
    hub
        Where this node's readers listen.
    stir
        Called when another node accepted a picture; must not raise.
    """

    def __init__(self, store: Store, hub: EventHub, stir: Callable[[], None]) -> None:
        self._store = store
        self._hub = hub
        self._stir = stir
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="remote-changes", daemon=True)

    def start(self) -> None:
        """Listen from now on."""
        self._thread.start()

    def stop(self, timeout_seconds: float = 10.0) -> None:
        """Listen no more."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(timeout_seconds)

    def _run(self) -> None:
        is_first = True
        while not self._stopping.is_set():
            try:
                self._listen(is_first=is_first)
            except (SQLAlchemyError, Error, OSError) as error:
                log.warning("remote_changes_unheard", error=type(error).__name__)
                self._stopping.wait(_RETRY_SECONDS)
            is_first = False

    def _listen(self, *, is_first: bool) -> None:
        pooled = self._store.engine.raw_connection()
        wire = pooled.driver_connection
        pooled.detach()  # the pool may open another in its place
        if not isinstance(wire, Wire):
            raise TypeError(f"expected a connection of psycopg, found {type(wire).__name__}")
        with wire:
            wire.rollback()
            wire.autocommit = True
            wire.execute(f"LISTEN {CHANNEL}")
            if not is_first:
                self._hub.publish(Missed())
                self._stir()
            while not self._stopping.is_set():
                for notice in wire.notifies(timeout=_LISTEN_SECONDS):
                    self._take(notice.payload)

    def _take(self, payload: str) -> None:
        node_id, word, study_instance_uid = payload.split(" ", 2)
        if node_id == self._store.node_id:
            return
        self._hub.publish(StudyChanged(study_instance_uid))
        if word == "received":
            self._stir()
