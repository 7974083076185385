"""The worklist in a terminal."""

import json
import urllib.error
import urllib.parse
import urllib.request

from rich.console import Console
from rich.table import Table
from rich.text import Text

from vigil import RESEARCH_USE
from vigil.errors import ConfigurationError
from vigil.triage import Priority
from vigil_inference.tables import State
from vigil_inference.views import StudySummary, WorklistPage

_TIMEOUT_SECONDS = 10.0
_STYLES = {
    Priority.CRITICAL: "bold white on red",
    Priority.URGENT: "bold black on yellow",
    Priority.ROUTINE: "green",
    Priority.NOT_ANALYSED: "cyan",
}


def fetch_worklist(url: str, order: str, limit: int, token: str = "") -> WorklistPage:
    """Ask a service for its worklist, with a token where it has accounts.

    Raises
    ------
    ConfigurationError
        If there is no service, or it answers something else.
    """
    query = urllib.parse.urlencode({"order": order, "limit": limit})
    address = f"{url.rstrip('/')}/api/worklist?{query}"
    if urllib.parse.urlsplit(address).scheme not in ("http", "https"):
        raise ConfigurationError(f"{url}: expected an address such as http://127.0.0.1:8080")
    request = urllib.request.Request(address)  # noqa: S310
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as answer:  # noqa: S310
            return WorklistPage.model_validate(json.load(answer))
    except urllib.error.HTTPError as error:
        with error:
            advice = "; expected a token (--token or VIGIL_TOKEN)" if error.code == 401 else ""
            raise ConfigurationError(
                f"{url}: no worklist could be fetched (HTTP {error.code}){advice}"
            ) from error
    except (urllib.error.URLError, OSError) as error:
        raise ConfigurationError(f"{url}: no worklist could be fetched ({error})") from error
    except ValueError as error:
        raise ConfigurationError(f"{url}: what answers there is not Vigil") from error


def print_worklist(page: WorklistPage, console: Console | None = None) -> None:
    """Print a page of the worklist as a table."""
    table = Table(title="Worklist", caption=f"{RESEARCH_USE}.", caption_justify="left")
    table.add_column("Priority", no_wrap=True)
    table.add_column("Patient", overflow="fold")
    table.add_column("Study", overflow="fold")
    table.add_column("Waiting", justify="right", no_wrap=True)
    table.add_column("Why", overflow="fold")
    for study in page.studies:
        waits = study.state is State.RECEIVED
        priority = "WAITING" if waits else study.priority.replace("_", " ")
        # Text, not a string: brackets in a patient's name are no markup.
        table.add_row(
            Text(priority, _STYLES[study.priority]),
            Text(" ".join(filter(None, (study.patient.display_name, study.patient.id)))),
            Text(study.study_description or study.study_instance_uid[-12:]),
            waiting_text(study.waiting_seconds),
            Text(_why(study)),
        )
    (console or Console()).print(table)


def waiting_text(seconds: float) -> str:
    """Return a waiting time for reading: ``45 s``, ``12 min``, ``3 h 05``, ``2 d``."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = int(seconds // 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d}" if hours < 48 else f"{hours // 24} d"


def _why(study: StudySummary) -> str:
    """Return what made a study's place, after what is wrong with its identity."""
    alarms = []
    if study.identity_conflict:
        alarms.append("ALARM: its pictures name different patients")
    if study.conflicts:
        alarms.append(f"ALARM: other bytes came {study.conflicts} × under a UID that is held")
    return "; ".join((*alarms, _reasons(study)))


def _reasons(study: StudySummary) -> str:
    refused = "; ".join(f"{refusal.code}: {refusal.reason}" for refusal in study.refusals)
    if study.state is State.ANALYSED:
        return "; ".join(filter(None, (study.reason, refused)))
    return refused or "waits for its analysis"
