"""Many pictures quickly: one phantom written once, and copies of it under fresh UIDs."""

import uuid
from dataclasses import dataclass
from pathlib import Path

import pydicom
from pydicom.uid import UID, ExplicitVRLittleEndian

from vigil.phantom import make_phantom
from vigil.phantom.dicom import write_dx

_DIGITS = 39
"""Of the largest UUID as a number: all UIDs here are as long, so a copy changes no other byte."""


@dataclass(frozen=True)
class Film:
    """A file and what it is."""

    path: Path
    sop_instance_uid: str
    study_instance_uid: str


class Films:
    """Writes copies of a phantom, each a study of its own unless one is named.

    Parameters
    ----------
    folder
        For the template.
    size
        Rows and columns.
    seed, kind
        Of the phantom.
    transfer_syntax
        In which it is written, other than deflated.
    """

    def __init__(
        self,
        folder: Path,
        size: tuple[int, int],
        *,
        seed: int = 1,
        kind: str = "normal",
        transfer_syntax: UID = ExplicitVRLittleEndian,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        uids = [fresh_uid() for _ in range(3)]
        path = write_dx(
            make_phantom(seed, kind, size),
            folder / f"template-{uuid.uuid4().hex}.dcm",
            transfer_syntax=transfer_syntax,
            SOPInstanceUID=uids[0],
            StudyInstanceUID=uids[1],
            SeriesInstanceUID=uids[2],
        )
        self.content = path.read_bytes()
        path.unlink()
        self._parts = self._split(uids)
        self._instance, self._study, self._series = uids

    def _split(self, uids: list[str]) -> list[bytes | str]:
        """Cut the content at its UIDs, so that a copy is a join."""
        places = sorted(
            (start, uid) for uid in uids for start in _places(self.content, uid.encode())
        )
        parts: list[bytes | str] = []
        end = 0
        for start, uid in places:
            parts += [self.content[end:start], uid]
            end = start + len(uid)
        return [*parts, self.content[end:]]

    def write(self, path: Path, *, study_instance_uid: str = "") -> Film:
        """Write a copy and say what it is."""
        film = Film(path, fresh_uid(), study_instance_uid or fresh_uid())
        named = {
            self._instance: film.sop_instance_uid,
            self._study: film.study_instance_uid,
            self._series: fresh_uid(),
        }
        path.write_bytes(
            b"".join(named[p].encode() if isinstance(p, str) else p for p in self._parts)
        )
        return film

    def write_many(self, folder: Path, count: int) -> list[Film]:
        """Write copies into a folder, numbered."""
        folder.mkdir(parents=True, exist_ok=True)
        return [self.write(folder / f"{number:05d}.dcm") for number in range(count)]


def fresh_uid() -> str:
    """Return a UID that nothing else has, always of the same length."""
    return f"2.25.{uuid.uuid4().int | 1 << 127:0{_DIGITS}d}"


def sop_instance_uids(folder: Path) -> list[str]:
    """Return the SOP Instance UIDs of a folder's files, as often as they lie there."""
    return [
        str(pydicom.dcmread(path, stop_before_pixels=True, force=True).SOPInstanceUID)
        for path in sorted(folder.iterdir())
        if path.is_file()
    ]


def _places(content: bytes, needle: bytes) -> list[int]:
    places, start = [], content.find(needle)
    while start >= 0:
        places.append(start)
        start = content.find(needle, start + 1)
    return places
