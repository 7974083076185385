"""Decoded pictures on the disk, read once for many runs and shared by processes.

::

    <folder>/1-preprocessing2-256/
        index.sqlite3    file → digest of its content, digest → place and original size
        pictures.f16     one picture after another: (S, S) float16 as ``to_model_input`` made it
        outlines.u8      the same of outlines: (structures, S, S)

A picture is known by its content, the version of the preprocessing and the size, so an edited file
is read anew and a moved one is not. Both arrays are mapped into memory: what does not fit stays on
the disk, and processes on one machine share what is in memory. Several may fill the folder at once:
each part is one transaction, pixels are synced before their index says that they are there, and
what a killed process left behind is overwritten.
"""

import hashlib
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from vigil.errors import StorageError
from vigil.preprocess import Letterbox, PreprocessingSpec, letterbox_of
from vigil_training.config import STRUCTURES
from vigil_training.targets import Example

_FORMAT = 1
_PART = 128
"""Pictures of one transaction."""
_PATIENCE_SECONDS = 24 * 3600
"""For another process that fills the folder."""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS files (
    path TEXT PRIMARY KEY, bytes INTEGER, modified_ns INTEGER, digest TEXT);
CREATE TABLE IF NOT EXISTS pictures (
    digest TEXT PRIMARY KEY, place INTEGER, rows INTEGER, columns INTEGER);
CREATE TABLE IF NOT EXISTS outlines (digest TEXT PRIMARY KEY, place INTEGER);
"""


class ReadPicture(NamedTuple):
    """One picture as it is kept: (S, S), its original rows and columns, and its outlines."""

    picture: NDArray[np.float16]
    shape: tuple[int, int]
    outlines: NDArray[np.uint8] | None


class Pictures(Protocol):
    """(n, S, S) pictures, indexed as an array is, wherever they are."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: Any, /) -> Any: ...


class Stored:
    """Rows of an array on the disk, in an order of their own; index it as an array."""

    def __init__(
        self, path: Path, dtype: type[np.generic], shape: tuple[int, ...], places: Sequence[int]
    ) -> None:
        self._path, self._dtype, self._row = path, dtype, shape
        self._places = np.asarray(places, np.int64)

    @cached_property
    def _array(self) -> NDArray[Any]:
        if not self._places.size:
            return np.empty((0, *self._row), self._dtype)
        rows = int(self._places.max()) + 1
        return np.memmap(self._path, self._dtype, "r", shape=(rows, *self._row))

    def check(self) -> None:
        """Refuse a file that is shorter than its index says.

        Raises
        ------
        StorageError
            If it was cut.
        """
        rows = int(self._places.max()) + 1 if self._places.size else 0
        expected = rows * int(np.prod(self._row)) * np.dtype(self._dtype).itemsize
        if rows and self._path.stat().st_size < expected:
            raise StorageError(f"{self._path}: was cut off; remove its folder and it is made anew")

    def __getstate__(self) -> dict[str, Any]:
        # A data loader's worker maps the file anew instead of being sent the pictures.
        return {name: value for name, value in self.__dict__.items() if name != "_array"}

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: Any) -> NDArray[Any]:
        return np.asarray(self._array[self._places[index]])


class StoredOutlines(Mapping[int, NDArray[np.uint8]]):
    """Outlines on the disk by the index of their picture."""

    def __init__(self, rows: Stored, indices: Sequence[int]) -> None:
        self._rows = rows
        self._row_of = {index: row for row, index in enumerate(indices)}

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        return self._rows[self._row_of[index]]

    def __iter__(self) -> Iterator[int]:
        return iter(self._row_of)

    def __len__(self) -> int:
        return len(self._row_of)


class Kept(NamedTuple):
    """What :func:`keep` gives: pictures and boxes of each example, outlines of those with any."""

    pictures: Stored
    boxes: list[Letterbox]
    outlines: StoredOutlines


def keep(
    folder: Path,
    examples: Sequence[Example],
    size: int,
    read: Callable[[Example, int], ReadPicture],
    progress: Callable[[int], None] = lambda done: None,
) -> Kept:
    """Read what a folder does not hold yet, and return all of it from there.

    Parameters
    ----------
    folder
        On a disk of this machine; it may hold other runs' pictures too.
    examples
        The pictures that are needed.
    size
        Side of the square.
    read
        Decodes one.
    progress
        Is told how many more are there.

    Raises
    ------
    StorageError
        If the disk is full, or the folder is damaged.
    """
    place = folder / f"{_FORMAT}-preprocessing{PreprocessingSpec(size=size).version}-{size}"
    try:
        place.mkdir(parents=True, exist_ok=True)
        database = sqlite3.connect(
            place / "index.sqlite3", timeout=_PATIENCE_SECONDS, isolation_level=None
        )
        with closing(database) as index:
            index.executescript(_SCHEMA)
            digests = _digests(index, examples)
            for start in range(0, len(examples), _PART):
                part = slice(start, start + _PART)
                _fill(index, place, examples[part], digests[part], size, read)
                progress(len(examples[part]))
            return _kept(index, place, digests, size)
    except OSError as error:
        raise StorageError(
            f"--cache {folder}: cannot be written ({error.strerror}); "
            f"{len(examples)} pictures take {len(examples) * size * size * 2 / 1e6:.0f} MB"
        ) from error
    except sqlite3.DatabaseError as error:
        raise StorageError(
            f"--cache {folder}: the index is damaged or cannot be written ({error}); "
            f"remove {place.name} and it is made anew"
        ) from error


class _Digests(NamedTuple):
    """Of a picture's content, and of its outlines' if it has any."""

    picture: str
    outlines: str | None


def _digests(index: sqlite3.Connection, examples: Sequence[Example]) -> list[_Digests]:
    """Return what names each example's content; a file that did not change is not read again."""
    known = {
        path: (length, modified, digest)
        for path, length, modified, digest in index.execute("SELECT * FROM files")
    }
    found: dict[str, tuple[int, int, str]] = {}

    def of(content: Path | NDArray[Any]) -> str:
        if not isinstance(content, Path):
            head = f"{content.dtype}{content.shape}".encode()
            return hashlib.sha256(head + np.ascontiguousarray(content).tobytes()).hexdigest()
        status, name = content.stat(), str(content.resolve())
        entry = known.get(name)
        if entry is None or entry[:2] != (status.st_size, status.st_mtime_ns):
            digest = hashlib.sha256(content.read_bytes()).hexdigest()
            found[name] = entry = (status.st_size, status.st_mtime_ns, digest)
        return entry[2]

    def both(example: Example) -> _Digests:
        content = example.pixels if example.pixels is not None else example.path
        if content is None:
            raise ValueError("an example has neither a file nor pixels")
        parts = ["-" if outline is None else of(outline) for outline in example.outlines]
        outlined = any(part != "-" for part in parts)
        return _Digests(of(content), " ".join(parts) if outlined else None)

    with ThreadPoolExecutor(max_workers=8) as pool:
        digests = list(pool.map(both, examples))
    index.execute("BEGIN IMMEDIATE")
    index.executemany(
        "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?)",
        [(name, *entry) for name, entry in found.items()],
    )
    index.execute("COMMIT")
    return digests


def _fill(
    index: sqlite3.Connection,
    folder: Path,
    examples: Sequence[Example],
    digests: Sequence[_Digests],
    size: int,
    read: Callable[[Example, int], ReadPicture],
) -> None:
    """Add what is missing of one part; another process waits, and then finds it there."""
    if not _missing(index, digests):
        return
    index.execute("BEGIN IMMEDIATE")
    try:
        missing = _missing(index, digests)
        with ThreadPoolExecutor(max_workers=8) as pool:
            found = list(pool.map(lambda number: read(examples[number], size), missing))
        pictures, outlines = {}, {}
        for number, one in zip(missing, found, strict=True):
            pictures[digests[number].picture] = one
            name = digests[number].outlines
            if name is not None and one.outlines is not None:
                outlines[name] = one.outlines
        present = {row[0] for row in index.execute("SELECT digest FROM pictures")}
        new = {name: one for name, one in pictures.items() if name not in present}
        first = _append(
            folder / "pictures.f16", len(present), [one.picture for one in new.values()]
        )
        index.executemany(
            "INSERT INTO pictures VALUES (?, ?, ?, ?)",
            [(name, place, *one.shape) for place, (name, one) in enumerate(new.items(), first)],
        )
        present = {row[0] for row in index.execute("SELECT digest FROM outlines")}
        drawn = {name: one for name, one in outlines.items() if name not in present}
        first = _append(folder / "outlines.u8", len(present), list(drawn.values()))
        index.executemany(
            "INSERT INTO outlines VALUES (?, ?)",
            [(name, place) for place, name in enumerate(drawn, first)],
        )
        index.execute("COMMIT")
    except BaseException:
        index.execute("ROLLBACK")
        raise


def _missing(index: sqlite3.Connection, digests: Sequence[_Digests]) -> list[int]:
    """Return which of a part are not there, with their outlines."""
    return [
        number
        for number, own in enumerate(digests)
        if not _holds(index, "pictures", own.picture)
        or (own.outlines is not None and not _holds(index, "outlines", own.outlines))
    ]


def _holds(index: sqlite3.Connection, table: str, digest: str) -> bool:
    query = f"SELECT 1 FROM {table} WHERE digest = ?"  # noqa: S608  # one of two constants
    return index.execute(query, (digest,)).fetchone() is not None


def _append(path: Path, count: int, rows: Sequence[NDArray[Any]]) -> int:
    """Write rows after the first ``count``, over what a killed process left; return ``count``."""
    if rows:
        with path.open("r+b" if path.exists() else "w+b") as file:
            file.seek(count * rows[0].nbytes)
            for row in rows:
                file.write(np.ascontiguousarray(row).tobytes())
            file.flush()
            os.fsync(file.fileno())
    return count


def _kept(index: sqlite3.Connection, folder: Path, digests: Sequence[_Digests], size: int) -> Kept:
    pictures = {name: rest for name, *rest in index.execute("SELECT * FROM pictures")}
    outlines = dict(index.execute("SELECT digest, place FROM outlines").fetchall())
    own = [pictures[digest.picture] for digest in digests]
    outlined = [n for n, digest in enumerate(digests) if digest.outlines is not None]
    rows = Stored(folder / "pictures.f16", np.float16, (size, size), [p for p, _, _ in own])
    drawn = Stored(
        folder / "outlines.u8",
        np.uint8,
        (len(STRUCTURES), size, size),
        [outlines[digests[n].outlines] for n in outlined],
    )
    for stored in (rows, drawn):
        stored.check()
    boxes = [letterbox_of(height, width, size) for _, height, width in own]
    return Kept(rows, boxes, StoredOutlines(drawn, outlined))
