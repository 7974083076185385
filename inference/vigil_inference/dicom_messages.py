"""DIMSE messages while they arrive: the data set of a C-STORE goes to the spool, PDV by PDV.

pynetdicom's own way to disk ends the association without an answer when a write fails, waits for
ever for a message that trickles in, and leaves the file of an aborted one behind. Here a full disk
is remembered and answered with 0xA700, a message has a deadline, and files are removed with the
association that wrote them.
"""

import contextlib
import hashlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO, FileIO
from pathlib import Path
from typing import Any

import structlog
from pydicom.filebase import DicomFileLike
from pydicom.filewriter import write_file_meta_info
from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_messages import C_STORE_RQ, DIMSEMessage
from pynetdicom.dimse_primitives import DimsePrimitiveType
from pynetdicom.dsutils import create_file_meta
from pynetdicom.pdu_primitives import P_DATA

from vigil.errors import StorageError
from vigil_inference.headers import ObjectUnreadable
from vigil_inference.intake import Intake, errno_name

log = structlog.get_logger(__name__)

_MOST_IN_MEMORY = 16 * 1024 * 1024
"""Of a message other than a C-STORE request: a storage commitment of 60,000 objects is 8 MiB."""


_IDLE_SECONDS = 0.2
"""How often an association looks at its timeouts while nothing happens."""


@dataclass(frozen=True)
class Received:
    """A whole DICOM file in the spool, and the SHA-256 of its data set."""

    path: Path
    sha256: str


class MessageTooLong(ValueError):
    """A message that belongs into memory is larger than any use of it."""


class IncomingDataSet(BytesIO):
    """What pynetdicom writes a message's data set to.

    Parameters
    ----------
    message
        The message; pynetdicom makes it a ``C_STORE_RQ`` once its command set has arrived.
    association
        What it came through.
    intake
        Whose spool takes the data sets of C-STORE requests.
    """

    def __init__(self, message: DIMSEMessage, association: Association, intake: Intake) -> None:
        super().__init__()
        self._message = message
        self._association = association
        self._intake = intake
        self._file: FileIO | None = None
        self._digest = hashlib.sha256()
        self._path: Path | None = None
        self._error: StorageError | None = None

    @property
    def is_in_spool(self) -> bool:
        """Whether there is a file to be removed."""
        return self._path is not None

    def write(self, data: bytes | memoryview) -> int:  # type: ignore[override]
        """Take a fragment; an error of the disk is kept for :meth:`finish`.

        Raises
        ------
        MessageTooLong
            If the fragment does not fit into memory with those before it.
        """
        if not isinstance(self._message, C_STORE_RQ):
            if self.tell() + len(data) > _MOST_IN_MEMORY:
                raise MessageTooLong(f"expected a message of at most {_MOST_IN_MEMORY} bytes")
            return super().write(data)
        if self._error is not None:
            return len(data)  # the rest is read, so that the sender hears why
        try:
            if self._file is None:
                self._file = self._open()
            _write_all(self._file, data)
            self._digest.update(data)
        except OSError as error:
            self._fail(StorageError(f"the disk did not take the bytes ({errno_name(error)})"))
        except StorageError as error:
            self._fail(error)
        return len(data)

    def finish(self) -> Received:
        """Return the whole DICOM file.

        Raises
        ------
        StorageError
            If the disk did not take it.
        ObjectUnreadable
            If the request brought no data set.
        """
        if self._error is None and self._file is not None:
            try:
                self._file.close()
            except OSError as error:
                self._fail(StorageError(f"the disk did not take the bytes ({errno_name(error)})"))
        if self._error is not None:
            raise self._error
        if self._path is None:
            raise ObjectUnreadable("expected a data set with the request, found none")
        return Received(self._path, self._digest.hexdigest())

    def discard(self) -> None:
        """Remove the file."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
        if self._path is not None:
            self._intake.discard_spool_path(self._path)
            self._path = None

    def _open(self) -> FileIO:
        self._intake.check_space()
        command = self._message.command_set
        context = self._association._accepted_cx[self._message.context_id]
        meta = create_file_meta(
            sop_class_uid=command.AffectedSOPClassUID,
            sop_instance_uid=command.AffectedSOPInstanceUID,
            transfer_syntax=context.transfer_syntax[0],
        )
        self._path = self._intake.new_spool_path()
        head = BytesIO()
        head.write(b"\0" * 128 + b"DICM")
        write_file_meta_info(DicomFileLike(head), meta)
        # Without a buffer: fragments are large, and each copy of them costs as much as its write.
        file: FileIO = self._path.open("xb", buffering=0)
        _write_all(file, head.getbuffer())
        return file

    def _fail(self, error: StorageError) -> None:
        log.error("receive_failed", reason=str(error))
        self._error = error
        self.discard()


class MessageReceiver(DIMSEServiceProvider):  # type: ignore[misc]
    """The DIMSE service provider of an association that stores.

    Parameters
    ----------
    association
        What it serves.
    intake
        Whose spool takes data sets.
    timeout_seconds
        Longest time from a message's first fragment to its last.
    stirred
        Set when there is something for the association to do.
    """

    def __init__(
        self,
        association: Association,
        intake: Intake,
        timeout_seconds: float,
        stirred: threading.Event,
    ) -> None:
        super().__init__(association)
        self.message: DIMSEMessage | None = None
        self._intake = intake
        self._timeout_seconds = timeout_seconds
        self._stirred = stirred
        self._began = 0.0
        # By identity. Two threads take from it: single steps that need no lock.
        self._arriving: dict[int, IncomingDataSet] = {}
        self.after_response: Callable[[], None] | None = None
        """Called once, when the next response has been handed to the transport."""

    def receive_primitive(self, primitive: P_DATA) -> None:
        """Take fragments; what is malformed, too long or too late ends the association."""
        if self.message is None:
            message = DIMSEMessage()
            message.data_set = IncomingDataSet(message, self.assoc, self._intake)
            self._arriving[id(message.data_set)] = message.data_set
            self.message = message
            self._began = time.monotonic()
        elif time.monotonic() - self._began > self._timeout_seconds:
            self._end("message_took_too_long", "TimeoutError")
            return
        data_set = self.message.data_set
        try:
            super().receive_primitive(primitive)
        except Exception as error:  # pynetdicom's decoder raises whatever a message makes it meet
            self._end("message_malformed", type(error).__name__)
        if self.message is None and not data_set.is_in_spool:
            self.release(data_set)  # whole, and of memory: it goes with its request
        if not self.msg_queue.empty():
            self._stirred.set()

    def get_msg(self, block: bool = False) -> Any:
        """Return the next message, (None, None) if there is none.

        An association asks a thousand times a second; it waits here until there is an answer, or
        it is time to look at its timeouts.
        """
        if not block and self.msg_queue.empty():
            # As in pynetdicom's own loop: one that wants to abort may do so while this waits.
            self.assoc._is_paused = True
            self._stirred.wait(_IDLE_SECONDS)
            self.assoc._reactor_checkpoint.wait()
            self.assoc._is_paused = False
        self._stirred.clear()
        return super().get_msg(block)

    def send_msg(self, primitive: DimsePrimitiveType, context_id: int) -> None:
        """Send a message, then do what was to wait for it."""
        try:
            super().send_msg(primitive, context_id)
        finally:
            if primitive.MessageIDBeingRespondedTo is not None and self.after_response is not None:
                after, self.after_response = self.after_response, None
                after()

    def release(self, data_set: IncomingDataSet) -> None:
        """Hand a whole data set over to its handler, which discards it."""
        self._arriving.pop(id(data_set), None)

    def discard(self) -> None:
        """Remove what no handler took: the association is over."""
        while self._arriving:
            with contextlib.suppress(KeyError):  # the other thread took the last one
                _, data_set = self._arriving.popitem()
                data_set.discard()

    def _end(self, event: str, error: str) -> None:
        log.warning(event, error=error)
        self.message = None
        self.discard()
        self.dul.event_queue.put("Evt19")  # an invalid PDU: the state machine aborts


def _write_all(file: FileIO, data: bytes | memoryview) -> None:
    """Write all of it: a nearly full disk takes a part, and says so at the next write only."""
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]
