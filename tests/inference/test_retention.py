"""What is removed by rule, when, and what is answered afterwards."""

import shutil
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pydicom
import pytest
from pydicom import dcmread
from sqlalchemy import select, update

from tests.inference.conftest import FakeModel, MakeFile, Until, serving
from vigil.errors import ConfigurationError
from vigil_inference.arrivals import Outcome
from vigil_inference.delivery.desk import Selection
from vigil_inference.delivery.states import DeliveryState
from vigil_inference.delivery.tables import Delivery, ResultObject
from vigil_inference.intake import Source
from vigil_inference.service import Service
from vigil_inference.settings import Settings, load_settings
from vigil_inference.storage_commitment import Reference, failure_reasons
from vigil_inference.tables import Instance

SOURCE = Source("C-STORE", calling_ae_title="XR1")
on_both = pytest.mark.parametrize("kind", ["sqlite", "postgresql"])


class Site:
    """A service with a folder that proves and one that does not; ``rules`` are its retention's."""

    def __init__(self, service: Service, make_file: MakeFile, until: Until, there: Path) -> None:
        self.service, self.store = service, service.store
        self.data_dir = service.settings.data_dir
        self.there = there
        self._make_file, self._until = make_file, until

    def receive(self, **tags: Any) -> Path:
        """Take in a picture and wait until its results are delivered; return what was sent."""
        path = self._make_file("0.95", **tags)
        self.service.intake.accept(path, SOURCE)
        self.wait_for_delivery()
        return path

    def wait_for_delivery(self) -> None:
        states = {DeliveryState.DELIVERED, DeliveryState.SENT}

        def done() -> bool:
            counts = self.service.delivery.desk.counts(Selection())
            rows = self.instances()
            answered = all(row.state != "received" for row in rows)
            with self.store.reading() as session:
                due = session.scalars(select(Instance).join(Instance.study)).all()
                settled = all(row.study.release_due_at is None for row in due)
            proved = counts.get(DeliveryState.DELIVERED, 0)
            return bool(answered and settled and proved and set(counts) <= states)

        self._until(done)
        self._until(self._all_proved)

    def _all_proved(self) -> bool:
        rows = self.service.delivery.desk.rows(Selection(destination="archive"), limit=100)
        return all(row.state is DeliveryState.DELIVERED for row in rows)

    def instances(self) -> list[Instance]:
        with self.store.reading() as session:
            return list(session.scalars(select(Instance).order_by(Instance.id)))

    def objects(self) -> list[ResultObject]:
        with self.store.reading() as session:
            return list(session.scalars(select(ResultObject).order_by(ResultObject.id)))

    def pixels(self, row: Instance) -> bool:
        return "PixelData" in dcmread(self.data_dir / row.file_path)

    def age(self, days: float) -> None:
        """Let everything have happened so many days earlier."""
        shift = timedelta(days=days)
        with self.store.writing() as session:
            for row in session.scalars(select(Instance)):
                row.stored_at = (row.stored_at or row.received_at) - shift
            for delivery in session.scalars(select(Delivery)):
                if delivery.delivered_at is not None:
                    delivery.delivered_at -= shift

    def set_state(self, state: DeliveryState, destination: str = "archive") -> None:
        with self.store.writing() as session:
            session.execute(
                update(Delivery)
                .where(Delivery.destination == destination)
                .values(state=state.value, due_at=self.store.now() + timedelta(days=9))
            )


@pytest.fixture
def start_site(
    tmp_path: Path, request: pytest.FixtureRequest, make_file: MakeFile, until: Until
) -> Iterator[Callable[..., Site]]:
    there = tmp_path / "archive"
    started: list[Service] = []

    def start(*, proof: str = "read-back", kind: str = "sqlite", **rules: Any) -> Site:
        there.mkdir(exist_ok=True)
        silent = tmp_path / "silent"
        silent.mkdir(exist_ok=True)
        values: dict[str, Any] = {
            "data_dir": tmp_path / "var",
            "database_url": request.getfixturevalue(kind) if kind == "postgresql" else "",
            "dicom_host": "127.0.0.1",
            "dicom_port": 0,
            "storage_reserve_bytes": 0,
            "analysis_workers": 1,
            "result_quiet_seconds": 0,
            "accounts": "off",
            "destinations": [
                {"name": "archive", "kind": "folder", "path": there, "proof": proof},
                {"name": "silent", "kind": "folder", "path": silent, "proof": "none"},
            ],
        }
        service = Service(Settings(**values | rules), FakeModel())
        service._retention = None  # the tests apply the rules themselves
        service.start()
        started.append(service)
        return Site(service, make_file, until, there)

    yield start
    for service in started:
        service.stop()


@on_both
def test_pixels_go_so_many_days_after_the_proof_and_the_record_says_why(
    start_site: Callable[..., Site],
    kind: str,
) -> None:
    site = start_site(kind=kind, retention_originals_days=30)
    site.receive()
    site.age(29)
    assert site.service.retention.apply() == 0
    site.age(2)
    assert site.service.retention.apply() == 1
    [row] = site.instances()
    assert row.removed_at is not None
    assert row.removal_reason == (
        "30 days after its results were delivered (retention_originals_days)"
    )
    assert (row.state, row.priority) == ("analysed", "CRITICAL")
    assert not site.pixels(row)
    assert [item.removed_at for item in site.objects()] == [None, None]
    assert site.service.retention.apply() == 0


@on_both
def test_a_results_file_goes_by_its_own_rule_and_the_original_stays(
    start_site: Callable[..., Site],
    kind: str,
) -> None:
    site = start_site(kind=kind, retention_results_days=0)
    site.receive()
    files = [site.data_dir / item.file_path for item in site.objects()]
    assert all(path.is_file() for path in files)
    assert site.service.retention.apply() == len(files) == 2
    assert not any(path.exists() for path in files)
    assert {item.removal_reason for item in site.objects()} == {
        "0 days after it was delivered (retention_results_days)"
    }
    assert site.pixels(site.instances()[0])
    assert len(list(site.there.rglob("*.dcm"))) == 2  # what was delivered is not ours to remove


def test_nothing_goes_before_its_delivery_is_proved(start_site: Callable[..., Site]) -> None:
    site = start_site(retention_originals_days=0, retention_results_days=0)
    site.receive()
    site.service.delivery.stop()
    for state in set(DeliveryState) - {DeliveryState.DELIVERED, DeliveryState.CANCELLED}:
        site.set_state(state)
        assert site.service.retention.apply() == 0, state
    # Cancelled here and sent there where nothing is proved: no destination holds it for certain.
    site.set_state(DeliveryState.CANCELLED)
    assert site.service.retention.apply() == 0
    site.set_state(DeliveryState.DELIVERED)
    assert site.service.retention.apply() == 3


def test_where_no_destination_proves_anything_nothing_is_ever_removed(
    start_site: Callable[..., Site], until: Until
) -> None:
    site = start_site(proof="none", retention_originals_days=0, retention_free_bytes=2**62)
    site.service.intake.accept(site._make_file("0.95"), SOURCE)
    desk = site.service.delivery.desk
    until(lambda: desk.counts(Selection()) == {DeliveryState.SENT: 4})
    assert site.service.retention.apply() == 0


def test_a_study_whose_other_picture_waits_keeps_its_originals(
    start_site: Callable[..., Site],
) -> None:
    site = start_site(retention_originals_days=0)
    path = site.receive()
    site.service.analysis.stop()
    study = dcmread(path).StudyInstanceUID
    site.service.intake.accept(site._make_file("0.1", StudyInstanceUID=study), SOURCE)
    assert site.service.retention.apply() == 0


def test_a_disk_that_runs_short_lets_the_oldest_go_at_once_and_stops_when_there_is_room(
    start_site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    site = start_site(retention_free_bytes=1000)
    for _ in range(3):
        site.receive()
    freed: list[int] = []
    total = shutil.disk_usage(site.data_dir)
    kept = [row.id for row in site.instances() if row.removed_at is None]
    assert len(kept) == 3

    def usage(_path: object) -> Any:
        gone = sum(row.removed_at is not None for row in site.instances())
        freed.append(gone)
        return total._replace(free=999 if gone < 2 else 1000)

    monkeypatch.setattr("vigil_inference.retention.shutil.disk_usage", usage)
    assert site.service.retention.apply() == 2
    assert [row.removed_at is None for row in site.instances()] == [False, False, True]
    assert "to make room on the disk" in site.instances()[0].removal_reason


@on_both
def test_a_removed_original_that_is_sent_again_is_kept_again_and_not_analysed_again(
    start_site: Callable[..., Site],
    kind: str,
) -> None:
    site = start_site(kind=kind, retention_originals_days=30)
    path = site.receive()
    site.age(31)
    site.service.retention.apply()
    [removed] = site.instances()
    receipt = site.service.intake.accept(path, SOURCE)
    assert receipt.outcome is Outcome.REPEATED
    [row] = site.instances()
    assert (row.removed_at, row.removal_reason) == (None, "")
    assert (site.data_dir / row.file_path).read_bytes() == path.read_bytes()
    assert not (site.data_dir / removed.file_path).exists()
    assert (row.state, row.attempts) == ("analysed", 1)
    assert site.service.retention.apply() == 0  # its days begin anew


def test_other_bytes_under_a_removed_originals_uid_are_a_conflict_still(
    start_site: Callable[..., Site],
) -> None:
    site = start_site(retention_originals_days=0)
    path = site.receive()
    site.service.retention.apply()
    dataset = dcmread(path)
    dataset.PatientName = "Somebody^Else"
    other = path.with_name("other.dcm")
    dataset.save_as(other)
    assert site.service.intake.accept(other, SOURCE).outcome is Outcome.DIFFERS
    assert site.instances()[0].removed_at is not None


def test_a_process_that_died_after_the_record_leaves_pixels_that_the_next_start_removes(
    start_site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    site = start_site(retention_originals_days=0)
    site.receive()
    with monkeypatch.context() as dying:
        dying.setattr("vigil_inference.retention.write_durably", lambda *_: None)
        site.service.retention.apply()
    [row] = site.instances()
    assert row.removed_at is not None
    assert site.pixels(row)
    assert site.service.retention.finish() == 1
    assert not site.pixels(row)
    assert site.service.retention.finish() == 0


def test_a_process_that_died_while_it_removed_pixels_does_not_keep_the_next_from_it(
    start_site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    site = start_site(retention_originals_days=0)
    site.receive()
    with monkeypatch.context() as patch:
        patch.setattr("vigil_inference.retention.write_durably", lambda *arguments: None)
        site.service.retention.apply()
    [row] = site.instances()
    (site.data_dir / row.file_path).with_suffix(".part").write_bytes(b"cut off in the mid")
    assert site.service.retention.finish() == 1
    assert not site.pixels(row)


def test_a_later_picture_gets_its_superseding_report_though_the_first_ones_pixels_are_gone(
    start_site: Callable[..., Site],
) -> None:
    site = start_site(retention_originals_days=0, retention_results_days=0)
    path = site.receive()
    assert site.service.retention.apply() == 3
    study = dcmread(path).StudyInstanceUID
    site.receive(StudyInstanceUID=study, PatientID=dcmread(path).PatientID)
    reports = [item for item in site.objects() if item.kind == "report"]
    assert len(reports) == 2
    newer = dcmread(site.data_dir / reports[1].file_path)
    named = newer.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0]
    assert named.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == reports[0].sop_instance_uid


@on_both
def test_a_later_picture_that_no_release_speaks_of_keeps_its_original(
    start_site: Callable[..., Site], kind: str
) -> None:
    """The site has struck its destinations off; the first picture's proof is not the second's."""
    site = start_site(kind=kind, retention_originals_days=0)
    path = site.receive()
    first = dcmread(path)
    site.service.delivery._release._destinations = ()
    later = site._make_file(
        "0.95", StudyInstanceUID=first.StudyInstanceUID, PatientID=first.PatientID
    )
    site.service.intake.accept(later, SOURCE)
    site.wait_for_delivery()
    assert [row.state for row in site.instances()] == ["analysed", "analysed"]
    assert site.service.retention.apply() == 1
    assert [site.pixels(row) for row in site.instances()] == [False, True]


def test_what_was_removed_is_said_to_be_by_every_interface(
    start_site: Callable[..., Site], stow: Callable[..., httpx.Response]
) -> None:
    site = start_site(retention_originals_days=0, retention_results_days=0)
    path = site.receive()
    first = dcmread(path)
    study = f"/dicomweb/studies/{first.StudyInstanceUID}"
    one = f"{study}/series/{first.SeriesInstanceUID}/instances/{first.SOPInstanceUID}"
    site.service.retention.apply()
    site.service.stop()
    fresh = Service(site.service.settings, FakeModel())
    fresh._retention = None
    with serving(site.service.settings, fresh) as client:
        gone = client.get(one)
        assert gone.status_code == 410
        assert "removed on" in gone.json()["message"]
        assert "retention_originals_days" in gone.json()["message"]
        assert client.get(f"{one}/frames/1").status_code == 410
        assert client.get(f"{one}/rendered").status_code == 410
        [metadata] = client.get(f"{one}/metadata").json()
        assert metadata["00100010"]["Value"] == [{"Alphabetic": "Nguyễn^Văn An"}]
        assert "7FE00010" not in metadata
        [found] = client.get(f"{study}/instances").json()
        assert found["00080056"]["Value"] == ["UNAVAILABLE"]
        assert found["00280010"]["Value"] == [8]
        [told] = client.get(f"/api/studies/{first.StudyInstanceUID}").json()["instances"]
        assert told["removed_at"] is not None
        assert told["removal_reason"].startswith("0 days after")
        results = client.get(f"/api/studies/{first.StudyInstanceUID}/results")
        assert (results.status_code, results.json()["code"]) == (410, "RESULTS_REMOVED")
        picture = f"/api/studies/{first.StudyInstanceUID}/instances/{first.SOPInstanceUID}"
        assert client.get(f"{picture}/image.jpg").status_code == 200

        reference = Reference(first.SOPClassUID, first.SOPInstanceUID)
        reasons = failure_reasons(fresh.store, fresh.settings.data_dir, [reference])
        assert reasons == {reference: 0x0112}
        assert stow(client, path).status_code == 200
        assert failure_reasons(fresh.store, fresh.settings.data_dir, [reference]) == {}
        assert client.get(one).status_code == 200
        [found] = client.get(f"{study}/instances").json()
        assert found["00080056"]["Value"] == ["ONLINE"]


def test_of_a_study_of_which_some_is_removed_the_rest_is_given_as_a_part(
    start_site: Callable[..., Site], make_file: MakeFile
) -> None:
    site = start_site()
    path = site.receive()
    study = dcmread(path).StudyInstanceUID
    second = site.receive(StudyInstanceUID=study)
    with site.store.writing() as session:
        row = session.scalars(select(Instance).order_by(Instance.id)).first()
        assert row is not None
        row.removed_at, row.removal_reason = site.store.now(), "by hand"
    site.service.stop()
    fresh = Service(site.service.settings, FakeModel())
    with serving(site.service.settings, fresh) as client:
        answer = client.get(f"/dicomweb/studies/{study}")
    assert answer.status_code == 206
    assert dcmread(second).SOPInstanceUID.encode() in answer.content
    assert dcmread(path).SOPInstanceUID.encode() not in answer.content


def test_a_delivery_whose_file_was_removed_is_not_sent_again(
    start_site: Callable[..., Site],
) -> None:
    site = start_site(retention_results_days=0)
    site.receive()
    desk = site.service.delivery.desk
    ids = tuple(row.id for row in desk.rows(Selection(destination="archive"), limit=10))
    site.service.retention.apply()
    assert desk.retry(Selection(ids=ids)) == []
    assert {row.state for row in desk.rows(Selection(ids=ids), limit=10)} == {
        DeliveryState.DELIVERED
    }


def test_an_original_that_cannot_be_parsed_stays(
    start_site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    site = start_site(retention_originals_days=0)
    site.receive()
    before = (site.data_dir / site.instances()[0].file_path).read_bytes()

    def broken(*_: object, **__: object) -> None:
        raise ValueError("a damaged file")

    monkeypatch.setattr(pydicom, "dcmread", broken)
    assert site.service.retention.apply() == 0
    [row] = site.instances()
    assert row.removed_at is None
    assert (site.data_dir / row.file_path).read_bytes() == before


def test_a_watermark_under_the_reserve_is_an_error_that_says_why(tmp_path: Path) -> None:
    path = tmp_path / "vigil.toml"
    path.write_text("retention_free_bytes = 1000\n")
    with pytest.raises(ConfigurationError, match="expected more than storage_reserve_bytes"):
        load_settings(path)


def test_without_a_rule_nothing_is_looked_at(tmp_path: Path) -> None:
    service = Service(Settings(data_dir=tmp_path / "none"), FakeModel())
    assert not service.retention.has_rules
    assert service._retention is None
    service.store.close()
