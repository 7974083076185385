"""VinDr-CXR and VinDr-PCXR: DICOM, several readers, boxes.

In the training part of VinDr-CXR each film was read by three radiologists on their own. A label is
positive if most of them saw it, negative if none did, and uncertain in between; the test part and
VinDr-PCXR hold one reading a film.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from vigil.errors import ManifestError
from vigil_training.data_sets.film import Film, Marks, Passed
from vigil_training.data_sets.pictures import Header, box_of_corners, header_of
from vigil_training.data_sets.records import Record, find, mark, number, records, require
from vigil_training.data_sets.table import LabelTable
from vigil_training.manifest import Box

_SPLITS = (("train", ""), ("test", "test"))
"""Neither set has a validation part: the training part is left open for one."""


def read_cxr(folder: Path, table: LabelTable, passed: Passed, *, own_split: bool) -> Iterator[Film]:
    """Yield the films of VinDr-CXR (``annotations/``, ``train/``, ``test/``)."""
    yield from _read(folder, folder / "annotations", "vindr-cxr", table, passed, own_split)


def read_pcxr(
    folder: Path, table: LabelTable, passed: Passed, *, own_split: bool
) -> Iterator[Film]:
    """Yield the films of VinDr-PCXR, children's; its local findings are known by their boxes."""
    yield from _read(folder, folder, "vindr-pcxr", table, passed, own_split)


def _read(
    folder: Path, notes: Path, source: str, table: LabelTable, passed: Passed, own_split: bool
) -> Iterator[Film]:
    found = [part for part in _SPLITS if find(notes, f"image_labels_{part[0]}.csv")]
    if not found:
        require(notes, "image_labels_train.csv", "image_labels_test.csv")
    for part, split in found:
        boxes = _boxes(notes, part)
        for image, rows in _by_image(notes, part).items():
            path = folder / part / f"{image}.dicom"
            where = rows[0].where
            if not path.is_file():
                passed.leave_out("the picture is not in the folder", where)
                continue
            if (header := header_of(path)) is None:
                passed.leave_out("the file is no DICOM", where)
                continue
            own = boxes.get(image, [])
            known = "UNKNOWN" if source == "vindr-pcxr" else "PA"
            yield Film(
                path=path,
                source=source,
                patient_id=image,  # neither set says whose film it is
                image_id=image,
                marks=_marks(rows, own, table, passed, by_box=source == "vindr-pcxr"),
                view=header.view if header.view != "UNKNOWN" else known,
                age_years=header.age_years,
                sex=header.sex,
                boxes=tuple(_fractions(own, header, table)),
                split="" if own_split else split,
                size=header.size,
                notes=f"read by {len(rows)}",
            )


def _by_image(notes: Path, part: str) -> dict[str, list[Record]]:
    rows: dict[str, list[Record]] = defaultdict(list)
    for row in records(require(notes, f"image_labels_{part}.csv"), ("image_id",)):
        rows[row.cells["image_id"]].append(row)
    return rows


def _boxes(notes: Path, part: str) -> dict[str, list[Record]]:
    path = find(notes, f"annotations_{part}.csv")
    rows: dict[str, list[Record]] = defaultdict(list)
    if path is not None:
        for row in records(path, ("image_id", "class_name", "x_min", "y_min", "x_max", "y_max")):
            rows[row.cells["image_id"]].append(row)
    return rows


_READER = frozenset({"image_id", "rad_id"})


def _marks(
    rows: list[Record], boxes: list[Record], table: LabelTable, passed: Passed, *, by_box: bool
) -> Marks:
    """Count the readers who saw each word; a word that two of three saw is there."""
    unused = {word.casefold() for word in table.not_used}
    cells: dict[str, float | None] = {}
    for column in rows[0].cells:
        if not column or column.casefold() in _READER | unused:
            continue
        if not table.of(column) and column.casefold() not in _healthy(table):
            passed.word(column, rows[0].where)
            continue
        votes = [value for row in rows if (value := mark(row, column)) is not None]
        cells[column] = _majority(votes)
    if by_box:
        seen = {row.cells["class_name"] for row in boxes}
        for word in table.labels:
            cells.setdefault(word, 1.0 if _is_among(word, seen) else 0.0)
    return table.marks_of_cells(cells)


def _majority(votes: list[float]) -> float | None:
    if not votes:
        return None
    share = sum(vote == 1 for vote in votes) / len(votes)
    return 1.0 if share > 0.5 else 0.0 if share == 0 else -1.0


def _healthy(table: LabelTable) -> set[str]:
    return {word.casefold() for word in table.healthy}


def _is_among(word: str, words: Iterable[str]) -> bool:
    return word.casefold() in {each.casefold() for each in words}


def _fractions(rows: list[Record], header: Header, table: LabelTable) -> Iterator[Box]:
    for row in rows:
        labels = table.of(row.cells["class_name"])
        if not labels:
            continue
        left, top, right, bottom = (
            number(row, name) for name in ("x_min", "y_min", "x_max", "y_max")
        )
        if left is None or top is None or right is None or bottom is None:
            raise ManifestError(f"{row.where}: the box of {row.cells['class_name']} is not whole")
        for label in labels:
            box = box_of_corners(label, (left, top, right, bottom), header.size)
            if box is not None:
                yield box
