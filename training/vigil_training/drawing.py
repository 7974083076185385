"""Figures and small pictures for pages and files: one way for all that draws in this room."""

import base64
import io
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from vigil.errors import ConfigurationError, ImageRefused
from vigil.reading import read_radiograph

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def new_figure(width: float, height: float) -> "Figure":
    """Return an empty figure that can be saved, without a window and pyplot's global state.

    Parameters
    ----------
    width, height
        In inches.

    Raises
    ------
    ConfigurationError
        If matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigurationError(
            "pictures need matplotlib: install the package with its extra, vigil-cxr[training]"
        ) from error
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: "Figure", path: Path) -> Path:
    """Write a figure to a file, with its folder, and return the path.

    Raises
    ------
    ConfigurationError
        If it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=110)
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path}: the picture cannot be written ({error})") from error
    return path


def write_page_text(path: Path, text: str) -> None:
    """Write a page to a file, with its folder.

    Raises
    ------
    ConfigurationError
        If it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be written ({error.strerror})") from error


def png_address(figure: "Figure") -> str:
    """Return a figure as a data address that a page can hold."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=90)
    return _address("image/png", buffer.getvalue())


def jpeg_address(pixels: NDArray[np.uint8]) -> str:
    """Return (rows, columns) grey or (rows, columns, 3) BGR pixels as a data address."""
    encoded = cv2.imencode(".jpg", pixels, (cv2.IMWRITE_JPEG_QUALITY, 85))[1]
    return _address("image/jpeg", encoded.tobytes())


def _address(media_type: str, content: bytes) -> str:
    return f"data:{media_type};base64,{base64.b64encode(content).decode('ascii')}"


def shrunk(pixels: NDArray[np.uint16], side: int) -> NDArray[np.uint8]:
    """Return display values in 8 bits, the longer side no more than ``side`` pixels."""
    scale = min(1.0, side / max(pixels.shape))
    size = (max(int(pixels.shape[1] * scale), 1), max(int(pixels.shape[0] * scale), 1))
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    grey: NDArray[np.uint8] = (small >> 8).astype(np.uint8)
    return grey


def thumbnail(path: Path, side: int) -> str:
    """Return a picture as a small JPEG in a data address, empty if it cannot be read."""
    try:
        pixels = read_radiograph(path, for_processing=True).pixels
    except (ImageRefused, OSError):
        return ""
    return jpeg_address(shrunk(pixels, side))
