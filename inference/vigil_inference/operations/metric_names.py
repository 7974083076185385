"""Every metric that is scraped: its name, type, labels and meaning, as the documents have it."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Described:
    """A metric as ``docs/operations.md`` describes it.

    Attributes
    ----------
    name
        As it is scraped, without the suffixes of a histogram.
    kind
        Prometheus' type.
    labels
        Names of its labels.
    scope
        Whose it is: this process's, or the same from every node that shares the database.
    meaning
        One line, which is its HELP too.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    scope: Literal["process", "installation"]
    meaning: str


RECEIVED = Described(
    "vigil_received_total",
    "counter",
    ("door", "outcome"),
    "process",
    "Objects acknowledged, by door, and whether they were new, repeated, or differ from those held",
)
REFUSED = Described(
    "vigil_refused_total",
    "counter",
    ("door", "code"),
    "process",
    "Objects refused at a door, which their senders keep, by stable code",
)
ASSOCIATIONS_REFUSED = Described(
    "vigil_associations_refused_total",
    "counter",
    ("reason",),
    "process",
    "Associations rejected because the disk is nearly full or too many are open",
)
ANALYSED = Described(
    "vigil_analysed_total", "counter", (), "installation", "Pictures that got their findings"
)
NOT_ANALYSED = Described(
    "vigil_not_analysed_total",
    "counter",
    ("code",),
    "installation",
    "Pictures that were answered without findings, by refusal code",
)
FINDING_SECONDS = Described(
    "vigil_finding_seconds",
    "histogram",
    (),
    "installation",
    "From a picture's acknowledgement to its answer",
)
DELIVERY_SECONDS = Described(
    "vigil_delivery_seconds",
    "histogram",
    ("destination",),
    "installation",
    "From the acknowledgement of a study's last picture to a result that its destination proved to "
    "hold (took, where nothing is proved); the quiet period is in it",
)
WAITING = Described(
    "vigil_waiting_pictures",
    "gauge",
    (),
    "installation",
    "Pictures that were acknowledged and have no answer yet",
)
WAITING_OLDEST = Described(
    "vigil_waiting_oldest_seconds",
    "gauge",
    (),
    "installation",
    "How long the oldest of these has waited; 0 where none waits",
)
DELIVERIES = Described(
    "vigil_deliveries",
    "gauge",
    ("destination", "state"),
    "installation",
    "Deliveries in each state",
)
DELIVERY_OLDEST = Described(
    "vigil_delivery_oldest_seconds",
    "gauge",
    ("destination",),
    "installation",
    "Age of the oldest delivery that is still on the way; 0 where none is",
)
NODES = Described(
    "vigil_nodes",
    "gauge",
    ("kind", "state"),
    "installation",
    "Nodes that were heard of within a day: alive, or silent for longer than a lease",
)
READY = Described(
    "vigil_ready", "gauge", ("check",), "process", "1 where a check of /ready says ok, else 0"
)
MODEL = Described(
    "vigil_model_info",
    "gauge",
    ("bundle", "digest", "network"),
    "process",
    "Always 1: which bundle answers, and which of its networks; absent without a model",
)
SOFTWARE = Described(
    "vigil_software_info", "gauge", ("version",), "process", "Always 1: which software runs"
)
DISK_FREE = Described(
    "vigil_disk_free_bytes", "gauge", (), "process", "Free space in the data folder"
)
DISK_RESERVE = Described(
    "vigil_disk_reserve_bytes",
    "gauge",
    (),
    "process",
    "Free space below which pictures are refused: storage_reserve_bytes",
)
DATABASE_UP = Described(
    "vigil_database_up",
    "gauge",
    (),
    "process",
    "1 where the database answered this look; at 0 what is of the whole installation stands still "
    "or is absent",
)

STAGE = Described(
    "vigil_model_stage_info",
    "gauge",
    ("bundle", "digest", "stage"),
    "installation",
    "Always 1: which bundles the site's record has in shadow, under supervision or live",
)
SHADOW = Described(
    "vigil_shadow_pictures_total",
    "counter",
    ("outcome",),
    "installation",
    "Pictures that were read in shadow, failed there, or were passed over since too many waited",
)
SHADOW_WAITING = Described(
    "vigil_shadow_waiting_pictures",
    "gauge",
    (),
    "installation",
    "Pictures that wait to be read in shadow; 0 where nothing is in shadow",
)

METRICS = (
    RECEIVED, REFUSED, ASSOCIATIONS_REFUSED, ANALYSED, NOT_ANALYSED, FINDING_SECONDS,
    DELIVERY_SECONDS, WAITING, WAITING_OLDEST, DELIVERIES, DELIVERY_OLDEST, NODES, STAGE, SHADOW,
    SHADOW_WAITING, READY, MODEL, SOFTWARE, DISK_FREE, DISK_RESERVE, DATABASE_UP,
)  # fmt: skip
