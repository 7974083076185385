import json
import threading
import time
from collections.abc import Iterator

import httpx
import pytest
from pydicom import dcmread
from sqlalchemy import delete

from tests.inference.conftest import FakeModel, MakeFile, Until, serving
from vigil_inference.events import StudyChanged
from vigil_inference.service import Service
from vigil_inference.settings import Settings
from vigil_inference.tables import Instance, Study, StudyFinding


def rows_of(stream: httpx.Response) -> Iterator[dict]:
    name = ""
    for line in stream.iter_lines():
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: ") and name == "rows":
            yield json.loads(line.removeprefix("data: "))


def test_what_changed_comes_as_rows_with_the_counts(
    client: httpx.Client, stow, make_file: MakeFile
) -> None:
    path = make_file("0.95")
    with client.stream("GET", "/api/events?rows=true") as stream:
        changes = rows_of(stream)
        with httpx.Client(base_url=client.base_url, trust_env=False, timeout=60) as sender:
            stow(sender, path)
        for change in changes:
            [row] = change["rows"]
            if row["state"] == "analysed":
                break
    assert row["study_instance_uid"] == str(dcmread(path).StudyInstanceUID)
    assert (row["priority"], row["patient"]["display_name"]) == ("CRITICAL", "Nguyễn Văn An")
    assert [flag["label"] for flag in row["flags"]] == ["Effusion"]
    assert (change["counts"]["CRITICAL"], change["everything"], change["gone"]) == (1, 1, [])
    assert change["statuses"]["unread"] == 1
    [listed] = client.get("/api/worklist").json()["studies"]
    assert listed | {"waiting_seconds": 0} == row | {"waiting_seconds": 0}


def test_a_burst_of_changes_is_gathered_and_a_study_that_went_is_named(
    client: httpx.Client,
    service: Service,
    stow,
    make_file: MakeFile,
    until: Until,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # All of the burst is there when the first of it is told, on a busy machine too.
    monkeypatch.setattr("vigil_inference.worklist.live._GATHER_SECONDS", 1.0)
    stow(client, make_file("0.1"))
    until(lambda: not service.store.waiting())
    with service.store.writing() as session:
        for table in (StudyFinding, Instance, Study):
            session.execute(delete(table))
    time.sleep(1.5)
    with client.stream("GET", "/api/events?rows=true") as stream:
        changes = rows_of(stream)

        def publish() -> None:
            until(lambda: service.hub.has_row_listeners)
            for number in range(120):
                service.hub.publish(StudyChanged(f"1.2.{number}"))

        thread = threading.Thread(target=publish)
        thread.start()
        told = [next(changes)["gone"] for _ in range(3)]
        thread.join()
    assert [len(one) for one in told] == [50, 50, 20]
    assert [uid for one in told for uid in one] == [f"1.2.{number}" for number in range(120)]


def test_the_case_level_profile_tells_no_finding_in_live_rows_nor_filters_by_one(
    settings: Settings, model: FakeModel, stow, make_file: MakeFile
) -> None:
    cadt = settings.model_copy(update={"result_profile": "cadt"})
    with serving(cadt, Service(cadt, model)) as client:
        with client.stream("GET", "/api/events?rows=true") as stream:
            with httpx.Client(base_url=client.base_url, trust_env=False, timeout=60) as sender:
                stow(sender, make_file("0.95"))
            for change in rows_of(stream):
                [row] = change["rows"]
                if row["state"] == "analysed":
                    break
        assert (row["flags"], row["priority"]) == ([], "CRITICAL")
        assert client.get("/api/worklist/choices").json()["findings"] == []
        answer = client.get("/api/worklist?finding=Effusion")
        assert (answer.status_code, answer.json()["code"]) == (409, "FINDINGS_OFF")


def test_text_is_compressed_and_pictures_and_streams_are_not(
    client: httpx.Client, service: Service, stow, make_file: MakeFile, until: Until
) -> None:
    path = make_file("0.95")
    stow(client, path)
    until(lambda: not service.store.waiting())
    dataset = dcmread(path)
    study = f"/api/studies/{dataset.StudyInstanceUID}"
    for compressed in ("/api/worklist", study, "/assets/worklist.js", "/"):
        assert client.get(compressed).headers.get("content-encoding") == "gzip", compressed
    picture = client.get(f"{study}/instances/{dataset.SOPInstanceUID}/image.jpg")
    assert "content-encoding" not in picture.headers
    with client.stream("GET", "/api/events") as stream:
        assert "content-encoding" not in stream.headers
