"""Delivery to peers that refuse, warn, insist on TLS or another syntax, and to folders."""

import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.presentation import AllStoragePresentationContexts

from tests.inference.delivery.conftest import Site
from tests.system.peers import HOST, Program, find_tool, free_port, wait_until
from vigil_inference.delivery.desk import DeliveryRow, Selection
from vigil_inference.delivery.destinations import FolderDestination
from vigil_inference.delivery.folder_peer import FolderPeer
from vigil_inference.delivery.ledger import Parcel
from vigil_inference.delivery.peers import Verdict

pytestmark = [
    pytest.mark.system,
    # pynetdicom drops the socket of a connection that was refused without closing it.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
StartSite = Callable[..., Site]


class Answering:
    """A storage provider that answers as it is told, and remembers who was sent when."""

    def __init__(self, statuses: Sequence[int], knows: Sequence[str] = ()) -> None:
        self.statuses = list(statuses)
        self.received: list[str] = []
        ae = AE("ANSWERS")
        ae.require_calling_aet = list(knows)
        for context in AllStoragePresentationContexts:
            ae.add_supported_context(context.abstract_syntax, ExplicitVRLittleEndian)
        self._server = ae.start_server(
            (HOST, 0), block=False, evt_handlers=[(evt.EVT_C_STORE, self._answer)]
        )
        self.port = int(self._server.socket.getsockname()[1])

    def _answer(self, event: evt.Event) -> int:
        self.received.append(event.request.AffectedSOPInstanceUID)
        return self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]

    def stop(self) -> None:
        self._server.shutdown()


@pytest.fixture
def answering() -> Iterator[Callable[..., Answering]]:
    started: list[Answering] = []

    def start(*statuses: int, knows: Sequence[str] = ()) -> Answering:
        started.append(Answering(statuses, knows))
        return started[-1]

    yield start
    for peer in started:
        peer.stop()


@pytest.fixture
def storescp(tmp_path: Path) -> Iterator[Callable[..., int]]:
    """Start dcmtk's storescp with these options, and return its port."""
    started: list[Program] = []
    folder = tmp_path / "stored"
    folder.mkdir()

    def start(*options: str) -> int:
        port = free_port()
        command = [find_tool("storescp", "dcmtk"), "-od", str(folder), *options, str(port)]
        program = Program(command, tmp_path / f"storescp-{len(started)}.log")
        started.append(program)
        wait_until(lambda: _listens(port), "storescp listens")
        return port

    yield start
    for program in started:
        program.stop()


def _listens(port: int) -> bool:
    table = Path("/proc/net/tcp").read_text(encoding="ascii")
    return f":{port:04X} 00000000:0000 0A" in table


def to(port: int, **fields: Any) -> dict[str, Any]:
    return {
        "name": "peer", "kind": "c-store", "host": HOST, "port": port, "ae_title": "ANSWERS",
        "proof": "none", "objects": ["report"], "timeout_seconds": 5,
    } | fields  # fmt: skip


def test_warnings_are_stored_the_busy_are_tried_again_and_refusals_are_dead_letters(
    start_site: StartSite, answering: Callable[..., Answering]
) -> None:
    peers = {
        "coerced": answering(0xB000),
        "elements": answering(0xB007),
        "full": answering(0xA700, 0xA701, 0x0000),
        "mismatch": answering(0xA900),
        "cannot": answering(0xC123),
        "duplicate": answering(0x0111),
        "denied": answering(0x0124),
    }
    site = start_site(*(to(peer.port, name=name) for name, peer in peers.items()))
    site.receive("0.95")
    rows = site.wait_for("SENT", "SENT", "SENT", "FAILED", "FAILED", "SENT", "FAILED")
    assert {row.destination: (row.code, row.attempts) for row in rows} == {
        "coerced": ("C_STORE_B000", 1),
        "elements": ("C_STORE_B007", 1),
        "full": ("C_STORE_0000", 3),
        "mismatch": ("C_STORE_A900", 1),
        "cannot": ("C_STORE_C123", 1),
        "duplicate": ("C_STORE_0111", 1),
        "denied": ("C_STORE_0124", 1),
    }
    assert [len(peer.received) for peer in peers.values()] == [1, 1, 3, 1, 1, 1, 1]
    # Without a proof an acknowledgement stays an acknowledgement.
    assert all(row.delivered_at is None for row in rows)
    assert "0xB007" in rows[1].reason

    # A dead letter goes again when a person says so.
    peers["cannot"].statuses = [0x0000]
    assert site.service.delivery.desk.retry(Selection(destination="cannot")) == [rows[4].id]
    site.wait_for("SENT", "SENT", "SENT", "FAILED", "SENT", "SENT", "FAILED")


def test_a_peer_that_does_not_know_us_makes_a_dead_letter_with_its_reason(
    start_site: StartSite, answering: Callable[..., Answering]
) -> None:
    peer = answering(0x0000, knows=["SOMEBODY"])
    site = start_site(to(peer.port), delivery_give_up_seconds=2)
    site.receive("0.95")
    [row] = site.wait_for("FAILED")
    assert row.code == "ASSOCIATION_REJECTED"
    assert row.attempts >= 2
    assert row.reason == (
        f"given up after {row.attempts} attempts: the destination rejected the association: "
        "Calling AE title not recognised"
    )
    assert peer.received == []


def test_storescp_gets_it_also_where_it_takes_only_implicit_little_endian_or_aborts_first(
    start_site: StartSite, storescp: Callable[..., int], tmp_path: Path
) -> None:
    aborting = storescp("--abort-during")
    site = start_site(
        to(storescp("+xi"), name="implicit"),
        to(aborting, name="aborting", objects=["capture"]),
    )
    site.receive("0.95")

    def tried() -> list[DeliveryRow] | None:
        rows = site.deliveries()
        return rows if [row.state for row in rows] == ["SENT", "PENDING"] else None

    site.wait_until(lambda: [row.code for row in site.deliveries()][1:] == ["NO_ANSWER"])
    rows = site.wait_until(tried)
    assert rows[1].code == "NO_ANSWER"
    stored = [dcmread(path) for path in (tmp_path / "stored").glob("SR*")]
    assert [d.SOPInstanceUID for d in stored] == [rows[0].sop_instance_uid]
    assert stored[0].file_meta.TransferSyntaxUID == ImplicitVRLittleEndian
    assert str(stored[0].PatientName) == "Nguyễn^Văn An"


@pytest.fixture
def certificates(tmp_path: Path) -> Path:
    """Make an authority, and a certificate of it for the peer and one for us."""
    folder = tmp_path / "tls"
    folder.mkdir()

    def openssl(*arguments: str) -> None:
        command = ["openssl", *arguments]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)

    key = ("-newkey", "rsa:2048", "-nodes", "-keyout")
    openssl("req", "-x509", *key, "ca.key", "-out", "ca.pem", "-subj", "/CN=ca", "-days", "2")
    for name in ("peer", "us"):
        openssl("req", *key, f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        (folder / "ext").write_text("subjectAltName=IP:127.0.0.1,DNS:pacs.example\n")
        openssl(
            "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key",
            "-CAcreateserial", "-out", f"{name}.pem", "-days", "2", "-extfile", "ext",
        )  # fmt: skip
    return folder


def test_tls_shows_our_certificate_and_trusts_only_the_named_authority(
    start_site: StartSite, storescp: Callable[..., int], certificates: Path
) -> None:
    files = {name: str(certificates / name) for name in ("ca.pem", "us.pem", "us.key")}
    port = storescp(
        "+tls", str(certificates / "peer.key"), str(certificates / "peer.pem"),
        "+cf", files["ca.pem"], "-rc",
    )  # fmt: skip
    ours = {"ca_file": files["ca.pem"], "certificate_file": files["us.pem"],
            "key_file": files["us.key"]}  # fmt: skip
    site = start_site(
        to(port, name="both", tls=ours),
        to(port, name="by-name", tls=ours | {"server_name": "pacs.example"}),
        to(port, name="wrong-name", tls=ours | {"server_name": "elsewhere.example"}),
        to(port, name="anonymous", tls={"ca_file": files["ca.pem"]}),
        to(port, name="untrusting", tls={k: ours[k] for k in ("certificate_file", "key_file")}),
        to(port, name="plain"),
    )
    site.receive("0.95")

    def tried() -> list[Any] | None:
        rows = site.deliveries()
        return rows if len(rows) == 6 and all(r.code for r in rows) else None

    rows = site.wait_until(tried)
    found = {row.destination: (row.state.value, row.code, row.sent_at is None) for row in rows}
    assert found["both"] == ("SENT", "C_STORE_0000", False)
    assert found["by-name"] == ("SENT", "C_STORE_0000", False)
    for name in ("wrong-name", "anonymous", "untrusting", "plain"):
        state, code, never_sent = found[name]
        assert state in ("PENDING", "SENDING"), name
        assert code in ("NO_CONNECTION", "NO_ANSWER", "ASSOCIATION_REJECTED"), name
        assert never_sent, name


def test_a_folder_that_is_not_mounted_is_waited_for_and_never_made(
    start_site: StartSite, tmp_path: Path
) -> None:
    share = tmp_path / "share"
    site = start_site({"name": "share", "kind": "folder", "path": str(share)})
    site.receive("0.95")
    rows = site.wait_for("PENDING", "PENDING")
    site.wait_until(lambda: all(row.code == "ENOENT" for row in site.deliveries()))
    assert not share.exists()
    share.mkdir()
    rows = site.wait_for("DELIVERED", "DELIVERED")
    assert {row.code for row in rows} == {"READ_BACK"}
    names = sorted(path.name for path in share.iterdir())
    assert names == sorted(f"{row.sop_instance_uid}.dcm" for row in rows)
    for row in rows:
        assert dcmread(share / f"{row.sop_instance_uid}.dcm").SOPInstanceUID == row.sop_instance_uid

    # Another file of that name is not ours to replace.
    foreign = share / f"{rows[0].sop_instance_uid}.dcm"
    foreign.write_bytes(b"another")
    site.service.delivery.desk.retry(Selection(ids=(rows[0].id,)))
    rows = site.wait_for("FAILED", "DELIVERED")
    assert rows[0].code == "FILE_EXISTS"
    assert foreign.read_bytes() == b"another"


def test_what_a_killed_process_left_of_a_file_goes_with_the_next_attempt_at_it(
    tmp_path: Path,
) -> None:
    share, content = tmp_path / "share", b"a result"
    share.mkdir()
    (tmp_path / "result.dcm").write_bytes(content)
    parcel = SimpleNamespace(
        sop_instance_uid="1.2.3",
        file_path="result.dcm",
        sha256=sha256(content).hexdigest(),
        was_interrupted=True,
    )
    stale, fresh, other = (share / f".{name}.part" for name in ("1.2.3.0", "1.2.3.1", "1.2.4.0"))
    for path in (stale, fresh, other):
        path.write_bytes(b"half")
    for path in (stale, other):
        os.utime(path, (0, 0))
    peer = FolderPeer(FolderDestination(name="share", kind="folder", path=share), tmp_path)
    assert peer.send(cast(Parcel, parcel)).verdict is Verdict.ACCEPTED
    assert sorted(path.name for path in share.iterdir()) == [fresh.name, other.name, "1.2.3.dcm"]
