"""Open-I (Indiana University): reports as XML with MeSH words, PNG or DICOM.

The reports do not say which film is frontal. That is taken from ``indiana_projections.csv``, which
the set's copy on Kaggle brings, or from DICOM headers; without either the set is refused, since
half of its films are lateral.
"""

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

from vigil.errors import ManifestError
from vigil_training.data_sets.film import Film, Marks, Passed
from vigil_training.data_sets.pictures import header_of, pictures_by_name
from vigil_training.data_sets.records import find, records
from vigil_training.data_sets.table import LabelTable

_PREFIX = re.compile(r"^CXR")
_VIEWS = {"frontal": "FRONTAL", "lateral": "LATERAL"}
_UNSURE = frozenset({"no indexing", "technical quality of image unsatisfactory"})
"""Words that leave every label unknown."""


def read(folder: Path, table: LabelTable, passed: Passed, *, own_split: bool) -> Iterator[Film]:
    """Yield the films; the set has no official split, and a report stands for a patient."""
    del own_split
    reports = sorted(folder.rglob("*.xml"))
    if not reports:
        raise ManifestError(f"{folder}: expected reports as XML, such as ecgen-radiology/1.xml")
    pictures = {
        _film_id(name): path
        for name, path in pictures_by_name(folder, (".png", ".dcm", ".jpg")).items()
    }
    views = _views(folder)
    if not views and not any(path.suffix == ".dcm" for path in pictures.values()):
        raise ManifestError(
            f"{folder}: nothing says which films are frontal; add indiana_projections.csv or take "
            "the DICOM files"
        )
    for report in reports:
        yield from _films(report, pictures, views, table, passed)


def _films(
    report: Path,
    pictures: dict[str, Path],
    views: dict[str, str],
    table: LabelTable,
    passed: Passed,
) -> Iterator[Film]:
    try:
        root = ET.fromstring(report.read_bytes())  # noqa: S314 – expat of today expands no bombs
    except (ET.ParseError, OSError):
        passed.leave_out("the report cannot be read", report.name)
        return
    identity = root.find("uId")
    patient = "" if identity is None else identity.get("id", "")
    # "Opacity/lung/base/left": the word before the first stroke is what was seen.
    words = [(node.text or "").strip() for node in root.findall(".//MeSH/major")]
    for image in root.findall(".//parentImage"):
        name = image.get("id", "")
        path = pictures.get(_film_id(name))
        if path is None:
            passed.leave_out("the picture is not in the folder", f"{report.name}, {name}")
            continue
        header = header_of(path) if path.suffix == ".dcm" else None
        view = views.get(_film_id(name)) or (header.view if header else "UNKNOWN")
        yield Film(
            path=path,
            source="open-i",
            patient_id=patient or report.stem,
            image_id=name,
            marks=_marks(words, report.name, table, passed),
            view=view,
            age_years=header.age_years if header else None,
            sex=header.sex if header else "",
        )


def _marks(words: list[str], where: str, table: LabelTable, passed: Passed) -> Marks:
    heads = [word.partition("/")[0].strip() for word in words]
    if not heads or any(head.casefold() in _UNSURE for head in heads):
        return Marks()
    # "Thickening/pleura" and "Opacity/lung" need the second part; the rest does not.
    named = [
        f"{head}/{word.split('/')[1]}"
        if "/" in word and table.of(f"{head}/{word.split('/')[1]}")
        else head
        for head, word in zip(heads, words, strict=True)
    ]
    return table.marks(named, where, passed)


def _views(folder: Path) -> dict[str, str]:
    path = find(folder, "indiana_projections.csv")
    if path is None:
        return {}
    rows = records(path, ("filename", "projection"))
    return {
        _film_id(row.cells["filename"]): _VIEWS.get(row.cells["projection"].lower(), "UNKNOWN")
        for row in rows
    }


def _film_id(name: str) -> str:
    """Return what the set's names of one film share.

    The reports say ``CXR1_1_IM-0001-3001``, Kaggle ``1_IM-0001-3001.dcm.png``; DICOM files are
    called ``1_IM-0001-3001.dcm``.
    """
    stem = name
    for suffix in (".png", ".jpg", ".dcm"):
        stem = stem.removesuffix(suffix)
    parts = _PREFIX.sub("", stem).split("_")
    return "_".join(parts[-2:])
