"""Live rows: what changed is read and written out once, and handed to every listener as it is.

If each of 200 open pages asked for what changed, one study a second would cost 200 requests a
second. Changes within a moment are gathered, so that a burst costs no more than a few rounds.
"""

import threading
from collections.abc import Callable

import structlog
from sqlalchemy.exc import SQLAlchemyError

from vigil_inference.analysis import ModelStatus
from vigil_inference.case_level import at_case_level, is_case_level
from vigil_inference.events import EventHub, Missed, RowsReady
from vigil_inference.settings import Settings
from vigil_inference.store import Store
from vigil_inference.views import RowsChanged
from vigil_inference.worklist.filters import Filters, Status
from vigil_inference.worklist.page import read_rows, read_worklist

log = structlog.get_logger(__name__)

_GATHER_SECONDS = 0.2
_BETWEEN_SECONDS = 1.0
_MOST_ROWS = 50


class LiveRows:
    """A thread that turns changed studies into rows for whoever listens.

    Parameters
    ----------
    store, hub, settings
        The service's.
    status
        Whether pictures can be analysed now.
    """

    def __init__(
        self, store: Store, hub: EventHub, settings: Settings, status: Callable[[], ModelStatus]
    ) -> None:
        self._store = store
        self._hub = hub
        self._settings = settings
        self._status = status
        self._changed: dict[str, None] = {}
        self._lock = threading.Lock()
        self._news = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="live-rows", daemon=True)
        hub.observe(self._note)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, timeout_seconds: float = 10.0) -> None:
        """End."""
        self._stopping.set()
        self._news.set()
        if self._thread.ident is not None:
            self._thread.join(timeout_seconds)

    def _note(self, study_instance_uid: str) -> None:
        with self._lock:
            self._changed[study_instance_uid] = None
        self._news.set()

    def _take(self) -> list[str]:
        with self._lock:
            taken = list(self._changed)[:_MOST_ROWS]
            for uid in taken:
                del self._changed[uid]
            if not self._changed:
                self._news.clear()
        return taken

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._news.wait()
            if self._stopping.wait(_GATHER_SECONDS):
                return
            uids = self._take()
            if uids and self._hub.has_row_listeners:
                self._tell(uids)
            self._stopping.wait(_BETWEEN_SECONDS - _GATHER_SECONDS)

    def _tell(self, uids: list[str]) -> None:
        try:
            self._hub.publish(
                RowsReady(render_rows(self._store, self._settings, self._status(), uids))
            )
        except SQLAlchemyError as error:
            log.warning("live_rows_failed", error=type(error).__name__)
            self._hub.publish(Missed())  # each page asks for itself


def render_rows(store: Store, settings: Settings, status: ModelStatus, uids: list[str]) -> str:
    """Return what a live update says of some studies, a ``views.RowsChanged`` as JSON."""
    targets = settings.reading_targets
    page = read_worklist(
        store, status, filters=Filters(status=Status.UNREAD), targets=targets, limit=0
    )
    rows = read_rows(store, status, uids, targets=targets)
    if is_case_level(settings):
        rows = at_case_level(page.model_copy(update={"studies": rows})).studies
    known = {row.study_instance_uid for row in rows}
    return RowsChanged(
        rows=rows,
        gone=tuple(uid for uid in uids if uid not in known),
        everything=page.everything,
        counts=page.counts,
        statuses=page.statuses,
        pending=page.pending,
        generated_at=page.generated_at,
        model=page.model,
    ).model_dump_json()
