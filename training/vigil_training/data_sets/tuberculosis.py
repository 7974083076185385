"""Tuberculosis: TBX11K, and the two sets of the US National Library of Medicine.

TBX11K holds the films of Shenzhen and Montgomery among others: see :mod:`check`.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vigil.errors import ManifestError
from vigil_training.data_sets.film import Film, Passed
from vigil_training.data_sets.pictures import box_of_corners
from vigil_training.data_sets.records import age
from vigil_training.data_sets.table import LabelTable
from vigil_training.manifest import Box

_PARTS = (("train", "TBX11K_train.json"), ("val", "TBX11K_val.json"))
_NAME = re.compile(r"^(?:CHN|MCU)CXR_(\d+)_([01])$")
_SEX_AGE = re.compile(r"^\s*(fe)?mal\w*[\s,|]*(\d+)\s*(y|m|d)?", re.IGNORECASE)
_SEX = re.compile(r"Sex:\s*([MF])")
_AGE = re.compile(r"Age:\s*0*(\d+)\s*Y")
_YEARS = {"m": 1 / 12, "d": 1 / 365.25}


def read_tbx11k(
    folder: Path, table: LabelTable, passed: Passed, *, own_split: bool
) -> Iterator[Film]:
    """Yield the films of the training and validation parts; the test part has no public labels.

    A picture's folder (``health``, ``sick``, ``tb``) and the categories of its boxes say what it
    shows.
    """
    notes = folder / "annotations" / "json"
    present = [(split, notes / name) for split, name in _PARTS if (notes / name).is_file()]
    if not present:
        raise ManifestError(f"{notes}: expected {' and '.join(name for _, name in _PARTS)}")
    for split, path in present:
        content = _json(path)
        try:
            categories = {one["id"]: str(one["name"]) for one in content["categories"]}
            boxes: dict[int, list[tuple[str, list[float]]]] = defaultdict(list)
            for one in content["annotations"]:
                boxes[one["image_id"]].append((categories[one["category_id"]], one["bbox"]))
            images = [
                (one["id"], str(one["file_name"]), (int(one["width"]), int(one["height"])))
                for one in content["images"]
            ]
        except (KeyError, TypeError, ValueError) as error:
            raise ManifestError(f"{path}: is not in COCO's form ({error})") from error
        for number, name, size in images:
            where = f"{path.name}, image {number}"
            picture = folder / "imgs" / name
            if not picture.is_file():
                passed.leave_out("the picture is not in the folder", where)
                continue
            words = [word for word, _ in boxes[number]] or [name.partition("/")[0]]
            yield Film(
                path=picture,
                source="tbx11k",
                patient_id=picture.stem,  # the set does not say whose film it is
                image_id=picture.stem,
                marks=table.marks(words, where, passed),
                view="FRONTAL",
                boxes=tuple(_boxes(boxes[number], table, size)),
                split="" if own_split else split,
                size=size,
            )


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ManifestError(f"{path}: cannot be read as JSON") from error
    if not isinstance(content, dict):
        raise ManifestError(f"{path}: expected an object")
    return content


def _boxes(
    found: list[tuple[str, list[float]]], table: LabelTable, size: tuple[int, int]
) -> Iterator[Box]:
    for word, (x, y, width, height) in found:
        for label in table.of(word):
            box = box_of_corners(label, (x, y, x + width, y + height), size)
            if box is not None:
                yield box


def read_shenzhen(
    folder: Path, table: LabelTable, passed: Passed, *, own_split: bool
) -> Iterator[Film]:
    """Yield the films of ``CXR_png/CHNCXR_0001_0.png``; the last figure says tuberculosis."""
    del own_split
    yield from _nlm(folder, "shenzhen", table, passed)


def read_montgomery(
    folder: Path, table: LabelTable, passed: Passed, *, own_split: bool
) -> Iterator[Film]:
    """Yield the films of ``CXR_png/MCUCXR_0001_0.png``; the last figure says tuberculosis."""
    del own_split
    yield from _nlm(folder, "montgomery", table, passed)


def _nlm(folder: Path, source: str, table: LabelTable, passed: Passed) -> Iterator[Film]:
    place = folder / "CXR_png"
    if not place.is_dir():
        raise ManifestError(f"{folder}: expected the folder CXR_png")
    for path in sorted(place.glob("*.png")):
        if (name := _NAME.match(path.stem)) is None:
            passed.leave_out("the name says nothing of tuberculosis", path.name)
            continue
        reading = _reading(folder / "ClinicalReadings" / f"{path.stem}.txt")
        sex, years = _sex_and_age(reading)
        words = ["tuberculosis"] if name[2] == "1" else ["no tuberculosis"]
        if name[2] == "0" and "normal" in reading.lower():
            words = ["normal"]
        yield Film(
            path=path,
            source=source,
            patient_id=name[1],
            image_id=path.stem,
            marks=table.marks(words, path.name, passed),
            view="PA",
            age_years=age(years),
            sex=sex,
            notes=" ".join(reading.split())[:200],
        )


def _reading(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _sex_and_age(reading: str) -> tuple[str, float | None]:
    """Return what the first line says: "male 45yrs", or "Patient's Sex: F" and "Age: 027Y"."""
    if found := _SEX_AGE.match(reading):
        unit = (found[3] or "y").lower()
        return "F" if found[1] else "M", float(found[2]) * _YEARS.get(unit, 1.0)
    sex, years = _SEX.search(reading), _AGE.search(reading)
    return sex[1] if sex else "", float(years[1]) if years else None
