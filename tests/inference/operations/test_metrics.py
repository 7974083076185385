"""The metrics: their numbers, what never stands in them, and that the document names them all."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import select, update
from sqlalchemy.exc import OperationalError

from tests.inference.conftest import FakeModel, MakeFile, Until, make_dataset, serving
from vigil_inference.operations.metric_names import METRICS
from vigil_inference.sender import send
from vigil_inference.service import Service
from vigil_inference.settings import Settings
from vigil_inference.tables import Instance

DOCUMENT = Path(__file__).parents[3] / "docs" / "operations.md"
Sample = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def scrape(client: httpx.Client) -> Sample:
    answer = client.get("/metrics").raise_for_status()
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def value(found: Sample, name: str, **labels: str) -> float:
    return found[name, tuple(sorted(labels.items()))]


def test_the_document_describes_every_metric_and_no_other() -> None:
    rows = re.findall(
        r"^\| `(vigil_\w+)` \| (\w+) \| ([^|]*) \| (\w+) \| (.+) \|$",
        DOCUMENT.read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    expected = [
        (m.name, m.kind, ", ".join(f"`{label}`" for label in m.labels), m.scope, m.meaning)
        for m in METRICS
    ]
    assert [(a, b, c.strip(), d, e) for a, b, c, d, e in rows] == expected


def test_what_is_scraped_is_what_is_described(client: httpx.Client, until: Until) -> None:
    until(lambda: client.get("/ready").status_code == 200)
    families = {
        family.name: (family.type, family.documentation)
        for family in text_string_to_metric_families(client.get("/metrics").text)
        if family.name.startswith("vigil_") and not family.name.endswith("_created")
    }
    described = {
        m.name.removesuffix("_total") if m.kind == "counter" else m.name: (m.kind, m.meaning)
        for m in METRICS
    }
    assert families == described


def test_every_picture_is_counted_once_at_its_door_and_by_its_answer(
    client: httpx.Client,
    service: Service,
    make_file: MakeFile,
    stow: Callable[..., httpx.Response],
    until: Until,
) -> None:
    files = [make_file("0.95"), make_file("0.1"), make_file("NOT_FRONTAL"), make_file("CRASH")]
    stow(client, files[0], files[1])
    stow(client, files[0])
    list(
        send(
            files[2:],
            "127.0.0.1",
            service.listener.port,
            calling_ae_title="X",
            called_ae_title="V",
        )
    )
    client.post(
        "/dicomweb/studies",
        content=b"--B\r\nContent-Type: application/dicom\r\n\r\nnothing\r\n--B--\r\n",
        headers={"Content-Type": 'multipart/related; type="application/dicom"; boundary=B'},
    )
    until(lambda: client.get("/api/worklist").json()["pending"] == 0)
    for _ in range(3):  # looking does not count
        found = scrape(client)
    assert value(found, "vigil_received_total", door="STOW-RS", outcome="new") == 2
    assert value(found, "vigil_received_total", door="STOW-RS", outcome="repeated") == 1
    assert value(found, "vigil_received_total", door="C-STORE", outcome="new") == 2
    assert value(found, "vigil_received_total", door="FOLDER", outcome="new") == 0
    assert value(found, "vigil_refused_total", door="STOW-RS", code="OBJECT_UNREADABLE") == 1
    assert value(found, "vigil_analysed_total") == 2
    assert value(found, "vigil_not_analysed_total", code="NOT_FRONTAL") == 1
    assert value(found, "vigil_not_analysed_total", code="INTERNAL_ERROR") == 1
    assert value(found, "vigil_not_analysed_total", code="TOO_SMALL") == 0
    assert value(found, "vigil_finding_seconds_count") == 4
    assert 0 < value(found, "vigil_finding_seconds_sum") < 60
    assert value(found, "vigil_waiting_pictures") == 0
    assert value(found, "vigil_waiting_oldest_seconds") == 0
    assert value(found, "vigil_ready", check="model") == 1
    assert value(found, "vigil_database_up") == 1
    assert value(found, "vigil_disk_free_bytes") > 0


def test_a_result_that_was_committed_late_is_counted_too(
    client: httpx.Client, service: Service, make_file: MakeFile, stow: Any, until: Until
) -> None:
    stow(client, make_file(), make_file())
    until(lambda: client.get("/api/worklist").json()["pending"] == 0)
    assert value(scrape(client), "vigil_analysed_total") == 2
    stow(client, make_file())
    until(lambda: client.get("/api/worklist").json()["pending"] == 0)
    with service.store.writing() as session:  # as if it bore a moment before the last look
        first = session.scalars(select(Instance.analysed_at).where(Instance.id == 1)).one()
        session.execute(update(Instance).where(Instance.id == 3).values(analysed_at=first))
    assert value(scrape(client), "vigil_analysed_total") == 3
    assert value(scrape(client), "vigil_analysed_total") == 3


def test_a_long_queue_shows_its_length_and_its_age(
    settings: Settings, model: FakeModel, make_file: MakeFile, stow: Any
) -> None:
    model.may_go_on.clear()
    service = Service(settings, model)
    with serving(settings, service) as client:
        stow(client, *(make_file() for _ in range(4)))
        with service.store.writing() as session:
            session.execute(
                update(Instance).values(received_at=datetime.now(UTC) - timedelta(minutes=7))
            )
        found = scrape(client)
        model.may_go_on.set()
        assert value(found, "vigil_waiting_pictures") == 4
        assert 420 <= value(found, "vigil_waiting_oldest_seconds") < 480


def test_a_destination_that_is_away_shows_in_states_and_age_and_its_end_in_the_histogram(
    settings: Settings,
    model: FakeModel,
    make_file: MakeFile,
    stow: Any,
    until: Until,
    tmp_path: Path,
) -> None:
    share = tmp_path / "share"
    away = settings.model_copy(
        update={
            "destinations": Settings(
                destinations=[{"kind": "folder", "name": "share", "path": share}]
            ).destinations,
            "result_quiet_seconds": 0.0,
            "delivery_retry_seconds": 0.2,
            "delivery_retry_most_seconds": 0.2,
        }
    )
    # A model that knows no bundle's folder makes no report; a refused picture makes one.
    service = Service(away, model)
    with serving(away, service) as client:
        assert value(scrape(client), "vigil_deliveries", destination="share", state="FAILED") == 0
        stow(client, make_file("NOT_FRONTAL"))
        pending = {"destination": "share", "state": "PENDING"}
        until(lambda: value(scrape(client), "vigil_deliveries", **pending) >= 1)
        until(
            lambda: value(scrape(client), "vigil_delivery_oldest_seconds", destination="share") > 0
        )
        share.mkdir()
        delivered = {"destination": "share", "state": "DELIVERED"}
        until(lambda: value(scrape(client), "vigil_deliveries", **delivered) >= 1)
        found = scrape(client)
        count = value(found, "vigil_deliveries", **delivered)
        assert value(found, "vigil_delivery_seconds_count", destination="share") == count
        assert value(found, "vigil_delivery_oldest_seconds", destination="share") == 0


def test_without_its_database_it_still_answers_and_tells_nothing_old(
    client: httpx.Client, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise OperationalError("SELECT secret", {}, Exception("disk I/O error"))

    assert ("vigil_waiting_pictures", ()) in scrape(client)
    monkeypatch.setattr(service.store, "reading", fail)
    found = scrape(client)
    assert value(found, "vigil_database_up") == 0
    assert ("vigil_waiting_pictures", ()) not in found
    assert value(found, "vigil_disk_free_bytes") > 0


def test_no_label_and_no_value_is_a_patients_or_a_studys(
    client: httpx.Client, service: Service, make_file: MakeFile, stow: Any, until: Until
) -> None:
    dataset = make_dataset()
    path = make_file(
        StudyInstanceUID=dataset.StudyInstanceUID, PatientID="TELLTALE", AccessionNumber="TELLTALE"
    )
    stow(client, path)
    until(lambda: client.get("/api/worklist").json()["pending"] == 0)
    text = client.get("/metrics").text + client.get("/api/status").text
    for secret in ("TELLTALE", "Nguy", str(dataset.StudyInstanceUID), "2.25.", "1.2.826"):
        assert secret not in text
