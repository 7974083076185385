"""No log line, metric, status or error shows whose pictures passed, whatever happened to them.

A patient with tell-tale names and numbers comes through every door, whole, broken and refused, and
his results go to destinations that refuse them and quote him.
"""

import http.server
import json
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import httpx
import pydicom
import pytest
from pydicom import Dataset
from pynetdicom import AE, evt
from pynetdicom.sop_class import (
    Comprehensive3DSRStorage,
    KeyObjectSelectionDocumentStorage,
    SecondaryCaptureImageStorage,
)

from tests.system.peers import HOST, VIGIL, Vigil, find_tool, wait_until

pytestmark = pytest.mark.slow

NAME = "Zyzzyva^Quỳnh^Telltale"
TAGS = {
    "PatientName": NAME,
    "PatientID": "TT-4711-SECRET",
    "AccessionNumber": "ACC-TELL-99",
    "PatientBirthDate": "19420317",
    "InstitutionName": "Tellclinic",
    "StudyDescription": "Tellstudy",
    "ReferringPhysicianName": "Telldoctor^Tâm",
    "PatientComments": "Tellcomment",
}
STUDY = "2.25.31415926535897932384"
SECRETS = (
    "zyzzyva", "quỳnh", "telltale", "tt-4711", "acc-tell", "19420317", "tellclinic", "tellstudy",
    "telldoctor", "tellcomment", "tellfile", STUDY,
)  # fmt: skip
get, post = partial(httpx.get, timeout=60), partial(httpx.post, timeout=60)
MULTIPART = {"Content-Type": 'multipart/related; type="application/dicom"; boundary=B'}


def leaks(text: str) -> list[str]:
    """Return the secrets in a text, whatever letters it is written in, escaped or not."""
    plain = text.lower()
    unescaped = text.encode().decode("unicode_escape", errors="replace").lower()
    return [secret for secret in SECRETS if secret in plain or secret in unescaped]


def body_of(*contents: bytes) -> bytes:
    parts = (b"--B\r\nContent-Type: application/dicom\r\n\r\n" + c + b"\r\n" for c in contents)
    return b"".join(parts) + b"--B--\r\n"


class Quoting(http.server.BaseHTTPRequestHandler):
    """A DICOMweb server and webhook receiver that refuses and quotes the patient."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        content = json.dumps({"error": f"cannot store {NAME} {TAGS['PatientID']} {STUDY}"}).encode()
        self.send_response(409 if "studies" in self.path else 500, f"no {TAGS['PatientID']}")
        self.send_header("Content-Type", "application/dicom+json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_args: object) -> None:
        """Say nothing."""


@contextmanager
def quoting_web_server() -> Iterator[str]:
    with http.server.ThreadingHTTPServer((HOST, 0), Quoting) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://{HOST}:{server.server_address[1]}"
        server.shutdown()


@contextmanager
def quoting_archive() -> Iterator[int]:
    """A storage provider whose Error Comment names the patient."""

    def refuse(_event: evt.Event) -> Dataset:
        status = Dataset()
        status.Status = 0xA900
        status.ErrorComment = f"not {TAGS['PatientID']} Telltale"
        return status

    ae = AE("QUOTING")
    for sop_class in (
        Comprehensive3DSRStorage, SecondaryCaptureImageStorage, KeyObjectSelectionDocumentStorage,
    ):  # fmt: skip
        ae.add_supported_context(sop_class)
    server = ae.start_server((HOST, 0), block=False, evt_handlers=[(evt.EVT_C_STORE, refuse)])
    try:
        yield server.socket.getsockname()[1]
    finally:
        server.shutdown()


@pytest.fixture
def make_telltale(phantom_file: Callable[..., Path], tmp_path: Path) -> Callable[..., Path]:
    """Write a phantom of the patient: ``make_telltale(number, kind, **tags)``."""

    def write(number: int, kind: str = "effusion", **tags: object) -> Path:
        dataset = pydicom.dcmread(phantom_file(number, kind, size=(256, 256)))
        dataset.SpecificCharacterSet = "ISO_IR 192"
        for keyword, value in (TAGS | {"StudyInstanceUID": f"{STUDY}.{number}"} | tags).items():
            setattr(dataset, keyword, value)
        dataset.SOPInstanceUID = f"{STUDY}.{number}.1"
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        path = tmp_path / f"tellfile-{number}.dcm"
        dataset.save_as(path, enforce_file_format=True)
        return path

    return write


def cut_pixels(path: Path) -> bytes:
    """A file that ends in the middle of its pixels."""
    return path.read_bytes()[:-30_000]


def broken_header(path: Path) -> bytes:
    """A file whose data set cannot be parsed behind the patient's name."""
    content = path.read_bytes()
    place = content.index(b"TT-4711")
    return content[:place] + b"\xff" * 64 + content[place : place + 200]


def test_a_leak_would_be_found() -> None:
    assert leaks(f"stored {NAME}") == ["zyzzyva", "quỳnh", "telltale"]
    assert leaks(json.dumps({"name": NAME})) == ["zyzzyva", "quỳnh", "telltale"]
    assert leaks(f"GET /dicomweb/studies/{STUDY}.4") == [STUDY]


def test_nothing_that_an_operator_sees_names_the_patient(
    start_vigil: Callable[..., Vigil],
    stand_in_bundle: Path,
    make_telltale: Callable[..., Path],
    tmp_path: Path,
) -> None:
    watched = tmp_path / "watched"
    watched.mkdir()
    secret = tmp_path / "secret"
    secret.write_text("whsec_" + "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz" + "\n")
    with quoting_web_server() as web, quoting_archive() as port:
        destinations = [
            {"kind": "stow", "name": "web", "url": web},
            {"kind": "webhook", "name": "hook", "url": web, "secret_file": str(secret)},
            {"kind": "c-store", "name": "pacs", "host": HOST, "port": port, "ae_title": "QUOTING"},
            {"kind": "folder", "name": "gone", "path": str(tmp_path / "not-mounted")},
        ]
        vigil = start_vigil(
            stand_in_bundle,
            VIGIL_WATCH_FOLDER=str(watched),
            VIGIL_WATCH_SETTLE_SECONDS="0.2",
            VIGIL_WATCH_POLL_SECONDS="0.2",
            VIGIL_RESULT_QUIET_SECONDS="0",
            VIGIL_DELIVERY_RETRY_SECONDS="0.3",
            VIGIL_DELIVERY_RETRY_MOST_SECONDS="0.5",
            VIGIL_DESTINATIONS=json.dumps(destinations),
        )
        seen = [*send_by_dicom(vigil, make_telltale), *send_by_web(vigil, make_telltale)]
        put_into_folder(watched, make_telltale)
        vigil.wait_for(4)

        def failed() -> bool:
            counts = vigil.get("/api/deliveries")["counts"]
            return counts.get("FAILED", 0) >= 2 and counts.get("PENDING", 0) >= 2

        wait_until(failed, "deliveries have failed")
        wait_until(lambda: len(list((watched / "refused").glob("*.dcm"))) == 2, "two are refused")
        seen += read_and_raise(vigil)
        seen.append(get(f"{vigil.url}/metrics").text)
        seen.append(get(f"{vigil.url}/api/status").text)
        for option in ("--json", "--waiting-limit=0"):
            told = subprocess.run(
                [str(VIGIL), "status", "--url", vigil.url, option],
                check=False, capture_output=True, text=True, timeout=60,
            )  # fmt: skip
            seen.append(told.stdout + told.stderr)
        vigil.stop()
    log = (vigil.folder / "service.log").read_text(encoding="utf-8")
    # What was to be refused was refused, and said so: an empty log would hold no names either.
    for word in (
        "received", "analysed", "refused", "OBJECT_UNREADABLE", "CUT_SHORT", "delivery_failed",
        "C_STORE_A900", "alarm_sop_instance_conflict", "delivery_put_off",
    ):  # fmt: skip
        assert word in log, word
    assert leaks(log) == []
    for text in seen:
        assert leaks(text) == [], text


def send_by_dicom(vigil: Vigil, make_telltale: Callable[..., Path]) -> list[str]:
    """Send whole, cut and other objects with dcmtk's storescu; return what an operator reads."""
    whole, cut, other = make_telltale(1), make_telltale(2), make_telltale(1, "normal")
    # An object of the same UID with other bytes, and one whose pixels end too early.
    make_telltale(1)
    cut.write_bytes(cut_pixels(cut))
    storescu = find_tool("storescu", "dcmtk")
    for path in (whole, cut):
        command = [storescu, "-aec", "VIGIL", HOST, str(vigil.dicom_port), str(path)]
        subprocess.run(command, check=False, timeout=60, capture_output=True)
    dataset = pydicom.dcmread(other)
    dataset.PatientID = "TT-4711-OTHER"
    dataset.save_as(other, enforce_file_format=True)
    command = [storescu, "-aec", "VIGIL", HOST, str(vigil.dicom_port), str(other)]
    subprocess.run(command, check=False, timeout=60, capture_output=True)
    with socket.create_connection((HOST, vigil.dicom_port)) as connection:
        connection.sendall(b"\x04\x00\x00\x00\x00\x40" + f"{NAME} {STUDY}".encode())
    told = subprocess.run(
        [str(VIGIL), "send", str(make_telltale(3)), "--to", f"{HOST}:{vigil.dicom_port}"],
        check=True, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    # It names the file, as it was told to; its words of the object are the service's.
    return [told.stdout.partition("tellfile-3.dcm")[2], told.stderr]


def send_by_web(vigil: Vigil, make_telltale: Callable[..., Path]) -> list[str]:
    """Send by STOW-RS, ask for what is not there; return the bodies of all errors."""
    whole, broken = make_telltale(4), broken_header(make_telltale(5))
    url = f"{vigil.url}/dicomweb/studies"
    assert post(url, content=body_of(whole.read_bytes()), headers=MULTIPART).is_success
    answers = [
        post(url, content=body_of(broken), headers=MULTIPART),
        post(url, content=body_of(f"{NAME} {STUDY}".encode()), headers=MULTIPART),
        post(url, content=whole.read_bytes(), headers=MULTIPART),
        post(url, content=NAME.encode(), headers={"Content-Type": "text/plain"}),
        get(f"{url}?PatientName={NAME}&limit=telltale"),
        get(f"{url}/{STUDY}/series/1.2/instances/1.3/rendered"),
        get(f"{vigil.url}/api/studies/{STUDY}"),
        get(f"{vigil.url}/{TAGS['PatientID']}"),
        post(f"{vigil.url}/api/deliveries/retry", json={"study": NAME}),
        get(f"{vigil.url}/ready", headers={"Host": "telltale.example"}),
    ]
    assert [answer.status_code for answer in answers if answer.is_success] == []
    return [answer.text for answer in answers]


def read_and_raise(vigil: Vigil) -> list[str]:
    """Say what names the patient in notes and reasons; return what an operator reads of it."""
    study = vigil.studies()[0]
    url = f"{vigil.url}/api/studies/{study['study_instance_uid']}"
    said = {"id": "0" * 8 + "-0000-4000-8000-" + "0" * 12, "seen_version": 0, "act": "note"}
    kept = post(f"{url}/readings/statements", json=said | {"note": f"{NAME} tellcomment"})
    assert kept.json()["mine"]["note"] == f"{NAME} tellcomment"
    refused = [
        post(f"{url}/readings/statements", json=said | {"note": NAME * 500}),
        post(f"{url}/readings/statements", json=said | {"act": NAME}),
        post(f"{url}/readings/statements", json=said | {"label": "Telltale"}),
        post(f"{url}/priority", json={"id": "telltale", "priority": NAME, "reason": NAME}),
        get(f"{vigil.url}/api/studies/{STUDY}/readings"),
    ]
    assert [answer.status_code for answer in refused if answer.is_success] == []
    return [*(answer.text for answer in refused), vigil_statistics(vigil)]


def vigil_statistics(vigil: Vigil) -> str:
    """Return what the statistics say, by HTTP."""
    return get(f"{vigil.url}/api/readings/statistics").raise_for_status().text


def put_into_folder(watched: Path, make_telltale: Callable[..., Path]) -> None:
    """Put whole, broken and cut files into the watched folder, under names that tell."""
    whole, cut = make_telltale(6), make_telltale(7)
    (watched / "Telltale-Zyzzyva.dcm").write_bytes(whole.read_bytes())
    (watched / "Telltale-cut.dcm").write_bytes(cut_pixels(cut))
    (watched / "TT-4711-SECRET.dcm").write_bytes(f"{NAME} {STUDY}".encode())
