"""A ``multipart/related`` body (RFC 2387, RFC 2046) taken apart while it arrives.

Each part goes straight to a file, so a body of any size needs no more memory than one chunk.
"""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser

from vigil.errors import VigilError


class BodyMalformed(VigilError):
    """A request body that is not the multipart message it says it is."""

    code = "BODY_MALFORMED"
    http_status = 400


@dataclass
class Part:
    """One part of the body, in a file."""

    path: Path
    content_type: str = ""


class PartSplitter:
    """Splits a body, given chunk by chunk, into files.

    Parameters
    ----------
    boundary
        From the content type.
    new_path
        Gives a fresh path for each part.
    discard_path
        Removes a part's file, if it is there.
    """

    def __init__(
        self,
        boundary: bytes,
        new_path: Callable[[], Path],
        discard_path: Callable[[Path], None],
    ) -> None:
        self.parts: list[Part] = []
        self._new_path = new_path
        self._discard_path = discard_path
        self._file: BinaryIO | None = None
        self._header = [b"", b""]
        self._ended = False
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin,
                    "on_part_data": self._data,
                    "on_part_end": self._end,
                    "on_header_field": lambda data, start, end: self._add(0, data[start:end]),
                    "on_header_value": lambda data, start, end: self._add(1, data[start:end]),
                    "on_header_end": self._end_header,
                    "on_end": self._finish,
                },
            )
        except FormParserError as error:
            raise BodyMalformed("the multipart boundary is not usable") from error

    def write(self, chunk: bytes) -> None:
        """Take the next piece of the body.

        Raises
        ------
        BodyMalformed
            If it is no multipart message.
        OSError
            If a part cannot be written.
        """
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise BodyMalformed("the body is not a multipart message with this boundary") from error

    def finish(self) -> list[Part]:
        """Return the parts, once the body has ended.

        Raises
        ------
        BodyMalformed
            If the closing boundary did not come: the last part may be cut short.
        """
        if not self._ended:
            raise BodyMalformed("the multipart body ends before its closing boundary")
        if not self.parts:
            raise BodyMalformed("the multipart body holds no part")
        return self.parts

    def discard(self) -> None:
        """Close and delete all files."""
        if self._file is not None:
            with contextlib.suppress(OSError):  # a full disk refuses the buffer's rest
                self._file.close()
        for part in self.parts:
            self._discard_path(part.path)

    def _begin(self) -> None:
        path = self._new_path()
        self.parts.append(Part(path))
        self._file = path.open("xb")

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._file is not None:
            self._file.write(memoryview(data)[start:end])

    def _end(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _add(self, which: int, piece: bytes) -> None:
        self._header[which] += piece

    def _end_header(self) -> None:
        name, value = self._header
        if name.strip().lower() == b"content-type":
            self.parts[-1].content_type = value.decode("latin-1").strip()
        self._header = [b"", b""]

    def _finish(self) -> None:
        self._ended = True
