"""DIMSE messages while they arrive: the data set of a C-STORE goes to the spool, PDV by PDV.

pynetdicom's own way to disk ends the association without an answer when a write fails, waits for
ever for a message that trickles in, and leaves the file of an aborted one behind. Here a full disk
is remembered and answered with 0xA700, a message has a deadline, and files are removed with the
association that wrote them.
"""

import contextlib
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

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
        self._file: BinaryIO | None = None
        self._path: Path | None = None
        self._error: StorageError | None = None

    def write(self, data: bytes) -> int:  # type: ignore[override]
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
            self._file.write(data)
        except OSError as error:
            self._fail(StorageError(f"the disk did not take the bytes ({errno_name(error)})"))
        except StorageError as error:
            self._fail(error)
        return len(data)

    def finish(self) -> Path:
        """Return the path of the whole DICOM file.

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
        return self._path

    def discard(self) -> None:
        """Remove the file."""
        if self._file is not None:
            with contextlib.suppress(OSError):  # a full disk refuses the buffer's rest
                self._file.close()
        if self._path is not None:
            self._intake.discard_spool_path(self._path)
            self._path = None

    def _open(self) -> BinaryIO:
        self._intake.check_space()
        command = self._message.command_set
        context = self._association._accepted_cx[self._message.context_id]
        meta = create_file_meta(
            sop_class_uid=command.AffectedSOPClassUID,
            sop_instance_uid=command.AffectedSOPInstanceUID,
            transfer_syntax=context.transfer_syntax[0],
        )
        self._path = self._intake.new_spool_path()
        file = self._path.open("xb", buffering=256 * 1024)
        file.write(b"\0" * 128 + b"DICM")
        write_file_meta_info(DicomFileLike(file), meta)
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
    """

    def __init__(self, association: Association, intake: Intake, timeout_seconds: float) -> None:
        super().__init__(association)
        self.message: DIMSEMessage | None = None
        self._intake = intake
        self._timeout_seconds = timeout_seconds
        self._began = 0.0
        self._arriving: list[IncomingDataSet] = []
        self.after_response: Callable[[], None] | None = None
        """Called once, when the next response has been handed to the transport."""

    def receive_primitive(self, primitive: P_DATA) -> None:
        """Take fragments; what is malformed, too long or too late ends the association."""
        if self.message is None:
            message = DIMSEMessage()
            message.data_set = IncomingDataSet(message, self.assoc, self._intake)
            self._arriving.append(message.data_set)
            self.message = message
            self._began = time.monotonic()
        elif time.monotonic() - self._began > self._timeout_seconds:
            self._end("message_took_too_long", "TimeoutError")
            return
        try:
            super().receive_primitive(primitive)
        except Exception as error:  # pynetdicom's decoder raises whatever a message makes it meet
            self._end("message_malformed", type(error).__name__)

    def send_msg(self, primitive: DimsePrimitiveType, context_id: int) -> None:
        """Send a message, then do what was to wait for it."""
        super().send_msg(primitive, context_id)
        if primitive.MessageIDBeingRespondedTo is not None and self.after_response is not None:
            after, self.after_response = self.after_response, None
            after()

    def release(self, data_set: IncomingDataSet) -> None:
        """Hand a whole data set over to its handler, which discards it."""
        # Other than list.remove, not by value: two empty streams must not be taken for one.
        self._arriving = [other for other in self._arriving if other is not data_set]

    def discard(self) -> None:
        """Remove what no handler took: the association is over."""
        arriving, self._arriving = self._arriving, []
        for data_set in arriving:
            data_set.discard()

    def _end(self, event: str, error: str) -> None:
        log.warning(event, error=error)
        self.message = None
        self.discard()
        self.dul.event_queue.put("Evt19")  # an invalid PDU: the state machine aborts
