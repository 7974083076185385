"""The one way in: bytes become durable and recorded before anybody is told that they were taken.

In order: into the spool, header checked, renamed to its place, file and folder fsynced, row
committed. A failure at any step leaves no row and is raised, so the sender keeps its copy and tries
again. What happens next (analysis) hears of a picture only after the commit.
"""

import errno
import os
import shutil
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import structlog
from sqlalchemy.exc import SQLAlchemyError

from vigil.errors import StorageError, VigilError
from vigil_inference.arrivals import Arrival, Outcome, Recorded
from vigil_inference.doors import Door, DoorBook
from vigil_inference.headers import Header, digest_of, read_intake_header
from vigil_inference.store import Store, Task

log = structlog.get_logger(__name__)

STALE_SPOOL_SECONDS = 3600.0


class ObjectMismatch(VigilError):
    """The object is not the one that its sender announced."""

    code = "OBJECT_MISMATCH"
    http_status = 409
    dimse_status = 0xA900


class IdentityConflict(VigilError):
    """The SOP instance UID is held in another study already, where it stays."""

    code = "IDENTITY_CONFLICT"
    http_status = 409
    dimse_status = 0xC000


@dataclass(frozen=True)
class Source:
    """Where bytes came from and what their sender said of them; "" is not said."""

    door: Door
    calling_ae_title: str = ""
    sop_class_uid: str = ""
    sop_instance_uid: str = ""
    study_instance_uid: str = ""


@dataclass(frozen=True)
class Receipt:
    """A promise: the object is on disk and recorded."""

    outcome: Outcome
    instance_id: int
    sop_class_uid: str
    sop_instance_uid: str
    study_instance_uid: str
    series_instance_uid: str = ""

    @property
    def message(self) -> str:
        """What became of the bytes, in a sentence that fits a DICOM Error Comment (64)."""
        return _MESSAGES[self.outcome]


_MESSAGES = {
    Outcome.NEW: "stored",
    Outcome.REPEATED: "held already, the same bytes",
    Outcome.DIFFERS: "held already with other bytes; the first are kept",
    Outcome.OTHER_STUDY: "held already in another study",
}


class Intake:
    """Takes objects into a folder and a store.

    Parameters
    ----------
    store
        Where arrivals are recorded.
    data_dir
        The folder for originals and, on the same file system, the spool.
    reserve_bytes
        Free space that must remain.
    on_accepted
        Called with each new picture after its commit; must not raise.
    on_conflict
        Called with the UID of a study that holds an object under whose UID other bytes came; must
        not raise.
    """

    def __init__(
        self,
        store: Store,
        data_dir: Path,
        *,
        reserve_bytes: int = 0,
        on_accepted: Callable[[Task], None] = lambda task: None,
        on_conflict: Callable[[str], None] = lambda study_instance_uid: None,
    ) -> None:
        self._store = store
        self._data_dir = data_dir
        self._originals = data_dir / "instances"
        self._reserve_bytes = reserve_bytes
        self._on_accepted = on_accepted
        self._on_conflict = on_conflict
        self.doors = DoorBook()
        """What came through the doors since the process started."""
        self.spool = data_dir / "spool"
        self._arriving: set[Path] = set()
        try:
            self.spool.mkdir(parents=True, exist_ok=True)
            # All of them now: a folder made on the way to an acknowledgement would have to be
            # synced by every thread that meets it.
            for number in range(256):
                (self._originals / f"{number:02x}").mkdir(parents=True, exist_ok=True)
            sync_folder(self._originals)
            sync_folder(data_dir)
        except OSError as error:
            raise StorageError(f"{data_dir}: cannot be written ({error.strerror})") from error

    def accept(
        self, content: Path | BinaryIO, source: Source, *, sha256: str | None = None
    ) -> Receipt:
        """Make an object durable, record it, and only then return.

        Parameters
        ----------
        content
            A finished file, which is linked or copied and left alone, or a stream.
        source
            Where it came from.
        sha256
            Of the data set, where the door has computed it on the way.

        Raises
        ------
        ObjectUnreadable
            If it is no DICOM object with an identity.
        ObjectMismatch
            If it is not what its sender announced.
        IdentityConflict
            If another study holds its SOP instance UID.
        StorageError
            If disk or database did not take it: the sender must try again.
        """
        staged = self.new_spool_path()
        try:
            self.check_space()
            _stage(content, staged)
            header = read_intake_header(staged)
            _check_announced(header, source)
            sha256 = sha256 or digest_of(staged)
            recorded = self._store.find(header, sha256)
            if recorded is None:
                recorded = self._keep(staged, header, sha256, source)
            elif recorded.outcome is Outcome.REPEATED and recorded.is_removed:
                self._restore(staged, header, recorded, sha256)
            elif recorded.outcome is Outcome.REPEATED:
                place = self._data_dir / recorded.file_path
                self._mend(staged, place, recorded.instance_id)
        except (SQLAlchemyError, TimeoutError) as error:
            log.error("intake_database_failed", door=source.door, error=type(error).__name__)
            raise StorageError(
                f"the database did not take the record ({type(error).__name__})"
            ) from error
        except OSError as error:
            log.error("intake_disk_failed", door=source.door, error=errno_name(error))
            raise StorageError(f"the disk did not take the bytes ({errno_name(error)})") from error
        finally:
            self.discard_spool_path(staged)
        return self._receipt(header, recorded, source)

    def new_spool_path(self) -> Path:
        """Return a fresh path in the spool for a door that writes for itself.

        What lies there is not swept until :meth:`discard_spool_path` says that it is done with.
        """
        path = self.spool / f"{uuid.uuid4().hex}.part"
        self._arriving.add(path)
        return path

    def discard_spool_path(self, path: Path) -> None:
        """Remove a door's file from the spool, if it is there."""
        _remove(path)
        self._arriving.discard(path)

    def sweep_spool(self, older_than_seconds: float = STALE_SPOOL_SECONDS) -> int:
        """Delete what interrupted senders left in the spool; return how many files."""
        swept = 0
        for path in self.spool.iterdir():
            if path in self._arriving:
                continue
            try:
                if time.time() - path.stat().st_mtime >= older_than_seconds:
                    path.unlink()
                    swept += 1
            except FileNotFoundError:
                continue
        return swept

    def check(self) -> str:
        """Return "ok" or why nothing can be stored now: no room, or a disk that takes nothing."""
        probe = self.spool / f"{uuid.uuid4().hex}.probe"
        try:
            self.check_space()
            probe.touch()
            probe.unlink(missing_ok=True)
        except (StorageError, OSError) as error:
            return str(error) if isinstance(error, StorageError) else errno_name(error)
        return "ok"

    def is_nearly_full(self) -> bool:
        """Return whether half of the reserve is used up: no sender should begin now."""
        try:
            return shutil.disk_usage(self.spool).free < self._reserve_bytes // 2
        except OSError:
            return True

    def check_space(self) -> None:
        """Refuse while the disk is full up to its reserve.

        Raises
        ------
        StorageError
            If it is.
        OSError
            If the disk does not answer.
        """
        free = shutil.disk_usage(self.spool).free
        if free < self._reserve_bytes:
            log.error("disk_reserve_reached", free_bytes=free, reserve_bytes=self._reserve_bytes)
            raise StorageError("the disk is full up to its reserve; try again later")

    def _keep(self, staged: Path, header: Header, sha256: str, source: Source) -> Recorded:
        """Move the bytes to a place of their own, durably, and commit their row."""
        place = self._originals / sha256[:2] / f"{staged.stem}.dcm"
        # Renamed first: what makes the file durable then makes its name durable too, and the sync
        # of the folder finds nothing left to do. Until the row is there, nobody looks here.
        staged.rename(place)
        try:
            _sync_file(place)
            sync_folder(place.parent)
        except OSError:
            _remove(place)
            raise
        arrival = Arrival(
            header=header,
            file_path=place.relative_to(self._data_dir).as_posix(),
            sha256=sha256,
            size_bytes=place.stat().st_size,
            door=source.door,
            calling_ae_title=source.calling_ae_title,
            received_at=self._store.now(),
        )
        try:
            recorded = self._store.add(arrival)
        except (SQLAlchemyError, TimeoutError):
            self._remove_unrecorded(header, sha256, place)
            raise
        if recorded.outcome is Outcome.NEW:
            self._on_accepted(
                Task(
                    recorded.instance_id,
                    recorded.study_instance_uid,
                    arrival.file_path,
                    sha256,
                    attempts=0,
                )
            )
        else:
            _remove(place)  # another sender was faster by a moment
        return recorded

    def _mend(self, staged: Path, place: Path, instance_id: int) -> None:
        """Put a repeated object's bytes back where they were lost or cut, and have it analysed."""
        if not place.is_file() or place.stat().st_size != staged.stat().st_size:
            log.error("alarm_original_was_damaged")
            place.parent.mkdir(parents=True, exist_ok=True)
            sync_folder(place.parent.parent)
            _move_durably(staged, place)
        task = self._store.reopen(instance_id)
        if task is not None:
            self._on_accepted(task)

    def _restore(self, staged: Path, header: Header, recorded: Recorded, sha256: str) -> None:
        """Keep the bytes of an object again that were removed by rule: it is acknowledged.

        In a place of its own, so that a removal that is still under way does not meet them.
        """
        place = self._originals / sha256[:2] / f"{staged.stem}.dcm"
        _move_durably(staged, place)
        file_path = place.relative_to(self._data_dir).as_posix()
        try:
            restored = self._store.restore(recorded.instance_id, file_path)
        except (SQLAlchemyError, TimeoutError):
            self._remove_unrecorded(header, sha256, place)
            raise
        if restored:
            _remove(self._data_dir / recorded.file_path)
            log.info("original_kept_again", instance=recorded.instance_id)
        else:
            _remove(place)  # another sender was faster by a moment

    def _remove_unrecorded(self, header: Header, sha256: str, place: Path) -> None:
        """Remove bytes that surely have no row; where the database is silent, they stay."""
        try:
            recorded = self._store.find(header, sha256)
        except (SQLAlchemyError, TimeoutError):
            log.warning("unrecorded_file_left")
            return
        if recorded is None or (self._data_dir / recorded.file_path) != place:
            _remove(place)

    def _receipt(self, header: Header, recorded: Recorded, source: Source) -> Receipt:
        known = {"door": source.door, "instance": recorded.instance_id}
        if recorded.outcome in (Outcome.DIFFERS, Outcome.OTHER_STUDY):
            log.error("alarm_sop_instance_conflict", outcome=recorded.outcome.value, **known)
            try:
                self._store.note_conflict(recorded.instance_id)
            except (SQLAlchemyError, TimeoutError) as error:
                log.error("conflict_not_counted", error=type(error).__name__, **known)
            self._on_conflict(recorded.study_instance_uid)
        else:
            log.info("received", outcome=recorded.outcome.value, **known)
        if recorded.outcome is Outcome.OTHER_STUDY:
            raise IdentityConflict(
                "the SOP instance UID is held in another study; the first is kept"
            )
        self.doors.take(source.door, recorded.outcome)
        return Receipt(
            recorded.outcome,
            recorded.instance_id,
            header.sop_class_uid,
            header.sop_instance_uid,
            header.study_instance_uid,
            header.series_instance_uid,
        )


def errno_name(error: OSError) -> str:
    """Return an operating system error's name (``ENOSPC``), never a path."""
    return errno.errorcode.get(error.errno or 0, type(error).__name__)


def _stage(content: Path | BinaryIO, staged: Path) -> None:
    if not isinstance(content, Path):
        with staged.open("xb") as file:
            shutil.copyfileobj(content, file, 1024 * 1024)
        return
    try:
        os.link(content, staged)
    except OSError as error:
        # Another file system, or one that knows no links.
        if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP):
            raise
        shutil.copyfile(content, staged)


def _check_announced(header: Header, source: Source) -> None:
    announced = (
        ("SOP class", source.sop_class_uid, header.sop_class_uid),
        ("SOP instance", source.sop_instance_uid, header.sop_instance_uid),
        ("study", source.study_instance_uid, header.study_instance_uid),
    )
    for what, expected, found in announced:
        if expected and expected != found:
            raise ObjectMismatch(f"the object's {what} UID is not the one that was announced")


def _move_durably(staged: Path, place: Path) -> None:
    _sync_file(staged)
    staged.rename(place)
    sync_folder(place.parent)


def _sync_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Make a folder's entries durable: a file's own fsync does not cover its name."""
    _sync_file(folder)


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        log.warning("spool_file_left", error=errno_name(error))
