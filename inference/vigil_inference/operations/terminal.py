"""The status in a terminal."""

import httpx
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table
from rich.text import Text

from vigil import RESEARCH_USE
from vigil.errors import VigilError
from vigil_inference.delivery.states import DeliveryState
from vigil_inference.operations.judgement import Judgement, Level, size_text
from vigil_inference.operations.status import (
    DatabaseView,
    NodeView,
    ServiceStatus,
    ShadowView,
    WorkView,
)
from vigil_inference.settings import Settings
from vigil_inference.terminal import waiting_text

_TIMEOUT_SECONDS = 10.0
_STYLES = {
    Level.OK: "bold black on green",
    Level.WARNING: "bold black on yellow",
    Level.CRITICAL: "bold white on red",
    Level.UNKNOWN: "bold white on magenta",
}


class NothingAnswers(VigilError):
    """No service answers at an address."""

    code = "NOTHING_ANSWERS"


class NotVigil(VigilError):
    """Something else answers at an address, or does not let us ask."""

    code = "NOT_VIGIL"


def address_of(settings: Settings) -> tuple[str, str]:
    """Return where this machine reaches the web server, and by which name it must be asked."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.http_host, settings.http_host)  # noqa: S104
    shown = f"[{host}]" if ":" in host else host
    named = settings.allowed_hosts[0].removeprefix("*.")
    return f"http://{shown}:{settings.http_port}", "" if "*" in named else named


def fetch_status(url: str, host: str = "", token: str = "") -> ServiceStatus:
    """Ask a service how it stands.

    Parameters
    ----------
    url
        Where it is.
    host
        The name that the request carries, where it is another than the address's.
    token
        Of a service on another machine; on its own it needs none.

    Raises
    ------
    NothingAnswers
        If there is no service.
    NotVigil
        If something else is there.
    """
    headers = {"Host": host} if host else {}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    try:
        # No proxy: what is asked is this machine, or one in the same house.
        with httpx.Client(timeout=_TIMEOUT_SECONDS, trust_env=False) as client:
            answer = client.get(f"{url.rstrip('/')}/api/status", headers=headers)
    except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
        raise NotVigil(f"{url}: expected an address such as http://127.0.0.1:8080") from error
    except httpx.TimeoutException as error:
        raise NothingAnswers(f"{url}: no answer within {_TIMEOUT_SECONDS:.0f} s") from error
    except httpx.TransportError as error:
        raise NothingAnswers(
            f"{url}: nothing answers ({type(error).__name__}); is `vigil serve` running there?"
        ) from error
    if answer.status_code != httpx.codes.OK:
        raise NotVigil(f"{url}: expected a status, found HTTP {answer.status_code}")
    try:
        return ServiceStatus.model_validate_json(answer.content)
    except ValidationError as error:
        raise NotVigil(f"{url}: what answers there is not this version of Vigil") from error


def print_status(
    status: ServiceStatus, judgement: Judgement, console: Console | None = None
) -> None:
    """Print a status as a table, what needs attention first."""
    console = console or Console(highlight=False)
    word = Text(f" {judgement.level.name} ", _STYLES[judgement.level])
    console.print(word, Text("ready" if status.ready else "not ready"))
    for sentence in judgement.sentences:
        console.print(Text(f"  {sentence}"))
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in _rows(status):
        table.add_row(name, Text(value))
    console.print(table)
    if status.database is not None and status.database.destinations:
        console.print(_deliveries(status.database))
    console.print(Text(f"{RESEARCH_USE}."))


def _rows(status: ServiceStatus) -> list[tuple[str, str]]:
    rows = [("software", f"Vigil {status.software_version} {status.site}".rstrip())]
    if status.started_at is not None:
        rows.append(("started", f"{status.started_at:%Y-%m-%d %H:%M:%S} UTC"))
    if status.dicom:
        rows.append(("DICOM", status.dicom))
    rows += [(part, said) for part, said in status.checks.items()]
    if status.model is not None:
        model = status.model
        rows.append(("bundle", f"{model.bundle_id}, {model.network}, {model.bundle_digest}"))
    if status.disk is not None:
        disk = status.disk
        rows.append(
            (
                "disk",
                f"{size_text(disk.free_bytes)} free of {size_text(disk.total_bytes)}; "
                f"pictures are refused below {size_text(disk.reserve_bytes)}",
            )
        )
    if status.doors is not None:
        said = _counts(status.doors.refused) or "nothing"
        rows.append(("refused at the doors", f"{said} (since it started)"))
        if status.doors.associations_refused:
            rows.append(("associations refused", _counts(status.doors.associations_refused)))
    if status.database is not None:
        rows += _work_rows(status.database)
    return rows


def _work_rows(work: DatabaseView) -> list[tuple[str, str]]:
    waiting = str(work.waiting_pictures)
    if work.waiting_pictures:
        waiting += f", the oldest for {waiting_text(work.waiting_oldest_seconds)}"
    return [
        *((f"node {node.name}", _node(node)) for node in work.nodes),
        ("waiting pictures", waiting),
        ("last 24 hours", _work(work.last_day)),
        ("all time", _work(work.all_time)),
        ("results not built", str(work.results_not_built)),
        ("UID conflicts", str(work.uid_conflicts)),
        *(
            (
                f"bundle {one.stage}",
                f"{one.bundle_id} {one.bundle_digest[:12]}, since {one.since:%Y-%m-%d %H:%M} UTC",
            )
            for one in work.models
        ),
        *([("shadow work", _shadow(work.shadow))] if work.shadow is not None else []),
    ]


def _shadow(one: ShadowView) -> str:
    text = f"{one.waiting} wait, {one.read} read, {one.failed} failed"
    return f"{text}, {one.dropped} passed over" if one.dropped else text


def _node(node: NodeView) -> str:
    seen = "alive" if node.alive else f"silent for {waiting_text(node.silent_seconds)}"
    return f"{node.kind}, {seen}, {node.in_work} in work" + (
        f"; {node.problem}" if node.problem else ""
    )


def _work(work: WorkView) -> str:
    received = sum(work.received.values())
    doors = f" ({_counts(work.received)})" if work.received else ""
    text = f"{received} received{doors}, {work.analysed} analysed"
    if work.not_analysed:
        text += f", {sum(work.not_analysed.values())} not: {_counts(work.not_analysed)}"
    return text


def _counts(counts: dict[str, int]) -> str:
    most = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{name} {count}" for name, count in most)


def _deliveries(work: DatabaseView) -> Table:
    table = Table(title="Deliveries", title_justify="left")
    table.add_column("Destination", no_wrap=True)
    for state in DeliveryState:
        table.add_column(state.value, justify="right")
    table.add_column("Oldest", justify="right", no_wrap=True)
    table.add_column("Last problem", overflow="fold")
    for found in work.destinations:
        problem = found.last_problem
        table.add_row(
            found.destination,
            *(str(found.counts.get(state, 0)) for state in DeliveryState),
            waiting_text(found.oldest_seconds) if found.oldest_seconds else "",
            "" if problem is None else f"{problem.code}, no. {problem.delivery}",
        )
    return table
