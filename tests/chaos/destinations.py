"""Destinations in trouble: stopped, frozen, refusing, hanging, warning, rejecting.

Held at each moment: what is called SENT or DELIVERED is there. Held at the end of each trouble:
everything arrived, and arrived once.
"""

import contextlib
import json
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx

from tests.chaos.checks import archive_holds
from tests.chaos.proof import Proof
from tests.chaos.recorder import Recorder
from tests.chaos.senders import ask_storescu
from tests.films import Film, Films
from tests.inference.delivery.archive import Archive
from tests.system.peers import Vigil, wait_until

_SIZE = (512, 448)
_ARRIVED = ("SENT", "DELIVERED")


class Scene:
    """A service with two destinations, and what can be asked of it."""

    def __init__(self, proof: Proof, vigil: Vigil, archive: Archive, recorder: Recorder) -> None:
        self.proof = proof
        self.vigil = vigil
        self.archive = archive
        self.recorder = recorder
        self._films = Films(proof.folder, _SIZE, kind="effusion")
        self._sent = 0

    def send(self) -> Film:
        """Send one study."""
        self._sent += 1
        film = self._films.write(self.proof.folder / f"film-{self._sent:05d}.dcm")
        answer = ask_storescu(self.vigil.dicom_port, film)
        self.proof.require(answer == "Success", f"a film was answered {answer}")
        return film

    def deliveries(self, film: Film | None = None, to: str = "") -> list[dict[str, Any]]:
        """Return deliveries, of one study or to one destination."""
        study = "" if film is None else film.study_instance_uid
        question = f"/api/deliveries?limit=500&destination={to}&study_instance_uid={study}"
        rows: list[dict[str, Any]] = []
        while page := self.vigil.get(f"{question}&offset={len(rows)}")["deliveries"]:
            rows += page
        return rows

    def await_code(self, film: Film, to: str, states: tuple[str, ...], code: str) -> None:
        """Wait until all of a film's results to a destination met something, and say so."""
        wait_until(
            lambda: (
                (rows := self.deliveries(film, to))
                and any(row["state"] in states and row["code"].startswith(code) for row in rows)
            ),
            f"a delivery to {to} is {'/'.join(states)} with {code}",
            90,
        )

    def await_delivered(self, film: Film, to: str = "") -> None:
        """Wait until all of a film's results are delivered."""
        wait_until(
            lambda: (
                (rows := self.deliveries(film, to))
                and all(row["state"] == "DELIVERED" for row in rows)
            ),
            f"a study is delivered to {to or 'both'}",
            120,
        )


def archive_stopped(scene: Scene) -> None:
    """Orthanc is down; nobody else waits for it; it comes back."""
    scene.archive.stop()
    film = scene.send()
    scene.await_code(film, "archive", ("PENDING",), "NO_CONNECTION")
    scene.await_delivered(film, "recorder")
    scene.archive.start()
    scene.await_delivered(film)


def archive_killed_while_receiving(scene: Scene) -> None:
    """Orthanc dies while results come in, and is started again."""
    films = [scene.send() for _ in range(3)]
    program = scene.archive.program
    assert program is not None
    program.stop(signal.SIGKILL)
    scene.archive.start()
    for film in films:
        scene.await_delivered(film)


def archive_frozen(scene: Scene) -> None:
    """Orthanc takes connections and answers nothing, then goes on."""
    scene.archive.signal(signal.SIGSTOP)
    try:
        film = scene.send()
        wait_until(
            lambda: any(row["attempts"] >= 1 for row in scene.deliveries(film, "archive")),
            "the frozen archive is tried",
        )
        scene.await_delivered(film, "recorder")
        wait_until(
            lambda: any(row["code"] for row in scene.deliveries(film, "archive")),
            "the attempt is given up",
        )
    finally:
        scene.archive.signal(signal.SIGCONT)
    scene.await_delivered(film)


def out_of_resources(scene: Scene) -> None:
    """0xA700: try again later."""
    scene.recorder.answer(0xA700)
    film = scene.send()
    scene.await_code(film, "recorder", ("PENDING", "SENDING"), "C_STORE_A700")
    scene.await_delivered(film, "archive")
    scene.recorder.answer()
    scene.await_delivered(film)


def warning(scene: Scene) -> None:
    """0xB000: it was stored, with a warning; it is not sent again."""
    scene.recorder.answer(0xB000)
    film = scene.send()
    scene.await_delivered(film)
    scene.recorder.answer()


def hanging(scene: Scene) -> None:
    """It takes the association and never answers."""
    scene.recorder.hang()
    film = scene.send()
    scene.await_code(film, "recorder", ("PENDING", "SENDING"), "NO_ANSWER")
    scene.await_delivered(film, "archive")
    scene.recorder.answer()
    scene.await_delivered(film)


def rejecting(scene: Scene) -> None:
    """It rejects associations for a while."""
    scene.recorder.reject()
    film = scene.send()
    scene.await_code(film, "recorder", ("PENDING", "SENDING"), "ASSOCIATION_REJECTED")
    scene.recorder.answer()
    scene.await_delivered(film)


def refusing(scene: Scene) -> None:
    """0xC000: it will never take it; a dead letter, until a person retries."""
    scene.recorder.answer(0xC000)
    film = scene.send()
    wait_until(
        lambda: (
            (rows := scene.deliveries(film, "recorder"))
            and all(row["state"] == "FAILED" and row["code"] == "C_STORE_C000" for row in rows)
        ),
        "the refused ones are dead letters",
    )
    scene.await_delivered(film, "archive")
    scene.recorder.answer()
    ids = [row["id"] for row in scene.deliveries(film, "recorder")]
    httpx.post(
        f"{scene.vigil.url}/api/deliveries/retry", json={"ids": ids}, timeout=30
    ).raise_for_status()
    scene.await_delivered(film)


def port_closed_and_opened(scene: Scene) -> None:
    """It goes away in the middle and comes back."""
    films = [scene.send() for _ in range(2)]
    scene.recorder.close()
    films.append(scene.send())
    scene.await_code(films[-1], "recorder", ("PENDING", "SENDING"), "NO_CONNECTION")
    scene.recorder.listen()
    for film in films:
        scene.await_delivered(film)


TROUBLES: dict[str, Callable[[Scene], None]] = {
    function.__name__: function
    for function in (
        archive_stopped,
        archive_killed_while_receiving,
        archive_frozen,
        out_of_resources,
        warning,
        hanging,
        rejecting,
        refusing,
        port_closed_and_opened,
    )
}


def prove_destinations(
    proof: Proof,
    bundle: Path,
    *,
    rounds: int,
    troubles: tuple[str, ...] = tuple(TROUBLES),
    seed: int = 1,
) -> None:
    """Go through the troubles, in another order each round."""
    chance = random.Random(seed)
    (proof.folder / "vigil").mkdir()
    vigil = Vigil(proof.folder / "vigil", bundle)
    archive = Archive(proof.folder / "archive").start()
    with contextlib.ExitStack() as stack:
        stack.callback(archive.stop)
        recorder = stack.enter_context(Recorder())
        stack.callback(recorder.answer)  # before the service stops: nobody hangs
        destinations = [
            archive.destination(timeout_seconds=5),
            recorder.destination(timeout_seconds=5),
        ]
        vigil.start(
            VIGIL_DESTINATIONS=json.dumps(destinations),
            VIGIL_RESULT_QUIET_SECONDS="0",
            VIGIL_DELIVERY_RETRY_SECONDS="0.4",
            VIGIL_DELIVERY_RETRY_MOST_SECONDS="1",
            VIGIL_STORAGE_RESERVE_BYTES="0",
        )
        stack.callback(vigil.stop)
        scene = Scene(proof, vigil, archive, recorder)
        with _told_truth(scene) as told:
            for _ in range(rounds):
                for name in chance.sample(troubles, len(troubles)):
                    TROUBLES[name](scene)
        rows = scene.deliveries()
        for name, arrived in (
            ("archive", archive_holds(archive)),
            ("recorder", set(recorder.arrivals)),
        ):
            expected = {row["sop_instance_uid"] for row in rows if row["destination"] == name}
            proof.require_equal(arrived, expected, f"objects at {name}")
        twice = recorder.twice()
        proof.require(not twice, f"{len(twice)} objects were delivered twice")
        proof.require(
            all(row["state"] == "DELIVERED" for row in rows), "not all is DELIVERED at the end"
        )
        proof.count(
            troubles=rounds * len(troubles),
            delivered=len(rows),
            delivered_twice=len(twice),
            attempts=sum(row["attempts"] for row in rows),
            statuses_checked=told[0],
        )


@contextlib.contextmanager
def _told_truth(scene: Scene) -> Iterator[list[int]]:
    """Ask all the time what is called sent, and then whether it is there.

    The service is asked first, so that what it says cannot be newer than what is found.
    """
    ended = threading.Event()
    asked = [0]

    def watch() -> None:
        held: set[str] = set()
        while not ended.is_set():
            time.sleep(0.2)
            told = [row for row in scene.deliveries() if row["state"] in _ARRIVED]
            asked[0] += len(told)
            at_recorder = {r["sop_instance_uid"] for r in told if r["destination"] == "recorder"}
            lies = len(at_recorder - set(scene.recorder.arrivals))
            scene.proof.require(not lies, f"{lies} are called sent to the recorder and are not")
            at_archive = {r["sop_instance_uid"] for r in told if r["destination"] == "archive"}
            if at_archive - held:
                # Down or frozen it holds what it held, and is asked when it can be.
                with contextlib.suppress(httpx.HTTPError):
                    held = archive_holds(scene.archive)
                    lies = len(at_archive - held)
                    scene.proof.require(not lies, f"{lies} are called sent to Orthanc, are not")

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield asked
    finally:
        ended.set()
        thread.join(60)
