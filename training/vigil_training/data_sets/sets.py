"""Which sets can be read, by the name that ``vigil data import`` takes."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from vigil.errors import ConfigurationError, ManifestError
from vigil_training.data_sets import (
    challenges,
    chest_xray14,
    chexpert,
    open_i,
    own,
    padchest,
    tuberculosis,
    vindr,
)
from vigil_training.data_sets.film import Film, Passed
from vigil_training.data_sets.table import LabelTable, load_table

_FROM_NIH = "the challenges' films are NIH's under other names"
_IN_TBX11K = "TBX11K holds the films of Shenzhen and Montgomery"
OVERLAPS = (
    (("nih", "rsna"), _FROM_NIH),
    (("nih", "siim"), _FROM_NIH),
    (("rsna", "siim"), _FROM_NIH),
    (("tbx11k", "shenzhen"), _IN_TBX11K),
    (("tbx11k", "montgomery"), _IN_TBX11K),
)
"""Pairs of sources that share films, so that a split of each apart leaks between them."""


@dataclass(frozen=True)
class DataSet:
    """A set: how it is read, its table, and whether it has an official split."""

    read: Callable[..., Iterator[Film]]
    table: str
    official_split: bool


SETS = {
    "nih": DataSet(chest_xray14.read, "nih", True),
    "chexpert": DataSet(chexpert.read_chexpert, "chexpert", True),
    "mimic-cxr": DataSet(chexpert.read_mimic, "mimic-cxr", True),
    "vindr-cxr": DataSet(vindr.read_cxr, "vindr-cxr", True),
    "vindr-pcxr": DataSet(vindr.read_pcxr, "vindr-pcxr", True),
    "padchest": DataSet(padchest.read, "padchest", False),
    "rsna": DataSet(challenges.read_rsna, "rsna", False),
    "siim": DataSet(challenges.read_siim, "siim", False),
    "tbx11k": DataSet(tuberculosis.read_tbx11k, "tbx11k", True),
    "shenzhen": DataSet(tuberculosis.read_shenzhen, "shenzhen", False),
    "montgomery": DataSet(tuberculosis.read_montgomery, "montgomery", False),
    "open-i": DataSet(open_i.read, "open-i", False),
    "dicom": DataSet(own.read_dicom, "dicom", False),
    "reading-room": DataSet(own.read_export, "dicom", False),
}


@dataclass(frozen=True)
class Imported:
    """The films of a set, and what was left out or not understood."""

    films: tuple[Film, ...]
    passed: Passed
    table: LabelTable


def import_set(
    name: str,
    folder: Path,
    *,
    table: Path | None = None,
    own_split: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Imported:
    """Read a set in its published layout.

    Parameters
    ----------
    name
        One of :data:`SETS`.
    folder
        Where the set lies.
    table
        A table of labels in place of the package's.
    own_split
        Leave the official split out. The source's name then says so, so that such films are never
        mistaken for the set's official parts.
    progress
        Called with the films read; the total is not known.

    Raises
    ------
    ConfigurationError
        If there is no such set or folder, or the table cannot be read.
    ManifestError
        If the layout is not that of the set, or no film was found; the message names the row.
    """
    if name not in SETS:
        raise ConfigurationError(f"there is no set {name}, expected one of {', '.join(SETS)}")
    if not folder.is_dir():
        raise ConfigurationError(f"there is no folder {folder}")
    chosen = SETS[name]
    words = load_table(str(table) if table is not None else chosen.table)
    passed = Passed()
    films = []
    for done, film in enumerate(chosen.read(folder, words, passed, own_split=own_split), 1):
        films.append(film)
        progress(done, 0)
    if own_split and chosen.official_split:
        films = [_renamed(film) for film in films]
    if not films:
        left = "; ".join(
            f"{reason}: {len(where)}, such as {where[0]}" for reason, where in passed.films.items()
        )
        raise ManifestError(f"{folder}: no film of {name} was found ({left or 'no rows'})")
    _check_official(name, films)
    return Imported(tuple(films), passed, words)


def _renamed(film: Film) -> Film:
    from dataclasses import replace

    return replace(film, source=f"{film.source}-own-split")


def _check_official(name: str, films: list[Film]) -> None:
    """Refuse a patient in two official parts: NIH's mirror sites have shipped such lists."""
    parts: dict[tuple[str, str], tuple[str, str]] = {}
    for film in films:
        part, first = parts.setdefault((film.source, film.patient_id), (film.split, film.image_id))
        if part != film.split:
            raise ManifestError(
                f"{name}: patient {film.patient_id} is in the official {part or 'training'} part "
                f"with {first} and in {film.split or 'training'} with {film.image_id}; the lists "
                "do not belong to these files"
            )
