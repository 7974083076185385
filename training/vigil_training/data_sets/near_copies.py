"""Pictures that are the same film: byte copies, and copies that were encoded or resized anew.

Two chest films are alike, so that a hash of brightness steps finds no copies among them (on 6,676
films it paired 65,123 of which none was a copy). What tells a film is its fine detail: thumbnails
of 80 × 80 pixels with the low frequencies taken off are compared by their correlation. A copy that
was encoded, resized or changed in gamma scores 0.96 and more, another film of the same patient
seldom more than 0.7. A copy that was cropped by 4 % or more is not found.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from vigil.errors import ImageRefused
from vigil.reading import read_radiograph

SIDE = 80
COPY = 0.92
"""From this correlation on two pictures count as the same film."""
_BLUR_SIGMA = 3.0
_ROWS_AT_A_TIME = 2048


class Copy(NamedTuple):
    """Two pictures, by index, and how alike their details are (1 for the same bytes)."""

    first: int
    second: int
    correlation: float


@dataclass(frozen=True, eq=False)
class Look:
    """What is kept of a picture: its details, its bytes' digest, and its corners' brightness.

    ``detail`` (6400,) float32 of length 1. ``corners`` is the part of each corner's pixels that
    are as bright as burnt-in text: top left, top right, bottom left, bottom right.
    """

    detail: NDArray[np.float32]
    digest: bytes
    corners: tuple[float, float, float, float]


def look(path: Path) -> Look:
    """Read a picture and keep what tells it.

    Raises
    ------
    ImageRefused
        If it cannot be read.
    OSError
        If the file cannot be read.
    """
    digest = hashlib.sha256(path.read_bytes()).digest()
    pixels = read_radiograph(path, for_processing=True).pixels
    return Look(detail_of(pixels), digest, corner_text(pixels))


def detail_of(pixels: NDArray[np.uint16]) -> NDArray[np.float32]:
    """Return (6400,) the fine detail of a thumbnail, with mean 0 and length 1."""
    small = cv2.resize(pixels, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
    fine = small - cv2.GaussianBlur(small, (0, 0), _BLUR_SIGMA)
    # Markers of one hospital are brighter than any detail of a lung: bounded, they do not decide.
    spread = float(np.quantile(np.abs(fine), 0.98)) or 1.0
    flat = np.clip(fine, -spread, spread).ravel()
    flat -= flat.mean()
    length = float(np.linalg.norm(flat))
    kept: NDArray[np.float32] = (flat / length if length > 0 else flat).astype(np.float32)
    return kept


def corner_text(pixels: NDArray[np.uint16]) -> tuple[float, float, float, float]:
    """Return how much of each corner has hard edges from black to white, as lettering has.

    The corners are a quarter of the width and an eighth of the height. Anatomy has soft edges: a
    step of half the picture's range within two pixels is a letter or a marker.
    """
    rows, columns = pixels.shape
    scale = 512 / max(rows, columns)
    size = (max(int(columns * scale), 16), max(int(rows * scale), 16))
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    low, high = np.quantile(small, (0.01, 0.99))
    step = np.maximum(
        np.abs(cv2.Sobel(small, cv2.CV_32F, 1, 0, ksize=3)),
        np.abs(cv2.Sobel(small, cv2.CV_32F, 0, 1, ksize=3)),
    )
    # Sobel's kernel adds up to four times the step.
    hard = step > 4 * 0.5 * max(float(high - low), 1.0)
    height, width = small.shape[0] // 8, small.shape[1] // 4
    parts = (
        hard[:height, :width], hard[:height, -width:], hard[-height:, :width],
        hard[-height:, -width:],
    )  # fmt: skip
    top_left, top_right, bottom_left, bottom_right = (float(part.mean()) for part in parts)
    return top_left, top_right, bottom_left, bottom_right


@dataclass(frozen=True, eq=False)
class Looks:
    """The pictures of a manifest that could be read, and why others could not."""

    found: dict[int, Look]
    """By the row's place."""
    broken: dict[int, str]


def look_at_all(
    paths: Sequence[Path], progress: Callable[[int, int], None] = lambda done, total: None
) -> Looks:
    """Look at pictures; one that cannot be read is noted."""
    found, broken = {}, {}
    for place, path in enumerate(paths):
        try:
            found[place] = look(path)
        except ImageRefused as refusal:
            broken[place] = f"{refusal.code}: {refusal.reason}"
        except OSError as error:
            broken[place] = f"cannot be read ({error.strerror})"
        progress(place + 1, len(paths))
    return Looks(found, broken)


def copies(
    looks: Looks,
    between: tuple[Sequence[int], Sequence[int]] | None = None,
    least: float = COPY,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Copy]:
    """Return pairs of pictures that are the same film, the most alike first.

    Parameters
    ----------
    between
        Two groups of places: only pairs across them are compared. None compares all.
    least
        The correlation from which on a pair counts.
    progress
        Called with the pictures done and their total.
    """
    first, second = between or (list(looks.found), list(looks.found))
    first = [place for place in first if place in looks.found]
    second = [place for place in second if place in looks.found]
    if not first or not second:
        return []
    right = np.stack([looks.found[place].detail for place in second])
    found: dict[tuple[int, int], float] = {}
    for start in range(0, len(first), _ROWS_AT_A_TIME):
        part = first[start : start + _ROWS_AT_A_TIME]
        left = np.stack([looks.found[place].detail for place in part])
        alike = left @ right.T
        for i, j in np.argwhere(alike >= least):
            pair = part[i], second[j]
            if pair[0] != pair[1]:
                found[min(pair), max(pair)] = float(alike[i, j])
        progress(min(start + _ROWS_AT_A_TIME, len(first)), len(first))
    return sorted((Copy(*pair, value) for pair, value in found.items()), key=lambda c: -c[2])
