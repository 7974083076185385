"""The Kaggle challenges RSNA Pneumonia and SIIM-ACR Pneumothorax: DICOM, boxes, outlines.

Both took their films from NIH ChestX-ray14 and gave them new names: see :mod:`check`.
"""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from vigil.errors import ManifestError
from vigil_training.data_sets.film import Film, Marks, Passed
from vigil_training.data_sets.pictures import box_of_corners, header_of, pictures_by_name
from vigil_training.data_sets.records import Record, mark, number, records, require
from vigil_training.data_sets.table import LabelTable
from vigil_training.manifest import Box

_SIDE = 1024
"""Both challenges' boxes and outlines are in pixels of pictures of this side."""


def read_rsna(
    folder: Path, table: LabelTable, passed: Passed, *, own_split: bool
) -> Iterator[Film]:
    """Yield the films of stage 2's training part; its test part has no public labels."""
    del own_split
    classes = {
        row.cells["patientId"]: row
        for row in records(
            require(folder, "stage_2_detailed_class_info.csv"), ("patientId", "class")
        )
    }
    boxes: dict[str, list[Record]] = defaultdict(list)
    labels = require(folder, "stage_2_train_labels.csv")
    for row in records(labels, ("patientId", "x", "y", "width", "height", "Target")):
        boxes[row.cells["patientId"]].append(row)
    for name, rows in boxes.items():
        path = folder / "stage_2_train_images" / f"{name}.dcm"
        header = header_of(path) if path.is_file() else None
        if header is None:
            reason = (
                "the file is no DICOM" if path.is_file() else "the picture is not in the folder"
            )
            passed.leave_out(reason, rows[0].where)
            continue
        if (said := classes.get(name)) is None:
            passed.leave_out("has no class", rows[0].where)
            continue
        opacity = any(mark(row, "Target") == 1 for row in rows)
        if opacity != (said.cells["class"] == "Lung Opacity"):
            raise ManifestError(f"{rows[0].where}: Target and {said.where} disagree")
        marks = table.marks([said.cells["class"]], said.where, passed)
        yield Film(
            path=path,
            source="rsna",
            patient_id=name,
            image_id=name,
            marks=marks,
            view=header.view,
            age_years=header.age_years,
            sex=header.sex,
            boxes=tuple(_rsna_boxes(rows, marks)),
            size=header.size,
        )


def _rsna_boxes(rows: list[Record], marks: Marks) -> Iterator[Box]:
    for row in rows:
        sides = [number(row, name) for name in ("x", "y", "width", "height")]
        if mark(row, "Target") == 1:
            if None in sides:
                raise ManifestError(f"{row.where}: the box is not whole")
            x, y, width, height = (value / _SIDE for value in sides if value is not None)
            yield from (Box(label, x, y, width, height) for label in sorted(marks.positive))


def read_siim(
    folder: Path, table: LabelTable, passed: Passed, *, own_split: bool
) -> Iterator[Film]:
    """Yield the films of ``train-rle.csv``; an outline becomes the box around it."""
    del own_split
    outlines: dict[str, list[Record]] = defaultdict(list)
    for row in records(require(folder, "train-rle.csv"), ("ImageId", "EncodedPixels")):
        outlines[row.cells["ImageId"]].append(row)
    pictures = pictures_by_name(folder, (".dcm",))
    (label,) = table.scope
    for name, rows in outlines.items():
        path = pictures.get(f"{name}.dcm")
        header = None if path is None else header_of(path)
        if path is None or header is None:
            reason = "the picture is not in the folder" if path is None else "the file is no DICOM"
            passed.leave_out(reason, rows[0].where)
            continue
        codes = [row for row in rows if row.cells["EncodedPixels"] != "-1"]
        found = [box for row in codes if (box := _around(row, label)) is not None]
        own = frozenset({label})
        yield Film(
            path=path,
            source="siim",
            patient_id=header.patient_id or name,
            image_id=name,
            marks=Marks(positive=own) if codes else Marks(negative=own),
            view=header.view,
            age_years=header.age_years,
            sex=header.sex,
            boxes=tuple(found),
            size=header.size,
        )


def _around(row: Record, label: str) -> Box | None:
    """Return the box around an outline: pairs of a gap and a length, down the columns."""
    try:
        numbers = [int(word) for word in row.cells["EncodedPixels"].split()]
    except ValueError as error:
        raise ManifestError(f"{row.where}: EncodedPixels holds no whole numbers") from error
    if not numbers or len(numbers) % 2:
        raise ManifestError(f"{row.where}: EncodedPixels is no list of pairs")
    columns, tops, bottoms, place = [], [], [], 0
    for gap, length in zip(numbers[::2], numbers[1::2], strict=True):
        place += gap
        first, last = place, place + length - 1
        columns += [first // _SIDE, last // _SIDE]
        whole = first // _SIDE != last // _SIDE
        tops.append(0 if whole else first % _SIDE)
        bottoms.append(_SIDE - 1 if whole else last % _SIDE)
        place += length
    if place > _SIDE * _SIDE:
        raise ManifestError(f"{row.where}: EncodedPixels runs out of the picture")
    corners = (min(columns), min(tops), max(columns) + 1, max(bottoms) + 1)
    return box_of_corners(label, corners, (_SIDE, _SIDE))
