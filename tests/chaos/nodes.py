"""Two nodes on one PostgreSQL and one folder: one is killed, then PostgreSQL is restarted.

Held: what either acknowledged is analysed once and delivered once, by whichever node; a killed
node's work is taken over within a minute; while the database is away senders are refused and the
nodes live on.
"""

import contextlib
import json
import random
import signal
import time
from pathlib import Path
from typing import Any

from tests.chaos.checks import (
    ask_postgresql,
    check_deliveries,
    check_logs,
    check_records,
    count,
    is_settled,
)
from tests.chaos.cluster import Cluster, new_cluster
from tests.chaos.proof import Proof
from tests.chaos.recorder import Recorder
from tests.chaos.senders import Offers, Sender, by_storescu, by_stow
from tests.films import Films
from tests.system.peers import Vigil, wait_until

_SIZE = (512, 448)
TAKEN_OVER_SECONDS = 60.0


def prove_nodes(
    proof: Proof,
    bundle: Path,
    *,
    rounds: int,
    seed: int = 1,
    films_a_sender: int = 8,
    lease_seconds: float | None = None,
) -> None:
    """In each round kill a node, have the other finish its work, and restart PostgreSQL.

    Parameters
    ----------
    lease_seconds
        How long a node may be silent; left out: the default of the service.
    """
    chance = random.Random(seed)
    folder = proof.folder
    with contextlib.ExitStack() as stack:
        cluster = stack.enter_context(new_cluster())
        recorder = stack.enter_context(Recorder())
        environment = {
            "VIGIL_DATABASE_URL": cluster.url,
            "VIGIL_DESTINATIONS": json.dumps([recorder.destination()]),
            "VIGIL_RESULT_QUIET_SECONDS": "0",
            "VIGIL_DELIVERY_RETRY_SECONDS": "0.5",
            "VIGIL_DELIVERY_RETRY_MOST_SECONDS": "2",
            "VIGIL_STORAGE_RESERVE_BYTES": "0",
            "VIGIL_LOG_FORMAT": "json",
        }
        if lease_seconds is not None:
            environment["VIGIL_LEASE_SECONDS"] = f"{lease_seconds:g}"
        nodes = _nodes(folder, bundle, environment, stack)
        films, offers = Films(folder, _SIZE, kind="effusion"), Offers()
        senders = [
            Sender(folder / "storescu", films, offers, by_storescu(nodes[0].dicom_port)),
            Sender(folder / "stow", films, offers, by_stow(nodes[1].url)),
        ]
        for sender in senders:
            stack.callback(sender.stop)

        def ask(question: str) -> list[tuple[Any, ...]]:
            return ask_postgresql(cluster.url, question)

        def settled() -> bool:
            return not offers.open and is_settled(ask, len(offers.acknowledged))

        slowest = 0.0
        for number in range(rounds):
            for sender in senders:
                sender.add(films_a_sender)
            time.sleep(chance.uniform(0.2, 2.0))
            victim = nodes[number % 2]
            victim.stop(signal.SIGKILL)
            killed = time.monotonic()
            recorded = count(ask, "instances")
            wait_until(
                lambda least=recorded: is_settled(ask, least), "the other node has done it", 300
            )
            slowest = max(slowest, time.monotonic() - killed)
            victim.start(**environment)
            wait_until(settled, "all is delivered", 300)
            _restart(proof, cluster, nodes, senders, films_a_sender, crash=number % 2 == 0)
            wait_until(settled, "all is delivered after the restart of PostgreSQL", 300)
        for sender in senders:
            sender.stop()
        proof.require(
            slowest <= TAKEN_OVER_SECONDS, f"a killed node's work took {slowest:.0f} s to be done"
        )
        data_dir = folder / "node-0" / "data"
        check_records(proof, ask, data_dir, offers)
        check_deliveries(proof, ask, {"recorder": set(recorder.arrivals)}, recorder)
        check_logs(proof, *(node.folder / "service.log" for node in nodes))
        wrong = cluster.check()
        proof.require(not wrong, f"pg_amcheck: {wrong}")
        proof.count(
            nodes_killed=rounds,
            restarts_of_postgresql=rounds,
            acknowledged=len(offers.acknowledged),
            all_done_by_the_other_after_at_most=f"{slowest:.0f} s",
        )


def _nodes(
    folder: Path, bundle: Path, environment: dict[str, str], stack: contextlib.ExitStack
) -> list[Vigil]:
    nodes = []
    for number in range(2):
        own = folder / f"node-{number}"
        own.mkdir()
        if number:
            (own / "data").symlink_to(folder / "node-0" / "data")
        nodes.append(Vigil(own, bundle))
        nodes[-1].start(**environment | {"VIGIL_NODE_NAME": f"node-{number}"})
        stack.callback(nodes[-1].stop)
    return nodes


def _restart(
    proof: Proof,
    cluster: Cluster,
    nodes: list[Vigil],
    senders: list[Sender],
    films: int,
    *,
    crash: bool,
) -> None:
    """Take the database away for some seconds while both nodes are at work."""
    for sender in senders:
        sender.add(films)
    time.sleep(0.5)
    cluster.stop("immediate" if crash else "fast")
    time.sleep(3)
    for node in nodes:
        assert node.program is not None
        ended = node.program.process.poll()
        proof.require(ended is None, f"a node ended with {ended} while the database was away")
        proof.require(node.program.answers(f"{node.url}/health"), "a node does not answer")
    cluster.start()
