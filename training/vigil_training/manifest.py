"""Reads manifests of labelled radiographs, and refuses what must not be trained on.

A manifest is a CSV file beside its pictures. ``label_scope`` is what makes sets of different
origin go together: a label that is not in a row's scope is unknown there, not negative.
"""

import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from vigil.errors import ManifestError
from vigil.findings import COVID_19, LABELS, NO_FINDING

COLUMNS = (
    "path",
    "source",
    "patient_id",
    "image_id",
    "view",
    "age",
    "sex",
    "labels",
    "label_scope",
)
GATE_COLUMNS = ("path", "class", "source", "image_id")
KNOWN_LABELS = frozenset({*LABELS, NO_FINDING, COVID_19})
VIEWS = frozenset({"PA", "AP", "FRONTAL", "LATERAL", "UNKNOWN"})
_SPLITS = frozenset({"", "train", "val", "test"})
_SHOWN = 5
_OWN_TABLE = (
    "`vigil data import dicom` makes a manifest of a folder and table of your own (docs/data.md)"
)


@dataclass(frozen=True)
class Box:
    """Where a radiologist saw a label, in fractions of the picture's width and height."""

    label: str
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class ManifestRow:
    """One chest film and what is known about it.

    Attributes
    ----------
    number
        Line in the manifest's file; the header is line 1.
    path
        The picture's file.
    labels, label_scope
        What was found, and what was looked for.
    mask, heart_mask
        A person's outline of the lungs and of the heart, 0 outside.
    cardiothoracic_ratio
        The heart's greatest width over the chest's, as a person measured it.
    split
        ``train``, ``val`` or ``test`` where the manifest fixes it, else empty.
    """

    number: int
    path: Path
    source: str
    patient_id: str
    image_id: str
    view: str
    age_years: float | None
    sex: str
    labels: frozenset[str]
    label_scope: frozenset[str]
    boxes: tuple[Box, ...] = ()
    mask: Path | None = None
    heart_mask: Path | None = None
    cardiothoracic_ratio: float | None = None
    split: str = ""


@dataclass(frozen=True)
class GateRow:
    """One picture that is no upright frontal chest film."""

    number: int
    path: Path
    kind: str
    source: str
    image_id: str


def read_manifest(path: Path) -> tuple[ManifestRow, ...]:
    """Read a manifest of chest films.

    Parameters
    ----------
    path
        The CSV file; the pictures' paths are relative to its folder. The columns ``boxes``,
        ``mask``, ``heart_mask``, ``ctr`` and ``split`` are optional, further ones are ignored.

    Raises
    ------
    ManifestError
        If a column or a file is missing, a label is unknown or positive outside its row's scope,
        an age, a ratio or a box is absurd, or a patient or picture stands in two splits. The
        message names the rows, at most five, and says what to do.
    """
    rows: list[ManifestRow] = []
    wrong: list[str] = []
    for number, cells in _records(path, COLUMNS):
        try:
            rows.append(_chest_row(path, number, cells))
        except ManifestError as error:
            wrong.append(str(error))
    if not rows and not wrong:
        raise ManifestError(f"{path}: holds no rows")
    wrong += _not_unique(path, rows)
    if wrong:
        raise ManifestError(several(wrong))
    return tuple(rows)


def several(errors: Sequence[str]) -> str:
    """Return the first five of many sentences, a line each, and how many more there are."""
    more = len(errors) - _SHOWN
    return "\n".join([*errors[:_SHOWN], *([f"and {more} more rows"] if more > 0 else [])])


def read_gate_manifest(path: Path) -> tuple[GateRow, ...]:
    """Read a manifest of pictures that are no chest films; errors as in :func:`read_manifest`."""
    rows = []
    for number, cells in _records(path, GATE_COLUMNS):
        where = f"{path}, row {number}"
        picture = _existing_file(where, path.parent, cells["path"], "path")
        rows.append(GateRow(number, picture, cells["class"], cells["source"], cells["image_id"]))
    if not rows:
        raise ManifestError(f"{path}: holds no rows")
    return tuple(rows)


def _records(path: Path, required: tuple[str, ...]) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield each record with the line it ends on (a quoted field may span lines)."""
    try:
        # Spreadsheets begin their CSV files with a byte order mark.
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            missing = [name for name in required if name not in (reader.fieldnames or ())]
            if missing and len(reader.fieldnames or ()) == 1:
                _refuse_other_separators(path, (reader.fieldnames or ("",))[0])
            if missing:
                raise ManifestError(
                    f"{path}: column missing: {', '.join(missing)}; found "
                    f"{', '.join(reader.fieldnames or ()) or 'none'}. {_OWN_TABLE}"
                )
            for cells in reader:
                number = reader.line_num
                if None in cells or None in cells.values():
                    raise ManifestError(
                        f"{path}, row {number}: expected {len(reader.fieldnames or ())} columns"
                    )
                yield number, {name: value.strip() for name, value in cells.items()}
    except OSError as error:
        raise ManifestError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise ManifestError(_not_utf8(path)) from error
    except csv.Error as error:
        raise ManifestError(f"{path}: is not a CSV file in UTF-8: {error}") from error


def _refuse_other_separators(path: Path, header: str) -> None:
    """Spreadsheets in Vietnamese or French write semicolons where a CSV file has commas."""
    for mark, name in ((";", "semicolons"), ("\t", "tabs")):
        if mark in header:
            raise ManifestError(
                f"{path}: its columns are separated by {name}, expected commas; save the table as "
                "CSV (UTF-8) with commas"
            )


def _not_utf8(path: Path) -> str:
    """Return which lines are in another encoding; a file may mix several."""
    wrong = []
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        try:
            line.decode("utf-8")
        except UnicodeDecodeError:
            wrong.append(str(number))
    more = f" and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
    return (
        f"{path}: is not a CSV file in UTF-8: line {', '.join(wrong[:_SHOWN])}{more} of it cannot "
        "be read so; save the table as CSV in UTF-8, and mend the names that a program mangled"
    )


def _chest_row(manifest: Path, number: int, cells: dict[str, str]) -> ManifestRow:
    where = f"{manifest}, row {number}"
    folder = manifest.parent
    for name in ("source", "patient_id", "image_id"):
        if not cells[name]:
            raise ManifestError(f"{where}: {name} is empty")
    labels, scope = _labels(where, cells["labels"]), _labels(where, cells["label_scope"])
    outside = sorted(labels - scope)
    if outside:
        raise ManifestError(f"{where}: label {outside[0]} is positive but not in label_scope")
    if NO_FINDING in labels and len(labels) > 1:
        raise ManifestError(f"{where}: {NO_FINDING} stands beside another label")
    view = cells["view"].upper() or "UNKNOWN"
    if view not in VIEWS:
        raise ManifestError(f"{where}: view is {cells['view']}, expected one of {sorted(VIEWS)}")
    split = cells.get("split", "")
    if split not in _SPLITS:
        raise ManifestError(f"{where}: split is {split}, expected train, val, test or nothing")
    mask, heart_mask = cells.get("mask", ""), cells.get("heart_mask", "")
    return ManifestRow(
        number=number,
        path=_existing_file(where, folder, cells["path"], "path"),
        source=cells["source"],
        patient_id=cells["patient_id"],
        image_id=cells["image_id"],
        view=view,
        age_years=_age(where, cells["age"]),
        sex=cells["sex"],
        labels=labels,
        label_scope=scope,
        boxes=_boxes(where, cells.get("boxes", "")),
        mask=_existing_file(where, folder, mask, "mask") if mask else None,
        heart_mask=_existing_file(where, folder, heart_mask, "heart_mask") if heart_mask else None,
        cardiothoracic_ratio=_ratio(where, cells.get("ctr", "")),
        split=split,
    )


def _existing_file(where: str, folder: Path, name: str, column: str) -> Path:
    if not name:
        raise ManifestError(f"{where}: {column} is empty")
    path = folder / name
    if not path.is_file():
        raise ManifestError(f"{where}: the file {name} is missing; fetch it, or take the row out")
    return path


def _labels(where: str, cell: str) -> frozenset[str]:
    labels = frozenset(part.strip() for part in cell.split("|") if part.strip())
    unknown = sorted(labels - KNOWN_LABELS)
    if unknown:
        near = get_close_matches(unknown[0], KNOWN_LABELS, 1)
        hint = (
            f"did you mean {near[0]}?" if near else f"known are {', '.join(sorted(KNOWN_LABELS))}"
        )
        raise ManifestError(f"{where}: unknown label {unknown[0]}; {hint}")
    return labels


def _age(where: str, cell: str) -> float | None:
    if not cell:
        return None
    try:
        age = float(cell)
    except ValueError:
        age = -1.0
    if not 0 <= age <= 125:
        raise ManifestError(f"{where}: age is {cell}, expected 0 to 125 years or nothing")
    return age


def _ratio(where: str, cell: str) -> float | None:
    if not cell:
        return None
    try:
        ratio = float(cell)
    except ValueError:
        ratio = -1.0
    if not 0 < ratio < 1:
        raise ManifestError(f"{where}: ctr is {cell}, expected a ratio between 0 and 1 or nothing")
    return ratio


def _boxes(where: str, cell: str) -> tuple[Box, ...]:
    try:
        found = json.loads(cell or "[]")
        boxes = tuple(Box(b["label"], b["x"], b["y"], b["w"], b["h"]) for b in found)
    except (ValueError, TypeError, KeyError) as error:
        raise ManifestError(f"{where}: boxes are not a JSON list of label, x, y, w, h") from error
    for box in boxes:
        _labels(where, str(box.label))
        sides = (box.x, box.y, box.width, box.height)
        if not all(isinstance(side, int | float) and 0 <= side <= 1 for side in sides):
            raise ManifestError(
                f"{where}: a box of {box.label} is {sides}, expected x, y, w and h as parts of the "
                "picture's width and height, 0 to 1"
            )
        if not box.width or not box.height:
            raise ManifestError(f"{where}: a box of {box.label} is empty")
    return boxes


def _not_unique(path: Path, rows: Sequence[ManifestRow]) -> Iterator[str]:
    """Yield what is wrong with a picture that is listed twice and a patient in two splits."""
    pictures: dict[Path, int] = {}
    splits: dict[tuple[str, str], tuple[str, int]] = {}
    for row in rows:
        first = pictures.setdefault(row.path.resolve(), row.number)
        if first != row.number:
            yield (
                f"{path}, row {row.number}: the picture already stands in row {first}; "
                "keep one of the two"
            )
        split, number = splits.setdefault((row.source, row.patient_id), (row.split, row.number))
        if split != row.split:
            yield (
                f"{path}, row {row.number}: patient {row.patient_id} is in split "
                f"{row.split or '(none)'} here and in {split or '(none)'} in row {number}; "
                "give all films of a patient one split"
            )
