"""An association's socket: no read waits for ever, and what has arrived is taken in one go.

pynetdicom reads a PDU without a deadline, so that a slow peer holds its association for good, and
asks the system for each of its parts.
"""

import contextlib
import socket
import struct
import time

from pynetdicom.association import Association
from pynetdicom.transport import AssociationSocket

LARGEST_PDU_BYTES = 2 * 1024 * 1024
"""An A-ASSOCIATE-RQ of 128 contexts with 40 syntaxes each is 400 KiB; data must obey our limit."""

P_DATA_TF = 0x04
PDU_HEADER_BYTES = 6
_AHEAD_BYTES = 512 * 1024


class TimedSocket(AssociationSocket):  # type: ignore[misc]
    """A socket on which no single read or write takes longer than its timeout."""

    def __init__(self, association: Association, client: socket.socket, timeout: float) -> None:
        super().__init__(association, client_socket=client)
        self._timeout = timeout
        self._ahead = bytearray()
        self._first = self._last = 0
        client.settimeout(timeout)

    @property
    def ready(self) -> bool:
        """Whether there is something to be read: a PDU that was read ahead, or new bytes."""
        return self.socket is not None and (self._has_pdu() or bool(super().ready))

    def arrived(self) -> memoryview:
        """Return what has arrived, from the start of a PDU on; :meth:`drop` says what is done with.

        The bytes are good until the next call of a method. To be asked when the socket is ready.

        Raises
        ------
        OSError
            If the connection failed.
        """
        if not self._has_pdu() and self.socket is not None:
            if not self._ahead:
                self._ahead = bytearray(_AHEAD_BYTES)
            begun = self._last - self._first
            self._ahead[:begun] = self._ahead[self._first : self._last]
            self._first, self._last = 0, begun
            with memoryview(self._ahead) as view:
                self._last += self.socket.recv_into(view[begun:])
        return memoryview(self._ahead)[self._first : self._last]

    def drop(self, count: int) -> None:
        """Forget the first bytes of what has arrived."""
        self._first += count

    def rest(self) -> None:
        """Give the memory back that reading ahead takes, if nothing lies there."""
        if self._first == self._last:
            self.forget()

    def forget(self) -> None:
        """Give the memory back, and what lies there up."""
        self._ahead = bytearray()
        self._first = self._last = 0

    def recv(self, nr_bytes: int) -> bytearray:
        """Return the next bytes, fewer where the peer closed.

        Raises
        ------
        OSError
            If they do not come in time, or are more than any PDU has (PS3.8 section 9.3).
        """
        if nr_bytes > LARGEST_PDU_BYTES:
            raise OSError(f"expected a PDU of at most {LARGEST_PDU_BYTES} bytes, found {nr_bytes}")
        if self.socket is None:
            raise OSError("the connection is closed")
        content = bytearray(nr_bytes)
        received = min(nr_bytes, self._last - self._first)
        content[:received] = self._ahead[self._first : self._first + received]
        self._first += received
        deadline = time.monotonic() + self._timeout
        with memoryview(content) as view:
            while received < nr_bytes:
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    raise TimeoutError("the rest of a PDU did not come in time")
                self.socket.settimeout(remaining)
                count = self.socket.recv_into(view[received:])
                if not count:
                    break
                received += count
        self.socket.settimeout(self._timeout)
        del content[received:]
        return content

    def _has_pdu(self) -> bool:
        """Return whether a whole PDU of data was read ahead, or the start of any other one."""
        held = self._last - self._first
        if held < PDU_HEADER_BYTES:
            return False
        kind, _, length = struct.unpack_from(">BBL", self._ahead, self._first)
        return bool(kind != P_DATA_TF or held >= PDU_HEADER_BYTES + length)

    def _shutdown_socket(self) -> None:
        """Close the socket also where the peer was faster: its shutdown then fails."""
        if self.socket is None:
            return
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(OSError):
            self.socket.close()
