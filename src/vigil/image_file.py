"""PNG and JPEG radiographs, under the same contract as DICOM.

Such a file says nothing of the patient or the projection, so more is left to the gate, and the
results are for research on published data sets rather than for a PACS.
"""

import io
import warnings
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from vigil.errors import ImageRefused, RefusalCode
from vigil.radiograph import ImageDescription, Radiograph

_SIGNATURES: dict[bytes, Literal["PNG", "JPEG"]] = {
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"\xff\xd8\xff": "JPEG",
}
_MOST_CHROMA = 24
"""Difference between colour channels, of 255, that a JPEG of a grey picture may show."""


def image_format(path: Path) -> Literal["PNG", "JPEG"] | None:
    """Return what a file is by its first bytes, None if neither PNG nor JPEG."""
    with path.open("rb") as file:
        start = file.read(8)
    return next((name for magic, name in _SIGNATURES.items() if start.startswith(magic)), None)


def read_image(path: Path, file_format: Literal["PNG", "JPEG"]) -> Radiograph:
    """Read a PNG (8 or 16 bits) or JPEG radiograph in which bone is bright.

    The whole range of the sample's type becomes 0…65535; the window is left to
    :func:`vigil.preprocess.to_model_input`.

    Raises
    ------
    ImageRefused
        ``PIXELS_CORRUPT``, ``COLOUR`` or ``MULTI_FRAME``.
    """
    try:
        grey = _decode(path.read_bytes())
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        reason = f"the {file_format} file is damaged or incomplete ({type(error).__name__})"
        raise ImageRefused(RefusalCode.PIXELS_CORRUPT, reason) from error
    rows, columns = grey.shape
    description = ImageDescription(file_format=file_format, rows=rows, columns=columns)
    return Radiograph(grey, description)


def _decode(content: bytes) -> NDArray[np.uint16]:
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            picture: Image.Image = Image.open(io.BytesIO(content))
            frames = getattr(picture, "n_frames", 1)
            picture.load()
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise ImageRefused(
                RefusalCode.TOO_LARGE, "the picture has more pixels than is read"
            ) from error
    if frames > 1:
        raise ImageRefused(RefusalCode.MULTI_FRAME, f"the file holds {frames} frames, expected one")
    if picture.mode in ("I;16", "I;16B", "I;16L", "I"):
        wide = np.asarray(picture).astype(np.int64)
        return wide.clip(0, 65535).astype(np.uint16)
    if picture.mode == "1":
        picture = picture.convert("L")
    if picture.mode == "L":
        return np.asarray(picture).astype(np.uint16) * np.uint16(257)
    colour = np.asarray(picture.convert("RGB"))
    # Blurred, so that the noise of a JPEG's chroma does not count as colour.
    small = cv2.blur(colour, (5, 5)).astype(np.int16)
    if np.percentile(np.ptp(small, axis=-1), 99) > _MOST_CHROMA:
        reason = "the picture is in colour, expected a grey radiograph"
        raise ImageRefused(RefusalCode.COLOUR, reason)
    return np.asarray(cv2.cvtColor(colour, cv2.COLOR_RGB2GRAY)).astype(np.uint16) * np.uint16(257)
