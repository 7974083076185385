"""Bytes made worse, the same way each time: a number says which mutation of which seed it is."""

import random
import struct
from collections.abc import Callable

_HEADER = 4096
_LENGTHS = (0, 1, 2, 0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0xFFFFFFFE, 0xFFFFFFFF)
_VRS = (b"SQ", b"OB", b"UN", b"OW", b"UI", b"US", b"FD", b"PN", b"AT", b"\0\0")
_TAGS = (
    b"\xfe\xff\x00\xe0",  # item
    b"\xfe\xff\x0d\xe0",  # end of item
    b"\xfe\xff\xdd\xe0",  # end of sequence
    b"\xe0\x7f\x10\x00",  # pixel data
    b"\x28\x00\x10\x00",  # rows
    b"\x28\x00\x08\x00",  # number of frames
    b"\x28\x00\x00\x01",  # bits allocated
    b"\x08\x00\x05\x00",  # character set
)

Mutation = Callable[[random.Random, bytearray, bytes], bytearray]


def mutate(chance: random.Random, content: bytes, other: bytes) -> bytes:
    """Return content with one to four mutations, most of them where the header is."""
    changed = bytearray(content)
    for _ in range(chance.randint(1, 4)):
        if changed:
            changed = chance.choice(MUTATIONS)(chance, changed, other)
    return bytes(changed)


def _place(chance: random.Random, content: bytearray) -> int:
    most = len(content) if chance.random() < 0.3 else min(len(content), _HEADER)
    return chance.randrange(max(1, most))


def _flip_bits(chance: random.Random, content: bytearray, _other: bytes) -> bytearray:
    for _ in range(chance.randint(1, 16)):
        content[_place(chance, content)] ^= 1 << chance.randrange(8)
    return content


def _set_bytes(chance: random.Random, content: bytearray, _other: bytes) -> bytearray:
    start = _place(chance, content)
    size = min(chance.choice((1, 2, 4, 8, 64)), len(content) - start)
    content[start : start + size] = bytes([chance.choice((0, 0x20, 0x7F, 0xFF))]) * size
    return content


def _truncate(chance: random.Random, content: bytearray, _other: bytes) -> bytearray:
    return content[: chance.randrange(len(content))]


def _delete(chance: random.Random, content: bytearray, _other: bytes) -> bytearray:
    start = _place(chance, content)
    del content[start : start + chance.choice((1, 2, 3, 8, 100, 5000))]
    return content


def _repeat(chance: random.Random, content: bytearray, _other: bytes) -> bytearray:
    start = _place(chance, content)
    piece = content[start : start + chance.choice((1, 2, 8, 132, 2000))]
    content[start:start] = piece * chance.choice((1, 2, 50))
    return content


def _insert_noise(chance: random.Random, content: bytearray, _other: bytes) -> bytearray:
    start = _place(chance, content)
    content[start:start] = chance.randbytes(chance.choice((1, 2, 4, 16, 300)))
    return content


def _splice(chance: random.Random, content: bytearray, other: bytes) -> bytearray:
    if not other:
        return content
    start = chance.randrange(len(other))
    piece = other[start : start + chance.choice((8, 200, 5000))]
    place = _place(chance, content)
    content[place : place + len(piece)] = piece
    return content


def _length(chance: random.Random, content: bytearray, _other: bytes) -> bytearray:
    value = chance.choice(_LENGTHS)
    order = chance.choice("<>")
    packed = (
        struct.pack(f"{order}L", value)
        if chance.random() < 0.7
        else struct.pack(f"{order}H", value & 0xFFFF)
    )
    place = _place(chance, content) & ~1
    content[place : place + len(packed)] = packed
    return content


def _representation(chance: random.Random, content: bytearray, _other: bytes) -> bytearray:
    places = [n for vr in _VRS if (n := content.find(vr, _place(chance, content))) >= 0]
    if places:
        place = chance.choice(places)
        content[place : place + 2] = chance.choice(_VRS)
    return content


def _tag(chance: random.Random, content: bytearray, _other: bytes) -> bytearray:
    place = _place(chance, content) & ~1
    content[place : place + 4] = chance.choice(_TAGS)
    return content


def _value_of_tag(chance: random.Random, content: bytearray, _other: bytes) -> bytearray:
    """Change the value of an element that decoders believe, such as rows."""
    place = content.find(chance.choice(_TAGS))
    if place >= 0:
        start = place + 8 + chance.randrange(4)
        content[start : start + 2] = struct.pack("<H", chance.choice(_LENGTHS) & 0xFFFF)
    return content


def _nest(chance: random.Random, content: bytearray, _other: bytes) -> bytearray:
    """Open sequences in sequences, and never close them."""
    opened = b"\x40\x00\x75\x02SQ\x00\x00\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    place = _place(chance, content) & ~1
    content[place:place] = opened * chance.choice((3, 60, 1500))
    return content


MUTATIONS: tuple[Mutation, ...] = (
    _flip_bits,
    _set_bytes,
    _truncate,
    _delete,
    _repeat,
    _insert_noise,
    _splice,
    _length,
    _representation,
    _tag,
    _value_of_tag,
    _nest,
)
