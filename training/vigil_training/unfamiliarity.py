"""How unlike the training films a picture is, as constants of the graph, and how well that works.

The distance is the cosine distance of an embedding to the nearest of a few hundred directions that
stand for the training films (spherical k-means). Chosen by measurement against Mahalanobis
distances: see ``docs/decisions/unfamiliarity.md``.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from vigil.bundle import UnfamiliaritySpec
from vigil.errors import BundleError, ConfigurationError, ImageRefused
from vigil.image_file import image_format, read_image
from vigil.preprocess import least_side_of
from vigil.reading import read_radiograph
from vigil.triager import Triager
from vigil_training.manifest import GateRow, ManifestRow
from vigil_training.split import Side, side_of_row
from vigil_training.statistics import auroc

CODES = 256
"""Directions that stand for the training films."""

NOTICED_FILMS = 0.01
"""Validation films of a source over the notice, at most."""

REFUSED_FILMS = 0.001
MARGIN = 1.2
"""The refusal lies this much further than all but ``REFUSED_FILMS`` of the validation films."""

_LEAST_FILMS = 50
"""A source with fewer validation films has no quantile of its own."""

_ITERATIONS = 25
_OWN, _OTHER, _NON_CHEST = "source learnt from", "other source", "not a chest film"
_MANNERS = ("inverted", "turned 90°", "turned 180°", "mirrored")


class Unfamiliarity(nn.Module):
    """Cosine distance, 0 to 2, of each embedding to the nearest of the training films' codes."""

    codes: Tensor

    def __init__(self, codes: NDArray[np.floating]) -> None:
        super().__init__()
        self.register_buffer("codes", torch.from_numpy(codes.astype(np.float32)))

    def forward(self, embedding: Tensor) -> Tensor:
        """Return (N,) of (N, C) embeddings."""
        directions = nn.functional.normalize(embedding, dim=1)
        return 1 - (directions @ self.codes.T).amax(1)


class Fitted(NamedTuple):
    """What an export adds to the graph, and the limits for ``bundle.json``."""

    module: Unfamiliarity
    spec: UnfamiliaritySpec


def fit(
    training: NDArray[np.floating],
    validation: NDArray[np.floating],
    validation_sources: Sequence[str],
    *,
    codes: int = CODES,
    seed: int = 0,
) -> Fitted:
    """Learn what the training films look like, and where their likeness ends.

    Parameters
    ----------
    training
        (n, C) embeddings of chest films on the training side.
    validation
        (m, C) embeddings of chest films on the validation side: they choose the limits. The notice
        is the distance that at most 1 % of any source's films exceed; the refusal lies a fifth
        further than all but 0.1 % of all films.
    validation_sources
        (m,) the source of each.
    codes
        How many directions stand for the training films.
    seed
        Of their first choice.

    Raises
    ------
    ConfigurationError
        If a side has no films.
    """
    if not len(training) or not len(validation):
        raise ConfigurationError(
            f"{len(training)} training and {len(validation)} validation films: "
            "expected some of each, to tell how unlike them a picture is"
        )
    module = Unfamiliarity(_directions(training, min(codes, len(training)), seed)).eval()
    with torch.no_grad():
        distances = module(torch.from_numpy(validation.astype(np.float32))).double().numpy()
    names = np.asarray(validation_sources)
    parts = [distances[names == name] for name in np.unique(names)]
    large = [part for part in parts if part.size >= _LEAST_FILMS] or [distances]
    notice = max(_exceeded_by(part, NOTICED_FILMS) for part in large)
    refuse = max(notice, MARGIN * _exceeded_by(distances, REFUSED_FILMS))
    return Fitted(module, UnfamiliaritySpec(notice=notice, refuse=refuse))


def _exceeded_by(distances: NDArray[np.float64], share: float) -> float:
    """Return the least distance of a film that at most a share of the films exceed."""
    return float(np.quantile(distances, 1 - share, method="higher"))


def _directions(embeddings: NDArray[np.floating], count: int, seed: int) -> NDArray[np.float32]:
    """Return (count, C) unit directions: spherical k-means."""
    films = embeddings.astype(np.float32)
    films = films / np.maximum(np.linalg.norm(films, axis=1, keepdims=True), 1e-12)
    chosen = np.random.default_rng(seed).choice(len(films), count, replace=False)
    directions: NDArray[np.float32] = films[chosen]
    for _ in range(_ITERATIONS):
        nearest = (films @ directions.T).argmax(1)
        sums = np.zeros_like(directions)
        np.add.at(sums, nearest, films)
        lengths = np.linalg.norm(sums, axis=1, keepdims=True)
        # A direction that no film is nearest to stays where it is.
        directions = np.where(lengths > 0, sums / np.maximum(lengths, 1e-12), directions)
    return directions


class UnfamiliarityRow(BaseModel):
    """How far one kind of picture lies, and what the bundle's limits make of it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    group: str
    kind: str
    pictures: int
    auroc: float | None
    """Against all validation films of the sources that were learnt from; None for these."""
    median: float
    noticed: int
    """Over the notice, the refused ones included."""
    refused: int


class UnfamiliarityFigures(BaseModel):
    """How well the distance tells pictures that the network never learnt from those it did."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    notice: float
    refuse: float
    films: int
    rows: tuple[UnfamiliarityRow, ...]

    def card_lines(self) -> tuple[str, ...]:
        """Return the model card's lines."""
        return (
            f"The distance of a picture from the films that were learnt from; a result says so "
            f"over {self.notice:.3f}, and over {self.refuse:.3f} the picture is not analysed. The "
            f"{self.films} films of the sources that were learnt from are the validation films "
            "that chose these limits. Measured before the gate's other checks, which refuse most "
            "of what is no chest film by themselves. AUROC: against those films.",
            "",
            "| shown | kind | pictures | AUROC | median distance | noticed | refused |",
            "|---|---|---|---|---|---|---|",
            *(
                f"| {row.group} | {row.kind} | {row.pictures} "
                f"| {'–' if row.auroc is None else f'{row.auroc:.3f}'} | {row.median:.3f} "
                f"| {row.noticed} ({row.noticed / row.pictures:.1%}) "
                f"| {row.refused} ({row.refused / row.pictures:.1%}) |"
                for row in self.rows
            ),
        )


def measure_unfamiliarity(
    bundle: Path,
    films: Sequence[ManifestRow],
    others: Sequence[GateRow],
    *,
    split: Side | None,
    limit: int = 100,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> UnfamiliarityFigures:
    """Measure the distance of films, changed films and other pictures in the served network.

    Parameters
    ----------
    films
        Chest films. Sources that the bundle did not learn from count with all their films.
    others
        Pictures that are no chest film.
    split
        The side of the bundle's own split to keep; None for all.
    limit
        At most so many films, spread evenly, are shown inverted, turned and mirrored.

    Raises
    ------
    BundleError
        If the bundle's graph tells no distance.
    ConfigurationError
        If no film of a source that was learnt from is left.
    """
    triager = Triager.load(bundle)
    spec = triager.bundle.manifest.unfamiliarity
    if spec is None:
        raise BundleError(f"{bundle}: the bundle does not say how unfamiliar a picture is")
    training = triager.bundle.manifest.training
    learnt = {name.strip() for name in str(training.get("sources", "")).split(",")}
    own = [row for row in films if row.source in learnt]
    foreign = [row for row in films if row.source not in learnt]
    if split is not None:
        seed, fraction = int(training["split_seed"]), float(training["validation_fraction"])
        own = [row for row in own if side_of_row(row, seed, fraction) == split]
        others = [row for row in others if side_of_row(row, seed, fraction) == split]
    if not own:
        raise ConfigurationError("the manifest holds no film of a source that was learnt from")
    changed = set(np.linspace(0, len(own) - 1, min(limit, len(own))).astype(int).tolist())
    total = len(own) + len(foreign) + len(others)
    found: dict[tuple[str, str], list[float]] = defaultdict(list)

    least = least_side_of(triager.bundle.preprocessing)

    def tell(
        group: str, kind: str, pixels: NDArray[np.uint16], shape: tuple[int, int] | None = None
    ) -> None:
        distance = triager.predict(pixels, shape).unfamiliarity
        if distance is not None:  # it is not: the manifest says that the graph tells it
            found[group, kind].append(distance)

    for place, row in enumerate(own):
        film = read_radiograph(row.path, least=least)
        tell(_OWN, row.source, film.pixels, film.shape)
        for manner in _MANNERS if place in changed else ():
            shape = film.shape[::-1] if manner == "turned 90°" else film.shape
            tell("chest film", manner, _shown(film.pixels, manner), shape)
        progress(place + 1, total)
    for place, row in enumerate(foreign, len(own)):
        film = read_radiograph(row.path, least=least)
        tell(_OTHER, row.source, film.pixels, film.shape)
        progress(place + 1, total)
    for place, other in enumerate(others, len(own) + len(foreign)):
        pixels_of_other = _pixels(other.path)
        if pixels_of_other is not None:
            tell(_NON_CHEST, other.kind, pixels_of_other)
        progress(place + 1, total)
    reference = np.concatenate([found[key] for key in found if key[0] == _OWN])
    rows = tuple(
        _row(group, kind, np.asarray(distances), None if group == _OWN else reference, spec)
        for (group, kind), distances in sorted(found.items())
    )
    return UnfamiliarityFigures(
        notice=spec.notice, refuse=spec.refuse, films=reference.size, rows=rows
    )


def _pixels(path: Path) -> NDArray[np.uint16] | None:
    """Read a picture however small: the gate's own limit on its size is not what is measured."""
    try:
        file_format = image_format(path)
        if file_format is not None:
            return read_image(path, file_format).pixels
        return read_radiograph(path).pixels
    except ImageRefused:
        return None


def _shown(pixels: NDArray[np.uint16], manner: str) -> NDArray[np.uint16]:
    if manner == "inverted":
        return np.uint16(65535) - pixels
    if manner == "mirrored":
        return np.ascontiguousarray(pixels[:, ::-1])
    return np.ascontiguousarray(np.rot90(pixels, 1 if manner == "turned 90°" else 2))


def _row(
    group: str,
    kind: str,
    distances: NDArray[np.float64],
    reference: NDArray[np.float64] | None,
    spec: UnfamiliaritySpec,
) -> UnfamiliarityRow:
    area = None
    if reference is not None:
        truth = np.repeat([False, True], [reference.size, distances.size])
        area = auroc(truth, np.concatenate([reference, distances]))
    return UnfamiliarityRow(
        group=group,
        kind=kind,
        pictures=distances.size,
        auroc=area,
        median=float(np.median(distances)),
        noticed=int((distances > spec.notice).sum()),
        refused=int((distances > spec.refuse).sum()),
    )
