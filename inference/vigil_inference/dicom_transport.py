"""The listener's connections: who may connect, and TLS.

pynetdicom does the TLS handshake in the thread that accepts connections, where one silent client
keeps all others out. That is mended here, and a connection from an address that is not allowed is
closed before a byte of it is read. What reads a connection's PDUs is in ``dicom_reactor``.
"""

import socket
import ssl
import sys
import threading
from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address
from pathlib import Path
from typing import Any

import structlog
from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext
from pynetdicom.transport import RequestHandler, ThreadedAssociationServer

from vigil.errors import ConfigurationError
from vigil_inference.dicom_messages import MessageReceiver
from vigil_inference.dicom_reactor import Reactor
from vigil_inference.dicom_socket import TimedSocket
from vigil_inference.intake import Intake

log = structlog.get_logger(__name__)

Network = IPv4Network | IPv6Network

# RFC 9325 section 4.2 for TLS 1.2; TLS 1.3 has no others than such.
CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM:!aNULL"


def tls_context(certificate: Path, key: Path | None, client_ca: Path | None) -> ssl.SSLContext:
    """Return the server's side of the BCP 195 profile (DICOM PS3.15 B.12; RFC 8996, RFC 9325).

    Parameters
    ----------
    certificate
        PEM file of the server's certificate, with those between it and its root.
    key
        PEM file of its private key; in the certificate's file if left out.
    client_ca
        PEM file of the roots that clients' certificates must come from; without it clients need
        none.

    Raises
    ------
    ConfigurationError
        If a file cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_ciphers(CIPHERS)
    try:
        context.load_cert_chain(certificate, key)
        if client_ca is not None:
            context.load_verify_locations(client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
    except (ssl.SSLError, OSError) as error:
        named = ", ".join(str(path) for path in (certificate, key, client_ca) if path)
        reason = error.reason if isinstance(error, ssl.SSLError) else error.strerror
        raise ConfigurationError(f"{named}: no usable certificate and key ({reason})") from error
    return context


class _SharedContexts(list[PresentationContext]):
    """Contexts that nobody changes: pynetdicom's copy for each association takes 50 ms."""

    def __deepcopy__(self, memo: dict[int, Any]) -> list[PresentationContext]:
        return list(self)


class _Handler(RequestHandler):  # type: ignore[misc]
    """Makes an association of a connection."""

    server: "ListenerServer"

    def _create_association(self) -> Association:
        association = super()._create_association()
        stirred = threading.Event()
        association.dul = Reactor(association, stirred)
        # Setting them hands them on to the new reactor's timers.
        association.acse_timeout = self.server.ae.acse_timeout
        association.network_timeout = self.server.ae.network_timeout
        association.set_socket(
            TimedSocket(association, self.request, self.server.ae.network_timeout)
        )
        association.dimse = MessageReceiver(
            association, self.server.intake, self.server.object_timeout_seconds, stirred
        )
        association.bind(evt.EVT_CONN_CLOSE, _discard_arriving)
        return association


def _discard_arriving(event: evt.Event) -> None:
    event.assoc.dimse.discard()


class AssociationLimit:
    """How many associations may be open at once.

    pynetdicom's own count takes in those that it has just refused, until their senders have gone:
    senders that try again at once would keep each other out.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._open: set[Association] = set()
        self._lock = threading.Lock()

    def admit(self, association: Association) -> bool:
        """Return whether there is room for an association, and count it if there is."""
        with self._lock:
            self._open = {other for other in self._open if other.is_alive()}
            if len(self._open) >= self.most:
                return False
            self._open.add(association)
            return True


class ListenerServer(ThreadedAssociationServer):  # type: ignore[misc]
    """Accepts connections.

    Parameters
    ----------
    ae
        Titles, limits and timeouts.
    address
        To bind to.
    contexts
        What is accepted.
    handlers
        pynetdicom's event handlers.
    intake
        Whose spool takes data sets.
    most_connections
        How many connections are held at once.
    allowed
        Networks that may connect; empty lets every address connect.
    object_timeout_seconds
        Longest time that one message may take to arrive.
    tls
        For TLS; None for none.
    """

    request_queue_size = 128
    daemon_threads = True

    def __init__(
        self,
        ae: AE,
        address: tuple[str, int],
        contexts: Sequence[PresentationContext],
        handlers: list[Any],
        intake: Intake,
        *,
        most_connections: int,
        allowed: Sequence[Network] = (),
        object_timeout_seconds: float = 600.0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.intake = intake
        self.object_timeout_seconds = object_timeout_seconds
        self._most_connections = most_connections
        self._allowed = tuple(allowed)
        self._connecting = 0
        self._lock = threading.Lock()
        super().__init__(
            ae,
            address,
            ae.ae_title,
            _SharedContexts(contexts),
            tls,
            evt_handlers=handlers,
            request_handler=_Handler,
        )

    @property
    def port(self) -> int:
        """The port that was bound."""
        return int(self.socket.getsockname()[1])

    def serve_in_background(self) -> None:
        """Serve in a thread until :meth:`shutdown`."""
        self.ae._servers.append(self)  # where AE.shutdown looks for it
        threading.Thread(target=self.serve_forever, name="dicom-listener", daemon=True).start()

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept a connection; a TLS handshake is for the connection's own thread."""
        client, address = self.socket.accept()
        return client, address

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Return whether a connection is served at all."""
        if not is_allowed(str(client_address[0]), self._allowed):
            log.warning("connection_refused", reason="address", address=client_address[0])
            return False
        if self._connecting + len(self.active_associations) >= self._most_connections:
            log.warning("connection_refused", reason="too many connections")
            return False
        return True

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Make an association of a connection, in a thread of its own."""
        with self._lock:
            self._connecting += 1
        try:
            if self.ssl_context is not None:
                request.settimeout(self.ae.acse_timeout)
                request = self.ssl_context.wrap_socket(request, server_side=True)
            self.RequestHandlerClass(request, client_address, self)
        finally:
            with self._lock:
                self._connecting -= 1

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say that a connection came to nothing, without its details."""
        error = sys.exc_info()[1]
        reason = error.reason if isinstance(error, ssl.SSLError) else ""
        log.warning("connection_failed", error=type(error).__name__, reason=reason)


def is_allowed(address: str, networks: Sequence[Network]) -> bool:
    """Return whether an address is in one of the networks; there being none allows all."""
    if not networks:
        return True
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(found, "ipv4_mapped", None)
    return any((mapped or found) in network for network in networks)
