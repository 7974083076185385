"""Forty associations at once: one trickles, one aborts in the middle, the others are served.

The forty are pynetdicom's and dcmtk's storescu in turn, all open before the first one sends.
"""

import contextlib
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.association import Association

from tests.chaos.checks import ask_database
from tests.chaos.proof import Proof
from tests.films import Film, Films
from tests.inference.test_dicom_transport import pdus_of
from tests.system.peers import HOST, Vigil, find_tool, wait_until

_SIZE = (1024, 900)


def prove_associations(
    proof: Proof, bundle: Path, *, rounds: int, associations: int = 40, films_each: int = 2
) -> None:
    """Open them all, let all send at once, and count who was served."""
    (proof.folder / "vigil").mkdir()
    vigil = Vigil(proof.folder / "vigil", bundle)
    films = Films(proof.folder, _SIZE)
    with contextlib.ExitStack() as stack:
        vigil.start(VIGIL_STORAGE_RESERVE_BYTES="0", VIGIL_DICOM_MAX_ASSOCIATIONS="64")
        stack.callback(vigil.stop)
        expected: set[str] = set()
        slowest = 0.0
        for number in range(rounds):
            with _trickling(vigil, films.write(proof.folder / f"slow-{number}.dcm")) as trickled:
                _abort_in_the_middle(vigil, films.write(proof.folder / f"aborted-{number}.dcm"))
                batches = [
                    films.write_many(proof.folder / f"round-{number}-{sender}", films_each)
                    for sender in range(associations - 2)
                ]
                start = time.monotonic()
                served = _send_all(vigil, batches)
                slowest = max(slowest, time.monotonic() - start)
                expected |= {film.sop_instance_uid for batch in batches for film in batch}
                proof.require(
                    all(served), f"{served.count(False)} of {len(served)} senders were not served"
                )
                proof.require(trickled(), "the slow one was thrown out though it kept on sending")
        database = proof.folder / "vigil" / "data" / "vigil.sqlite3"
        question = "SELECT count(*) FROM instances WHERE state = 'received'"
        wait_until(lambda: ask_database(database, question) == [(0,)], "all is analysed", 300)
        rows = ask_database(database, "SELECT sop_instance_uid, state FROM instances")
        proof.require_equal({uid for uid, _ in rows}, expected, "recorded objects")
        proof.require(all(state == "analysed" for _, state in rows), "not all is analysed")
        spool = proof.folder / "vigil" / "data" / "spool"
        wait_until(lambda: not list(spool.iterdir()), "nothing is left in the spool", 60)
        proof.count(
            rounds=rounds,
            at_once=associations,
            served=len(expected),
            longest_round_seconds=round(slowest, 1),
        )


def _send_all(vigil: Vigil, batches: list[list[Film]]) -> list[bool]:
    """Send each batch on an association of its own, all at the same time."""
    gate = threading.Barrier(len(batches))
    served = [False] * len(batches)

    def send(number: int, batch: list[Film]) -> None:
        gate.wait(60)
        if number % 2:
            served[number] = _by_storescu(vigil, batch)
        else:
            served[number] = _by_pynetdicom(vigil, batch)

    threads = [
        threading.Thread(target=send, args=(number, batch)) for number, batch in enumerate(batches)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300)
    return served


def _by_storescu(vigil: Vigil, batch: list[Film]) -> bool:
    command = [find_tool("storescu", "dcmtk"), "-xe", "-to", "60", HOST, str(vigil.dicom_port)]
    paths = [str(film.path) for film in batch]
    return subprocess.run([*command, *paths], check=False, timeout=280).returncode == 0


def _by_pynetdicom(vigil: Vigil, batch: list[Film]) -> bool:
    association = _associate(vigil)
    if not association.is_established:
        return False
    try:
        answers = [association.send_c_store(film.path) for film in batch]
        return all(answer and answer.Status == 0x0000 for answer in answers)
    finally:
        association.release()


def _associate(vigil: Vigil) -> Association:
    ae = AE("CHAOS")
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 280
    ae.add_requested_context(DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian)
    return ae.associate(HOST, vigil.dicom_port)


@contextlib.contextmanager
def _trickling(vigil: Vigil, film: Film) -> "Iterator[_Trickle]":
    trickle = _Trickle(vigil, film)
    try:
        yield trickle
    finally:
        trickle.end()


class _Trickle:
    """An association that sends an object a few bytes at a time, and never finishes."""

    def __init__(self, vigil: Vigil, film: Film) -> None:
        self._association = _associate(vigil)
        assert self._association.is_established
        self._socket: socket.socket = self._association.dul.socket.socket
        self._content = b"".join(pdus_of(self._association, film.path))
        self._ended = threading.Event()
        self._alive = True
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def __call__(self) -> bool:
        """Return whether it is still connected."""
        return self._alive

    def _work(self) -> None:
        # In fits of a few bytes, well within the time that a PDU may take.
        for start in range(0, len(self._content) // 2, 700):
            if self._ended.wait(0.05):
                return
            try:
                self._socket.sendall(self._content[start : start + 700])
            except OSError:
                self._alive = False
                return
        self._ended.wait()

    def end(self) -> None:
        """Leave."""
        self._ended.set()
        self._thread.join(30)
        self._association.abort()


def _abort_in_the_middle(vigil: Vigil, film: Film) -> None:
    association = _associate(vigil)
    pdus = pdus_of(association, film.path)
    association.dul.socket.socket.sendall(b"".join(pdus[: len(pdus) // 2]))
    association.abort()
