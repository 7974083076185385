"""PadChest: one large CSV of reports' labels, PNG of 16 bits in numbered folders."""

import ast
from collections.abc import Iterator
from pathlib import Path

from vigil_training.data_sets.film import Film, Marks, Passed
from vigil_training.data_sets.records import Record, age, number, records, require
from vigil_training.data_sets.table import LabelTable

_NAMES = (
    "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv",
    "PADCHEST_chest_x_ray_images_labels_160K.csv",
)
_VIEWS = {"PA": "PA", "AP": "AP", "AP_horizontal": "AP", "L": "LATERAL"}
_COLUMNS = ("ImageID", "ImageDir", "StudyDate_DICOM", "PatientID", "PatientBirth",
            "PatientSex_DICOM", "Projection", "MethodLabel", "Labels")  # fmt: skip
_SAYS_NOTHING = frozenset({"", "unchanged", "exclude", "suboptimal study"})
"""A report that says no more than this leaves every label unknown."""


def read(folder: Path, table: LabelTable, passed: Passed, *, own_split: bool) -> Iterator[Film]:
    """Yield the films; the set has no official split."""
    del own_split
    for row in records(require(folder, *_NAMES), _COLUMNS):
        cells = row.cells
        view = _VIEWS.get(cells["Projection"])
        if view is None:
            passed.leave_out(f"projection {cells['Projection'] or '(none)'}", row.where)
            continue
        path = next(
            (
                place
                for place in (folder / cells["ImageDir"], folder / "images", folder)
                if (place / cells["ImageID"]).is_file()
            ),
            None,
        )
        if path is None:
            passed.leave_out("the picture is not in the folder", row.where)
            continue
        marks = _marks(row, table, passed)
        if marks is None:
            continue
        yield Film(
            path=path / cells["ImageID"],
            source="padchest",
            patient_id=cells["PatientID"],
            image_id=Path(cells["ImageID"]).stem,
            marks=marks,
            view=view,
            age_years=_age(row),
            sex=cells["PatientSex_DICOM"] if cells["PatientSex_DICOM"] in ("M", "F") else "",
            notes=f"labelled by {'a physician' if cells['MethodLabel'] == 'Physician' else 'RNN'}",
        )


def _marks(row: Record, table: LabelTable, passed: Passed) -> Marks | None:
    """Return the marks of a film, None where its cell of labels cannot be read."""
    cell = row.cells["Labels"]
    try:
        words = [str(word).strip() for word in ast.literal_eval(cell or "[]")]
    except (ValueError, SyntaxError, TypeError):
        passed.leave_out("Labels is no list of words", row.where)
        return None
    if set(words) <= _SAYS_NOTHING:
        return Marks()
    return table.marks(words, row.where, passed)


def _age(row: Record) -> float | None:
    birth = number(row, "PatientBirth")
    date = row.cells["StudyDate_DICOM"]
    if birth is None or not date[:4].isdigit():
        return None
    return age(float(date[:4]) - birth)
