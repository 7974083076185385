"""An association's upper layer: PDUs from its socket to its messages, without haste and copies.

pynetdicom looks at each connection a thousand times a second, which forty idle associations make
forty thousand, and copies each fragment of data six times on its way. Here a connection is waited
for, and fragments are views of what was read.
"""

import contextlib
import queue
import select
import socket
import struct
import threading
from typing import Any

import structlog
from pynetdicom.association import Association
from pynetdicom.dul import DULServiceProvider
from pynetdicom.pdu_primitives import P_DATA

log = structlog.get_logger(__name__)

_P_DATA_TF = 0x04
_PDU_HEADER_BYTES = 6
_ITEM_LENGTH_BYTES = 4
_IDLE_SECONDS = 0.2
"""How often timers are looked at while nothing arrives."""
_WAITING_STATES = frozenset({"Sta2", "Sta6"})
"""Awaiting an A-ASSOCIATE-RQ, and data transfer (PS3.8 section 9.2.1): the peer is next."""


class DataPdu:
    """A P-DATA-TF PDU whose values are views of the bytes that were read (PS3.8 section 9.3.5).

    Raises
    ------
    ValueError
        If its items do not fill it exactly.
    """

    pdu_type = _P_DATA_TF

    def __init__(self, content: bytearray) -> None:
        self._items: list[tuple[int, memoryview]] = []
        rest = memoryview(content)[_PDU_HEADER_BYTES:]
        while rest:
            if len(rest) < _ITEM_LENGTH_BYTES:
                raise ValueError("expected the length of an item, found the end of its PDU")
            (length,) = struct.unpack_from(">L", rest)
            item = rest[_ITEM_LENGTH_BYTES : _ITEM_LENGTH_BYTES + length]
            if len(item) != length or length < 2:  # context ID and message control header
                raise ValueError(f"expected an item of {length} bytes, found {len(item)}")
            self._items.append((item[0], item[1:]))
            rest = rest[_ITEM_LENGTH_BYTES + length :]

    def to_primitive(self) -> P_DATA:
        """Return what the state machine hands on."""
        primitive = P_DATA()
        primitive.presentation_data_value_list = []
        # Its setter wants bytes, which would be copies.
        primitive.presentation_data_value_list.extend(self._items)
        return primitive


class _StirringQueue(queue.Queue[Any]):
    """A queue that stirs its reader."""

    def __init__(self, stirred: threading.Event) -> None:
        super().__init__()
        self._stirred = stirred

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        super().put(item, block, timeout)
        self._stirred.set()


class Reactor(DULServiceProvider):  # type: ignore[misc]
    """The upper layer of an association; its failure ends the association and nothing else.

    Parameters
    ----------
    association
        What it serves.
    stirred
        Set when there is something for the association's own thread to do.
    """

    def __init__(self, association: Association, stirred: threading.Event) -> None:
        super().__init__(association)
        self.to_user_queue = _StirringQueue(stirred)
        self._woken, self._waker = socket.socketpair()
        for end in (self._woken, self._waker):
            end.setblocking(False)

    def run_reactor(self) -> None:
        """Run until the association ends."""
        try:
            super().run_reactor()
        except Exception as error:  # such as a PDU that its state machine has no answer for
            log.warning("association_failed", error=type(error).__name__)
            self.assoc.dimse.discard()
        finally:
            self._waker.close()
            self._woken.close()

    def send_pdu(self, primitive: Any) -> None:
        """Have something sent to the peer, at once."""
        super().send_pdu(primitive)
        self._wake()

    def kill_dul(self) -> None:
        """End the thread."""
        super().kill_dul()
        self._wake()

    def _wake(self) -> None:
        with contextlib.suppress(OSError):  # woken often enough already, or ended
            self._waker.send(b"!")

    def _is_transport_event(self) -> bool:
        """Wait until the peer or our own side wants something, then let pynetdicom see to it."""
        connection = self.socket
        if (
            self.state_machine.current_state in _WAITING_STATES
            and connection is not None
            and self.event_queue.empty()
            and not connection.ready
        ):
            with contextlib.suppress(OSError, ValueError):  # closed by another thread
                select.select([connection.socket, self._woken], [], [], _IDLE_SECONDS)
            with contextlib.suppress(OSError):
                self._woken.recv(64)
            if self._process_recv_primitive():
                return False
        return bool(super()._is_transport_event())

    def _decode_pdu(self, bytestream: bytearray) -> Any:
        if bytestream[0] == _P_DATA_TF:
            return DataPdu(bytestream), "Evt10"
        return super()._decode_pdu(bytestream)
