"""The pictures that calibrate an 8-bit network, and those that accept or refuse it."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vigil.bundle import Bundle
from vigil.errors import ConfigurationError
from vigil.preprocess import letterbox_of, to_model_input
from vigil_training.augment import Corruption, apply_corruption
from vigil_training.dataset import read_pixels
from vigil_training.manifest import ManifestRow
from vigil_training.split import side_of_row

_CORRUPTED_FILMS = 100
_OPEN_SPLIT_SEED = 0
_OPEN_VALIDATION = 0.2


class Films(NamedTuple):
    """Pictures after ``to_model_input``: (n, S, S) float16, and the row of each."""

    rows: tuple[ManifestRow, ...]
    pictures: NDArray[np.float16]


def sides_of(
    bundle: Bundle, rows: Sequence[ManifestRow]
) -> tuple[list[ManifestRow], list[ManifestRow]]:
    """Return the rows that calibrate an 8-bit network, and those that accept or refuse it.

    They are those of the bundle's own sources on its training and on its validation side. An open
    model learnt from none of them, as far as anybody can tell: there it is a split of all.

    Raises
    ------
    ConfigurationError
        If the bundle does not record its split, a side has no picture, or no label is known.
    """
    training = bundle.manifest.training
    seed, fraction = training.get("split_seed"), training.get("validation_fraction")
    named = {name.strip() for name in str(training.get("sources", "")).split(",")}
    if "open_model" in training:
        seed, fraction, named = _OPEN_SPLIT_SEED, _OPEN_VALIDATION, {row.source for row in rows}
    if not isinstance(seed, int) or not isinstance(fraction, float):
        raise ConfigurationError(
            f"the bundle {bundle.id} does not record how its patients were split: no picture is "
            "known to be a training picture"
        )
    sides: dict[str, list[ManifestRow]] = {"train": [], "val": [], "test": []}
    for row in rows:
        if row.source in named and row.view != "LATERAL":
            sides[side_of_row(row, seed, fraction)].append(row)
    for side in ("train", "val"):
        if not sides[side]:
            raise ConfigurationError(f"the manifest holds no {side} picture of {sorted(named)}")
    labels = {finding.label for finding in bundle.manifest.findings}
    if not any(labels.intersection(row.label_scope) for row in sides["val"]):
        raise ConfigurationError(
            "no validation picture knows whether a finding of the bundle is there (label_scope): "
            "what 8-bit integers would lose cannot be told"
        )
    return sides["train"], sides["val"]


def spread(rows: Sequence[ManifestRow], count: int) -> list[ManifestRow]:
    """Return as many rows of each source as of the others, as far as it has them, spread evenly."""
    sources = {row.source: [other for other in rows if other.source == row.source] for row in rows}
    chosen: list[ManifestRow] = []
    ascending = sorted(sources.values(), key=len)
    for place, own in enumerate(ascending):
        share = min(len(own), -(-(count - len(chosen)) // (len(ascending) - place)))
        chosen += [own[i] for i in np.linspace(0, len(own) - 1, share).round().astype(int)]
    return chosen


def read_films(bundle: Bundle, rows: Sequence[ManifestRow]) -> Films:
    """Read pictures as the bundle's network sees them."""
    size = bundle.preprocessing.size
    pictures = np.empty((len(rows), size, size), np.float16)
    for picture, row in zip(pictures, rows, strict=True):
        picture[:] = to_model_input(read_pixels(row.path), bundle.preprocessing)[0, 0]
    return Films(tuple(rows), pictures)


def corrupted(bundle: Bundle, films: Films) -> NDArray[np.float16]:
    """Return films inverted, turned and mirrored in turn: what the gate must catch."""
    kinds = (
        Corruption(inverted=True),
        *(Corruption(quarter_turns=n) for n in (1, 2, 3)),
        Corruption(mirrored=True),
    )
    count = min(len(films.rows), _CORRUPTED_FILMS)
    size, made = bundle.preprocessing.size, []
    for place, index in enumerate(np.linspace(0, len(films.rows) - 1, count).astype(int)):
        rows, columns = read_pixels(films.rows[index].path).shape
        box = letterbox_of(rows, columns, size)
        picture = films.pictures[index].astype(np.float32)
        made.append(apply_corruption(picture, box, kinds[place % len(kinds)]).astype(np.float16))
    return np.stack(made)
