import contextlib
import random
import resource
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.dimse_messages import C_STORE_RQ
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.pdu import P_DATA_TF
from sqlalchemy import func, select

from tests.inference.conftest import FakeModel, MakeFile, Until
from tests.system.peers import find_tool
from vigil.errors import ConfigurationError
from vigil_inference.dicom_socket import TimedSocket
from vigil_inference.dicom_transport import is_allowed
from vigil_inference.headers import digest_of
from vigil_inference.sender import Sent, send
from vigil_inference.service import Service
from vigil_inference.settings import Settings
from vigil_inference.tables import Instance

HOST = "127.0.0.1"


@pytest.fixture
def start(settings: Settings, model: FakeModel) -> Iterator[Callable[..., Service]]:
    """Start a service with other settings; it is stopped at the end."""
    started: list[Service] = []

    def begin(**changes: object) -> Service:
        changed = Settings.model_validate(settings.model_dump() | changes)
        started.append(Service(changed, model))
        started[-1].start()
        return started[-1]

    yield begin
    for service in started:
        service.stop()


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a root, and a key and a certificate each for ``server`` and ``client``."""
    folder = tmp_path_factory.mktemp("certificates")
    openssl = find_tool("openssl", "openssl")

    def run(*arguments: str) -> None:
        subprocess.run([openssl, *arguments], cwd=folder, check=True, capture_output=True)

    new = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    run(*new, "-keyout", "root.key", "-out", "root.pem", "-subj", "/CN=Test root")
    for name in ("server", "client"):
        key, request = f"{name}.key", f"{name}.csr"
        run("req", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", request,
            "-subj", f"/CN={name}")  # fmt: skip
        run("x509", "-req", "-in", request, "-CA", "root.pem", "-CAkey", "root.key",
            "-CAcreateserial", "-days", "2", "-out", f"{name}.pem")  # fmt: skip
    return folder


@pytest.fixture
def tls(certificates: Path) -> dict[str, object]:
    return {
        "dicom_tls_port": 0,
        "dicom_tls_certificate": certificates / "server.pem",
        "dicom_tls_key": certificates / "server.key",
    }


def echo(port: int, *options: str, folder: Path | None = None) -> bool:
    """Return whether dcmtk's echoscu is answered."""
    command = [find_tool("echoscu", "dcmtk"), "-to", "10", *options, HOST, str(port)]
    done = subprocess.run(command, cwd=folder, check=False, timeout=60, capture_output=True)
    return done.returncode == 0


ANONYMOUS = ("+tla", "+cf", "root.pem")
CERTIFIED = ("+tls", "client.key", "client.pem", "+cf", "root.pem")


def associate(service: Service) -> Association:
    """Return an association that nobody has sent anything on."""
    ae = AE("SLOW")
    ae.add_requested_context(ComputedRadiographyImageStorage, ExplicitVRLittleEndian)
    association = ae.associate(HOST, service.listener.port)
    assert association.is_established
    return association


def pdus_of(association: Association, path: Path, pdu_bytes: int = 4096) -> list[bytes]:
    """Return the PDUs of a C-STORE request for a file."""
    from io import BytesIO

    from pynetdicom.dsutils import split_dataset

    dataset = dcmread(path, stop_before_pixels=True)
    request = C_STORE()
    request.MessageID, request.Priority = 1, 2
    request.AffectedSOPClassUID = dataset.SOPClassUID
    request.AffectedSOPInstanceUID = dataset.SOPInstanceUID
    request.DataSet = BytesIO(path.read_bytes()[split_dataset(path)[1] :])
    message = C_STORE_RQ()
    message.primitive_to_message(request)
    context_id = association.accepted_contexts[0].context_id
    encoded = []
    for primitive in message.encode_msg(context_id, pdu_bytes):
        pdu = P_DATA_TF()
        pdu.from_primitive(primitive)
        encoded.append(pdu.encode())
    return encoded


def send_raw(association: Association, content: bytes) -> None:
    association.dul.socket.socket.sendall(content)


def spooled(service: Service) -> list[Path]:
    return list(service.intake.spool.iterdir())


def count(service: Service) -> int:
    with service.store.reading() as session:
        return session.scalar(select(func.count()).select_from(Instance)) or 0


def send_all(service: Service, *paths: Path) -> list[Sent]:
    return list(
        send(list(paths), HOST, service.listener.port, calling_ae_title="X", called_ae_title="V")
    )


def test_the_tls_port_serves_beside_the_plain_one(
    start: Callable[..., Service], tls: dict[str, object], certificates: Path
) -> None:
    service = start(**tls)
    port = service.listener.tls_port
    assert port is not None
    assert port != service.listener.port
    assert echo(port, *ANONYMOUS, folder=certificates)
    assert echo(service.listener.port)
    assert not echo(port)


def test_where_tls_is_required_there_is_no_plain_port(
    start: Callable[..., Service], tls: dict[str, object], certificates: Path
) -> None:
    service = start(**tls, dicom_require_tls=True)
    assert service.listener.port == service.listener.tls_port
    assert not echo(service.listener.port)
    assert echo(service.listener.port, *ANONYMOUS, folder=certificates)


def test_a_client_needs_a_certificate_where_roots_for_it_are_named(
    start: Callable[..., Service], tls: dict[str, object], certificates: Path
) -> None:
    service = start(**tls, dicom_tls_client_ca=certificates / "root.pem")
    port = service.listener.tls_port
    assert port is not None
    assert not echo(port, *ANONYMOUS, folder=certificates)
    assert echo(port, *CERTIFIED, folder=certificates)


def test_a_cipher_outside_the_profile_is_refused(
    start: Callable[..., Service], tls: dict[str, object], certificates: Path
) -> None:
    service = start(**tls)
    port = service.listener.tls_port or 0
    for cipher, served in (("AES128-SHA256", False), ("AES128-GCM-SHA256", True)):
        context = ssl.create_default_context(cafile=certificates / "root.pem")
        context.check_hostname = False
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(f"ECDHE-RSA-{cipher}")
        with socket.create_connection((HOST, port)) as connection:
            if served:
                with context.wrap_socket(connection) as secured:
                    assert secured.version() == "TLSv1.2"
            else:
                with pytest.raises(ssl.SSLError):
                    context.wrap_socket(connection)


@pytest.mark.parametrize("profile", ["+py", "+px"], ids=["BCP 195", "extended BCP 195"])
def test_dcmtk_stores_over_tls(
    start: Callable[..., Service],
    tls: dict[str, object],
    certificates: Path,
    make_file: MakeFile,
    profile: str,
) -> None:
    service = start(**tls, dicom_tls_client_ca=certificates / "root.pem")
    command = [
        find_tool("storescu", "dcmtk"), "+tls", "client.key", "client.pem", "+cf", "root.pem",
        profile, "-xe", HOST, str(service.listener.tls_port), str(make_file()),
    ]  # fmt: skip
    done = subprocess.run(
        command, cwd=certificates, check=False, timeout=60, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert count(service) == 1


def test_a_client_that_never_begins_its_handshake_keeps_nobody_out(
    start: Callable[..., Service], tls: dict[str, object], certificates: Path
) -> None:
    service = start(**tls)
    port = service.listener.tls_port or 0
    with socket.create_connection((HOST, port)):
        assert echo(port, *ANONYMOUS, folder=certificates)


def test_a_certificate_that_cannot_be_used_is_an_error_that_names_it(
    settings: Settings, model: FakeModel, tmp_path: Path
) -> None:
    noise = tmp_path / "noise.pem"
    noise.write_text("no certificate")
    with pytest.raises(ConfigurationError, match=r"noise\.pem"):
        Service(settings.model_copy(update={"dicom_tls_certificate": noise}), model)


def test_an_address_that_is_not_allowed_is_not_served(start: Callable[..., Service]) -> None:
    elsewhere = start(dicom_allowed_addresses=["192.0.2.0/24"])
    assert not echo(elsewhere.listener.port)


def test_networks_hold_addresses_of_both_families() -> None:
    networks = Settings(dicom_allowed_addresses=["192.0.2.0/24", "2001:db8::1"])
    allowed = networks.dicom_allowed_addresses
    assert is_allowed("192.0.2.9", allowed)
    assert is_allowed("::ffff:192.0.2.9", allowed)
    assert is_allowed("2001:db8::1", allowed)
    assert not is_allowed("192.0.3.1", allowed)
    assert not is_allowed("2001:db8::2", allowed)
    assert is_allowed("203.0.113.7", [])


def test_a_sender_that_stops_in_the_middle_of_a_pdu_loses_its_association(
    start: Callable[..., Service], make_file: MakeFile, until: Until
) -> None:
    service = start(dicom_timeout_seconds=1, dicom_max_associations=1)
    association = associate(service)
    send_raw(association, pdus_of(association, make_file())[0][:3])
    # It was the only one that is served at a time.
    until(lambda: echo(service.listener.port))
    until(lambda: association.is_aborted)


def test_a_sender_that_trickles_for_too_long_loses_its_association(
    start: Callable[..., Service], make_file: MakeFile, until: Until
) -> None:
    service = start(dicom_object_timeout_seconds=0.5)
    association = associate(service)
    pdus = pdus_of(association, make_file(PixelData=bytes(200_000)))
    for pdu in pdus[:10]:
        if association.is_aborted:
            break
        send_raw(association, pdu)
        time.sleep(0.15)
    until(lambda: association.is_aborted)
    until(lambda: spooled(service) == [])
    assert count(service) == 0


def test_what_an_aborted_sender_left_in_the_spool_is_removed_at_once(
    start: Callable[..., Service], make_file: MakeFile, until: Until
) -> None:
    service = start()
    association = associate(service)
    pdus = pdus_of(association, make_file(PixelData=bytes(1_000_000)))
    for pdu in pdus[: len(pdus) // 2]:
        send_raw(association, pdu)
    until(lambda: spooled(service))
    association.abort()
    until(lambda: spooled(service) == [])
    assert count(service) == 0


@contextmanager
def files_no_larger_than(limit: int) -> Iterator[None]:
    """Let the kernel refuse what this process writes beyond a file's limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_write_that_the_disk_refuses_is_answered_and_the_association_goes_on(
    start: Callable[..., Service], make_file: MakeFile
) -> None:
    service = start()
    large, small = make_file(PixelData=bytes(6_000_000)), make_file()
    with files_no_larger_than(4_000_000):
        refused, taken = send_all(service, large, small)
    assert refused.message.startswith("0xA700")
    assert "EFBIG" in refused.message
    assert taken.succeeded
    assert spooled(service) == []
    assert send_all(service, large)[0].succeeded


def test_a_pdu_of_absurd_length_ends_the_connection_and_nothing_else(
    start: Callable[..., Service],
) -> None:
    service = start()
    with socket.create_connection((HOST, service.listener.port)) as connection:
        connection.settimeout(60)
        connection.sendall(b"\x01\x00\xff\xff\xff\xff" + bytes(64))
        assert connection.recv(100) == b""
    assert echo(service.listener.port)


def test_a_message_for_a_context_that_was_not_accepted_ends_its_association(
    start: Callable[..., Service], make_file: MakeFile, until: Until
) -> None:
    service = start()
    association = associate(service)
    for pdu in pdus_of(association, make_file()):
        changed = bytearray(pdu)
        changed[10] = 99  # the presentation context ID of the first PDV
        send_raw(association, bytes(changed))
    until(lambda: association.is_aborted)
    assert echo(service.listener.port)
    assert spooled(service) == []


@pytest.mark.slow
def test_forty_at_once_are_served_beside_one_that_trickles_and_one_that_aborts(
    start: Callable[..., Service], make_file: MakeFile, until: Until
) -> None:
    service = start(dicom_timeout_seconds=60)
    paths = [make_file() for _ in range(40)]
    slow, aborting = associate(service), associate(service)
    pdus = pdus_of(slow, make_file(PixelData=bytes(100_000)))
    for pdu in pdus_of(aborting, make_file(PixelData=bytes(100_000)))[:5]:
        send_raw(aborting, pdu)
    sent: list[Sent] = []
    threads = [
        threading.Thread(target=lambda path=path: sent.extend(send_all(service, path)))
        for path in paths
    ]
    for thread in threads:
        thread.start()
    aborting.abort()
    for pdu in pdus[:-1]:
        send_raw(slow, pdu)
        time.sleep(0.01)
    for thread in threads:
        thread.join()
    assert [answer.message for answer in sent] == ["0x0000 Success"] * 40
    assert count(service) == 40
    assert slow.is_established
    send_raw(slow, pdus[-1])
    until(lambda: count(service) == 41)
    slow.abort()
    until(lambda: spooled(service) == [])


def timed_socket(connection: socket.socket) -> TimedSocket:
    timed = TimedSocket.__new__(TimedSocket)
    timed.socket, timed._timeout = connection, 0.2
    timed._ahead, timed._first, timed._last = bytearray(), 0, 0
    timed._is_connected = True
    return timed


def test_a_timed_socket_reads_no_more_than_was_asked_for() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        timed = timed_socket(ours)
        theirs.sendall(b"abcdef")
        assert timed.recv(4) == b"abcd"
        with pytest.raises(TimeoutError):
            timed.recv(4)
        theirs.close()
        assert timed.recv(4) == b""


def test_what_a_timed_socket_read_ahead_is_read_first() -> None:
    ours, theirs = socket.socketpair()
    data, release = b"\x04\x00\x00\x00\x00\x03abc", b"\x05\x00\x00\x00\x00\x04" + bytes(4)
    with ours, theirs:
        timed = timed_socket(ours)
        assert not timed.ready
        theirs.sendall(data + release + data[:8])
        assert timed.ready
        assert bytes(timed.arrived()) == data + release + data[:8]
        timed.drop(len(data))
        # Nothing more lies in the socket, yet a PDU is there.
        assert timed.ready
        assert bytes(timed.arrived()) == release + data[:8]
        assert timed.recv(6) + timed.recv(4) == release
        # A part of one is waited for, and kept.
        assert not timed.ready
        timed.rest()
        assert len(timed._ahead) > 0
        theirs.sendall(data[8:] + data)
        assert bytes(timed.arrived()) == data + data
        timed.drop(len(data))
        assert timed.recv(9) == data
        timed.rest()
        assert len(timed._ahead) == 0
        assert not timed.ready
        theirs.sendall(data[:4])
        assert timed.recv(4) == data[:4]


def test_however_a_message_is_cut_up_it_arrives_as_it_was_sent(
    start: Callable[..., Service], make_file: MakeFile, until: Until
) -> None:
    """Two pictures in one stream: PDUs of all sizes, in segments that end anywhere."""
    service = start()
    chance = random.Random(20261129)
    for turn in range(6):
        association = associate(service)
        paths = [make_file(PixelData=chance.randbytes(700_000)) for _ in range(2)]
        stream = b"".join(
            pdu
            for path in paths
            for pdu in pdus_of(association, path, chance.choice((4096, 30_000, 131_072, 600_000)))
        )
        while stream:
            cut = chance.choice((1, 5, 700, 65_536, len(stream)))
            send_raw(association, stream[:cut])
            stream = stream[cut:]
            if chance.random() < 0.1:
                time.sleep(0.002)
        until(lambda turn=turn: count(service) == 2 * turn + 2)
        with service.store.reading() as session:
            kept = {row.sha256 for row in session.query(Instance)}
        assert {digest_of(path) for path in paths} <= kept
        [served] = service.listener._ae.active_associations
        association.abort()
        until(lambda served=served: not served.is_alive() and not served.dul.is_alive())
        assert len(served.dul.socket._ahead) == 0


@pytest.mark.slow
def test_damaged_streams_end_their_own_association_only(
    start: Callable[..., Service], make_file: MakeFile, until: Until
) -> None:
    """Each of 150 streams is a valid one with a few bytes changed, cut off or repeated."""
    service = start(dicom_timeout_seconds=2)
    template = associate(service)
    request = b"".join(pdus_of(template, make_file(PixelData=bytes(20_000))))
    template.abort()
    ae = AE("FUZZ")
    ae.add_requested_context(ComputedRadiographyImageStorage, ExplicitVRLittleEndian)
    opening: list[bytes] = []
    probe = ae.associate(
        HOST,
        service.listener.port,
        evt_handlers=[(evt.EVT_DATA_SENT, lambda event: opening.append(event.data))],
    )
    probe.abort()
    stream = opening[0] + request
    chance = random.Random(20261124)
    for _ in range(150):
        damaged = bytearray(stream)
        for _ in range(chance.randrange(1, 6)):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        if chance.random() < 0.3:
            del damaged[chance.randrange(len(damaged)) :]
        with (
            contextlib.suppress(ConnectionError),
            socket.create_connection((HOST, service.listener.port)) as connection,
        ):
            connection.sendall(damaged)
    until(lambda: not service.listener._ae.active_associations, 60.0)
    assert spooled(service) == []
    assert send_all(service, make_file())[0].succeeded
