"""``kill -9`` of the service at random moments while two senders send and two archives receive.

Held at the end: every acknowledged object is recorded, with its bytes, analysed exactly once and
its results delivered exactly once; whatever is recorded was sent; the database is whole.
"""

import contextlib
import json
import random
import signal
import time
from pathlib import Path
from typing import Any

from tests.chaos.checks import (
    archive_holds,
    ask_database,
    check_deliveries,
    check_logs,
    check_records,
    is_settled,
)
from tests.chaos.proof import Proof
from tests.chaos.recorder import Recorder
from tests.chaos.senders import Offers, Sender, by_storescu, by_stow
from tests.films import Films
from tests.inference.delivery.archive import Archive
from tests.system.peers import Vigil, wait_until

_SIZE = (512, 448)


def prove_kills(
    proof: Proof,
    bundle: Path,
    *,
    kills: int,
    films_a_kill: int = 4,
    most_seconds: float = 2.5,
    seed: int = 1,
) -> None:
    """Kill, start again, and look at what is left.

    Parameters
    ----------
    kills
        How often.
    films_a_kill
        How many films are sent between two kills.
    most_seconds
        The longest life of a service that was ready.
    seed
        Of the moments.
    """
    chance = random.Random(seed)
    folder = proof.folder
    (folder / "vigil").mkdir()
    vigil = Vigil(folder / "vigil", bundle)
    offers = Offers()
    archive = Archive(folder / "archive").start()
    with contextlib.ExitStack() as stack:
        stack.callback(archive.stop)
        recorder = stack.enter_context(Recorder())
        environment = {
            "VIGIL_DESTINATIONS": json.dumps([archive.destination(), recorder.destination()]),
            "VIGIL_RESULT_QUIET_SECONDS": "0",
            "VIGIL_DELIVERY_RETRY_SECONDS": "0.5",
            "VIGIL_DELIVERY_RETRY_MOST_SECONDS": "2",
            "VIGIL_STORAGE_RESERVE_BYTES": "0",
            "VIGIL_LOG_FORMAT": "json",
        }
        films = Films(folder, _SIZE, kind="effusion")
        senders = [
            Sender(folder / "storescu", films, offers, by_storescu(vigil.dicom_port)),
            Sender(folder / "stow", films, offers, by_stow(vigil.url)),
        ]
        for sender in senders:
            stack.callback(sender.stop)
        stack.callback(vigil_stop, vigil)
        starting = 0
        for number in range(kills):
            # One in eight dies while it starts: migrations, the queue and the doors are at work.
            in_start = chance.random() < 1 / 8
            vigil.start(wait=not in_start, **environment)
            life = chance.uniform(0, most_seconds)
            # The second half comes late, so that some are under way when it dies.
            for share in (0.7, 0.3):
                for sender in senders:
                    sender.add(films_a_kill // 4)
                time.sleep(share * life)
            starting += in_start
            code = vigil.stop(signal.SIGKILL)
            proof.require(code == -signal.SIGKILL, f"kill {number}: it had ended with {code}")
        vigil.start(**environment)
        wait_until(lambda: not offers.open, "all is acknowledged", 300)
        for sender in senders:
            sender.stop()
        data_dir = folder / "vigil" / "data"

        def ask(question: str) -> list[tuple[Any, ...]]:
            return ask_database(data_dir / "vigil.sqlite3", question)

        least = len(offers.acknowledged)
        wait_until(lambda: is_settled(ask, least), "all is delivered", 900)
        vigil.stop()
        proof.count(kills=kills, while_starting=starting, acknowledged=least)
        check_records(proof, ask, data_dir, offers)
        arrived = {"archive": archive_holds(archive), "recorder": set(recorder.arrivals)}
        check_deliveries(proof, ask, arrived, recorder)
        check_logs(proof, folder / "vigil" / "service.log")
        proof.require(ask("PRAGMA integrity_check") == [("ok",)], "the database is damaged")
        proof.require(not ask("PRAGMA foreign_key_check"), "a row refers to nothing")


def vigil_stop(vigil: Vigil) -> None:
    """Stop a service that may never have been started."""
    if vigil.program is not None:
        vigil.stop()
