"""NIH ChestX-ray14: ``Data_Entry_2017*.csv``, the official lists, ``images*/``, boxes."""

from collections.abc import Iterator
from pathlib import Path

from vigil.errors import ManifestError
from vigil_training.data_sets.film import Film, Passed
from vigil_training.data_sets.pictures import pictures_by_name
from vigil_training.data_sets.records import age, find, lines, number, records, require
from vigil_training.data_sets.table import LabelTable
from vigil_training.manifest import Box

_SIDE = 1024.0
"""Boxes are in pixels of the published pictures, which are all of this side."""
_ENTRIES = ("Data_Entry_2017_v2020.csv", "Data_Entry_2017.csv")
_WHY = (
    "without it the official test patients would be mixed into training; fetch it from the set's "
    "own page, or say --own-split"
)


def read(folder: Path, table: LabelTable, passed: Passed, *, own_split: bool) -> Iterator[Film]:
    """Yield the films; those of the training list leave their split open, for a validation part."""
    entries = require(folder, *_ENTRIES)
    official = {} if own_split else _official(folder)
    boxes = _boxes(folder, table)
    pictures = pictures_by_name(folder, (".png", ".jpg"))
    for row in records(entries, ("Image Index", "Finding Labels", "Patient ID", "View Position")):
        name = row.cells["Image Index"]
        if (path := pictures.get(name)) is None:
            passed.leave_out("the picture is not in the folder", row.where)
            continue
        if official and name not in official:
            passed.leave_out("in neither official list", row.where)
            continue
        years = row.cells.get("Patient Age", "").rstrip("Yy")
        known = number(row._replace(cells={"Patient Age": years}), "Patient Age")
        yield Film(
            path=path,
            source="nih",
            patient_id=row.cells["Patient ID"],
            image_id=path.stem,
            marks=table.marks(row.cells["Finding Labels"].split("|"), row.where, passed),
            view=row.cells["View Position"].upper() or "UNKNOWN",
            age_years=age(known),
            sex=row.cells.get("Patient Sex") or row.cells.get("Patient Gender", ""),
            boxes=tuple(boxes.get(name, ())),
            split=official.get(name, ""),
        )


def _official(folder: Path) -> dict[str, str]:
    training = lines(require(folder, "train_val_list.txt", why=_WHY))
    test = lines(require(folder, "test_list.txt", why=_WHY))
    if both := sorted(set(training) & set(test)):
        raise ManifestError(f"{folder}: {both[0]} stands in both official lists")
    return dict.fromkeys(training, "") | dict.fromkeys(test, "test")


def _boxes(folder: Path, table: LabelTable) -> dict[str, list[Box]]:
    path = find(folder, "BBox_List_2017.csv")
    found: dict[str, list[Box]] = {}
    if path is None:
        return found
    # The header is "Bbox [x,y,w,h],,,": the last three columns have no name.
    for row in _named(path):
        for label in table.of(row[1]):
            try:
                x, y, width, height = (float(cell) / _SIDE for cell in row[2:6])
            except ValueError as error:
                raise ManifestError(f"{path}: the box of {row[0]} is not four numbers") from error
            found.setdefault(row[0], []).append(Box(label, x, y, width, height))
    return found


def _named(path: Path) -> Iterator[list[str]]:
    for line in lines(path)[1:]:
        cells = [cell.strip() for cell in line.split(",")]
        if len(cells) < 6:
            raise ManifestError(f"{path}: expected a name, a label and four numbers: {line[:60]}")
        yield cells
