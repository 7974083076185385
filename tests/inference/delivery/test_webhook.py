import base64
import hashlib
import hmac
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from tests.inference.delivery.conftest import Site
from vigil_inference.delivery.destinations import read_secret
from vigil_inference.delivery.webhook import sign

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


class Receiver:
    """A program of the site that hears of studies."""

    def __init__(self) -> None:
        self.statuses: list[int] = [200]
        self.requests: list[tuple[dict[str, str], bytes]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                receiver.requests.append((headers, body))
                statuses = receiver.statuses
                self.send_response(statuses.pop(0) if len(statuses) > 1 else statuses[0])
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/studies"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.stop()


@pytest.fixture
def secret_file(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_text(f"{SECRET}\n", encoding="ascii")
    return path


def test_the_signature_is_the_one_of_the_specification() -> None:
    # The example of Standard Webhooks' own libraries.
    signature = sign(
        read_secret(SECRET), "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}'
    )
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize("text", ["", "c2hvcnQ=", "whsec_", "whsec_c2hvcnQ=", "whsec_ä", "whsec_*"])
def test_a_secret_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected whsec_ and base64 of 24 to 64 bytes"):
        read_secret(text)


def test_a_study_is_told_once_signed_and_again_with_the_same_words_after_a_failure(
    start_site: Callable[..., Site], receiver: Receiver, secret_file: Path
) -> None:
    receiver.statuses = [503, 429, 204]
    hook = {"name": "ris", "kind": "webhook", "url": receiver.url, "secret_file": str(secret_file)}
    site = start_site(hook)
    study = site.receive("0.95", AccessionNumber="A7")
    [row] = site.wait_for("SENT")
    assert (row.kind, row.code, row.attempts) == ("message", "HTTP_204", 3)
    assert len(receiver.requests) == 3
    assert len({body for _, body in receiver.requests}) == 1
    assert len({headers["webhook-id"] for headers, _ in receiver.requests}) == 1
    for headers, body in receiver.requests:
        signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
        key = base64.b64decode(SECRET.removeprefix("whsec_"))
        digest = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
        assert headers["webhook-signature"] == f"v1,{digest}"
    body = receiver.requests[0][1]
    content = json.loads(body)["data"]
    assert (content["study_instance_uid"], content["accession_number"]) == (study, "A7")
    assert (content["priority"], content["flagged"], content["release"]) == ("CRITICAL", True, 1)
    assert content["findings"] == [{"label": "Effusion", "probability": 0.95}]
    assert content["supersedes_sop_instance_uid"] is None
    assert "Nguy" not in body.decode()
    assert "P1" not in body.decode()

    site.receive("0.1", StudyInstanceUID=study)
    site.wait_for("SENT", "SENT")
    second = json.loads(receiver.requests[3][1])["data"]
    assert second["release"] == 2
    assert second["supersedes_sop_instance_uid"] == content["report_sop_instance_uid"]


def test_the_case_level_profile_tells_no_finding_and_a_refusal_is_a_dead_letter(
    start_site: Callable[..., Site], receiver: Receiver, secret_file: Path
) -> None:
    receiver.statuses = [400]
    hook = {"name": "ris", "kind": "webhook", "url": receiver.url, "secret_file": str(secret_file)}
    site = start_site(hook, result_profile="cadt")
    site.receive("0.95")
    [row] = site.wait_for("FAILED")
    assert (row.code, row.attempts) == ("HTTP_400", 1)
    content = json.loads(receiver.requests[0][1])["data"]
    assert (content["findings"], content["flagged"]) == (None, True)
    assert "Effusion" not in receiver.requests[0][1].decode()
