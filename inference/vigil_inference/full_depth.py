"""Pictures at full depth on the wire: coded without loss, made once for all who look.

A value is predicted from its neighbours and what is left is deflated, which any browser unpacks
(``docs/decisions/full-depth-pictures.md`` has what was measured).
"""

import threading
import zlib
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vigil.errors import VigilError
from vigil.presentation import GreyView, read_full_depth

_STRIP_ROWS = 256
_GZIP = 31  # zlib's window bits for a gzip header
_CACHE_BYTES = 64 * 1024 * 1024
_MOST_WAITING = 32


class TooManyPictures(VigilError):
    """More pictures are asked for at full depth than can be decoded now."""

    code = "BUSY"
    http_status = 503


@dataclass(frozen=True)
class Coded:
    """A picture at full depth, ready to be sent; see :class:`vigil.presentation.FullDepth`.

    ``content`` unpacks (gzip) to the high bytes of all residuals and then the low ones.
    """

    rows: int
    columns: int
    slope: float
    intercept: float
    has_mask: bool
    is_inverted: bool
    views: tuple[GreyView, ...]
    content: bytes


class FullDepthPictures:
    """Decodes pictures in one thread, and keeps those that were asked for last.

    Analysis has the other cores: a reader waits a moment, a patient's finding does not.
    """

    def __init__(self, cache_bytes: int = _CACHE_BYTES) -> None:
        self._cache_bytes = cache_bytes
        self._cache: OrderedDict[str, Coded] = OrderedDict()
        self._waiting: dict[str, Future[Coded]] = {}
        self._lock = threading.Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="full-depth")
        self.decoded = 0
        """How many pictures were decoded, not counting what was kept."""

    def ask(self, path: Path, key: str, *, quarter_turns: int, inverted: bool) -> Future[Coded]:
        """Return a picture, now or when it is decoded.

        Parameters
        ----------
        path, key
            Its file, and what tells it from others: its digest.
        quarter_turns, inverted
            What was done to it before it was analysed.

        Raises
        ------
        TooManyPictures
            If more wait than will be served soon. The future raises ImageRefused.
        """
        with self._lock:
            if key in self._cache:
                self._cache.move_to_end(key)
                done: Future[Coded] = Future()
                done.set_result(self._cache[key])
                return done
            if key in self._waiting:
                return self._waiting[key]
            if len(self._waiting) >= _MOST_WAITING:
                raise TooManyPictures("too many pictures are asked for; try again in a moment")

            def decode() -> Coded:
                return code(path, quarter_turns=quarter_turns, inverted=inverted)

            future = self._waiting[key] = self._thread.submit(self._made, key, decode)
            return future

    def close(self) -> None:
        """Let go of the thread; what waits is not decoded."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _made(self, key: str, decode: Callable[[], Coded]) -> Coded:
        try:
            coded = decode()
            with self._lock:
                self.decoded += 1
                self._cache[key] = coded
                while len(self._cache) > 1 and self._size() > self._cache_bytes:
                    self._cache.popitem(last=False)
            return coded
        finally:
            with self._lock:
                self._waiting.pop(key, None)

    def _size(self) -> int:
        return sum(len(coded.content) for coded in self._cache.values())


def code(path: Path, *, quarter_turns: int, inverted: bool) -> Coded:
    """Read a file and code its picture.

    Raises
    ------
    ImageRefused
        As :func:`vigil.presentation.read_full_depth`.
    """
    picture = read_full_depth(path, quarter_turns=quarter_turns, inverted=inverted)
    rows, columns = picture.codes.shape
    return Coded(
        rows=rows,
        columns=columns,
        slope=picture.slope,
        intercept=picture.intercept,
        has_mask=picture.has_mask,
        is_inverted=picture.is_inverted,
        views=picture.views,
        content=deflate(picture.codes),
    )


def deflate(codes: NDArray[np.uint16]) -> bytes:
    """Return (rows, columns) uint16 as gzipped residuals, the high bytes before the low ones.

    A residual is the difference to the prediction, modulo 65536, with its sign in the lowest bit
    so that small differences of either sign have a high byte of 0. Runs are all that deflate finds
    in noise (``Z_RLE``); to look for more costs three times as much and gains nothing.
    """
    strips = [
        _residuals(codes, first, min(first + _STRIP_ROWS, codes.shape[0]))
        for first in range(0, codes.shape[0], _STRIP_ROWS)
    ]
    packer = zlib.compressobj(6, zlib.DEFLATED, _GZIP, 9, zlib.Z_RLE)
    parts = [packer.compress((strip >> 8).astype(np.uint8).tobytes()) for strip in strips]
    parts += [packer.compress(strip.astype(np.uint8).tobytes()) for strip in strips]
    return b"".join((*parts, packer.flush()))


def _residuals(codes: NDArray[np.uint16], first: int, last: int) -> NDArray[np.uint16]:
    """Return the folded residuals of rows ``first`` to ``last``, by the predictor of JPEG-LS.

    (ITU-T T.87 A.4.1: the median of left, above, and left + above - the corner between them.) In
    the first row there is only left, in the first column only above.
    """
    here = codes[first:last].astype(np.int32)
    above = np.empty_like(here)
    above[1:] = here[:-1]
    above[0] = codes[first - 1] if first else np.concatenate(([0], here[0, :-1]))
    left, corner = np.empty_like(here), np.empty_like(here)
    left[:, 1:], corner[:, 1:] = here[:, :-1], above[:, :-1]
    left[:, 0] = corner[:, 0] = above[:, 0]
    if not first:
        corner[0] = above[0]
    low, high = np.minimum(left, above), np.maximum(left, above)
    predicted = np.where(corner >= high, low, np.where(corner <= low, high, left + above - corner))
    signed = (here - predicted).astype(np.uint16).view(np.int16).astype(np.int32)
    return ((signed << 1) ^ (signed >> 15)).astype(np.uint16)
