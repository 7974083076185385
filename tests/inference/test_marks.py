from datetime import timedelta

import httpx
import pytest
from pydicom import dcmread

from tests.inference.conftest import MakeFile
from tests.inference.test_worklist_filters import add
from vigil.triage import Priority
from vigil_inference.service import Service
from vigil_inference.store import Store, StudyUnknown
from vigil_inference.tables import Study
from vigil_inference.worklist.marks import MarkedByOther, Marks, Reader

HANH, MINH = Reader("hanh", "BS. Hạnh"), Reader("minh", "BS. Minh")


@pytest.fixture
def marks(store: Store) -> Marks:
    add(store, 1, "Lê^An", Priority.ROUTINE)
    return Marks(store)


def study(store: Store) -> Study:
    with store.reading() as session:
        return session.query(Study).one()


def test_a_study_that_one_took_another_takes_over_only_explicitly(
    store: Store, marks: Marks
) -> None:
    marks.assign("1.2.1", HANH)
    since = study(store).assigned_at
    marks.assign("1.2.1", HANH)
    assert study(store).assigned_at == since
    with pytest.raises(MarkedByOther):
        marks.assign("1.2.1", MINH)
    with pytest.raises(MarkedByOther):
        marks.release("1.2.1", MINH)
    assert study(store).assigned_to == "hanh"
    marks.assign("1.2.1", MINH, take_over=True)
    assert (study(store).assigned_to, study(store).assigned_name) == ("minh", "BS. Minh")
    marks.release("1.2.1", MINH)
    assert (study(store).assigned_to, study(store).assigned_at) == ("", None)


def test_being_read_ends_by_itself_after_two_minutes(
    store: Store, marks: Marks, monkeypatch: pytest.MonkeyPatch
) -> None:
    marks.begin_reading("1.2.1", HANH)
    with pytest.raises(MarkedByOther):
        marks.begin_reading("1.2.1", MINH)
    marks.end_reading("1.2.1", MINH)  # what another has open stays marked
    assert study(store).being_read_by == "hanh"
    later = store.now() + timedelta(seconds=121)
    monkeypatch.setattr(store, "now", lambda: later)
    marks.begin_reading("1.2.1", MINH)
    assert study(store).being_read_until == later + timedelta(seconds=120)
    marks.end_reading("1.2.1", MINH)
    assert study(store).being_read_until is None


def test_a_study_that_is_not_known_cannot_be_marked(marks: Marks) -> None:
    with pytest.raises(StudyUnknown):
        marks.assign("9.9", HANH)


def test_marks_are_set_over_http_and_told_to_everybody(
    client: httpx.Client, service: Service, stow, make_file: MakeFile
) -> None:
    path = make_file("0.95")
    stow(client, path)
    uid = str(dcmread(path).StudyInstanceUID)
    url = f"/api/studies/{uid}"
    with client.stream("GET", "/api/events") as stream:
        lines = (line for line in stream.iter_lines() if line.startswith("data"))
        next(lines)
        with httpx.Client(base_url=client.base_url, trust_env=False, timeout=60) as other:
            assert other.put(f"{url}/assignment", json={"reader": "a1"}).status_code == 204
            while next(lines) != f"data: {uid}":
                pass
            assert other.put(f"{url}/being-read", json={"reader": "a1"}).status_code == 204
            refused = other.put(f"{url}/being-read", json={"reader": "b2"})
            assert (refused.status_code, refused.json()["code"]) == (409, "MARKED_BY_OTHER")
            taken = other.put(f"{url}/being-read", json={"reader": "b2", "take_over": True})
            assert taken.status_code == 204
    [mine] = client.get("/api/worklist", params={"status": "mine", "reader": "a1"}).json()[
        "studies"
    ]
    assert (mine["assigned"]["account"], mine["being_read"]["account"]) == ("local a1", "local b2")
    assert client.get("/api/worklist?status=mine&reader=b2").json()["studies"] == []
    assert client.put("/api/studies/9.9/assignment", json={}).status_code == 404
