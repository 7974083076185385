"""From a DICOM object to its stored values, whole or already reduced.

A network's input is a hundredth of a radiograph, so most of its pixels need not be decoded: JPEG
2000 and HTJ2K hold the picture at halved sizes, and pixels that lie in the file as they are are
averaged in blocks while they are read. Everything else is decoded as a whole and then averaged.
Where anything about a file is out of the ordinary it goes the long way, through pydicom.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, uid
from pydicom.encaps import get_frame

from vigil.codestream import declared_size, has_end, is_cut_off, is_whole, read_jpeg2000_header
from vigil.decoders import (
    HTJ2K_SYNTAXES,
    LOW_PASS_SYNTAXES,
    decode_low_pass,
    decode_plain,
    decoder_for,
    panics_as_errors,
)
from vigil.elements import integer
from vigil.errors import ImageRefused, RefusalCode
from vigil.radiograph import ImageDescription, LeastSide, Sampling
from vigil.reduction import average_blocks, average_in_file, lay_out

_MAX_PIXELS = 200_000_000
_MOST_HALVINGS = 3
_LOSSY = {
    uid.JPEGBaseline8Bit,
    uid.JPEGExtended12Bit,
    uid.JPEGLSNearLossless,
    uid.JPEG2000,
    uid.HTJ2K,
}
_IN_PLACE = {uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian}
# A wavelet overshoots at edges by a quarter at most for each halving that matters; what lies
# beyond are bits above the stored ones.
_MOST_OVERSHOOT = 1.25


@dataclass(frozen=True, eq=False)
class StoredValues:
    """(rows, columns) values with the bits that BitsStored promises, and what they are of.

    ``sampling`` is None where they are the whole picture.
    """

    values: NDArray[np.integer]
    sampling: Sampling | None = None


def read_stored_values(
    dataset: Dataset, description: ImageDescription, path: Path, least: LeastSide | None = None
) -> StoredValues:
    """Return a picture's stored values.

    Parameters
    ----------
    dataset
        The object; its pixels may still be in the file.
    description
        What its header says.
    path
        The file.
    least
        How small the picture may come; None is whole.

    Raises
    ------
    ImageRefused
        ``NO_PIXELS``, ``MULTI_FRAME``, ``COLOUR``, ``TOO_LARGE``, ``NOT_RADIOGRAPH``,
        ``TRANSFER_SYNTAX_UNSUPPORTED`` or ``PIXELS_CORRUPT``.
    OSError
        If the file cannot be read.
    """
    _check_object(dataset, description)
    syntax = uid.UID(description.transfer_syntax_uid)
    is_plain = _is_plain(dataset, description)
    longer = max(description.rows, description.columns)
    halvings = 0 if least is None else _halvings(longer, least.averaged)
    if is_plain and syntax in _IN_PLACE:
        averaged = average_in_file(dataset, description, path, 1 << halvings)
        if averaged is not None and not halvings:
            return StoredValues(averaged)
        if averaged is not None:
            return _averaged(averaged, description, 1 << halvings)
    frame = _frame(dataset, syntax)
    if frame is not None:
        _check_frame(syntax, frame, description)
    whole: NDArray[np.integer] | None = None
    if frame is not None and is_plain:
        if least is not None and syntax in LOW_PASS_SYNTAXES:
            reduced = _low_pass(dataset, description, syntax, frame, least.low_pass)
            if reduced is not None:
                return reduced
        whole = decode_plain(syntax, frame, description.rows, description.columns)
    if whole is None:
        whole = _decode(dataset, syntax)
    whole = whole.astype(whole.dtype.newbyteorder("="), copy=False)
    whole = _clean_bits(whole, dataset, exact=syntax not in _LOSSY)
    if not halvings or whole.dtype not in (np.uint8, np.uint16, np.int16):
        return StoredValues(whole)
    return _averaged(average_blocks(whole, 1 << halvings), description, 1 << halvings)


def _check_object(dataset: Dataset, description: ImageDescription) -> None:
    if "PixelData" not in dataset or description.rows < 1 or description.columns < 1:
        if "FloatPixelData" in dataset or "DoubleFloatPixelData" in dataset:
            reason = "the pixels are floating-point numbers, expected integers"
            raise ImageRefused(RefusalCode.NOT_RADIOGRAPH, reason)
        raise ImageRefused(RefusalCode.NO_PIXELS, "the object holds no pixels")
    if description.number_of_frames > 1:
        reason = f"the object holds {description.number_of_frames} frames, expected one"
        raise ImageRefused(RefusalCode.MULTI_FRAME, reason)
    if description.rows * description.columns > _MAX_PIXELS:
        reason = f"the picture is {description.columns} × {description.rows}, more than is read"
        raise ImageRefused(RefusalCode.TOO_LARGE, reason)


def _is_plain(dataset: Dataset, description: ImageDescription) -> bool:
    """Return whether the samples are what nearly every radiograph's are: unsigned and grey."""
    return (
        description.samples_per_pixel == 1
        and description.photometric_interpretation in ("MONOCHROME1", "MONOCHROME2")
        and integer(dataset, "PixelRepresentation") == 0
        and integer(dataset, "BitsAllocated") in (8, 16)
        and 1 <= integer(dataset, "BitsStored") <= integer(dataset, "BitsAllocated")
        and integer(dataset, "HighBit", -1) == integer(dataset, "BitsStored") - 1
    )


def _halvings(longer: int, least: int) -> int:
    """Return how often a side can be halved and still be ``least`` pixels long."""
    halvings = 0
    while halvings < _MOST_HALVINGS and -(-longer >> (halvings + 1)) >= least:
        halvings += 1
    return halvings


def _averaged(
    values: NDArray[np.integer], description: ImageDescription, step: int
) -> StoredValues:
    sampling = Sampling(description.rows, description.columns, step)
    return StoredValues(lay_out(values, sampling), sampling)


def _frame(dataset: Dataset, syntax: uid.UID) -> bytes | None:
    """Return the one frame's codestream; None if there is none or pydicom has to find it."""
    try:
        dataset["PixelData"]  # is read from the file here
        if not syntax.is_encapsulated:
            return None
        return get_frame(dataset.PixelData, 0, number_of_frames=1)
    except OSError:
        raise
    except Exception:  # pydicom raises whatever a damaged encapsulation makes it meet
        return None


def _check_frame(syntax: uid.UID, frame: bytes, description: ImageDescription) -> None:
    """Refuse a codestream that declares another picture than the header, before it is decoded."""
    try:
        declared = declared_size(syntax, frame)
    except ValueError as error:
        raise ImageRefused(RefusalCode.PIXELS_CORRUPT, str(error)) from error
    if not has_end(syntax, frame) or (syntax in HTJ2K_SYNTAXES and is_cut_off(frame)):
        reason = f"the {syntax.name} pixel data is incomplete"
        raise ImageRefused(RefusalCode.PIXELS_CORRUPT, reason)
    if declared is not None and declared != (description.rows, description.columns):
        reason = (
            f"the {syntax.name} pixel data is {declared[1]} × {declared[0]}, "
            f"the header says {description.columns} × {description.rows}"
        )
        raise ImageRefused(RefusalCode.PIXELS_CORRUPT, reason)


def _low_pass(
    dataset: Dataset, description: ImageDescription, syntax: uid.UID, frame: bytes, least: int
) -> StoredValues | None:
    """Return the picture at one of the codestream's own lower resolutions, None if it cannot be.

    A codestream that is not whole is left to the whole decoder, which refuses what it must.
    """
    header = read_jpeg2000_header(frame)
    halvings = _halvings(max(description.rows, description.columns), least)
    if header is None or not halvings or halvings > header.levels:
        return None
    # Pillow spreads fewer than 8 bits over all 8, which the whole decoders do not.
    is_grey = header.components == 1 and header.bits >= 8 and not header.is_signed
    is_simple = is_grey and header.is_plain
    bits_stored = integer(dataset, "BitsStored")
    if not (is_simple and 0 < bits_stored <= 16 and is_whole(frame, header)):
        return None
    highest = (1 << bits_stored) - 1
    values = decode_low_pass(syntax, frame, header, halvings, bits_stored)
    if values is None or int(values.max()) > _MOST_OVERSHOOT * (highest + 1):
        return None
    step = 1 << halvings
    sampling = Sampling(description.rows, description.columns, step, low_pass=True)
    return StoredValues(np.minimum(lay_out(values, sampling), highest), sampling)


def _decode(dataset: Dataset, syntax: uid.UID) -> NDArray[np.integer]:
    """Decode the whole picture through pydicom."""
    try:
        decoder, plugins = decoder_for(syntax)
    except NotImplementedError as error:
        reason = f"transfer syntax {syntax.name} is not one that this software reads"
        raise ImageRefused(RefusalCode.TRANSFER_SYNTAX_UNSUPPORTED, reason) from error
    if dataset.file_meta.get("TransferSyntaxUID") is None:
        dataset.file_meta.TransferSyntaxUID = syntax
    failure: Exception | None = None
    for plugin in plugins or ("",):
        try:
            with panics_as_errors():
                stored, properties = decoder.as_array(dataset, index=0, decoding_plugin=plugin)
        except Exception as error:  # codecs raise what they like; the next one may succeed
            failure = failure or error
            continue
        break
    else:
        name = type(failure).__name__
        reason = f"the {syntax.name} pixel data is damaged or incomplete ({name})"
        raise ImageRefused(RefusalCode.PIXELS_CORRUPT, reason) from failure
    if stored.dtype.itemsize > 2 and int(stored.max()) - int(stored.min()) > 65535:
        reason = "the pixels have more than 16 bits, expected a radiograph's 8 to 16"
        raise ImageRefused(RefusalCode.NOT_RADIOGRAPH, reason)
    if stored.ndim == 3:
        return _luminance(stored, str(properties["photometric_interpretation"]))
    if str(properties["photometric_interpretation"]) == "PALETTE COLOR":
        raise ImageRefused(RefusalCode.COLOUR, "the picture has a colour palette, expected grey")
    return stored


def _clean_bits(
    stored: NDArray[np.integer], dataset: Dataset, *, exact: bool
) -> NDArray[np.integer]:
    """Clear what lies above the stored bits (old overlays, a missing sign extension).

    What a lossy codec overshot is clipped instead: masking would turn white into black.
    """
    bits_stored = integer(dataset, "BitsStored", 8 * stored.dtype.itemsize)
    bits_allocated = 8 * stored.dtype.itemsize
    if not 0 < bits_stored < bits_allocated:
        return stored
    signed = np.issubdtype(stored.dtype, np.signedinteger)
    low, high = (
        (-(1 << bits_stored - 1), (1 << bits_stored - 1) - 1)
        if signed
        else (
            0,
            (1 << bits_stored) - 1,
        )
    )
    if int(stored.max()) <= high and (not signed or int(stored.min()) >= low):
        return stored
    if exact:
        shift = bits_allocated - bits_stored
        cleaned: NDArray[np.integer] = np.right_shift(np.left_shift(stored, shift), shift)
        return cleaned
    return stored.clip(low, high)


def _luminance(colour: NDArray[np.integer], interpretation: str) -> NDArray[np.integer]:
    """Return the grey values of a picture that is stored in colour but shows none."""
    samples = colour.astype(np.int32)
    if interpretation.startswith("YBR"):
        chroma = int(np.abs(samples[..., 1:] - 128).max(initial=0))
        grey = colour[..., 0]
    else:
        chroma = int(np.ptp(samples, axis=-1).max(initial=0))
        grey = colour[..., 1]
    # A JPEG of a grey picture wanders by a few levels.
    if chroma > 24:
        reason = "the picture is in colour, expected a grey radiograph"
        raise ImageRefused(RefusalCode.COLOUR, reason)
    return np.ascontiguousarray(grey)
