import io

import imagecodecs
import numpy as np
import pytest
from PIL import Image
from pydicom import uid

from vigil.codestream import declared_size, is_cut_off, is_whole, read_jpeg2000_header


def tiled(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    options = {"tile_size": (64, 64), "no_jp2": True, "irreversible": False}
    Image.fromarray(pixels).save(stream, "JPEG2000", **options)
    return stream.getvalue()


FILM = (np.add.outer(np.arange(301), np.arange(203)) * 7 % 4096).astype(np.uint16)
J2K = imagecodecs.jpeg2k_encode(FILM, codecformat="j2k", reversible=True, bitspersample=12)
TILED = tiled(FILM)
HTJ2K = imagecodecs.htj2k_encode(FILM, reversible=True)
STREAMS = {"JPEG 2000": J2K, "tiles": TILED, "HTJ2K": HTJ2K}


@pytest.fixture(params=STREAMS)
def stream(request: pytest.FixtureRequest) -> bytes:
    return bytes(STREAMS[request.param])


def test_the_header_says_what_the_codestream_holds(stream: bytes) -> None:
    header = read_jpeg2000_header(stream)
    assert header is not None
    assert (header.rows, header.columns, header.components) == (301, 203, 1)
    assert header.levels in (4, 5)
    assert header.is_plain
    assert not header.is_signed


def test_the_tiles_are_counted() -> None:
    header = read_jpeg2000_header(TILED)
    assert header is not None
    assert header.tiles == 5 * 4


def test_a_whole_codestream_is_whole_and_one_cut_anywhere_is_not(stream: bytes) -> None:
    header = read_jpeg2000_header(stream)
    assert header is not None
    assert is_whole(stream, header)
    assert is_whole(stream + b"\0", header), "fragments are padded to even length"
    for length in [*range(len(stream) - 40, len(stream) - 1), *range(60, len(stream), 997)]:
        assert not is_whole(stream[:length], header), length
    assert not is_cut_off(stream)
    assert not is_cut_off(stream[:-2]), "encoders forget the end marker, and nothing is missing"
    assert is_cut_off(stream[:-10])


def test_a_lost_tile_is_seen() -> None:
    header = read_jpeg2000_header(TILED)
    assert header is not None
    first = TILED.index(b"\xff\x90")
    length = int.from_bytes(TILED[first + 6 : first + 10], "big")
    assert not is_whole(TILED[:first] + TILED[first + length :], header)


@pytest.mark.parametrize("junk", [b"", b"\xff\x4f", b"\xff\x4f\xff\x51", b"hello" * 100])
def test_what_is_no_codestream_has_no_header(junk: bytes) -> None:
    assert read_jpeg2000_header(junk) is None


def test_a_header_cut_anywhere_is_an_answer(stream: bytes) -> None:
    for length in range(120):
        header = read_jpeg2000_header(stream[:length])
        assert header is None or not is_whole(stream[:length], header)


@pytest.mark.parametrize(
    ("syntax", "frame"),
    [
        (uid.JPEGBaseline8Bit, imagecodecs.jpeg_encode((FILM >> 4).astype(np.uint8))),
        (uid.JPEGLosslessSV1, imagecodecs.jpeg_encode(FILM, lossless=True, bitspersample=12)),
        (uid.JPEGExtended12Bit, imagecodecs.jpeg_encode(FILM, bitspersample=12)),
        (uid.JPEGLSLossless, imagecodecs.jpegls_encode(FILM)),
        (uid.JPEG2000Lossless, J2K),
        (uid.HTJ2KLossless, HTJ2K),
    ],
    ids=lambda value: value.name if isinstance(value, uid.UID) else "",
)
def test_the_declared_size_is_read_from_each_kind_of_codestream(
    syntax: uid.UID, frame: bytes
) -> None:
    assert declared_size(syntax, bytes(frame)) == (301, 203)


def test_a_codestream_in_a_file_format_declares_its_size_too() -> None:
    frame = imagecodecs.jpeg2k_encode(FILM, codecformat="jp2", reversible=True)
    assert declared_size(uid.JPEG2000Lossless, bytes(frame)) == (301, 203)


def test_thousands_of_scans_are_refused() -> None:
    frame = bytes(imagecodecs.jpeg_encode((FILM >> 4).astype(np.uint8)))
    with pytest.raises(ValueError, match="scans"):
        declared_size(uid.JPEGBaseline8Bit, frame + b"\xff\xda\0\x08" * 1000)
