"""Generated chest radiographs: plausible, labelled, and nobody's.

Demo, tests, benchmarks and the smoke training run on these where no real picture may be used. The
anatomy is drawn as attenuation (soft tissue, air, bone) in *body coordinates*, in which a square
picture reaches from -1 to 1 both ways and the patient's left is at the right, then given a film's
tone, grain and marker. A seed fixes the person; the kind changes only what it names, so that a
normal picture and one with an effusion can be compared.

Nothing learnt from phantoms says anything about patients.
"""

from dataclasses import dataclass, field
from enum import StrEnum

import cv2
import numpy as np
from numpy.typing import NDArray

from vigil.phantom.anatomy import draw_frontal, draw_lateral
from vigil.phantom.canvas import Canvas, Layer

MAX_STORED_VALUE = 4095
"""Of the 12 bits stored."""


class PhantomKind(StrEnum):
    """What a phantom shows."""

    NORMAL = "normal"
    EFFUSION = "effusion"
    CARDIOMEGALY = "cardiomegaly"
    OPACITY = "opacity"
    INVERTED = "inverted"
    """White is black although the file does not say so."""
    ROTATED = "rotated"
    """Lying on its side: a quarter turn."""
    LATERAL = "lateral"


_LABELS = {
    PhantomKind.EFFUSION: ("Effusion",),
    PhantomKind.CARDIOMEGALY: ("Cardiomegaly",),
    PhantomKind.OPACITY: ("Consolidation",),
}


@dataclass(frozen=True, eq=False)
class Phantom:
    """A generated radiograph.

    Attributes
    ----------
    pixels
        (rows, columns) uint16 stored values of 12 bits for MONOCHROME2: bone is bright, except
        in an inverted phantom.
    kind
        What it shows.
    seed
        Whom it shows.
    labels
        The labels of :mod:`vigil.findings` that are true of it.
    lung_mask, heart_mask
        (rows, columns) bool; the lungs are where air would be in health, heart and great vessels
        left out. Both are empty in a lateral phantom.
    """

    pixels: NDArray[np.uint16] = field(repr=False)
    kind: PhantomKind
    seed: int
    labels: tuple[str, ...]
    lung_mask: NDArray[np.bool_] = field(repr=False)
    heart_mask: NDArray[np.bool_] = field(repr=False)


def make_phantom(
    seed: int, kind: PhantomKind | str = PhantomKind.NORMAL, size: tuple[int, int] = (1024, 1024)
) -> Phantom:
    """Draw one phantom; the same arguments give the same pixels.

    Parameters
    ----------
    seed
        The person.
    kind
        What it shows.
    size
        (rows, columns) of the picture.
    """
    kind = PhantomKind(kind)
    rows, columns = size
    turned = kind is PhantomKind.ROTATED
    canvas = Canvas(seed, (columns, rows) if turned else size)
    if kind is PhantomKind.LATERAL:
        attenuation, lungs, heart = draw_lateral(canvas)
    else:
        attenuation, lungs, heart = draw_frontal(
            canvas,
            large_heart=kind is PhantomKind.CARDIOMEGALY,
            effusion=kind is PhantomKind.EFFUSION,
            opacity=kind is PhantomKind.OPACITY,
        )
    layers = [attenuation, lungs, heart]
    if turned:
        layers = [np.ascontiguousarray(np.rot90(layer)) for layer in layers]
    method = cv2.INTER_AREA if rows < layers[0].shape[0] else cv2.INTER_CUBIC
    film, lungs, heart = (
        cv2.resize(layer, (columns, rows), interpolation=method) for layer in layers
    )
    pixels = _develop(film, np.random.default_rng([seed, 2]))
    if kind is PhantomKind.INVERTED:
        pixels = (MAX_STORED_VALUE - pixels).astype(np.uint16)
    return Phantom(pixels, kind, seed, _LABELS.get(kind, ()), lungs > 0.5, heart > 0.5)


def _develop(attenuation: Layer, random: np.random.Generator) -> NDArray[np.uint16]:
    """Turn attenuation into 12-bit stored values: a film's tone curve, and quantum noise."""
    exposure = random.uniform(0.94, 1.06)
    level = np.clip(attenuation * exposure, 0, 1.2)
    tone = 1 / (1 + np.exp(-(level - 0.42) * 6.0))
    floor = 1 / (1 + np.exp(0.42 * 6.0))
    display = (tone - floor) / (1 - floor)
    # Fewer quanta reach the detector behind dense tissue, so the grain grows with brightness.
    grain = random.standard_normal(attenuation.shape, np.float32) * (0.006 + 0.012 * display)
    film = 120 + 3850 * np.clip(display + grain, 0, 1)
    stored: NDArray[np.uint16] = np.rint(film).astype(np.uint16)
    return stored
