"""An association's upper layer: PDUs from its socket to its messages, without haste and copies.

pynetdicom looks at each connection a thousand times a second, which forty idle associations make
forty thousand, and copies each fragment of data six times on its way. Here a connection is waited
for, and fragments that have arrived together are handed on as one: each step that lets go of
Python's lock, a read, a write, a digest, waits for it again while pictures are being judged.
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

from vigil_inference.dicom_socket import P_DATA_TF, PDU_HEADER_BYTES

log = structlog.get_logger(__name__)

_ITEM_LENGTH_BYTES = 4
_CONTEXT_AND_CONTROL_BYTES = 2
_COMMAND, _LAST = 0x01, 0x02
"""Bits of a message control header (PS3.8 section E.2)."""
_IDLE_SECONDS = 0.2
"""How often timers are looked at while nothing arrives."""
_DATA_TRANSFER = "Sta6"
_WAITING_STATES = frozenset({"Sta2", _DATA_TRANSFER})
"""Awaiting an A-ASSOCIATE-RQ, and data transfer (PS3.8 section 9.2.1): the peer is next."""


Item = tuple[int, memoryview]
"""A presentation context's ID, and a message control header with a fragment behind it."""


def items_of(content: memoryview) -> list[Item]:
    """Return the presentation data values of a P-DATA-TF PDU (PS3.8 section 9.3.5).

    Parameters
    ----------
    content
        What follows the PDU's header.

    Raises
    ------
    ValueError
        If the items do not fill it exactly.
    """
    items = []
    rest = content
    while rest:
        if len(rest) < _ITEM_LENGTH_BYTES:
            raise ValueError("expected the length of an item, found the end of its PDU")
        (length,) = struct.unpack_from(">L", rest)
        item = rest[_ITEM_LENGTH_BYTES : _ITEM_LENGTH_BYTES + length]
        if len(item) != length or length < _CONTEXT_AND_CONTROL_BYTES:
            raise ValueError(f"expected an item of {length} bytes, found {len(item)}")
        items.append((item[0], item[1:]))
        rest = rest[_ITEM_LENGTH_BYTES + length :]
    return items


def first_message_of(arrived: memoryview) -> tuple[list[Item], int]:
    """Return the items of the P-DATA-TF PDUs that have arrived, and how many bytes these are.

    It ends with the PDU in which a command or a data set ends, before a PDU that has not arrived
    in whole, and before one that is malformed or another kind of PDU.
    """
    items: list[Item] = []
    end = 0
    while len(arrived) >= end + PDU_HEADER_BYTES and arrived[end] == P_DATA_TF:
        (length,) = struct.unpack_from(">L", arrived, end + 2)
        content = arrived[end + PDU_HEADER_BYTES : end + PDU_HEADER_BYTES + length]
        if len(content) < length:
            break
        try:
            found = items_of(content)
        except ValueError:
            break
        items += found
        end += PDU_HEADER_BYTES + length
        if any(value[0] & _LAST for _, value in found):
            break
    return items, end


class DataPdu:
    """What one or several P-DATA-TF PDUs brought.

    Fragments of a data set that follow each other become one.
    """

    pdu_type = P_DATA_TF

    def __init__(self, items: list[Item]) -> None:
        self._items: list[Item] = []
        run: list[memoryview] = []
        for number, (context_id, value) in enumerate(items):
            run.append(value)
            if number + 1 < len(items):
                next_id, following = items[number + 1]
                ends_here = value[0] & (_COMMAND | _LAST) or following[0] & _COMMAND
                if not ends_here and next_id == context_id:
                    continue
            # The last one's control header says whether the data set goes on.
            joined = b"".join([value[:1], *(fragment[1:] for fragment in run)])
            self._items.append((context_id, memoryview(joined)))
            run = []

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
            if self.socket is not None:
                # An ended association is garbage that may lie about for long.
                self.socket.forget()
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
                ready, _, _ = select.select([connection.socket, self._woken], [], [], _IDLE_SECONDS)
                if not ready:
                    connection.rest()
            with contextlib.suppress(OSError):
                self._woken.recv(64)
            if self._process_recv_primitive():
                return False
        return bool(super()._is_transport_event())

    def _read_pdu_data(self) -> None:
        """Read all data that has arrived, up to the end of a message; else the next PDU."""
        connection = self.socket
        if self.state_machine.current_state == _DATA_TRANSFER and connection is not None:
            # What fails here fails again below, where pynetdicom draws its conclusion.
            with contextlib.suppress(OSError):
                items, count = first_message_of(connection.arrived())
                if items:
                    self._recv_pdu.put(DataPdu(items))
                    self.event_queue.put("Evt10")
                    connection.drop(count)
                    return
        super()._read_pdu_data()

    def _decode_pdu(self, bytestream: bytearray) -> Any:
        if bytestream[0] == P_DATA_TF:
            return DataPdu(items_of(memoryview(bytestream)[PDU_HEADER_BYTES:])), "Evt10"
        return super()._decode_pdu(bytestream)
