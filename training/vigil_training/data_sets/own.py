"""One's own films: a folder of DICOM with a CSV, and the reading room's export."""

import csv
from collections.abc import Iterator
from pathlib import Path

from vigil.errors import ManifestError
from vigil.findings import CONCEPTS
from vigil_training.data_sets.film import Film, Marks, Passed
from vigil_training.data_sets.pictures import header_of, pictures_by_name
from vigil_training.data_sets.records import Record, find, mark, records, require
from vigil_training.data_sets.table import LabelTable
from vigil_training.manifest import read_manifest

_KEYS = ("file", "sop_instance_uid")
_KNOWN = frozenset({*_KEYS, "patient_id", "split", "site", "notes"})
_SUFFIXES = (".dcm", ".dicom", ".dic", "")


def read_dicom(
    folder: Path, table: LabelTable, passed: Passed, *, own_split: bool
) -> Iterator[Film]:
    """Yield the films of ``labels.csv``: ``file``, and a column a label with 1, 0, -1 or nothing.

    ``patient_id``, ``split`` and ``site`` are optional columns; the rest is in the headers. A site
    names the source, so that two hospitals are kept apart.
    """
    path = require(folder, "labels.csv", why="it names the files and their labels")
    pictures = None
    for row in records(path, ()):
        name = row.cells.get("file", "")
        if not name:
            raise ManifestError(f"{row.where}: file is empty, expected a file of {folder}")
        picture = folder / name
        if not picture.is_file():
            pictures = pictures or pictures_by_name(folder, (".dcm", ".dicom", ".dic"))
            picture = pictures.get(Path(name).name, picture)
        header = header_of(picture) if picture.is_file() else None
        if header is None:
            reason = (
                "the file is no DICOM" if picture.is_file() else "the file is not in the folder"
            )
            passed.leave_out(reason, row.where)
            continue
        patient = row.cells.get("patient_id") or header.patient_id
        if not patient:
            raise ManifestError(
                f"{row.where}: neither the header nor patient_id says whose film it is, so that "
                "patients cannot be kept on one side; add the column patient_id"
            )
        yield Film(
            path=picture,
            source=row.cells.get("site") or "site",
            patient_id=patient,
            image_id=picture.stem,
            marks=_marks(row, table, passed),
            view=header.view,
            age_years=header.age_years,
            sex=header.sex,
            split="" if own_split else row.cells.get("split", ""),
            size=header.size,
            notes=row.cells.get("notes", ""),
        )


def _marks(row: Record, table: LabelTable, passed: Passed) -> Marks:
    cells = {}
    for column in row.cells:
        if column in _KNOWN or not column:
            continue
        if table.of(column) or column.casefold() in {word.casefold() for word in table.healthy}:
            cells[column] = mark(row, column)
        else:
            passed.word(column, row.where)
    return table.marks_of_cells(cells)


def read_export(
    folder: Path, table: LabelTable, passed: Passed, *, own_split: bool
) -> Iterator[Film]:
    """Yield the films of the reading room's export, ``manifest.csv`` in this project's own form."""
    del table, passed
    path = folder / "manifest.csv"
    if find(folder, "manifest.csv") is None:
        raise ManifestError(f"{folder}: expected manifest.csv, as the reading room exports it")
    uncertain = _uncertain(path)
    for row in read_manifest(path):
        positive = frozenset(label for label in row.labels if label in CONCEPTS)
        known = frozenset(label for label in row.label_scope if label in CONCEPTS)
        says_normal = "No Finding" in row.label_scope
        yield Film(
            path=row.path,
            source=row.source,
            patient_id=row.patient_id,
            image_id=row.image_id,
            marks=Marks(
                positive,
                known - positive,
                uncertain.get(row.number, frozenset()) - known,
                healthy="No Finding" in row.labels if says_normal else None,
            ),
            view=row.view,
            age_years=row.age_years,
            sex=row.sex,
            boxes=row.boxes,
            split="" if own_split else row.split,
        )


def _uncertain(path: Path) -> dict[int, frozenset[str]]:
    """Return the column ``uncertain`` by row, which the manifest's own reader passes over."""
    found: dict[int, frozenset[str]] = {}
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        for cells in reader:
            words = (cells.get("uncertain") or "").split("|")
            found[reader.line_num] = frozenset(filter(None, (word.strip() for word in words)))
    return found
