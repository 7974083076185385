import io
from collections.abc import Callable

import httpx
import pytest
from rich.console import Console

from tests.inference.conftest import MakeFile, Until
from vigil.errors import ConfigurationError
from vigil_inference.service import Service
from vigil_inference.terminal import fetch_worklist, print_worklist, waiting_text

Stow = Callable[..., httpx.Response]


def test_the_table_shows_the_order_and_takes_a_name_as_text(
    client: httpx.Client, service: Service, stow: Stow, make_file: MakeFile, until: Until
) -> None:
    stow(client, make_file("0.1"), make_file("0.95", PatientName="[red]Evil[/red]^<b>"))
    stow(client, make_file("NOT_CHEST"))
    until(lambda: not service.store.waiting())
    page = fetch_worklist(str(client.base_url), "priority", 50)
    console = Console(file=io.StringIO(), width=160)
    print_worklist(page, console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert text.index("CRITICAL") < text.index("ROUTINE")
    assert "[red]Evil[/red] <b>" in text
    assert "NOT_CHEST: refused as NOT_CHEST" in text
    assert "Research use only, not a medical device" in text


def test_no_service_is_a_sentence() -> None:
    with pytest.raises(ConfigurationError, match="no worklist could be fetched"):
        fetch_worklist("http://127.0.0.1:1", "priority", 50)


def test_another_scheme_is_a_sentence() -> None:
    with pytest.raises(ConfigurationError, match="expected an address"):
        fetch_worklist("file:///etc", "priority", 50)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59, "59 s"), (60, "1 min"), (3660, "1 h 01"), (200000, "2 d")],
)
def test_waiting_is_told_for_reading(seconds: float, text: str) -> None:
    assert waiting_text(seconds) == text
