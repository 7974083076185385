"""The DICOM door: a C-STORE and C-ECHO service class provider.

A request reaches :func:`handle_store` in one hop from pynetdicom and the intake in the next. Data
sets stream to a file byte by byte as they were sent; nothing is decoded on the way. Statuses follow
DICOM PS3.4 table B.2-1: every error that Vigil raises knows its own.
"""

import functools
import re
import tempfile

import structlog
from pydicom import Dataset
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)
from pynetdicom import (
    AE,
    ALL_TRANSFER_SYNTAXES,
    AllStoragePresentationContexts,
    _config,
    build_context,
    evt,
)
from pynetdicom.presentation import PresentationContext
from pynetdicom.sop_class import Verification
from pynetdicom.transport import ThreadedAssociationServer

from vigil.errors import StorageError, VigilError
from vigil_inference.intake import Intake, Source, errno_name
from vigil_inference.settings import Settings
from vigil_inference.store import Outcome

log = structlog.get_logger(__name__)

SUCCESS = 0x0000
COERCION = 0xB000
"""Stored, but what is held differs from what was sent (DICOM PS3.4 table B.2-1)."""
UNEXPECTED = 0xC001
_COMMENT_LENGTH = 64

# What asks for no decoding comes first, so a sender that offers a choice sends it plain.
TRANSFER_SYNTAXES = [
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    *(
        syntax
        for syntax in ALL_TRANSFER_SYNTAXES
        if syntax not in (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
    ),
]
_VIDEO = {syntax for syntax in TRANSFER_SYNTAXES if re.search("MPEG|HEVC|SMPTE", UID(syntax).name)}
_UNCOMPRESSED = [
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
]


def transfer_syntaxes_of(sop_class: UID) -> list[UID]:
    """Return what is accepted for a storage SOP class, the preferred first.

    All syntaxes for all images but video, and for video all; objects without pixels have nothing
    to compress. pynetdicom copies every pair for every association, so idle pairs cost time.
    """
    if "Video" in sop_class.name:
        return TRANSFER_SYNTAXES
    if "Image" in sop_class.name:
        return [syntax for syntax in TRANSFER_SYNTAXES if syntax not in _VIDEO]
    return _UNCOMPRESSED


@functools.cache
def supported_contexts() -> list[PresentationContext]:
    """Return what is accepted: whatever object a study holds is taken, and then explained."""
    return [
        build_context(Verification),
        *(
            build_context(sop_class, transfer_syntaxes_of(sop_class))
            for sop_class in (UID(c.abstract_syntax) for c in AllStoragePresentationContexts)
        ),
    ]


def handle_store(event: evt.Event, intake: Intake) -> Dataset:
    """Answer a C-STORE request once its object is durable and recorded."""
    title = "".join(c for c in str(event.assoc.requestor.ae_title) if c.isprintable()).strip()
    try:
        receipt = intake.accept(
            event.dataset_path,
            Source(
                "C-STORE",
                calling_ae_title=title,
                sop_class_uid=str(event.request.AffectedSOPClassUID or ""),
                sop_instance_uid=str(event.request.AffectedSOPInstanceUID or ""),
            ),
        )
    except VigilError as error:
        log.warning("refused", door="C-STORE", code=error.code, calling_ae_title=title)
        return _status(error.dimse_status, str(error))
    except Exception as error:  # the association must live, and the sender must keep its copy
        log.error("store_failed", calling_ae_title=title, error=type(error).__name__)
        return _status(UNEXPECTED, "the service failed on this object")
    if receipt.outcome is Outcome.DIFFERS:
        return _status(COERCION, receipt.message)
    return _status(SUCCESS)


def _status(code: int, comment: str = "") -> Dataset:
    status = Dataset()
    status.Status = code
    if comment:
        status.ErrorComment = comment[:_COMMENT_LENGTH]
    return status


class DicomListener:
    """The listening application entity.

    Parameters
    ----------
    settings
        Address, title, limits.
    intake
        Where objects go.
    """

    def __init__(self, settings: Settings, intake: Intake) -> None:
        self._intake = intake
        self._address = (settings.dicom_host, settings.dicom_port)
        self._server: ThreadedAssociationServer | None = None
        self._previous_tempdir: str | None = None
        ae = AE(settings.dicom_ae_title)
        ae.maximum_associations = settings.dicom_max_associations
        ae.maximum_pdu_size = settings.dicom_max_pdu_bytes
        ae.network_timeout = settings.dicom_timeout_seconds
        ae.acse_timeout = settings.dicom_timeout_seconds
        ae.dimse_timeout = settings.dicom_timeout_seconds
        ae.require_called_aet = settings.dicom_require_called_ae_title
        ae.require_calling_aet = list(settings.dicom_allowed_calling_ae_titles)
        self._ae = ae

    def start(self) -> None:
        """Listen.

        Raises
        ------
        StorageError
            If the port cannot be bound.
        """
        # pynetdicom writes incoming data sets to the temporary folder: on the spool's own file
        # system they become the original by a link, without a second copy.
        self._previous_tempdir = tempfile.tempdir
        tempfile.tempdir = str(self._intake.spool)
        _config.STORE_RECV_CHUNKED_DATASET = True
        try:
            self._server = self._ae.start_server(
                self._address,
                block=False,
                contexts=supported_contexts(),
                evt_handlers=[
                    (evt.EVT_C_STORE, handle_store, [self._intake]),
                    (evt.EVT_C_ECHO, lambda event: SUCCESS),
                ],
            )
        except OSError as error:
            tempfile.tempdir = self._previous_tempdir
            host, port = self._address
            raise StorageError(
                f"DICOM {host}:{port} cannot be bound ({errno_name(error)})"
            ) from error
        log.info("dicom_listening", host=self._address[0], port=self.port)

    @property
    def is_listening(self) -> bool:
        """Whether associations are accepted."""
        return self._server is not None

    @property
    def port(self) -> int:
        """The port that was bound."""
        if self._server is None:
            return self._address[1]
        return int(self._server.socket.getsockname()[1])

    def stop(self) -> None:
        """Abort what is open and stop listening; unacknowledged objects stay with their senders."""
        if self._server is None:
            return
        self._ae.shutdown()
        self._server = None
        tempfile.tempdir = self._previous_tempdir
