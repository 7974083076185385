"""CheXpert and MIMIC-CXR-JPG, whose labels a program took from reports: 1, 0, −1 or nothing."""

import re
from collections.abc import Iterator
from pathlib import Path

from vigil.errors import ManifestError
from vigil_training.data_sets.film import Film, Passed
from vigil_training.data_sets.records import Record, age, find, mark, number, records, require
from vigil_training.data_sets.table import LabelTable

_PARTS = re.compile(r"(train|valid|test)/(patient\d+)/(study\d+)/(view\w+)\.\w+$")
_SPLIT = {"train": "train", "valid": "val", "test": "test"}
_MIMIC_SPLIT = {"train": "train", "validate": "val", "test": "test"}
_SEX = {"male": "M", "female": "F"}
_FRONTAL = frozenset({"PA", "AP"})
_UNKNOWN_VIEW = frozenset({"", "UNKNOWN"})


def read_chexpert(
    folder: Path, table: LabelTable, passed: Passed, *, own_split: bool
) -> Iterator[Film]:
    """Yield the films of ``train.csv`` and ``valid.csv`` (and ``test.csv`` where there is one)."""
    found = [
        path for name in ("train.csv", "valid.csv", "test.csv") if (path := find(folder, name))
    ]
    if not found:
        require(folder, "train.csv", "valid.csv")
    for path in found:
        for row in records(path, ("Path", "Sex", "Age", "Frontal/Lateral", "AP/PA")):
            if (parts := _PARTS.search(row.cells["Path"])) is None:
                raise ManifestError(
                    f"{row.where}: Path is {row.cells['Path']}, expected "
                    "…/train/patient00001/study1/view1_frontal.jpg"
                )
            picture = folder / parts[0]
            if not picture.is_file():
                passed.leave_out("the picture is not in the folder", row.where)
                continue
            years = age(number(row, "Age"))
            yield Film(
                path=picture,
                source="chexpert",
                patient_id=parts[2],
                image_id=f"{parts[2]}-{parts[3]}-{parts[4]}",
                marks=table.marks_of_cells(_cells(row, table, passed)),
                view=_view(row),
                age_years=years or None,  # 0 is "not known" in this set
                sex=_SEX.get(row.cells["Sex"].lower(), ""),
                split="" if own_split else _SPLIT[parts[1]],
            )


_NOT_LABELS = frozenset(
    {"Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", "subject_id", "study_id"}
)


def _cells(row: Record, table: LabelTable, passed: Passed) -> dict[str, float | None]:
    """Return the marks of the columns that the table knows, and note those that it does not."""
    known = {word.casefold() for word in (*table.labels, *table.healthy)}
    unused = {word.casefold() for word in table.not_used}
    cells = {}
    for column in row.cells:
        if column.casefold() in known:
            cells[column] = mark(row, column)
        elif column and column not in _NOT_LABELS and column.casefold() not in unused:
            passed.word(column, row.where)
    missing = sorted(word for word in table.labels if word not in row.cells)
    if missing:
        raise ManifestError(f"{row.where}: column missing: {', '.join(missing)}")
    return cells


def _view(row: Record) -> str:
    if row.cells["Frontal/Lateral"].lower() != "frontal":
        return "LATERAL"
    view = row.cells["AP/PA"].upper()
    return view if view in _FRONTAL else "FRONTAL"


def read_mimic(
    folder: Path, table: LabelTable, passed: Passed, *, own_split: bool
) -> Iterator[Film]:
    """Yield the films of MIMIC-CXR-JPG: labels are of studies, views and pictures of films."""
    labels = {
        (row.cells["subject_id"], row.cells["study_id"]): row
        for row in records(
            require(folder, "mimic-cxr-2.0.0-chexpert.csv"), ("subject_id", "study_id")
        )
    }
    splits = {}
    if not own_split:
        path = require(
            folder,
            "mimic-cxr-2.0.0-split.csv",
            why="it holds the official split; fetch it, or say --own-split",
        )
        splits = {row.cells["dicom_id"]: row for row in records(path, ("dicom_id", "split"))}
    metadata = require(folder, "mimic-cxr-2.0.0-metadata.csv")
    for row in records(metadata, ("dicom_id", "subject_id", "study_id", "ViewPosition")):
        cells = row.cells
        subject, study, image = cells["subject_id"], cells["study_id"], cells["dicom_id"]
        picture = (
            folder / "files" / f"p{subject[:2]}" / f"p{subject}" / f"s{study}" / f"{image}.jpg"
        )
        if not picture.is_file():
            passed.leave_out("the picture is not in the folder", row.where)
            continue
        if (said := labels.get((subject, study))) is None:
            passed.leave_out("the study has no labels", row.where)
            continue
        view = cells["ViewPosition"].upper()
        yield Film(
            path=picture,
            source="mimic-cxr",
            patient_id=subject,
            image_id=image,
            marks=table.marks_of_cells(_cells(said, table, passed)),
            view=view if view in _FRONTAL else "UNKNOWN" if view in _UNKNOWN_VIEW else "LATERAL",
            split=_mimic_split(splits, image, row) if splits else "",
        )


def _mimic_split(splits: dict[str, Record], image: str, row: Record) -> str:
    said = splits.get(image)
    if said is None or said.cells["split"] not in _MIMIC_SPLIT:
        found = "nothing" if said is None else said.cells["split"]
        raise ManifestError(f"{row.where}: the official split says {found} of {image}")
    return _MIMIC_SPLIT[said.cells["split"]]
