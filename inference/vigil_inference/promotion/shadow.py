"""Reads in shadow: one thread, one picture at a time, only while nothing else is to be done.

Whatever goes wrong here is told and counted, and goes no further: no picture's row is written, no
model of the service is touched, no error leaves the thread.
"""

import threading
import time
from collections.abc import Callable
from pathlib import Path

import structlog
from sqlalchemy.exc import SQLAlchemyError

from vigil.errors import BundleError
from vigil_inference.leases import Leases
from vigil_inference.promotion.queue import Pair, ShadowQueue, ShadowTask
from vigil_inference.promotion.reader import ReaderEnded, ReaderOptions, ShadowReader, Stopped
from vigil_inference.promotion.shelf import Shelf
from vigil_inference.settings import Settings
from vigil_inference.store import Store

log = structlog.get_logger(__name__)

_LOOK_SECONDS = 1.0
_BUSY_SECONDS = 0.2
_TRIM_SECONDS = 30.0
_RETRY_SECONDS = 30.0


class ShadowWork:
    """The thread that reads in shadow, and the process that it has for it.

    Parameters
    ----------
    store, leases, settings
        Of the service.
    is_busy
        Whether this node is at work on a picture for the serving bundle.
    """

    def __init__(
        self, store: Store, leases: Leases, settings: Settings, is_busy: Callable[[], bool]
    ) -> None:
        self._queue = ShadowQueue(store, leases, settings.shadow_most_waiting)
        self._leases = leases
        self._settings = settings
        self._shelf = Shelf(settings)
        self._is_busy = is_busy
        self._pair: Pair | None = None
        self._changed = threading.Event()
        self._stopping = threading.Event()
        self._reader: ShadowReader | None = None
        self._trimmed_at = 0.0
        self.problem = ""
        """Why the bundle in shadow does not read here; "" it does, or there is none."""
        self._thread = threading.Thread(target=self._work, name="shadow", daemon=True)

    @property
    def pair(self) -> Pair | None:
        """What reads beside what, None while nothing is in shadow."""
        return self._pair

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def follow(self, pair: Pair | None) -> None:
        """Read for this pair from now on, or not at all."""
        if pair != self._pair:
            self._pair = pair
            self.problem = ""
            self._changed.set()

    def stop(self, timeout_seconds: float = 10.0) -> None:
        """End the reader; what it was reading is read again later."""
        self._stopping.set()
        self._changed.set()
        if self._thread.ident is not None:
            self._thread.join(timeout_seconds)

    def _work(self) -> None:
        while not self._stopping.is_set():
            self._changed.clear()
            pair = self._pair
            try:
                wait = self._step(pair)
            except Stopped:
                wait = 0.0
            except (SQLAlchemyError, OSError) as error:  # TimeoutError is an OSError
                log.warning("shadow_put_off", error=type(error).__name__)
                wait = _LOOK_SECONDS
            except Exception as error:  # shadow work must never be the end of anything
                log.error("shadow_failed", error=type(error).__name__)
                wait = _RETRY_SECONDS
            if wait:
                self._changed.wait(wait)
        self._close()

    def _step(self, pair: Pair | None) -> float | None:
        """Do one thing; return how long to wait then, None for until something changes."""
        if pair is None:
            self._close()
            return _RETRY_SECONDS
        if time.monotonic() - self._trimmed_at > _TRIM_SECONDS:
            self._trimmed_at = time.monotonic()
            if dropped := self._queue.trim(pair):
                log.warning("shadow_pictures_dropped", bundle=pair.shadow.name, pictures=dropped)
        if self._is_busy():
            return _BUSY_SECONDS
        if not self._is_open(pair):
            return _RETRY_SECONDS
        task = self._queue.claim(pair)
        if task is None:
            return _LOOK_SECONDS
        with self._leases.held(task.lease):
            self._read(task)
        return 0.0

    def _read(self, task: ShadowTask) -> None:
        assert self._reader is not None
        try:
            record = self._reader.read(self._settings.data_dir.absolute() / task.file_path)
        except Stopped:
            self._close()
            self._queue.put_off(task)
            raise
        except ReaderEnded as error:
            self._close()
            self._queue.fail(task, str(error))
            log.warning("shadow_reader_ended", instance=task.instance_id, reason=str(error))
            return
        self._queue.keep(task, record)

    def _is_open(self, pair: Pair) -> bool:
        """Start the reader for a pair unless it runs; whether it reads."""
        try:
            own = self._shelf.calibration_of(pair.shadow)
        except BundleError as error:
            return self._tell(pair, str(error))
        options = ReaderOptions(
            folder=self._shelf.folder_of(pair.shadow).absolute(),
            digest=pair.shadow.digest,
            site_calibration=None if own is None else Path(own).absolute(),
            network=self._settings.network,
            for_processing=self._settings.analyse_for_processing,
        )
        if self._reader is not None and self._reader.options == options:
            return True
        self._close()
        reader = ShadowReader(options, self._is_asked_to_stop)
        try:
            problem = reader.open()
        except ReaderEnded as error:
            problem = str(error)
        except Stopped:
            reader.close()
            raise
        if problem:
            reader.close()
            return self._tell(pair, problem)
        self._reader = reader
        self.problem = ""
        log.info("shadow_reads", bundle=pair.shadow.name, beside=pair.serving.name)
        return True

    def _is_asked_to_stop(self) -> bool:
        return self._changed.is_set()

    def _tell(self, pair: Pair, problem: str) -> bool:
        if problem != self.problem:
            log.error("shadow_bundle_unusable", bundle=pair.shadow.name, reason=problem)
        self.problem = problem
        return False

    def _close(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None
