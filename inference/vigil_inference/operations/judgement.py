"""Whether a status needs somebody's attention, in the words and numbers of monitoring plug-ins."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

from vigil_inference.delivery.states import DeliveryState
from vigil_inference.operations.status import ServiceStatus
from vigil_inference.terminal import waiting_text

_DISK_WARNING_RESERVES = 2


class Level(IntEnum):
    """Exit codes that Nagios, Icinga, Zabbix and their kind understand."""

    OK = 0
    WARNING = 1
    CRITICAL = 2
    UNKNOWN = 3


@dataclass(frozen=True)
class Limits:
    """How long work may take before it is worth a warning."""

    waiting_seconds: float = 300.0
    delivery_seconds: float = 3600.0


@dataclass(frozen=True)
class Judgement:
    """The level, and a sentence for each thing that made it so."""

    level: Level
    sentences: tuple[str, ...]


def judge_status(status: ServiceStatus, limits: Limits) -> Judgement:
    """Judge: CRITICAL while the service is not ready, WARNING where something waits for a person.

    A picture that was refused, and a sender that was, are everyday work and no warning.
    """
    if not status.ready:
        wrong = [f"{part}: {said}" for part, said in status.checks.items() if said != "ok"]
        return Judgement(Level.CRITICAL, tuple(wrong))
    sentences = tuple(_warnings(status, limits))
    return Judgement(Level.WARNING if sentences else Level.OK, sentences)


def _warnings(status: ServiceStatus, limits: Limits) -> Iterator[str]:
    disk = status.disk
    if disk is not None and disk.free_bytes < _DISK_WARNING_RESERVES * disk.reserve_bytes:
        yield (
            f"the disk has {size_text(disk.free_bytes)} left; at {size_text(disk.reserve_bytes)} "
            "pictures are refused"
        )
    if status.shadow_problem:
        yield f"the bundle in shadow does not read here: {status.shadow_problem}"
    work = status.database
    if work is None:
        return
    if work.waiting_oldest_seconds > limits.waiting_seconds:
        yield f"a picture has waited {waiting_text(work.waiting_oldest_seconds)} for its analysis"
    alive = {node.name for node in work.nodes if node.alive}
    for node in work.nodes:
        # One that was killed and started again is another node of the same name.
        if not node.alive and node.name not in alive:
            yield f"the node {node.name} has been silent for {waiting_text(node.silent_seconds)}"
    if len({node.bundle_digest for node in work.nodes if node.alive and node.bundle_digest}) > 1:
        yield "the nodes have different bundles"
    for found in work.destinations:
        if failed := found.counts.get(DeliveryState.FAILED, 0):
            yield (
                f"{failed} deliveries to {found.destination} failed: "
                f"vigil deliveries list --state FAILED --to {found.destination}"
            )
        if found.oldest_seconds > limits.delivery_seconds:
            age = waiting_text(found.oldest_seconds)
            yield f"a delivery to {found.destination} has been on its way for {age}"
    if work.results_not_built:
        yield (
            f"the results of {work.results_not_built} studies cannot be built: "
            "vigil deliveries list names them"
        )


def size_text(count: int) -> str:
    """Return a number of bytes for reading: ``812 MiB``, ``1.4 TiB``."""
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit in ("B", "KiB", "MiB") else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"
