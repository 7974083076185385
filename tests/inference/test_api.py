import asyncio
import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import httpx
import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from sqlalchemy.exc import OperationalError

from tests.inference.conftest import FakeModel, MakeFile, Until, serving
from vigil.localisation import Localisation
from vigil_inference.app import SECURITY_HEADERS
from vigil_inference.events import Event, EventHub, Missed, StudyChanged
from vigil_inference.service import Service
from vigil_inference.settings import Settings

Stow = Callable[..., httpx.Response]


@pytest.fixture
def study(
    client: httpx.Client, service: Service, stow: Stow, make_file: MakeFile, until: Until
) -> tuple[str, str]:
    """Study and SOP instance UID of a critical picture that was analysed."""
    path = make_file("0.95")
    assert stow(client, path).status_code == 200
    until(lambda: not service.store.waiting())
    dataset = dcmread(path)
    return str(dataset.StudyInstanceUID), str(dataset.SOPInstanceUID)


def test_the_worklist_tells_a_vietnamese_name_as_it_was_sent(
    client: httpx.Client, study: tuple[str, str]
) -> None:
    page = client.get("/api/worklist").json()
    [row] = page["studies"]
    assert row["patient"]["name"] == "Nguyễn^Văn An"
    assert row["patient"]["display_name"] == "Nguyễn Văn An"
    assert row["study_description"] == "X-quang ngực thẳng"
    assert (row["priority"], row["study_instance_uid"]) == ("CRITICAL", study[0])


def test_a_study_holds_findings_thresholds_provenance_and_the_notice(
    client: httpx.Client, study: tuple[str, str]
) -> None:
    answer = client.get(f"/api/studies/{study[0]}").json()
    [picture] = answer["instances"]
    effusion, mass = picture["findings"]
    assert (effusion["probability"], effusion["threshold"]) == (0.95, 0.5)
    assert effusion["critical_threshold"] == 0.9
    assert effusion["heat_map"] is True
    assert (mass["probability"], mass["withheld"][:9], mass["heat_map"]) == (
        None,
        "validated",
        False,
    )
    assert (picture["bundle_id"], picture["bundle_digest"]) == ("fake", "d" * 64)
    assert picture["notes"] == ["the picture was inverted before it was analysed"]
    assert picture["sop_class"] == "Computed Radiography Image Storage"
    assert answer["notice"] == "Research use only, not a medical device"
    assert answer["software_version"]


@pytest.mark.parametrize(("extension", "kind"), [("png", "PNG"), ("jpg", "JPEG")])
def test_the_picture_is_shown_as_it_was_analysed(
    client: httpx.Client, study: tuple[str, str], extension: str, kind: str
) -> None:
    url = f"/api/studies/{study[0]}/instances/{study[1]}/image.{extension}"
    answer = client.get(url)
    picture = Image.open(io.BytesIO(answer.content))
    assert (picture.format, picture.size, picture.mode) == (kind, (48, 64), "L")
    expected = np.tile(np.linspace(0, 65535, 48).astype(np.uint16) >> 8, (64, 1))
    assert np.abs(np.asarray(picture).astype(int) - expected).max() <= 4
    small = Image.open(io.BytesIO(client.get(url, params={"size": 32}).content))
    assert small.size == (24, 32)
    tag = {"If-None-Match": answer.headers["etag"]}
    assert client.get(url, headers=tag).status_code == 304


def test_the_heat_map_is_a_transparent_overlay_with_the_pictures_proportions(
    client: httpx.Client, study: tuple[str, str]
) -> None:
    url = f"/api/studies/{study[0]}/instances/{study[1]}/heatmap/Effusion.png"
    answer = client.get(url, params={"size": 32})
    overlay = Image.open(io.BytesIO(answer.content))
    assert (overlay.mode, answer.headers["content-type"]) == ("RGBA", "image/png")
    assert overlay.size[0] == overlay.size[1]  # what the header says: 8 × 8
    alpha = np.asarray(overlay)[..., 3]
    assert alpha[:, 0].max() == 0
    assert alpha[:, -1].min() > 150


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/api/studies/1.2.3", "STUDY_UNKNOWN"),
        ("/api/studies/{0}/instances/1.2/image.png", "PICTURE_UNKNOWN"),
        ("/api/studies/1.2/instances/{1}/image.png", "PICTURE_UNKNOWN"),
        ("/api/studies/{0}/instances/{1}/heatmap/Mass.png", "NO_HEAT_MAP"),
        ("/api/studies/{0}/instances/{1}/heatmap/..%2F..%2Fetc.png", "NOT_FOUND"),
        ("/api/nothing", "NOT_FOUND"),
        ("/assets/../settings.py", "NOT_FOUND"),
        ("/assets/..%2fsettings.py", "NOT_FOUND"),
    ],
)
def test_what_is_not_there_is_404_with_a_code(
    client: httpx.Client, study: tuple[str, str], path: str, code: str
) -> None:
    answer = client.get(path.format(*study))
    assert (answer.status_code, answer.json()["code"]) == (404, code)
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(("wish", "status"), [("NOT_FRONTAL", 200), ("NOT_RADIOGRAPH", 404)])
def test_a_refused_picture_says_why_and_is_shown_if_it_is_a_radiograph(
    client: httpx.Client,
    service: Service,
    stow: Stow,
    make_file: MakeFile,
    until: Until,
    wish: str,
    status: int,
) -> None:
    path = make_file(wish)
    stow(client, path)
    until(lambda: not service.store.waiting())
    dataset = dcmread(path)
    answer = client.get(f"/api/studies/{dataset.StudyInstanceUID}").json()
    assert (answer["priority"], answer["state"]) == ("NOT_ANALYSED", "not_analysed")
    assert answer["instances"][0]["code"] == wish
    uids = f"{dataset.StudyInstanceUID}/instances/{dataset.SOPInstanceUID}"
    assert client.get(f"/api/studies/{uids}/image.png").status_code == status


def test_switched_off_heat_maps_are_absent_everywhere(
    settings: Settings, model: FakeModel, stow: Stow, make_file: MakeFile, until: Until
) -> None:
    off = settings.model_copy(update={"heat_maps": False})
    service = Service(off, model)
    path = make_file("0.95")
    with serving(off, service) as client:
        stow(client, path)
        until(lambda: not service.store.waiting())
        dataset = dcmread(path)
        study = client.get(f"/api/studies/{dataset.StudyInstanceUID}").json()
        uids = f"{dataset.StudyInstanceUID}/instances/{dataset.SOPInstanceUID}"
        answer = client.get(f"/api/studies/{uids}/heatmap/Effusion.png")
        configuration = client.get("/api/configuration").json()
    assert [f["heat_map"] for f in study["instances"][0]["findings"]] == [False, False]
    assert (answer.status_code, answer.json()["code"]) == (404, "HEAT_MAPS_OFF")
    assert configuration["heat_maps"] is False


def test_an_event_arrives_when_a_study_does_and_when_it_is_analysed(
    client: httpx.Client, service: Service, stow: Stow, make_file: MakeFile
) -> None:
    path = make_file("0.95")
    uid = str(dcmread(path).StudyInstanceUID)
    with client.stream("GET", "/api/events") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        lines = (line for line in stream.iter_lines() if line.startswith(("event", "data")))
        assert next(lines) == "event: hello"
        next(lines)
        with httpx.Client(base_url=client.base_url, trust_env=False, timeout=60) as sender:
            stow(sender, path)
        for _ in ("arrived", "analysed"):
            assert (next(lines), next(lines)) == ("event: study", f"data: {uid}")
        assert sender is not None
    assert client.get(f"/api/studies/{uid}").json()["priority"] == "CRITICAL"


def test_a_slow_listener_is_told_to_look_again() -> None:
    async def first_event() -> Event:
        hub = EventHub()
        async with hub.listen() as events:
            # Nothing reads until all of them are published.
            for number in range(1000):
                hub.publish(StudyChanged(f"1.2.{number}"))
            await asyncio.sleep(0)
            return await anext(events)

    assert asyncio.run(first_event()) == Missed()


def test_a_browser_that_missed_something_is_told_to_look_again(
    client: httpx.Client, service: Service
) -> None:
    with client.stream("GET", "/api/events") as stream:
        lines = (line for line in stream.iter_lines() if line.startswith("event"))
        assert next(lines) == "event: hello"
        service.hub.publish(Missed())
        assert next(lines) == "event: resync"


def test_health_and_readiness_are_told(
    client: httpx.Client, service: Service, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert client.get("/health").json()["status"] == "ok"
    until(lambda: client.get("/ready").status_code == 200)
    monkeypatch.setattr(service.intake, "check", lambda: "ENOSPC")
    answer = client.get("/ready")
    assert answer.status_code == 503
    assert answer.json() == {
        "ready": False,
        "checks": {"database": "ok", "storage": "ENOSPC", "model": "ok", "dicom": "ok"},
    }


def test_a_database_that_does_not_answer_is_503(
    client: httpx.Client, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> NoReturn:
        raise OperationalError("SELECT secret", {}, Exception("disk I/O error"))

    monkeypatch.setattr(service.store, "reading", fail)
    answer = client.get("/api/worklist")
    assert (answer.status_code, answer.json()["code"]) == (503, "DATABASE_UNAVAILABLE")
    assert "secret" not in answer.text


def test_a_bug_is_a_code_and_a_sentence_without_a_traceback(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_arguments: object, **_options: object) -> NoReturn:
        raise RuntimeError("about Nguyễn^An")

    # Of this request alone: the service's own threads go on with what they do.
    monkeypatch.setattr("vigil_inference.worklist.api.read_worklist", fail)
    answer = client.get("/api/worklist")
    assert answer.status_code == 500
    assert answer.json() == {
        "code": "INTERNAL_ERROR",
        "message": "the service failed on this request",
    }
    assert answer.headers["x-frame-options"] == "DENY"
    assert "Nguyễn" not in "".join(capsys.readouterr())


@pytest.mark.parametrize("query", ["order=up", "limit=0", "limit=501", "offset=-1", "limit=x"])
def test_a_wrong_parameter_is_422_and_named(client: httpx.Client, query: str) -> None:
    answer = client.get(f"/api/worklist?{query}")
    assert (answer.status_code, answer.json()["code"]) == (422, "REQUEST_INVALID")
    assert query.split("=", maxsplit=1)[0] in answer.json()["message"]


@pytest.mark.parametrize("path", ["/", "/api/worklist", "/studies/1.2", "/assets/main.js", "/x"])
def test_every_answer_carries_the_security_headers(client: httpx.Client, path: str) -> None:
    answer = client.get(path)
    for name, value in SECURITY_HEADERS.items():
        assert answer.headers[name] == value
    policy = answer.headers["content-security-policy"]
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy


def test_patient_data_is_not_cached(client: httpx.Client) -> None:
    assert client.get("/api/worklist").headers["cache-control"] == "no-store"


def test_a_page_of_another_name_cannot_reach_a_local_service(client: httpx.Client) -> None:
    assert client.get("/api/worklist", headers={"Host": "evil.example"}).status_code == 400


def test_the_openapi_document_describes_the_answers(client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()
    assert document["openapi"].startswith("3.")
    paths = document["paths"]
    for path in ("/api/worklist", "/api/studies/{study_instance_uid}", "/health", "/ready"):
        assert "get" in paths[path]
    assert "post" in paths["/dicomweb/studies"]
    assert "WorklistPage" in document["components"]["schemas"]
    assert json.dumps(document)


def test_a_preview_that_was_lost_is_404_and_not_an_error(
    client: httpx.Client, service: Service, study: tuple[str, str]
) -> None:
    previews: list[Path] = list((service.settings.data_dir / "previews").rglob("*.*"))
    assert len(previews) == 2
    for path in previews:
        path.write_bytes(b"") if path.suffix == ".npz" else path.unlink()
    uids = f"{study[0]}/instances/{study[1]}"
    for name in ("image.png", "image.jpg"):
        assert client.get(f"/api/studies/{uids}/{name}").json()["code"] == "NO_PICTURE"
    answer = client.get(f"/api/studies/{uids}/heatmap/Effusion.png")
    assert answer.json()["code"] == "NO_HEAT_MAP"


def test_a_pictures_maps_come_with_what_was_measured_of_this_bundle_only(
    client: httpx.Client, service: Service, study: tuple[str, str]
) -> None:
    def told() -> object:
        return client.get(f"/api/studies/{study[0]}").json()["instances"][0]["localisation"]

    assert told() is None
    measured = Localisation(
        films=9, without_map=1, hits=2, hits_by_other_maps=1.2,
        centre_distance=0.39, centre_distance_interval=(0.27, 0.49),
    )  # fmt: skip
    served = service.analysis.status
    service.analysis._status = replace(served, localisation=measured)
    assert told() == measured.model_dump(mode="json")
    service.analysis._status = replace(served, localisation=measured, bundle_digest="e" * 64)
    assert told() is None
