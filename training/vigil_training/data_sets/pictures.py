"""Pictures of a set's folder: where they lie, and what a DICOM header says of one."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vigil.dicom import describe, read_header
from vigil.elements import text
from vigil.errors import ImageRefused, ManifestError
from vigil_training.manifest import Box


def pictures_by_name(folder: Path, suffixes: Sequence[str]) -> dict[str, Path]:
    """Return the files below a folder by name, as sets spread them over parts.

    Raises
    ------
    ManifestError
        If a name lies in two places.
    """
    found: dict[str, Path] = {}
    for place, _, names in os.walk(folder):
        for name in names:
            if not name.lower().endswith(tuple(suffixes)):
                continue
            path = Path(place) / name
            if name in found:
                raise ManifestError(f"{path}: the picture also lies at {found[name]}; keep one")
            found[name] = path
    return found


@dataclass(frozen=True)
class Header:
    """What a DICOM header says of a film; ``patient_id`` is the set's own pseudonym."""

    view: str
    age_years: float | None
    sex: str
    patient_id: str
    size: tuple[int, int]


def header_of(path: Path) -> Header | None:
    """Read a DICOM file's header, None if it is no DICOM file."""
    try:
        dataset = read_header(path)
    except ImageRefused:
        return None
    said = describe(dataset)
    return Header(
        view=said.view.value,
        age_years=said.patient_age_years,
        sex=said.patient_sex,
        patient_id=text(dataset, "PatientID"),
        size=(said.columns, said.rows),
    )


def box_of_corners(
    label: str, corners: tuple[float, float, float, float], size: tuple[int, int]
) -> Box | None:
    """Return a box of two corners in pixels as fractions, None if it holds nothing."""
    (left, top, right, bottom), (width, height) = corners, size
    if right <= left or bottom <= top or not width or not height:
        return None
    return Box(label, left / width, top / height, (right - left) / width, (bottom - top) / height)
