"""The folder door: files that somebody puts into a folder are taken like those that are sent.

Looked at again and again, since network shares announce nothing. A file is taken once it has
settled: its size and time have stayed the same for a while and its last element is complete. It is
copied, never linked, for its writer may still hold it open; and it is deleted only after the intake
has made it durable and it is still what was read. What Vigil does not keep goes to ``refused/``
beside a note that says why. A crash at any moment leaves the file where it was, or the same bytes
held twice for a moment, which the next look mends.
"""

import contextlib
import os
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pydicom
import structlog

from vigil.errors import StorageError, VigilError
from vigil_inference.arrivals import Outcome
from vigil_inference.headers import is_of_disk
from vigil_inference.intake import Intake, Source, errno_name, sync_folder

log = structlog.get_logger(__name__)

REFUSED = "refused"
_BEING_WRITTEN = frozenset({".part", ".tmp", ".temp", ".filepart", ".crdownload"})
_CUT_SHORT_PATIENCE = 12
"""A file whose last element is incomplete may settle this many times longer than others."""
_LONG_LENGTH = frozenset({b"OB", b"OW", b"OD", b"OF", b"OL", b"OV", b"UN"})
_UNDEFINED = 0xFFFFFFFF
_LONGEST_REFUSED_NAME_BYTES = 240
"""A name has 255 bytes at most, and a number and the note's suffix are added to it."""


@dataclass(frozen=True)
class _Look:
    """What a file looked like, and since when (monotonic seconds)."""

    identity: tuple[int, int, int, int]
    since: float


class WatchedFolder:
    """Takes what appears in a folder.

    Parameters
    ----------
    folder
        The folder; its subfolders are looked at too, but for ``refused``.
    intake
        Where files go.
    settle_seconds
        How long a file must not have changed.
    """

    def __init__(self, folder: Path, intake: Intake, settle_seconds: float) -> None:
        self._folder = folder
        self._intake = intake
        self._settle_seconds = settle_seconds
        self._looks: dict[Path, _Look] = {}
        # Files that were taken and could not be removed: a folder that may only be read.
        self._left: dict[Path, tuple[int, int, int, int]] = {}
        self._unreadable: set[str] = set()

    def look(self) -> int:
        """Take what has settled; return how many files.

        Raises
        ------
        OSError
            If the folder cannot be read.
        """
        found = dict(self._files())
        self._looks = {path: look for path, look in self._looks.items() if path in found}
        self._left = {path: seen for path, seen in self._left.items() if path in found}
        taken = 0
        for path, identity in sorted(found.items()):
            if self._left.get(path) == identity or not self._has_settled(path, identity):
                continue
            try:
                taken += self._take(path, identity)
            except StorageError as error:
                log.error("folder_waits", reason=str(error))
                if self._intake.check() != "ok":
                    break  # the next look finds all that is left
                # It was this file that could not be read: the others are not kept waiting.
            except OSError as error:
                log.warning("folder_file_not_taken", error=errno_name(error))
        return taken

    def _files(self) -> Iterator[tuple[Path, tuple[int, int, int, int]]]:
        if not self._folder.is_dir():
            raise FileNotFoundError("the watched folder is not there")
        for parent, folders, names in os.walk(self._folder, onerror=self._say_unreadable):
            here = Path(parent)
            folders[:] = [
                name
                for name in folders
                if not name.startswith(".") and not (here == self._folder and name == REFUSED)
            ]
            for name in names:
                path = here / name
                if name.startswith(".") or path.suffix.lower() in _BEING_WRITTEN:
                    continue
                with contextlib.suppress(FileNotFoundError):
                    status = path.stat(follow_symlinks=False)
                    if stat.S_ISREG(status.st_mode):
                        yield path, _identity(status)

    def _say_unreadable(self, error: OSError) -> None:
        """Say once of each subfolder that it cannot be read; it is tried again at every look."""
        if error.filename not in self._unreadable:
            self._unreadable.add(error.filename)
            log.warning("folder_part_not_read", error=errno_name(error))

    def _has_settled(self, path: Path, identity: tuple[int, int, int, int]) -> bool:
        now = time.monotonic()
        look = self._looks.get(path)
        if look is None or look.identity != identity:
            self._looks[path] = look = _Look(identity, now)
        waited = now - look.since
        if waited < self._settle_seconds:
            return False
        patience = self._settle_seconds * _CUT_SHORT_PATIENCE
        return waited >= patience or not is_cut_short(path)

    def _take(self, path: Path, identity: tuple[int, int, int, int]) -> bool:
        """Take a file, or refuse it; return whether it was taken."""
        try:
            if is_cut_short(path):
                self._refuse(path, "CUT_SHORT", "the file ends before its last element does")
                return False
            with path.open("rb") as file:
                receipt = self._intake.accept(file, Source("FOLDER"))
                unchanged = _identity(os.fstat(file.fileno())) == identity
        except StorageError:
            raise
        except VigilError as error:
            self._refuse(path, error.code, str(error))
            return False
        if receipt.outcome is Outcome.DIFFERS:
            self._refuse(path, "DIFFERS", receipt.message)
            return False
        if unchanged and _identity(path.stat(follow_symlinks=False)) == identity:
            self._remove(path, identity)
        return True

    def _remove(self, path: Path, identity: tuple[int, int, int, int]) -> None:
        try:
            path.unlink()
        except OSError as error:
            log.warning("folder_file_left", error=errno_name(error))
            self._left[path] = identity

    def _refuse(self, path: Path, code: str, reason: str) -> None:
        """Move a file out of the way, its note first."""
        log.warning("refused", door="FOLDER", code=code)
        self._intake.doors.refuse("FOLDER", code)
        folder = self._folder / REFUSED
        folder.mkdir(exist_ok=True)
        place = _free_name(folder, path.name)
        # Names come from anywhere: what is not UTF-8 in one is written as an escape.
        with _note_of(place).open("w", encoding="utf-8", errors="backslashreplace") as file:
            moment = datetime.now(UTC).isoformat(timespec="seconds")
            file.write(f"{moment}\n{path.relative_to(self._folder)}\n{code}: {reason}\n")
            file.flush()
            os.fsync(file.fileno())
        path.rename(place)
        sync_folder(folder)


def is_cut_short(path: Path) -> bool:
    """Return whether a DICOM file's pixel data is announced longer than the file is.

    What is no DICOM file, or has no pixel data, is not cut short: the intake judges it.

    Raises
    ------
    OSError
        If the file cannot be read.
    """
    with path.open("rb") as file:
        try:
            dataset = pydicom.dcmread(file, stop_before_pixels=True, force=True)
            if dataset.file_meta.TransferSyntaxUID.is_deflated:
                return False
            syntax = dataset.file_meta.TransferSyntaxUID
            order = "little" if syntax.is_little_endian else "big"
            head = file.read(12)
        except EOFError:
            return True
        except Exception as error:  # pydicom's parser raises whatever a damaged file makes it meet
            if is_of_disk(error):
                raise
            return isinstance(error, OSError)  # it ends where a sequence's item should begin
        if len(head) < 8:
            return bool(head)
        long = not syntax.is_implicit_VR and head[4:6] in _LONG_LENGTH
        field = head[8:12] if long else head[4:8] if syntax.is_implicit_VR else head[6:8]
        length = int.from_bytes(field, order)  # type: ignore[arg-type]
        start = file.tell() - len(head) + (12 if long else 8)
        size = os.fstat(file.fileno()).st_size
        if length != _UNDEFINED:
            return start + length > size
        file.seek(max(start, size - 64 * 1024))
        delimiter = b"\xfe\xff\xdd\xe0" if order == "little" else b"\xff\xfe\xe0\xdd"
        return delimiter not in file.read()


def _identity(status: os.stat_result) -> tuple[int, int, int, int]:
    return status.st_ino, status.st_dev, status.st_size, status.st_mtime_ns


def _free_name(folder: Path, name: str) -> Path:
    """Return a path that is free, as its note's is: neither may replace what was refused before."""
    name = os.fsdecode(os.fsencode(name)[:_LONGEST_REFUSED_NAME_BYTES])
    place = folder / name
    number = 1
    while place.exists() or _note_of(place).exists():
        place = folder / f"{number}-{name}"
        number += 1
    return place


def _note_of(place: Path) -> Path:
    return place.with_name(f"{place.name}.txt")
