import gc
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import ComputedRadiographyImageStorage
from pynetdicom import AE, evt
from sqlalchemy import select
from typer.testing import CliRunner

from tests.inference.conftest import MakeFile, make_dataset
from vigil.cli import app
from vigil.errors import ConfigurationError
from vigil_inference.cli import register
from vigil_inference.sender import parse_peer, send
from vigil_inference.service import Service
from vigil_inference.tables import Instance


@pytest.fixture
def running(service: Service) -> Iterator[Service]:
    service.start()
    yield service
    service.stop()


@pytest.fixture(scope="module", autouse=True)
def commands() -> None:
    if "send" not in {command.callback.__name__ for command in app.registered_commands}:
        register(app)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("127.0.0.1:11112", ("127.0.0.1", 11112)), ("[::1]:104", ("::1", 104))],
)
def test_a_peer_is_host_and_port(text: str, expected: tuple[str, int]) -> None:
    assert parse_peer(text) == expected


@pytest.mark.parametrize("text", ["localhost", "host:", ":11112", "host:port", "host:99999"])
def test_a_peer_that_is_not_is_an_error_that_shows_the_form(text: str) -> None:
    with pytest.raises(ConfigurationError, match="HOST:PORT"):
        parse_peer(text)


def test_a_bare_data_set_is_sent_too(running: Service, tmp_path: Path) -> None:
    dataset = make_dataset()
    path = tmp_path / "bare"
    uid = dataset.SOPInstanceUID
    dataset.save_as(path, enforce_file_format=True)
    content = path.read_bytes()
    start = content.index(b"\x08\x00\x05\x00")
    path.write_bytes(content[start:])
    [sent] = send(
        [path], "127.0.0.1", running.listener.port, calling_ae_title="X", called_ae_title="V"
    )
    assert sent.succeeded, sent.message
    with running.store.reading() as session:
        assert session.scalars(select(Instance.sop_instance_uid)).one() == uid


def test_the_command_prints_a_line_for_each_file_and_fails_if_one_failed(
    running: Service, make_file: MakeFile, tmp_path: Path
) -> None:
    good, bad = make_file(), tmp_path / "bad.dcm"
    bad.write_bytes(b"no DICOM")
    to = ["--to", f"127.0.0.1:{running.listener.port}"]
    result = CliRunner().invoke(app, ["send", str(good), str(bad), *to])
    assert result.exit_code == 1
    assert f"FAILED  {bad}" in result.output
    assert f"stored  {good}  0x0000 Success" in result.output
    assert CliRunner().invoke(app, ["send", str(good), *to]).exit_code == 0


# pynetdicom leaves the socket of a refused connection to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_no_peer_is_told_once_and_ends_it(make_file: MakeFile) -> None:
    files = [make_file() for _ in range(3)]
    [sent] = send(files, "127.0.0.1", 1, calling_ae_title="X", called_ae_title="V")
    assert (sent.path, sent.succeeded) == (files[0], False)
    assert sent.message == "not sent: there is no connection to 127.0.0.1:1"
    result = CliRunner().invoke(app, ["send", *map(str, files), "--to", "127.0.0.1:1"])
    assert result.exit_code == 1
    assert result.output.count("no connection") == 1
    assert "stopped; 2 more were not tried" in result.output
    assert "0 of 3 stored" in result.output
    gc.collect()


def test_an_empty_folder_is_said_and_is_no_success(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["send", str(tmp_path), "--to", "127.0.0.1:1"])
    assert result.exit_code == 1
    assert result.output == "no file to send\n"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_peer_that_ends_one_association_gets_the_rest_over_another(make_file: MakeFile) -> None:
    files = [make_file() for _ in range(4)]
    seen: list[str] = []

    def store(event: evt.Event) -> int:
        seen.append(str(event.request.AffectedSOPInstanceUID))
        if len(seen) == 2:
            event.assoc.abort()
        return 0x0000

    ae = AE("MOODY")
    ae.add_supported_context(ComputedRadiographyImageStorage)
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, store)])
    try:
        port = server.socket.getsockname()[1]
        sent = list(send(files, "127.0.0.1", port, calling_ae_title="X", called_ae_title="V"))
    finally:
        server.shutdown()
    assert [item.path for item in sent] == files
    assert [item.succeeded for item in sent] == [True, False, True, True]
    assert "no answer" in sent[1].message
    gc.collect()


def test_what_is_sent_is_left_as_it_was(running: Service, make_file: MakeFile) -> None:
    path = make_file()
    before = path.read_bytes()
    list(
        send([path], "127.0.0.1", running.listener.port, calling_ae_title="X", called_ae_title="V")
    )
    assert path.read_bytes() == before
    assert dcmread(path).PatientID == "P1"


def test_an_object_whose_file_names_another_is_announced_as_what_it_is(
    running: Service, tmp_path: Path
) -> None:
    dataset = make_dataset()
    path = tmp_path / "renamed.dcm"
    dataset.save_as(path, enforce_file_format=True)
    named, own = (dataset.SOPInstanceUID.encode(), b"2" + dataset.SOPInstanceUID.encode()[1:])
    content = path.read_bytes()
    # The data set's own UID is the second: the file meta information keeps naming the other one.
    first = content.index(named) + len(named)
    path.write_bytes(content[:first] + content[first:].replace(named, own))
    assert dcmread(path).SOPInstanceUID.encode() == own
    [sent] = send(
        [path], "127.0.0.1", running.listener.port, calling_ae_title="T", called_ae_title="VIGIL"
    )
    assert (sent.succeeded, sent.message) == (True, "0x0000 Success")
