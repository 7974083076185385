"""Pictures for eyes: the preview of a radiograph and the heat map over it.

Both are made from what was analysed and stored beside the result; they can be made again from the
original, so they are written atomically but not fsynced.
"""

import uuid
from collections.abc import Mapping
from pathlib import Path
from zipfile import BadZipFile

import cv2
import numpy as np
from numpy.typing import NDArray

from vigil.radiograph import LeastSide

_JPEG_QUALITY = 90
_LEAST = 0.001
"""Probabilities are told apart no further than this from 0 and 1."""
_LEAST_CONTRAST = 1.0
"""In logits: a map that is flatter than this says little of where, and is shown faintly."""
_REDUCED = (cv2.IMREAD_REDUCED_GRAYSCALE_8, cv2.IMREAD_REDUCED_GRAYSCALE_4)
_MOST_OPAQUE = 0.85


class PictureStore:
    """Previews and maps in a folder, by the SHA-256 of the object they belong to."""

    def __init__(self, data_dir: Path) -> None:
        self._folder = data_dir / "previews"

    def preview_path(self, sha256: str) -> Path:
        """Where an object's preview lies, if there is one."""
        return self._folder / sha256[:2] / f"{sha256}.jpg"

    def maps_path(self, sha256: str) -> Path:
        """Where an object's maps lie, if there are any."""
        return self._folder / sha256[:2] / f"{sha256}.npz"

    def save(
        self,
        sha256: str,
        pixels: NDArray[np.uint16],
        maps: Mapping[str, NDArray[np.float32]],
        longer_side: int,
    ) -> None:
        """Store a preview and the maps.

        Parameters
        ----------
        sha256
            The object's digest.
        pixels
            (rows, columns) uint16 display values as analysed.
        maps
            Label to (h, w) float32 in 0 to 1, covering the picture exactly.
        longer_side
            Of the preview, in pixels; a smaller picture keeps its size.

        Raises
        ------
        OSError
            If the disk does not take them.
        """
        path = self.preview_path(sha256)
        path.parent.mkdir(parents=True, exist_ok=True)
        # Progressive coding would take seven times as long, for every picture that comes.
        _write(path, encode_jpeg(reduce_picture(pixels, longer_side), progressive=False))
        if maps:
            temporary = path.with_name(f"{uuid.uuid4().hex}.npz.part")
            small = {label: grid.astype(np.float16) for label, grid in maps.items()}
            with temporary.open("wb") as file:
                np.savez(file, **small)  # type: ignore[arg-type]
            temporary.replace(self.maps_path(sha256))

    def load_preview(self, sha256: str, least_side: int | None = None) -> NDArray[np.uint8] | None:
        """Return a preview's pixels, (rows, columns) uint8, or None if there is none.

        Where ``least_side`` is given, the picture may come smaller, but its longer side no smaller
        than that: a thumbnail needs an eighth of the decoding.
        """
        try:
            content = self.preview_path(sha256).read_bytes()
        except FileNotFoundError:
            return None
        encoded = np.frombuffer(content, np.uint8)
        if not encoded.size:
            return None
        for flag in (*(_REDUCED if least_side else ()), cv2.IMREAD_GRAYSCALE):
            picture: NDArray[np.uint8] | None = cv2.imdecode(encoded, flag)
            if picture is None or flag == cv2.IMREAD_GRAYSCALE:
                return picture
            if max(picture.shape) >= (least_side or 0):
                return picture
        return None

    def load_map(self, sha256: str, label: str) -> NDArray[np.float32] | None:
        """Return a finding's map, (h, w) in 0 to 1, or None if there is none."""
        try:
            with np.load(self.maps_path(sha256), allow_pickle=False) as maps:
                if label not in maps.files:
                    return None
                grid: NDArray[np.float32] = maps[label].astype(np.float32)
                return grid
        except (OSError, ValueError, EOFError, BadZipFile):
            return None


def least_shown(preview_pixels: int) -> LeastSide:
    """Return how small a picture may be read to make a preview of it.

    A preview is at most ``preview_pixels`` long; halving stops at two thirds of that, so that a
    film of 3000 pixels is shown at 1500 and not at 750.
    """
    least = preview_pixels * 2 // 3
    return LeastSide(least, least)


def reduce_picture(pixels: NDArray[np.uint16], longer_side: int) -> NDArray[np.uint8]:
    """Return an 8-bit picture whose longer side is at most ``longer_side``.

    It is halved by averaging as often as it can be; what is left to a factor below 2 is
    interpolated, which takes an eighth of the time of averaging and leaves no pixel out.
    """
    rows, columns = pixels.shape
    size = fitted_size(rows, columns, longer_side)
    while min(pixels.shape) >= 2 and max(pixels.shape) >= 2 * longer_side:
        half = (pixels.shape[1] // 2, pixels.shape[0] // 2)
        pixels = cv2.resize(pixels, half, interpolation=cv2.INTER_AREA).astype(
            np.uint16, copy=False
        )
    if size != pixels.shape:
        shrunk = cv2.resize(pixels, size[::-1], interpolation=cv2.INTER_LINEAR)
        pixels = shrunk.astype(np.uint16, copy=False)
    return (pixels >> 8).astype(np.uint8)


def fitted_size(rows: int, columns: int, longer_side: int) -> tuple[int, int]:
    """Return (rows, columns) shrunk to a longer side, never enlarged."""
    scale = min(1.0, longer_side / max(rows, columns))
    return max(1, round(rows * scale)), max(1, round(columns * scale))


def encode_jpeg(picture: NDArray[np.uint8], *, progressive: bool = True) -> bytes:
    """Encode an 8-bit picture as JPEG, progressive so that a slow line shows it early."""
    options = [
        cv2.IMWRITE_JPEG_QUALITY,
        _JPEG_QUALITY,
        cv2.IMWRITE_JPEG_PROGRESSIVE,
        int(progressive),
    ]
    return _encode(".jpg", picture, options)


def encode_png(picture: NDArray[np.uint8]) -> bytes:
    """Encode an 8-bit picture, grey (rows, columns) or BGRA (rows, columns, 4), as PNG."""
    return _encode(".png", picture, [cv2.IMWRITE_PNG_COMPRESSION, 3])


def render_heat_map(
    grid: NDArray[np.float32], rows: int, columns: int, threshold: float
) -> NDArray[np.uint8]:
    """Return a (rows, columns, 4) BGRA overlay: the places that speak most for a finding.

    What speaks less for it than half of the picture does is transparent.

    Parameters
    ----------
    grid
        (h, w) in 0 to 1: what the probability would be if all of the picture looked like this.
    rows, columns
        Of the picture that it will lie over.
    threshold
        The finding's; a map that nowhere reaches it stays faint, whatever its shape.
    """
    bounded = grid.clip(_LEAST, 1 - _LEAST)
    # Probabilities saturate where logits, which a class activation map adds up, still differ.
    logits = np.log(bounded / (1 - bounded))
    smooth = cv2.resize(logits, (columns, rows), interpolation=cv2.INTER_CUBIC)
    middle, top = float(np.median(smooth)), float(smooth.max())
    strength = ((smooth - middle) / max(top - middle, _LEAST_CONTRAST)).clip(0, 1)
    strength *= min(1.0, float(grid.max()) / max(threshold, _LEAST))
    overlay = np.empty((rows, columns, 4), np.uint8)
    # The lower quarter of the palette is near black and would darken the film.
    overlay[..., :3] = cv2.applyColorMap(
        (64 + 191 * strength).astype(np.uint8), cv2.COLORMAP_INFERNO
    )
    overlay[..., 3] = (255 * _MOST_OPAQUE * strength).astype(np.uint8)
    return overlay


def _encode(extension: str, picture: NDArray[np.uint8], options: list[int]) -> bytes:
    done, content = cv2.imencode(extension, picture, options)
    if not done:
        raise ValueError(f"a {picture.shape} picture could not be encoded as {extension}")
    return content.tobytes()


def _write(path: Path, content: bytes) -> None:
    temporary = path.with_name(f"{uuid.uuid4().hex}.part")
    temporary.write_bytes(content)
    temporary.replace(path)
