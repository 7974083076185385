"""What a codestream says of itself, read before a decoder is let at it.

Two questions are answered here without decoding: is the picture as large as its DICOM header says
(a decoder allocates what the codestream declares, so a few bytes could ask for gigabytes), and is
a JPEG 2000 codestream whole from its first to its last tile-part? The second one matters where
only its lower resolutions are decoded: a stream that was cut off could still give them. OpenJPH
takes an HTJ2K stream that was cut off for a whole one even where all of it is asked for.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from pydicom import uid

_SOC, _EOC = b"\xff\x4f", b"\xff\xd9"
_SIZ, _COD, _COC, _SOT = 0xFF51, 0xFF52, 0xFF53, 0xFF90
_LONGEST_PADDING = 1024
_MOST_TILES = 4096
_MOST_SCANS = 64
# Start of frame in JPEG (ITU-T T.81 B.1.1.3) and JPEG-LS (T.87 C.1.1); what lies between them in
# the table, 0xC4, 0xC8 and 0xCC, is no frame.
_FRAMES = frozenset({*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC})
_STANDALONE = frozenset({0x01, *range(0xD0, 0xD9)})
_JPEG = frozenset(
    {
        uid.JPEGBaseline8Bit,
        uid.JPEGExtended12Bit,
        uid.JPEGLossless,
        uid.JPEGLosslessSV1,
        uid.JPEGLSLossless,
        uid.JPEGLSNearLossless,
    }
)
_JPEG_2000 = frozenset(
    {uid.JPEG2000Lossless, uid.JPEG2000, uid.HTJ2KLossless, uid.HTJ2KLosslessRPCL, uid.HTJ2K}
)


@dataclass(frozen=True)
class Jpeg2000Header:
    """What the main header of a JPEG 2000 codestream declares (ISO/IEC 15444-1 A.5, A.6).

    Attributes
    ----------
    rows, columns
        Of the image area on the reference grid.
    components, bits, is_signed
        Of the samples; bits and sign are the first component's.
    levels
        How often the picture can be halved.
    is_plain
        Whether the image area and its tiles start at the grid's origin and no component is
        subsampled, so that a reduced picture's samples lie at the multiples of a power of two.
    tiles
        How many there are.
    """

    rows: int
    columns: int
    components: int
    bits: int
    is_signed: bool
    levels: int
    is_plain: bool
    tiles: int


def read_jpeg2000_header(stream: bytes) -> Jpeg2000Header | None:
    """Return what a raw codestream declares, None if it is none or its header is damaged."""
    levels: int | None = None
    size: tuple[int, ...] | None = None
    samples = b""
    try:
        for marker, body in _main_header(stream):
            if marker == _SIZ:
                size = struct.unpack(">H8IH", body[:36])
                samples = body[36 : 36 + 3 * size[9]]
            elif marker == _COD:
                levels = body[5]
            elif marker == _COC:
                # A component of its own number of levels; the first byte(s) name it.
                levels = min(body[2] if size and size[9] < 257 else body[3], levels or 0)
        if size is None or levels is None or not samples or len(samples) != 3 * size[9]:
            return None
    except (struct.error, IndexError):
        return None
    _, right, bottom, left, top, tile_width, tile_height, tile_left, tile_top, count = size
    if right <= left or bottom <= top or not tile_width or not tile_height:
        return None
    across = -(-(right - tile_left) // tile_width)
    down = -(-(bottom - tile_top) // tile_height)
    steps = samples[1::3] + samples[2::3]
    return Jpeg2000Header(
        rows=bottom - top,
        columns=right - left,
        components=count,
        bits=(samples[0] & 0x7F) + 1,
        is_signed=bool(samples[0] & 0x80),
        levels=levels,
        is_plain=not (left or top or tile_left or tile_top) and set(steps) == {1},
        tiles=across * down,
    )


def is_whole(stream: bytes, header: Jpeg2000Header) -> bool:
    """Return whether every tile-part of a JPEG 2000 codestream is there, to the end.

    The lengths that the tile-parts declare are followed from the first one to the end-of-codestream
    marker (ISO/IEC 15444-1 A.4.2, A.4.4), and every tile must have come by with as many parts as
    it announced. A stream that was cut anywhere fails; one whose bytes were changed within a
    tile-part does not, which no decoder can see either: JPEG 2000 has no check sums.
    """
    parts: dict[int, int] = {}
    announced: dict[int, int] = {}
    end = 0
    for part in _tile_parts(stream):
        parts[part.tile] = parts.get(part.tile, 0) + 1
        announced[part.tile] = part.of or announced.get(part.tile, 0)
        end = part.end
    if header.tiles > _MOST_TILES or set(parts) != set(range(header.tiles)):
        return False
    ends = stream[end : end + 2] == _EOC and not stream[end + 2 :].strip(b"\0")
    return ends and all(not of or parts[tile] == of for tile, of in announced.items())


def is_cut_off(stream: bytes) -> bool:
    """Return whether a JPEG 2000 codestream ends within a tile-part, by the length it declares."""
    return any(part.end > len(stream) for part in _tile_parts(stream))


def has_end(syntax: str, stream: bytes) -> bool:
    """Return whether a codestream has its end marker, if it is of a kind that has one.

    libjpeg-turbo makes up what a JPEG lacks that was cut off, and says nothing. EOI of JPEG and
    JPEG-LS (ITU-T T.81 B.2.1) and EOC of JPEG 2000 (ISO/IEC 15444-1 A.4.4) are the same bytes;
    some senders pad behind them.
    """
    return syntax not in _JPEG | _JPEG_2000 or _EOC in stream[-_LONGEST_PADDING:]


def declared_size(syntax: str, stream: bytes) -> tuple[int, int] | None:
    """Return (rows, columns) that a frame's own header declares, None if it cannot be told.

    Raises
    ------
    ValueError
        If a JPEG codestream holds more scans than any real one: each costs a pass over the whole
        picture, so that a small file could keep a processor busy for minutes.
    """
    if syntax in _JPEG_2000:
        # Some encoders wrap the codestream into a JP2 file, against PS3.5 A.4.4.
        header = read_jpeg2000_header(stream[max(0, stream.find(_SOC + b"\xff\x51")) :])
        return None if header is None else (header.rows, header.columns)
    if syntax in _JPEG:
        if stream.count(b"\xff\xda") > _MOST_SCANS:
            raise ValueError("the codestream has more scans than a radiograph's")
        return _jpeg_size(stream)
    return None


def _jpeg_size(stream: bytes) -> tuple[int, int] | None:
    position = 2
    while position + 9 <= len(stream) and stream[position] == 0xFF:
        marker = stream[position + 1]
        if marker == 0xFF or marker in _STANDALONE:
            position += 1 if marker == 0xFF else 2
            continue
        if marker in _FRAMES:
            rows, columns = struct.unpack_from(">HH", stream, position + 5)
            return rows, columns
        position += 2 + int.from_bytes(stream[position + 2 : position + 4], "big")
    return None


def _main_header(stream: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield marker and content of each segment of the main header."""
    if stream[:2] != _SOC:
        return
    position = 2
    while position + 4 <= len(stream):
        marker, length = struct.unpack_from(">HH", stream, position)
        if marker == _SOT or marker < 0xFF00 or length < 2:
            return
        yield marker, stream[position + 4 : position + 2 + length]
        position += 2 + length


class _TilePart(NamedTuple):
    tile: int
    of: int
    end: int


def _tile_parts(stream: bytes) -> Iterator[_TilePart]:
    """Yield the tile-parts, as far as they follow each other."""
    position = _end_of_main_header(stream)
    while position is not None and stream[position : position + 2] == b"\xff\x90":
        try:
            _, tile, length, _, of = struct.unpack_from(">HHIBB", stream, position + 2)
        except struct.error:
            return
        if length == 0:  # the last tile-part, up to the end of the codestream
            length = stream.rfind(_EOC, position + 12) - position
        if length < 14:
            return
        position += length
        yield _TilePart(tile, of, position)


def _end_of_main_header(stream: bytes) -> int | None:
    """Return where the first tile-part starts."""
    position = 2
    for _, body in _main_header(stream):
        position += 4 + len(body)
    return position if stream[position : position + 2] == b"\xff\x90" else None
