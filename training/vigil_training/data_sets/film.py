"""A film of a published set and what is known of it; a list of them becomes a manifest."""

import csv
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vigil.errors import ManifestError
from vigil.findings import LABELS, NO_FINDING
from vigil_training.manifest import COLUMNS, Box

WRITTEN = (*COLUMNS, "boxes", "original_width", "original_height", "split", "uncertain", "notes")
_ORDER = {label: place for place, label in enumerate((*LABELS, NO_FINDING))}


@dataclass(frozen=True)
class Marks:
    """What is known of a film: labels that are there, that are not, and that were left open.

    ``healthy`` says that the set calls the film normal, which is more than that nothing of these
    labels was found; None where the set says nothing of it.
    """

    positive: frozenset[str] = frozenset()
    negative: frozenset[str] = frozenset()
    uncertain: frozenset[str] = frozenset()
    healthy: bool | None = None

    def __post_init__(self) -> None:
        doubled = (
            self.positive & self.negative
            | self.positive & self.uncertain
            | self.negative & self.uncertain
        )
        if doubled:
            raise ValueError(f"{sorted(doubled)[0]} is marked in two ways")

    @property
    def labels(self) -> frozenset[str]:
        """The manifest's ``labels``."""
        is_normal = self.healthy and not self.positive
        return self.positive | ({NO_FINDING} if is_normal else frozenset())

    @property
    def scope(self) -> frozenset[str]:
        """The manifest's ``label_scope``."""
        known = self.positive | self.negative
        return known | ({NO_FINDING} if self.healthy is not None else frozenset())


@dataclass(frozen=True)
class Film:
    """A film of a set.

    Attributes
    ----------
    path
        The picture's file.
    patient_id
        As the set has it; sets without patients give each film one of its own.
    split
        The official one: ``train``, ``val``, ``test``, or empty where a set leaves the division of
        its training part to the user, or has no official split.
    size
        (width, height) where the set says so.
    """

    path: Path
    source: str
    patient_id: str
    image_id: str
    marks: Marks
    view: str = "UNKNOWN"
    age_years: float | None = None
    sex: str = ""
    boxes: tuple[Box, ...] = ()
    split: str = ""
    size: tuple[int, int] | None = None
    notes: str = ""


@dataclass
class Passed:
    """What a reader left out or did not understand, for the report."""

    films: dict[str, list[str]] = field(default_factory=dict)
    """Reason to where: rows or files."""
    words: dict[str, list[str]] = field(default_factory=dict)
    """Label that is not in the set's table to where it stands."""

    def leave_out(self, reason: str, where: str) -> None:
        """Note a film that is not taken."""
        self.films.setdefault(reason, []).append(where)

    def word(self, word: str, where: str) -> None:
        """Note a label that the table does not know."""
        self.words.setdefault(word, []).append(where)


def write_films(films: Sequence[Film], to: Path) -> None:
    """Write films as a manifest; pictures below its folder by relative path, else by absolute.

    Raises
    ------
    ManifestError
        If there is no film or the file cannot be written.
    """
    if not films:
        raise ManifestError(f"{to}: no film was found, so nothing is written")
    folder = to.parent.resolve()
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        with to.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, WRITTEN)
            writer.writeheader()
            for film in films:
                writer.writerow(_row(film, folder))
    except OSError as error:
        raise ManifestError(f"{to}: cannot be written ({error.strerror})") from error


def _row(film: Film, folder: Path) -> dict[str, str]:
    path = Path(os.path.abspath(film.path))  # noqa: PTH100 – resolve() would follow links
    inside = path.is_relative_to(folder)
    boxes = [
        {"label": b.label, "x": b.x, "y": b.y, "w": b.width, "h": b.height} for b in film.boxes
    ]
    width, height = film.size or ("", "")
    return {
        "path": path.relative_to(folder).as_posix() if inside else str(path),
        "source": film.source,
        "patient_id": film.patient_id,
        "image_id": film.image_id,
        "view": film.view,
        "age": "" if film.age_years is None else f"{film.age_years:g}",
        "sex": film.sex,
        "labels": _joined(film.marks.labels),
        "label_scope": _joined(film.marks.scope),
        "boxes": json.dumps(boxes),
        "original_width": str(width),
        "original_height": str(height),
        "split": film.split,
        "uncertain": _joined(film.marks.uncertain),
        "notes": film.notes,
    }


def _joined(labels: frozenset[str]) -> str:
    return "|".join(sorted(labels, key=lambda label: (_ORDER.get(label, len(_ORDER)), label)))
