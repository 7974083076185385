"""Senders that remember what was acknowledged, and try again with the rest as modalities do."""

import re
import subprocess
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable
from pathlib import Path

import httpx

from tests.films import Film, Films
from tests.system.peers import HOST, find_tool
from vigil_inference.headers import digest_of

_AGAIN_SECONDS = 0.2
_SENT = re.compile(r"Sending file: (\S+)")
_ANSWERED = re.compile(r"Received Store Response \((.+)\)")


class Offers:
    """What was offered under which digest, and what was acknowledged; one for all senders."""

    def __init__(self) -> None:
        self.digests: dict[str, str] = {}
        """By SOP Instance UID, of all that was offered."""
        self.acknowledged: set[str] = set()
        self.attempts = 0
        self._lock = threading.Lock()

    def offer(self, film: Film) -> None:
        """Note a film before its first attempt."""
        with self._lock:
            self.digests[film.sop_instance_uid] = digest_of(film.path)

    def acknowledge(self, film: Film) -> None:
        """Note an acknowledgement; the sender deletes its copy, as modalities do."""
        with self._lock:
            self.acknowledged.add(film.sop_instance_uid)
        film.path.unlink()

    @property
    def open(self) -> int:
        """How many are not acknowledged yet."""
        return len(self.digests) - len(self.acknowledged)


class Sender:
    """Sends films in small batches until each is acknowledged.

    Parameters
    ----------
    folder
        For its files.
    films
        Where they come from.
    offers
        Where it is noted.
    transmit
        Sends files, and returns those that were acknowledged.
    """

    def __init__(
        self,
        folder: Path,
        films: Films,
        offers: Offers,
        transmit: Callable[[list[Film]], list[Film]],
    ) -> None:
        folder.mkdir()
        self._folder = folder
        self._films = films
        self._offers = offers
        self._transmit = transmit
        self._waiting: deque[Film] = deque()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def add(self, count: int) -> None:
        """Have so many more films sent."""
        for _ in range(count):
            film = self._films.write(self._folder / f"{uuid.uuid4().hex}.dcm")
            self._offers.offer(film)
            self._waiting.append(film)

    def stop(self) -> None:
        """End, with what was sent."""
        self._stopping.set()
        self._thread.join(90)

    def _work(self) -> None:
        while not self._stopping.is_set():
            batch = list(self._waiting)
            if batch:
                self._offers.attempts += 1
                for film in self._transmit(batch):
                    self._waiting.remove(film)
                    self._offers.acknowledge(film)
            time.sleep(0.02 if batch and not self._waiting else _AGAIN_SECONDS)


def by_storescu(port: int) -> Callable[[list[Film]], list[Film]]:
    """Return what sends by dcmtk's storescu and reads its log for what was acknowledged."""
    storescu = find_tool("storescu", "dcmtk")

    def transmit(films: list[Film]) -> list[Film]:
        paths = [str(film.path) for film in films]
        command = [storescu, "-v", "-xe", "-to", "10", "-td", "30", "-aet", "CHAOS",
                   "-aec", "VIGIL", HOST, str(port), *paths]  # fmt: skip
        done = subprocess.run(
            command, check=False, text=True, timeout=120,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        by_path = {str(film.path): film for film in films}
        acknowledged = []
        sending: Film | None = None
        for line in done.stdout.splitlines():
            if found := _SENT.search(line):
                sending = by_path[found[1]]
            elif (found := _ANSWERED.search(line)) and sending is not None:
                if found[1] == "Success":
                    acknowledged.append(sending)
                sending = None
        return acknowledged

    return transmit


def by_stow(url: str, most: int = 3) -> Callable[[list[Film]], list[Film]]:
    """Return what sends by STOW-RS, a few in a request, and reads the answer's sequence."""

    def transmit(films: list[Film]) -> list[Film]:
        films = films[:most]
        body = b"".join(
            b"--CHAOS\r\nContent-Type: application/dicom\r\n\r\n" + film.path.read_bytes() + b"\r\n"
            for film in films
        )
        try:
            answer = httpx.post(
                f"{url}/dicomweb/studies",
                content=body + b"--CHAOS--\r\n",
                headers={
                    "Content-Type": 'multipart/related; type="application/dicom"; boundary=CHAOS'
                },
                timeout=60,
                trust_env=False,
            )
        except httpx.TransportError:
            return []
        if answer.status_code not in (200, 202):
            return []
        stored = {
            item["00081155"]["Value"][0]
            for item in answer.json().get("00081199", {}).get("Value", [])
        }
        return [film for film in films if film.sop_instance_uid in stored]

    return transmit


def ask_storescu(port: int, film: Film) -> str:
    """Return what dcmtk's storescu was answered on one object, such as ``Success``.

    Where there was no answer it is storescu's error line.
    """
    command = [find_tool("storescu", "dcmtk"), "-v", "-xe", "-to", "20", "-td", "60",
               "-aec", "VIGIL", HOST, str(port), str(film.path)]  # fmt: skip
    done = subprocess.run(
        command, check=False, text=True, timeout=120,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    found = _ANSWERED.findall(done.stdout)
    if found:
        return str(found[-1])
    errors = [line for line in done.stdout.splitlines() if line.startswith(("E:", "F:"))]
    return " ".join(errors) or f"no answer, exit code {done.returncode}"


def ask_stow(url: str, film: Film) -> int:
    """Return the HTTP status of one object sent by STOW-RS."""
    body = b"--CHAOS\r\nContent-Type: application/dicom\r\n\r\n" + film.path.read_bytes()
    return httpx.post(
        f"{url}/dicomweb/studies",
        content=body + b"\r\n--CHAOS--\r\n",
        headers={"Content-Type": 'multipart/related; type="application/dicom"; boundary=CHAOS'},
        timeout=60,
        trust_env=False,
    ).status_code
