"""One running node: its parts, put together once, and the order of their start and stop."""

import shutil
import socket
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING

import structlog
from sqlalchemy.exc import SQLAlchemyError

from vigil.errors import StorageError
from vigil_inference.access.desk import AccessDesk
from vigil_inference.analysis import Analysis, Triages
from vigil_inference.audit.trail import AuditTrail
from vigil_inference.case_level import is_case_level
from vigil_inference.delivery.dispatch import Delivery
from vigil_inference.dicom_listener import DicomListener
from vigil_inference.events import EventHub, StudyChanged
from vigil_inference.full_depth import FullDepthPictures
from vigil_inference.installation import check_installation
from vigil_inference.intake import Intake
from vigil_inference.leases import Leases
from vigil_inference.nodes import Heart, ModelNews
from vigil_inference.operations.metrics import Metrics, Standing
from vigil_inference.pictures import PictureStore
from vigil_inference.promotion.keeper import ModelKeeper
from vigil_inference.promotion.shadow import ShadowWork
from vigil_inference.reading.book import ReadingBook
from vigil_inference.repeated import Repeated
from vigil_inference.retention import Retention
from vigil_inference.sender import parse_peer
from vigil_inference.settings import Settings
from vigil_inference.storage_commitment import CommitmentProvider
from vigil_inference.store import Store
from vigil_inference.watched_folder import WatchedFolder
from vigil_inference.worklist.live import LiveRows

if TYPE_CHECKING:
    from vigil_inference.remote_changes import RemoteChanges

log = structlog.get_logger(__name__)

_SWEEP_SECONDS = 600.0
_RETENTION_SECONDS = 60.0
_LEAST_WAIT_SECONDS = 0.5


class Service:
    """Store, doors, analysis and delivery of one process.

    Parameters
    ----------
    settings
        How it runs.
    model
        A loaded model to use instead of the settings' bundle.
    has_doors
        Whether it receives and serves; a worker only analyses and delivers.

    Raises
    ------
    StorageError
        If the data folder or the database cannot be used.
    """

    def __init__(
        self, settings: Settings, model: Triages | None = None, *, has_doors: bool = True
    ) -> None:
        self.settings = settings
        self.has_doors = has_doors
        self._model = model
        self._lock: IO[bytes] | None = None
        try:
            settings.data_dir.mkdir(parents=True, exist_ok=True)
            self.store = Store(settings.database)
        except OSError as error:
            raise StorageError(f"{settings.data_dir}: cannot be used ({error.strerror})") from error
        except SQLAlchemyError as error:
            raise StorageError(f"the database cannot be used ({type(error).__name__})") from error
        try:
            check_installation(self.store, settings.data_dir)
        except StorageError:
            self.store.close()
            raise
        self.access = AccessDesk(self.store, settings)
        self.audit = AuditTrail(self.store)
        self.leases = Leases(self.store, settings.lease_seconds)
        self.pictures = PictureStore(settings.data_dir)
        self.full_depth = FullDepthPictures()
        self.readings = ReadingBook(
            self.store,
            shows_findings=not is_case_level(settings),
            is_blind=settings.second_reading_blind,
        )
        self.hub = EventHub()
        self.started_at = datetime.now(UTC)
        self.analysis = Analysis(
            self.store,
            self.leases,
            self.pictures,
            self.hub,
            settings.data_dir,
            self._load_model,
            workers=settings.analysis_workers,
            attempts=settings.analysis_attempts,
            retry_seconds=settings.model_retry_seconds,
            preview_pixels=settings.preview_pixels,
        )
        node_name = settings.node_name or socket.gethostname()
        self.shadow = ShadowWork(
            self.store, self.leases, settings, lambda: self.analysis.is_working
        )
        self.models = ModelKeeper(
            self.store, settings, lambda: self.analysis, self.shadow, node_name
        )
        self.intake = Intake(
            self.store,
            settings.data_dir,
            reserve_bytes=settings.storage_reserve_bytes,
            on_accepted=self.analysis.submit,
            on_conflict=lambda uid: self.hub.publish(StudyChanged(uid)),
        )
        self._watch: Repeated | None = None
        if settings.watch_folder is not None:
            watched = WatchedFolder(
                settings.watch_folder, self.intake, settings.watch_settle_seconds
            )
            self._watch = Repeated("watched-folder", watched.look, settings.watch_poll_seconds)
        self._sweeper = Repeated("spool-sweeper", self._sweep_spool, _SWEEP_SECONDS)
        self.commitment = CommitmentProvider(
            self.store,
            settings.data_dir,
            settings.dicom_ae_title,
            {title: parse_peer(peer) for title, peer in settings.storage_commitment_peers.items()},
            settings.dicom_timeout_seconds,
        )
        self.listener = DicomListener(settings, self.intake, self.commitment)
        self.delivery = Delivery(
            self.store, self.leases, self.pictures, settings, listens=has_doors
        )
        self.retention = Retention(
            self.store, settings, lambda uid: self.hub.publish(StudyChanged(uid))
        )
        self._retention: Repeated | None = None
        self._was_finished = False
        if self.retention.has_rules:
            self._retention = Repeated("retention", self._retain, _RETENTION_SECONDS)
        self.heart = Heart(
            self.store,
            self.leases,
            name=node_name,
            kind="serve" if has_doors else "worker",
            address=f"{settings.http_host}:{settings.http_port}" if has_doors else "",
            model=self._model_news,
        )
        self._live_rows = LiveRows(self.store, self.hub, settings, lambda: self.analysis.status)
        self._remote: RemoteChanges | None = None
        if self.store.is_shared:
            # Its driver is not loaded where nobody needs it.
            from vigil_inference import remote_changes

            self._remote = remote_changes.RemoteChanges(self.store, self.hub, self.analysis.stir)
        self.metrics = Metrics(self.store, settings, self.intake.doors, self._standing)

    def start(self) -> None:
        """Take up what was left, then open the DICOM door.

        Raises
        ------
        StorageError
            If another service works on this data folder, or a port is taken.
        """
        if not self.store.is_shared:
            if sys.platform != "win32":
                self._lock = _lock_folder(self.settings.data_dir)
            # The only process on this database: whoever had leased anything is gone.
            self.leases.free_all()
        self.heart.start()
        if self._remote is not None:
            self._remote.start()
        self.analysis.start()
        if self._model is None:
            self.models.start()
            self.shadow.start()
        self.delivery.start()
        self.audit.start()
        if self._retention is not None:
            self._retention.start()
        if self.has_doors:
            self._live_rows.start()
            self._sweeper.start()
            if self._watch is not None:
                self._watch.start()
            self.listener.start()

    def stop(self) -> None:
        """Close the doors, finish or hand back what is in work, close the database.

        All of it together waits no longer than the settings say, and a moment for each part.
        """
        deadline = time.monotonic() + self.settings.stop_seconds

        def rest() -> float:
            return max(_LEAST_WAIT_SECONDS, deadline - time.monotonic())

        if self.has_doors:
            self.listener.stop()
            if self._watch is not None:
                self._watch.stop(rest())
            self.commitment.stop(rest())
            self._sweeper.stop(rest())
            self._live_rows.stop(rest())
        if self._retention is not None:
            self._retention.stop(rest())
        self.full_depth.close()
        self.hub.close()
        self.models.stop(rest())
        self.shadow.stop(rest())
        self.analysis.stop(rest())
        self.delivery.stop(rest())
        if self._remote is not None:
            self._remote.stop(rest())
        self.audit.stop(rest())
        self.heart.stop()
        self.store.close()
        if self._lock is not None:
            self._lock.close()
        log.info("stopped")

    def _model_news(self) -> ModelNews:
        status = self.analysis.status
        return ModelNews(
            status.bundle_id, status.bundle_digest, status.reason or self.models.problem
        )

    @property
    def network(self) -> str:
        """Which of the bundle's networks answers, once the model is loaded."""
        return self.models.network

    def _sweep_spool(self) -> None:
        if swept := self.intake.sweep_spool():
            log.warning("spool_swept", files=swept)

    def _retain(self) -> None:
        if not self._was_finished:
            self.retention.finish()
            self._was_finished = True
        self.retention.apply()

    def checks(self) -> dict[str, str]:
        """Return each part's state: "ok" or what is wrong with it."""
        try:
            self.store.ping()
            database = "ok"
        except SQLAlchemyError as error:
            database = f"the database does not answer ({type(error).__name__})"
        status = self.analysis.status
        checks = {
            "database": database,
            "storage": self.intake.check(),
            "model": (self.models.problem or "ok") if status.available else status.reason,
        }
        if self.has_doors:
            open_ = self.listener.is_listening
            checks["dicom"] = "ok" if open_ else "the DICOM port is closed"
        return checks

    def _standing(self) -> Standing:
        status = self.analysis.status
        try:
            free = shutil.disk_usage(self.settings.data_dir).free
        except OSError:
            free = None
        return Standing(self.checks(), status.bundle_id, status.bundle_digest, self.network, free)

    def _load_model(self) -> Triages:
        if self._model is not None:
            return self._model
        return self.models.first()


def _lock_folder(data_dir: Path) -> IO[bytes]:
    """Hold a data folder for this process: two services would analyse the same pictures.

    The lock ends with the process, however it ends.

    Raises
    ------
    StorageError
        If another service holds it.
    """
    import fcntl  # there is none on Windows

    file = (data_dir / "lock").open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise StorageError(f"{data_dir}: is in use by another Vigil service") from error
    return file
