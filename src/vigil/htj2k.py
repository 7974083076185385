"""HTJ2K pictures, whole or not at all: half a film must not be judged as if it were one.

imagecodecs loses the error of OpenJPH that comes in the middle of a picture: Python prints it as
"Exception ignored", and the rest of the picture is made up. Here it is noticed.
"""

import sys
import threading
from typing import Any

import imagecodecs

_decoding: dict[int, list[BaseException | None]] = {}
"""What was lost so far, by the thread that decodes."""


class PictureIncomplete(ValueError):
    """The decoder gave up in the middle of a picture."""


def decode_htj2k(source: bytes, **options: Any) -> Any:
    """Decode an HTJ2K codestream, with imagecodecs' options.

    Raises
    ------
    PictureIncomplete
        If it breaks off in the middle.
    imagecodecs.Htj2kError
        If it is none.
    """
    if sys.unraisablehook is not _notice:  # others replace it too, so it is looked after each time
        _others[0] = sys.unraisablehook
        sys.unraisablehook = _notice
    thread = threading.get_ident()
    lost = _decoding[thread] = []
    try:
        frame = imagecodecs.htj2k_decode(source, **options)
    finally:
        del _decoding[thread]
    if lost:
        raise PictureIncomplete(f"the codestream breaks off ({lost[0]})")
    return frame


def _notice(unraisable: Any) -> None:
    lost = _decoding.get(threading.get_ident())
    if lost is not None and "htj2k" in str(unraisable.object):
        lost.append(unraisable.exc_value)
    else:
        _others[0](unraisable)


_others: list[Any] = [sys.__unraisablehook__]
"""Who else is told of lost errors; the last one who was set."""
