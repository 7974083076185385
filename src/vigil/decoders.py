"""Which decoder reads which transfer syntax, fastest exact one first.

pydicom does the DICOM part (fragments, planes, colour spaces, signs); this module tells it which
codec to use and adds imagecodecs to its plug-ins: libjpeg-turbo 3 for all of JPEG including 12 bit
and lossless, CharLS, OpenJPEG, and OpenJPH for HTJ2K. pylibjpeg-libjpeg is never asked for: it is
GPL-3.0, and pydicom would pick it up wherever it happens to be installed.
"""

import functools
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom import uid
from pydicom.pixels.decoders.base import Decoder, DecodeRunner, get_decoder
from rle.rle import decode_frame as decode_rle

from vigil.codestream import Jpeg2000Header
from vigil.htj2k import decode_htj2k

_LABEL = "vigil-imagecodecs"

_CODECS: dict[str, Callable[[bytes], Any]] = {
    **dict.fromkeys(
        (
            uid.JPEGBaseline8Bit,
            uid.JPEGExtended12Bit,
            uid.JPEGLossless,
            uid.JPEGLosslessSV1,
        ),
        imagecodecs.jpeg_decode,
    ),
    **dict.fromkeys((uid.JPEGLSLossless, uid.JPEGLSNearLossless), imagecodecs.jpegls_decode),
    **dict.fromkeys((uid.JPEG2000Lossless, uid.JPEG2000), imagecodecs.jpeg2k_decode),
    **dict.fromkeys((uid.HTJ2KLossless, uid.HTJ2KLosslessRPCL, uid.HTJ2K), decode_htj2k),
}

# What reads the file if the first one cannot: another implementation is often more forgiving.
_SECOND_CHOICE = {
    uid.JPEGBaseline8Bit: "pillow",
    uid.JPEGLossless: "gdcm",
    uid.JPEGLosslessSV1: "gdcm",
    uid.JPEGLSLossless: "pyjpegls",
    uid.JPEGLSNearLossless: "pyjpegls",
    uid.JPEG2000Lossless: "pylibjpeg",
    uid.JPEG2000: "pylibjpeg",
    uid.HTJ2KLossless: "pylibjpeg",
    uid.HTJ2KLosslessRPCL: "pylibjpeg",
    uid.HTJ2K: "pylibjpeg",
}

# pydicom's plug-in protocol asks for this table by name.
DECODER_DEPENDENCIES = dict.fromkeys(_CODECS, ("imagecodecs>=2024.9",))

HTJ2K_SYNTAXES = frozenset({uid.HTJ2KLossless, uid.HTJ2KLosslessRPCL, uid.HTJ2K})
LOW_PASS_SYNTAXES = frozenset({uid.JPEG2000Lossless, uid.JPEG2000, *HTJ2K_SYNTAXES})
"""Transfer syntaxes whose codestreams hold the picture at halved sizes too."""

# OpenJPH gives unsigned samples without bounding them: a low-pass sample below zero comes out as
# one near 65536. Up to this many bits it cannot be mistaken for a bright one.
_MOST_UNBOUNDED_BITS = 13

SUPPORTED_TRANSFER_SYNTAXES = (
    uid.ExplicitVRLittleEndian,
    uid.ImplicitVRLittleEndian,
    uid.DeflatedExplicitVRLittleEndian,
    uid.ExplicitVRBigEndian,
    uid.RLELossless,
    *_CODECS,
)


def is_available(transfer_syntax: str) -> bool:
    """Answer pydicom's question whether this plug-in reads a transfer syntax."""
    return transfer_syntax in _CODECS


def decode_frame(source: bytes, runner: DecodeRunner) -> bytearray:
    """Decode one frame for pydicom (its decoding plug-in protocol)."""
    frame = np.ascontiguousarray(_CODECS[runner.transfer_syntax](source))
    if frame.dtype.itemsize > 2:
        raise ValueError(f"expected samples of at most 16 bits, found {frame.dtype}")
    runner.set_option("bits_allocated", 8 * frame.dtype.itemsize)
    if frame.ndim == 3:
        # The codecs undo YCbCr themselves and interleave the samples.
        runner.set_option("photometric_interpretation", "RGB")
        runner.set_option("planar_configuration", 0)
    return bytearray(frame.tobytes())


@contextmanager
def panics_as_errors() -> Iterator[None]:
    """Turn the panic of a codec that is written in Rust into an error like others.

    PyO3's PanicException is no Exception: it passes every handler and ends the thread. A damaged
    run length in RLE is enough.

    Raises
    ------
    ValueError
        In its place.
    """
    try:
        yield
    except Exception:
        raise
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise ValueError(f"the codec panicked: {error}") from error


@functools.cache
def decoder_for(transfer_syntax: uid.UID) -> tuple[Decoder, tuple[str, ...]]:
    """Return pydicom's decoder for a transfer syntax and the plug-ins to try, in order.

    An empty tuple means that pydicom needs no plug-in (uncompressed pixels).

    Raises
    ------
    NotImplementedError
        If the transfer syntax is not one that a radiograph comes in.
    """
    if transfer_syntax not in SUPPORTED_TRANSFER_SYNTAXES:
        raise NotImplementedError(transfer_syntax)
    decoder = get_decoder(transfer_syntax)
    if transfer_syntax == uid.RLELossless:
        return decoder, ("pylibjpeg", "pydicom")
    if transfer_syntax not in _CODECS:
        return decoder, ()
    if _LABEL not in decoder.available_plugins:
        decoder.add_plugin(_LABEL, (__name__, "decode_frame"))
    second = _SECOND_CHOICE.get(transfer_syntax)
    return decoder, (_LABEL, second) if second else (_LABEL,)


def decode_plain(
    syntax: str, frame: bytes, rows: int, columns: int
) -> NDArray[np.unsignedinteger] | None:
    """Decode one frame of unsigned grey samples without pydicom's copies of it.

    Returns
    -------
    NDArray or None
        (rows, columns) uint8 or uint16; None if the codec fails or gives anything else, and
        pydicom's way, with its second choices, has to be tried.
    """
    try:
        if syntax == uid.RLELossless:
            # The number of segments is the number of a sample's bytes (DICOM PS3.5 G.5).
            sample = np.dtype("<u2" if frame[0] == 2 else "u1")
            with panics_as_errors():
                flat = decode_rle(frame, rows * columns, 8 * sample.itemsize, "<")
            values = np.frombuffer(flat, sample).reshape(rows, columns)
        elif syntax in _CODECS:
            values = np.asarray(_CODECS[syntax](frame))
        else:
            return None
    except Exception:  # codecs raise what they like
        return None
    if values.shape != (rows, columns) or values.dtype not in (np.uint8, np.uint16):
        return None
    return values


def decode_low_pass(
    syntax: str, frame: bytes, header: Jpeg2000Header, halvings: int, bits_stored: int
) -> NDArray[np.unsignedinteger] | None:
    """Decode a JPEG 2000 or HTJ2K picture halved as often as asked, by leaving out its details.

    Parameters
    ----------
    syntax
        One of ``LOW_PASS_SYNTAXES``.
    frame
        A whole codestream of one unsigned component.
    header
        What it declares.
    halvings
        At most ``header.levels``.
    bits_stored
        The bits that its values really take.

    Returns
    -------
    NDArray or None
        The low-pass samples, rows and columns rounded up, 0 or more; None if it cannot be.
    """
    step = 1 << halvings
    size = -(-header.rows // step), -(-header.columns // step)
    try:
        if syntax in HTJ2K_SYNTAXES and header.bits > 8 and bits_stored <= _MOST_UNBOUNDED_BITS:
            samples = np.asarray(decode_htj2k(frame, skipres=halvings))
            values = samples.view(np.int16).clip(0).view(np.uint16)
        else:
            values = _decode_with_openjpeg(frame, header, halvings, size)
    except Exception:  # codecs raise what they like
        return None
    return values if values.shape == size else None


def _decode_with_openjpeg(
    frame: bytes, header: Jpeg2000Header, halvings: int, size: tuple[int, int]
) -> NDArray[np.unsignedinteger]:
    """Decode through Pillow, the one wheel whose OpenJPEG can be asked for less than all."""
    picture = Image.open(io.BytesIO(frame), formats=["JPEG2000"])
    # Pillow's own `reduce` rounds the size down where the standard rounds it up, and then fails.
    [tile] = picture.tile
    codec, _, *rest = cast(tuple[Any, ...], tile.args)
    picture.tile = [
        tile._replace(extents=(0, 0, *size[::-1]), args=(codec, halvings, *rest)),
    ]
    picture._size = size[::-1]
    values = np.asarray(picture)
    # Pillow fills 16 bits from the top.
    return values if values.dtype == np.uint8 else values >> np.uint16(16 - header.bits)
