"""A C-STORE client on a bare socket, which sends what no library would."""

import socket
import struct
from io import BytesIO
from typing import Self

from pynetdicom.dimse_messages import C_STORE_RQ
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.pdu import A_ASSOCIATE_RQ, P_DATA_TF
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    ImplementationClassUIDNotification,
    MaximumLengthNotification,
)
from pynetdicom.presentation import build_context

from tests.system.peers import HOST

_PDU_BYTES = 16384
_ACCEPTED, _DATA = 0x02, 0x04


class Hangs(AssertionError):
    """The peer neither answered nor closed in time."""


def association_request(sop_class_uid: str, transfer_syntax_uid: str) -> bytes:
    """Return an A-ASSOCIATE-RQ for one kind of object (PS3.8 section 9.3.2)."""
    request = A_ASSOCIATE()
    request.application_context_name = "1.2.840.10008.3.1.1.1"
    request.calling_ae_title, request.called_ae_title = "FUZZ", "VIGIL"
    longest = MaximumLengthNotification()
    longest.maximum_length_received = _PDU_BYTES
    implementation = ImplementationClassUIDNotification()
    implementation.implementation_class_uid = "2.25.1"
    request.user_information = [longest, implementation]
    context = build_context(sop_class_uid, transfer_syntax_uid)
    context.context_id = 1
    request.presentation_context_definition_list = [context]
    pdu = A_ASSOCIATE_RQ()
    pdu.from_primitive(request)
    return bytes(pdu.encode())


def store_request(sop_class_uid: str, sop_instance_uid: str, data_set: bytes) -> bytes:
    """Return the P-DATA-TF PDUs of a C-STORE request, with any bytes as its data set."""
    request = C_STORE()
    request.MessageID, request.Priority = 1, 2
    request.AffectedSOPClassUID = sop_class_uid
    request.AffectedSOPInstanceUID = sop_instance_uid
    request.DataSet = BytesIO(data_set or b"\0")
    message = C_STORE_RQ()
    message.primitive_to_message(request)
    pdus = []
    for primitive in message.encode_msg(1, _PDU_BYTES):
        pdu = P_DATA_TF()
        pdu.from_primitive(primitive)
        pdus.append(bytes(pdu.encode()))
    return b"".join(pdus)


class Wire:
    """A connection to a DICOM port."""

    def __init__(self, port: int, timeout_seconds: float) -> None:
        self._socket = socket.create_connection((HOST, port), timeout=timeout_seconds)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._socket.close()

    def associate(self, sop_class_uid: str, transfer_syntax_uid: str) -> bool:
        """Return whether the peer accepts one context for this kind of object."""
        self.send(association_request(sop_class_uid, transfer_syntax_uid))
        answer = self.receive()
        # Presentation context items of an A-ASSOCIATE-AC (0x21): byte 6 is the result.
        item = answer.find(b"\x21\x00")
        return answer[:1] == bytes([_ACCEPTED]) and item > 0 and answer[item + 6] == 0

    def send(self, content: bytes) -> bool:
        """Send bytes; return whether the peer took them all."""
        try:
            self._socket.sendall(content)
        except TimeoutError as error:
            raise Hangs("the service took no more bytes and did not close") from error
        except OSError:
            return False
        return True

    def receive(self) -> bytes:
        """Return the next PDU, "" when the peer has closed.

        Raises
        ------
        Hangs
            If nothing comes in time.
        """
        head = self._read(6)
        if len(head) < 6:
            return b""
        return head + self._read(struct.unpack(">BBL", head)[2])

    def end(self) -> None:
        """Say that nothing more comes, and wait until the peer closes.

        Raises
        ------
        Hangs
            If it does not.
        """
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:
            return
        while self._read(65536):
            pass

    def _read(self, size: int) -> bytes:
        content = b""
        while len(content) < size:
            try:
                piece = self._socket.recv(size - len(content))
            except TimeoutError as error:
                raise Hangs("the service neither answered nor closed in time") from error
            except OSError:
                break
            if not piece:
                break
            content += piece
        return content
