"""A folder, here or mounted: whole files under their SOP Instance UIDs, or none."""

import hashlib
import time
import uuid
from pathlib import Path

from vigil_inference.delivery.destinations import FolderDestination
from vigil_inference.delivery.durable import write_durably
from vigil_inference.delivery.ledger import Parcel
from vigil_inference.delivery.peers import Answer, Verdict
from vigil_inference.intake import errno_name

_STALE_SECONDS = 600.0
"""A node that lost its lease may go on writing for a while; nobody writes a file for so long."""


class FolderPeer:
    """A destination that is a folder.

    Parameters
    ----------
    destination
        Its settings.
    data_dir
        What the parcels' paths are relative to.
    """

    def __init__(self, destination: FolderDestination, data_dir: Path) -> None:
        self._folder = destination.path
        self._data_dir = data_dir

    def send(self, parcel: Parcel) -> Answer:
        """Write the file under another name, flush it, and rename it: it is whole or not there."""
        path = self._path(parcel)
        try:
            content = (self._data_dir / parcel.file_path).read_bytes()
            if path.exists():
                return self._judge_existing(path, parcel)
            if parcel.was_interrupted:
                self._sweep(parcel)
            temporary = path.with_name(f".{parcel.sop_instance_uid}.{uuid.uuid4().hex}.part")
            write_durably(path, content, temporary)
        except OSError as error:
            reason = f"the folder does not take the file ({errno_name(error)})"
            return Answer(Verdict.LATER, errno_name(error), reason)
        return Answer(Verdict.ACCEPTED, "WRITTEN")

    def prove(self, parcel: Parcel) -> Answer:
        """Read the file back."""
        try:
            content = self._path(parcel).read_bytes()
        except FileNotFoundError:
            if not self._folder.is_dir():
                return Answer(Verdict.LATER, "ENOENT", "the folder is not there")
            return Answer(Verdict.NOT_HELD, "FILE_MISSING", "the file is not in the folder")
        except OSError as error:
            reason = f"the file cannot be read back ({errno_name(error)})"
            return Answer(Verdict.LATER, errno_name(error), reason)
        if hashlib.sha256(content).hexdigest() == parcel.sha256:
            return Answer(Verdict.HELD, "READ_BACK", "the file was read back, byte by byte")
        return Answer(Verdict.NOT_HELD, "FILE_DIFFERS", "the file in the folder has other bytes")

    def close(self) -> None:
        """Do nothing: there is no connection."""

    def _path(self, parcel: Parcel) -> Path:
        return self._folder / f"{parcel.sop_instance_uid}.dcm"

    def _sweep(self, parcel: Parcel) -> None:
        """Remove what earlier attempts at this file left, unless one may still be at it."""
        for part in self._folder.glob(f".{parcel.sop_instance_uid}.*.part"):
            if time.time() - part.stat().st_mtime > _STALE_SECONDS:
                part.unlink(missing_ok=True)

    def _judge_existing(self, path: Path, parcel: Parcel) -> Answer:
        if hashlib.sha256(path.read_bytes()).hexdigest() == parcel.sha256:
            return Answer(Verdict.ACCEPTED, "WRITTEN", "the same file was there already")
        reason = "another file of this name is in the folder; it stays"
        return Answer(Verdict.REFUSED, "FILE_EXISTS", reason)
