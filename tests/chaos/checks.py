"""What must hold at the end of a proof, asked of the database, the files, the archives, the log."""

import contextlib
import json
import sqlite3
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psycopg

from tests.chaos.proof import Proof
from tests.chaos.recorder import Recorder
from tests.chaos.senders import Offers
from tests.inference.delivery.archive import Archive
from vigil_inference.headers import digest_of

Ask = Callable[[str], list[tuple[Any, ...]]]
"""Puts a question in SQL to a database that others may be writing to."""


def ask_database(database: Path, question: str) -> list[tuple[Any, ...]]:
    """Return the rows of a question to an SQLite database."""
    with contextlib.closing(sqlite3.connect(database, timeout=30)) as connection:
        return connection.execute(question).fetchall()


def ask_postgresql(url: str, question: str) -> list[tuple[Any, ...]]:
    """Return the rows of a question to a PostgreSQL database."""
    with psycopg.connect(url, connect_timeout=10) as connection:
        return connection.execute(question).fetchall()  # type: ignore[arg-type]


def count(ask: Ask, what: str) -> int:
    """Return how many rows there are ``FROM`` what."""
    ((number,),) = ask(f"SELECT count(*) FROM {what}")
    return int(number)


def is_settled(ask: Ask, least: int) -> bool:
    """Return whether at least so many objects are recorded, and nothing is left to do."""
    return (
        count(ask, "instances") >= least
        and not count(ask, "instances WHERE state = 'received'")
        and not count(ask, "studies WHERE release_due_at IS NOT NULL")
        and not count(ask, "deliveries WHERE state NOT IN ('DELIVERED', 'FAILED')")
    )


def check_records(proof: Proof, ask: Ask, data_dir: Path, offers: Offers) -> None:
    """What was acknowledged is recorded with its bytes and analysed; nothing else is recorded."""
    rows = ask("SELECT sop_instance_uid, sha256, file_path, state, code FROM instances")
    held = {uid: (sha256, path) for uid, sha256, path, *_ in rows}
    proof.require(len(held) == len(rows), "an object is recorded twice")
    proof.require_equal(set(held), offers.acknowledged, "recorded objects")
    for uid, (sha256, path) in held.items():
        file = data_dir / path
        proof.require(offers.digests.get(uid) == sha256, "other bytes are recorded than were sent")
        proof.require(
            file.is_file() and digest_of(file) == sha256, "a kept file is not what is recorded"
        )
    states = Counter(f"{state} {code or ''}".strip() for *_, state, code in rows)
    proof.require(set(states) == {"analysed"}, f"not all are analysed: {dict(states)}")
    releases = ask("SELECT count(*) FROM result_sets GROUP BY study_id")
    proof.require(
        len(releases) == len(rows) and all(number == 1 for (number,) in releases),
        f"{len(rows)} studies have {sum(number for (number,) in releases)} releases",
    )
    kept = {path.name for path in (data_dir / "instances").rglob("*") if path.is_file()}
    unrecorded = kept - {Path(path).name for _, path in held.values()}
    spooled = list((data_dir / "spool").iterdir())
    proof.count(unrecorded_files=len(unrecorded), in_the_spool=len(spooled))


def check_deliveries(
    proof: Proof, ask: Ask, arrived: Mapping[str, set[str]], recorder: Recorder
) -> None:
    """All results are where they are said to be, and the recorder was sent none twice."""
    told = ask("SELECT destination, subject, state, attempts FROM deliveries")
    failed = [row for row in told if row[2] != "DELIVERED"]
    proof.require(not failed, f"{len(failed)} deliveries are not DELIVERED")
    for name, found in arrived.items():
        expected = {subject for destination, subject, *_ in told if destination == name}
        proof.require_equal(found, expected, f"objects at {name}")
    twice = recorder.twice()
    proof.require(not twice, f"{len(twice)} objects were delivered twice")
    proof.count(
        delivered=len(told),
        delivered_twice=len(twice),
        taken_up_again=sum(attempts > 1 for *_, attempts in told),
    )


def archive_holds(archive: Archive) -> set[str]:
    """Return the SOP Instance UIDs that an Orthanc holds."""
    return {
        instance["MainDicomTags"]["SOPInstanceUID"] for instance in archive.get("/instances?expand")
    }


def check_logs(proof: Proof, *logs: Path) -> None:
    """No picture was given a result twice, by whichever node, and nothing raised uncaught."""
    analysed: Counter[int] = Counter()
    for log in logs:
        for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
            proof.require("Traceback" not in line, f"the log holds {line[:120]}")
            with contextlib.suppress(ValueError):
                entry = json.loads(line)
                if entry.get("event") == "analysed":
                    analysed[entry["instance"]] += 1
    twice = sum(number > 1 for number in analysed.values())
    proof.require(not twice, f"{twice} pictures were given a result twice")
