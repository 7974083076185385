"""Which decoder reads which transfer syntax, fastest exact one first.

pydicom does the DICOM part (fragments, planes, colour spaces, signs); this module tells it which
codec to use and adds imagecodecs to its plug-ins: libjpeg-turbo 3 for all of JPEG including 12 bit
and lossless, CharLS, OpenJPEG, and OpenJPH for HTJ2K. pylibjpeg-libjpeg is never asked for: it is
GPL-3.0, and pydicom would pick it up wherever it happens to be installed.
"""

import functools
from collections.abc import Callable
from typing import Any

import imagecodecs
import numpy as np
from pydicom import uid
from pydicom.pixels.decoders.base import Decoder, DecodeRunner, get_decoder

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
    **dict.fromkeys(
        (uid.HTJ2KLossless, uid.HTJ2KLosslessRPCL, uid.HTJ2K), imagecodecs.htj2k_decode
    ),
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
