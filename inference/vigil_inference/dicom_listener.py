"""The DICOM door: a service class provider of storage, verification and storage commitment.

A request reaches :func:`handle_store` in one hop from pynetdicom and the intake in the next. Data
sets stream to a file byte by byte as they were sent; nothing is decoded on the way. Statuses follow
DICOM PS3.4 table B.2-1: every error that Vigil raises knows its own.
"""

import functools
import re
from typing import Any

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
    build_context,
    evt,
)
from pynetdicom.presentation import PresentationContext
from pynetdicom.sop_class import StorageCommitmentPushModel, Verification

from vigil.errors import StorageError, VigilError
from vigil_inference.arrivals import Outcome
from vigil_inference.dicom_messages import IncomingDataSet
from vigil_inference.dicom_transport import AssociationLimit, ListenerServer, tls_context
from vigil_inference.intake import Intake, Source, errno_name
from vigil_inference.settings import Settings
from vigil_inference.storage_commitment import CommitmentProvider

log = structlog.get_logger(__name__)

SUCCESS = 0x0000
COERCION = 0xB000
"""Stored, but what is held differs from what was sent (DICOM PS3.4 table B.2-1)."""
UNEXPECTED = 0xC001
_COMMENT_LENGTH = 64
# PS3.8 table 9-21: rejected for now, by the provider, and why.
CONGESTED = (0x02, 0x03, 0x01)
LIMIT_EXCEEDED = (0x02, 0x03, 0x02)
_WAITING_CONNECTIONS = 64
"""Connections without an association that are held beside those with one."""

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
        build_context(StorageCommitmentPushModel, _UNCOMPRESSED),
        *(
            build_context(sop_class, transfer_syntaxes_of(sop_class))
            for sop_class in (UID(c.abstract_syntax) for c in AllStoragePresentationContexts)
        ),
    ]


def handle_store(event: evt.Event, intake: Intake) -> Dataset:
    """Answer a C-STORE request once its object is durable and recorded."""
    title = "".join(c for c in str(event.assoc.requestor.ae_title) if c.isprintable()).strip()
    data_set: IncomingDataSet = event.request.DataSet
    event.assoc.dimse.release(data_set)
    try:
        received = data_set.finish()
        receipt = intake.accept(
            received.path,
            Source(
                "C-STORE",
                calling_ae_title=title,
                sop_class_uid=str(event.request.AffectedSOPClassUID or ""),
                sop_instance_uid=str(event.request.AffectedSOPInstanceUID or ""),
            ),
            sha256=received.sha256,
        )
    except VigilError as error:
        log.warning("refused", door="C-STORE", code=error.code, calling_ae_title=title)
        intake.doors.refuse("C-STORE", error.code)
        return _status(error.dimse_status, str(error))
    except Exception as error:  # the association must live, and the sender must keep its copy
        log.error("store_failed", calling_ae_title=title, error=type(error).__name__)
        intake.doors.refuse("C-STORE", "INTERNAL_ERROR")
        return _status(UNEXPECTED, "the service failed on this object")
    finally:
        data_set.discard()
    if receipt.outcome is Outcome.DIFFERS:
        return _status(COERCION, receipt.message)
    return _status(SUCCESS)


def admit(event: evt.Event, intake: Intake, limit: AssociationLimit) -> None:
    """Refuse an association that is one too many, or would store while the disk is nearly full.

    At the reserve single objects are refused, at half of it whole associations: nobody transmits
    what cannot be taken. One that only asks for an echo or a commitment is served.
    """
    association = event.assoc
    proposed = association.requestor.primitive.presentation_context_definition_list
    stores = any(context.abstract_syntax in _storage_classes() for context in proposed)
    if stores and intake.is_nearly_full():
        log.error("association_refused", reason="the disk is nearly full")
        intake.doors.refuse_association("DISK_NEARLY_FULL")
        association.acse.send_reject(*CONGESTED)
    elif not limit.admit(association):
        log.warning("association_refused", reason="too many associations")
        intake.doors.refuse_association("TOO_MANY_ASSOCIATIONS")
        association.acse.send_reject(*LIMIT_EXCEEDED)
    else:
        return
    association.kill()  # waits until the refusal has been sent


@functools.cache
def _storage_classes() -> frozenset[str]:
    return frozenset(str(context.abstract_syntax) for context in AllStoragePresentationContexts)


def _status(code: int, comment: str = "") -> Dataset:
    status = Dataset()
    status.Status = code
    if comment:
        status.ErrorComment = comment[:_COMMENT_LENGTH]
    return status


class DicomListener:
    """The listening application entity, on its plain and its TLS port.

    Parameters
    ----------
    settings
        Addresses, titles, limits.
    intake
        Where objects go.
    commitment
        Who answers for what is held.

    Raises
    ------
    ConfigurationError
        If the certificate for TLS cannot be used.
    """

    def __init__(self, settings: Settings, intake: Intake, commitment: CommitmentProvider) -> None:
        self._settings = settings
        self._intake = intake
        self._commitment = commitment
        self._plain: ListenerServer | None = None
        self._secure: ListenerServer | None = None
        self._tls = None
        if settings.dicom_tls_certificate is not None:
            self._tls = tls_context(
                settings.dicom_tls_certificate,
                settings.dicom_tls_key,
                settings.dicom_tls_client_ca,
            )
        ae = AE(settings.dicom_ae_title)
        self._limit = AssociationLimit(settings.dicom_max_associations)
        self._most_connections = settings.dicom_max_associations + _WAITING_CONNECTIONS
        ae.maximum_associations = 2 * self._most_connections  # never reached
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
            If a port cannot be bound.
        """
        settings = self._settings
        # Both are bound before either serves: a service with half of its doors does not start.
        if not settings.dicom_require_tls:
            self._plain = self._bind(settings.dicom_port)
        if self._tls is not None:
            try:
                self._secure = self._bind(settings.dicom_tls_port, tls=self._tls)
            except StorageError:
                if self._plain is not None:
                    self._plain.server_close()
                    self._plain = None
                raise
        for server in filter(None, (self._plain, self._secure)):
            server.serve_in_background()
            log.info(
                "dicom_listening",
                host=settings.dicom_host,
                port=server.port,
                tls=server is self._secure,
            )

    def _bind(self, port: int, **options: Any) -> ListenerServer:
        settings = self._settings
        handlers = [
            (evt.EVT_C_STORE, handle_store, [self._intake]),
            (evt.EVT_N_ACTION, self._commitment.handle_action),
            (evt.EVT_C_ECHO, lambda event: SUCCESS),
            (evt.EVT_REQUESTED, admit, [self._intake, self._limit]),
        ]
        try:
            return ListenerServer(
                self._ae,
                (settings.dicom_host, port),
                supported_contexts(),
                handlers,
                self._intake,
                most_connections=self._most_connections,
                allowed=settings.dicom_allowed_addresses,
                object_timeout_seconds=settings.dicom_object_timeout_seconds,
                **options,
            )
        except OSError as error:
            raise StorageError(
                f"DICOM {settings.dicom_host}:{port} cannot be bound ({errno_name(error)})"
            ) from error

    @property
    def is_listening(self) -> bool:
        """Whether associations are accepted."""
        return self._plain is not None or self._secure is not None

    @property
    def port(self) -> int:
        """The port without TLS that was bound; that of TLS where there is no other."""
        server = self._plain or self._secure
        return self._settings.dicom_port if server is None else server.port

    @property
    def tls_port(self) -> int | None:
        """The port for TLS that was bound, if there is one."""
        return None if self._secure is None else self._secure.port

    def stop(self) -> None:
        """Abort what is open and stop listening; unacknowledged objects stay with their senders."""
        if not self.is_listening:
            return
        self._ae.shutdown()
        self._plain = self._secure = None
