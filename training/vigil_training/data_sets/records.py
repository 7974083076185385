"""CSV files of others: any of the usual encodings' mistakes is named with its row."""

import csv
import gzip
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from vigil.errors import ManifestError

_LONGEST_FIELD = 2**24


class Record(NamedTuple):
    """A row of a CSV file: ``where`` names file and row for messages."""

    where: str
    cells: dict[str, str]


def find(folder: Path, *names: str) -> Path | None:
    """Return the first file of these names in a folder, packed with gzip or not."""
    for name in names:
        for path in (folder / name, folder / f"{name}.gz"):
            if path.is_file():
                return path
    return None


def require(folder: Path, *names: str, why: str = "") -> Path:
    """Return the first file of these names.

    Raises
    ------
    ManifestError
        If there is none; the message says what was looked for.
    """
    path = find(folder, *names)
    if path is None:
        raise ManifestError(
            f"{folder}: expected {' or '.join(names)}, which is not there{'; ' if why else ''}{why}"
        )
    return path


def records(path: Path, columns: Sequence[str]) -> Iterator[Record]:
    """Yield the rows of a CSV file that has at least these columns.

    A byte order mark is passed over, and space around names of columns (SIIM's have some).

    Raises
    ------
    ManifestError
        If the file cannot be read, is not UTF-8, or lacks a column or a cell; the message names
        the row and what to do.
    """
    csv.field_size_limit(_LONGEST_FIELD)
    number = 1
    try:
        opener = gzip.open if path.suffix == ".gz" else open
        with opener(path, "rt", encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            names = [name.strip() for name in reader.fieldnames or ()]
            missing = [column for column in columns if column not in names]
            if missing:
                raise ManifestError(
                    f"{path}: column missing: {', '.join(missing)}; found {', '.join(names[:12])}"
                )
            reader.fieldnames = names
            for cells in reader:
                number = reader.line_num
                if None in cells or None in cells.values():
                    raise ManifestError(f"{path}, row {number}: expected {len(names)} columns")
                stripped = {name: value.strip() for name, value in cells.items()}
                yield Record(f"{path.name}, row {number}", stripped)
    except UnicodeDecodeError as error:
        raise ManifestError(
            f"{path}, after row {number}: is not UTF-8 (byte 0x{error.object[error.start]:02x}); "
            "save it as CSV UTF-8, in one encoding throughout"
        ) from error
    except csv.Error as error:
        raise ManifestError(f"{path}, after row {number}: is no CSV: {error}") from error
    except (OSError, EOFError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise ManifestError(f"{path}: cannot be read ({reason})") from error


def lines(path: Path) -> list[str]:
    """Return the lines of a list that are not empty.

    Raises
    ------
    ManifestError
        If it cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"{path}: cannot be read") from error
    return [line.strip() for line in text.splitlines() if line.strip()]


def number(record: Record, column: str) -> float | None:
    """Return a cell as a number, None if it is empty.

    Raises
    ------
    ManifestError
        If it holds something else, or NaN or infinity.
    """
    cell = record.cells[column]
    if not cell:
        return None
    try:
        value = float(cell)
    except ValueError:
        value = float("nan")
    if not math.isfinite(value):
        raise ManifestError(f"{record.where}: {column} is {cell}, expected a number or nothing")
    return value


def mark(record: Record, column: str) -> float | None:
    """Return a cell that holds 1, 0, −1 or nothing.

    Raises
    ------
    ManifestError
        If it holds something else.
    """
    value = number(record, column)
    if value not in (None, 0.0, 1.0, -1.0):
        raise ManifestError(
            f"{record.where}: {column} is {record.cells[column]}, expected 1, 0, -1 or nothing"
        )
    return value


def age(value: float | None) -> float | None:
    """Return an age that somebody may have, else None (NIH has patients of 400 years)."""
    return value if value is not None and 0 <= value <= 120 else None
