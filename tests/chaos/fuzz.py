"""A stream of broken DICOM files and PDUs, through every door.

Held: the service lives and answers honest senders all the time, every connection ends, what is
taken is answered (analysed or refused with a code, never by a crash), and memory stays steady.
"""

import contextlib
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx
import pydicom
from pydicom.uid import ImplicitVRLittleEndian
from pynetdicom.dsutils import split_dataset

from tests.chaos.checks import ask_database
from tests.chaos.mutations import mutate
from tests.chaos.proof import Proof
from tests.chaos.senders import ask_storescu
from tests.chaos.wire import Hangs, Wire, association_request, store_request
from tests.films import Films, fresh_uid
from tests.system.peers import Vigil, wait_until
from vigil.phantom import make_phantom
from vigil.phantom.dicom import write_dx

_ANSWER_SECONDS = 60.0
_THREADS = 4
_EVERY = 250
"""After so many inputs an honest sender is served, and memory is measured."""
_MOST_GROWTH = 1.2
"""Of memory from the first half of the stream to its end."""
_CRASHES = (
    "analysis_crashed", "analysis_worker_failed", "association_failed", "store_failed",
    "request_failed", "courier_failed", "watched_file_failed",
)  # fmt: skip


@dataclass(frozen=True)
class Seed:
    """A whole file, and what an honest sender would announce of it."""

    content: bytes
    data_set_start: int
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str

    def renewed(self) -> "Seed":
        """Return the same under another SOP Instance UID, so that it is not known already."""
        uid = fresh_uid()[: len(self.sop_instance_uid)].rstrip(".")
        uid = uid.ljust(len(self.sop_instance_uid), "1")
        content = self.content.replace(self.sop_instance_uid.encode(), uid.encode())
        return Seed(content, self.data_set_start, self.sop_class_uid, uid, self.transfer_syntax_uid)


def read_seeds(samples: Path | None, folder: Path) -> list[Seed]:
    """Return phantoms in several syntaxes and, where they are, the real files, read in place."""
    paths = []
    for number, syntax in enumerate(
        ("1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.1.99",
         "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.90",
         "1.2.840.10008.1.2.4.201")
    ):  # fmt: skip
        phantom = make_phantom(number, "effusion", (320, 288))
        paths.append(write_dx(phantom, folder / f"seed-{number}.dcm", transfer_syntax=syntax))
    if samples is not None and samples.is_dir():
        paths += sorted(samples.glob("*.dcm"))
    seeds = []
    for path in paths:
        with contextlib.suppress(Exception):  # the damaged ones among the samples announce nothing
            header = pydicom.dcmread(path, stop_before_pixels=True, force=True)
            syntax = header.file_meta.get("TransferSyntaxUID", ImplicitVRLittleEndian)
            start = split_dataset(path)[1]
            seeds.append(
                Seed(
                    path.read_bytes(),
                    start,
                    str(header.SOPClassUID),
                    str(header.SOPInstanceUID),
                    str(syntax),
                )
            )
    return seeds


class _Stream:
    """Sends one broken input after another, each decided by its number alone."""

    def __init__(self, vigil: Vigil, watched: Path, seeds: list[Seed], first: int) -> None:
        self._vigil = vigil
        self._watched = watched
        # The large ones are rarer: what is broken is the header, and time is better spent on more.
        self._seeds = sorted(seeds, key=lambda seed: len(seed.content))
        self._first = first
        self.answers: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._doors: tuple[tuple[str, float, Callable[[random.Random, int], str]], ...] = (
            ("C-STORE", 0.4, self._store),
            ("PDU", 0.25, self._pdus),
            ("STOW", 0.25, self._stow),
            ("folder", 0.1, self._drop),
        )

    def send(self, number: int) -> None:
        """Send one input, and count the answer."""
        chance = random.Random(self._first + number)
        doors = [door for *_, door in self._doors]
        (door,) = chance.choices(doors, [share for _, share, _ in self._doors])
        answer = door(chance, number)
        with self._lock:
            self.answers[answer] += 1

    def _pick(self, chance: random.Random) -> Seed:
        place = min(chance.random(), chance.random())
        return self._seeds[int(place * len(self._seeds))].renewed()

    def _broken(self, chance: random.Random, *, with_meta: bool) -> tuple[Seed, bytes]:
        seed, other = self._pick(chance), self._pick(chance)
        content = seed.content if with_meta else seed.content[seed.data_set_start :]
        return seed, mutate(chance, content, other.content)

    def _store(self, chance: random.Random, _number: int) -> str:
        """A data set broken on its way, in a faultless message: it must be answered."""
        seed, data_set = self._broken(chance, with_meta=False)
        with Wire(self._vigil.dicom_port, _ANSWER_SECONDS) as wire:
            if not wire.associate(seed.sop_class_uid, seed.transfer_syntax_uid):
                return "C-STORE: context rejected"
            wire.send(store_request(seed.sop_class_uid, seed.sop_instance_uid, data_set))
            answer = wire.receive()
            place = answer.find(b"\x00\x00\x00\x09\x02\x00\x00\x00")
            if answer[:1] != b"\x04" or place < 0:
                return f"C-STORE: answered by PDU {answer[:1].hex() or 'none'}"
            status = int.from_bytes(answer[place + 8 : place + 10], "little")
            return f"C-STORE: 0x{status:04X}"

    def _pdus(self, chance: random.Random, _number: int) -> str:
        """A broken message, or a broken request for an association: it must come to an end."""
        seed = self._pick(chance)
        data_set = seed.content[seed.data_set_start :][: chance.choice((200, 5000, 100_000))]
        message = store_request(seed.sop_class_uid, seed.sop_instance_uid, data_set)
        request = association_request(seed.sop_class_uid, seed.transfer_syntax_uid)
        with Wire(self._vigil.dicom_port, _ANSWER_SECONDS) as wire:
            if chance.random() < 0.3:
                wire.send(mutate(chance, request, message))
            else:
                wire.associate(seed.sop_class_uid, seed.transfer_syntax_uid)
                wire.send(mutate(chance, message, request))
            wire.end()
        return "PDU: ended"

    def _stow(self, chance: random.Random, _number: int) -> str:
        """Broken objects in a faultless body, or a broken body."""
        parts = [self._broken(chance, with_meta=True)[1] for _ in range(chance.choice((1, 1, 3)))]
        body = b"".join(
            b"--FUZZ\r\nContent-Type: application/dicom\r\n\r\n" + part + b"\r\n" for part in parts
        )
        body += b"--FUZZ--\r\n"
        if chance.random() < 0.3:
            body = mutate(chance, body, parts[0])
        answer = httpx.post(
            f"{self._vigil.url}/dicomweb/studies",
            content=body,
            headers={"Content-Type": 'multipart/related; type="application/dicom"; boundary=FUZZ'},
            timeout=_ANSWER_SECONDS,
        )
        return f"STOW: {answer.status_code}"

    def _drop(self, chance: random.Random, number: int) -> str:
        """A broken file in the watched folder."""
        _, content = self._broken(chance, with_meta=True)
        path = self._watched / f"{number}.part"
        path.write_bytes(content)
        path.rename(path.with_suffix(".dcm"))
        return "folder: dropped"


def prove_fuzz(
    proof: Proof, bundle: Path, samples: Path | None, *, inputs: int, first: int = 1_000_000
) -> None:
    """Send the stream.

    Parameters
    ----------
    samples
        Folder of real files to break; only read.
    inputs
        How many.
    first
        Number of the first input: each number is always the same input.
    """
    (proof.folder / "vigil").mkdir()
    watched = proof.folder / "watched"
    watched.mkdir()
    vigil = Vigil(proof.folder / "vigil", bundle)
    seeds = read_seeds(samples, proof.folder)
    films = Films(proof.folder, (512, 448))
    database = proof.folder / "vigil" / "data" / "vigil.sqlite3"
    with contextlib.ExitStack() as stack:
        vigil.start(
            VIGIL_STORAGE_RESERVE_BYTES="0",
            VIGIL_DICOM_TIMEOUT_SECONDS="20",
            VIGIL_WATCH_FOLDER=str(watched),
            VIGIL_WATCH_SETTLE_SECONDS="0",
            VIGIL_WATCH_POLL_SECONDS="0.5",
            VIGIL_LOG_FORMAT="json",
        )
        stack.callback(vigil.stop)
        assert vigil.program is not None
        process = vigil.program.process
        stream = _Stream(vigil, watched, seeds, first)
        memory: list[float] = []
        honest = 0
        every = min(_EVERY, max(1, inputs // 4))
        pool = stack.enter_context(ThreadPoolExecutor(_THREADS))
        for start in range(0, inputs, every):
            numbers = range(start, min(start + every, inputs))
            for number, sent in [(n, pool.submit(stream.send, n)) for n in numbers]:
                try:
                    sent.result()
                except (Hangs, httpx.HTTPError, OSError) as error:
                    proof.broken.append(f"input {first + number}: {type(error).__name__}: {error}")
            if process.poll() is not None:
                proof.broken.append(f"it ended with {process.returncode} before {numbers.stop}")
                return
            film = films.write(proof.folder / "honest.dcm")
            began = time.monotonic()
            answer = ask_storescu(vigil.dicom_port, film)
            proof.require(answer == "Success", f"an honest sender was answered {answer}")
            honest = max(honest, round(time.monotonic() - began, 1))
            _await_answers(database, watched)
            memory.append(_resident_mib(process.pid))
        _check(proof, vigil, database, stream, memory)
        proof.count(inputs=inputs, seeds=len(seeds), honest_sender_waited_at_most=f"{honest} s")


def _await_answers(database: Path, watched: Path) -> None:
    question = "SELECT count(*) FROM instances WHERE state = 'received'"
    wait_until(lambda: ask_database(database, question) == [(0,)], "all is answered", 600)
    wait_until(lambda: not list(watched.glob("*.dcm")), "the watched folder is empty", 300)


def _check(
    proof: Proof, vigil: Vigil, database: Path, stream: _Stream, memory: list[float]
) -> None:
    assert vigil.program is not None
    process = vigil.program.process
    spool = database.parent / "spool"
    wait_until(lambda: not list(spool.iterdir()), "the spool is empty", 120)
    before, after = max(memory[: (len(memory) + 1) // 2]), memory[-1]
    proof.require(
        after <= before * _MOST_GROWTH,
        f"memory grew from {before:.0f} to {after:.0f} MiB: {[round(m) for m in memory]}",
    )
    descriptors = Path(f"/proc/{process.pid}/fd")
    wait_until(lambda: len(list(descriptors.iterdir())) < 120, "connections are closed", 120)
    for answer, times in sorted(stream.answers.items()):
        proof.require(answer != "STOW: 500", f"{times} requests were answered 500")
        proof.require(answer != "C-STORE: 0xC001", f"the service failed on {times} objects")
    internal = ask_database(
        database, "SELECT count(*) FROM instances WHERE code = 'INTERNAL_ERROR'"
    )
    proof.require(internal == [(0,)], f"{internal[0][0]} pictures are INTERNAL_ERROR")
    events: Counter[str] = Counter()
    for line in vigil.program.log.read_text(encoding="utf-8", errors="replace").splitlines():
        proof.require("Traceback" not in line, f"the log holds {line[:160]}")
        with contextlib.suppress(ValueError):
            entry = json.loads(line)
            events[f"{entry.get('event')} {entry.get('error', '')}".strip()] += 1
    for event, times in events.items():
        if event == "association_failed InvalidEventError":
            continue  # a PDU that no state of PS3.8 section 9.2 has an answer for: it ends there
        proof.require(not event.startswith(_CRASHES), f"the log says {times} × {event}")
    proof.require(
        ask_database(database, "PRAGMA integrity_check") == [("ok",)], "the database is damaged"
    )
    taken = ask_database(database, "SELECT state, count(*) FROM instances GROUP BY state")
    proof.count(
        taken=", ".join(f"{count} {state}" for state, count in taken),
        memory_mib=f"{memory[0]:.0f} → {after:.0f} (most {max(memory):.0f})",
        answers="; ".join(f"{answer} × {n}" for answer, n in sorted(stream.answers.items())),
    )


def _resident_mib(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0
