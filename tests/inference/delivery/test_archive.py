"""Delivery to a real Orthanc: up, down, frozen, forgetful."""

import io
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import Comprehensive3DSRStorage, generate_uid
from sqlalchemy import update

from tests.inference.delivery.archive import Archive
from tests.inference.delivery.conftest import Site
from tests.system.peers import free_port
from vigil_inference.delivery.desk import DeliveryRow, Selection
from vigil_inference.delivery.tables import Delivery
from vigil_inference.headers import digest_of

pytestmark = [
    pytest.mark.system,
    # pynetdicom drops the socket of a connection that was refused without closing it.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
SLOW = {"delivery_retry_seconds": 600, "delivery_retry_most_seconds": 600}
StartSite = Callable[..., Site]
StartArchive = Callable[..., Archive]


def test_a_flagged_study_reaches_the_archive_byte_by_byte_and_is_proved_by_c_find(
    start_site: StartSite, start_archive: StartArchive, tmp_path: Path
) -> None:
    archive = start_archive()
    site = start_site(archive.destination())
    site.receive("0.95")
    rows = site.wait_for("DELIVERED", "DELIVERED")
    assert [row.kind for row in rows] == ["report", "capture"]
    assert {(row.code, row.attempts) for row in rows} == {("C_FIND", 1)}
    assert all(row.sent_at and row.delivered_at and row.sent_at <= row.delivered_at for row in rows)
    held = archive.held()
    assert set(held) == {row.sop_instance_uid for row in rows}
    # The data sets are ours byte for byte; Orthanc writes file meta information of its own.
    kept = {digest_of(path) for path in (site.service.settings.data_dir / "results").glob("*/*")}
    for uid, content in held.items():
        (tmp_path / uid).write_bytes(content)
    assert {digest_of(tmp_path / uid) for uid in held} == kept


def test_a_later_picture_brings_a_report_that_names_its_predecessor(
    start_site: StartSite, start_archive: StartArchive
) -> None:
    archive = start_archive()
    site = start_site(archive.destination())
    study = site.receive("0.95")
    first = site.wait_for("DELIVERED", "DELIVERED")[0]
    site.receive("0.2", StudyInstanceUID=study)
    rows = site.wait_for("DELIVERED", "DELIVERED", "DELIVERED")
    # The first picture's capture is the same object: it goes nowhere twice.
    assert [(row.kind, row.release) for row in rows] == [
        ("report", 1),
        ("capture", 1),
        ("report", 2),
    ]
    assert archive.arrivals() == 3
    report = dcmread(io.BytesIO(archive.held()[rows[2].sop_instance_uid]))
    [named] = report.PredecessorDocumentsSequence
    assert named.StudyInstanceUID == study
    [series] = named.ReferencedSeriesSequence
    [document] = series.ReferencedSOPSequence
    assert document.ReferencedSOPInstanceUID == first.sop_instance_uid
    assert document.ReferencedSOPClassUID == Comprehensive3DSRStorage
    assert report.InstanceNumber == 2


def test_what_a_stopped_archive_missed_it_gets_the_critical_study_first(
    start_site: StartSite, start_archive: StartArchive
) -> None:
    archive = start_archive(running=False)
    site = start_site(archive.destination(objects=["report"]), **SLOW)
    studies = [site.receive(wish) for wish in ("0.1", "0.6", "0.95")]

    def tried() -> list[DeliveryRow] | None:
        rows = site.deliveries()
        all_tried = len(rows) == 3 and all(row.code for row in rows)
        return rows if all_tried and {row.state for row in rows} == {"PENDING"} else None

    rows = site.wait_until(tried)
    assert {(row.code, row.attempts, row.sent_at) for row in rows} == {("NO_CONNECTION", 1, None)}
    archive.start()
    # All are made due at one moment.
    ids = tuple(row.id for row in rows)
    assert site.service.delivery.desk.retry(Selection(ids=ids)) == sorted(ids)
    rows = site.wait_for("DELIVERED", "DELIVERED", "DELIVERED")
    in_order = sorted(rows, key=lambda row: row.sent_at)
    assert [row.study_instance_uid for row in in_order] == studies[::-1]
    assert archive.arrivals() == 3


def test_a_frozen_archive_leaves_no_false_word_and_gets_the_object_once(
    start_site: StartSite, start_archive: StartArchive
) -> None:
    archive = start_archive()
    site = start_site(archive.destination(objects=["report"], timeout_seconds=2))
    archive.signal(signal.SIGSTOP)
    site.receive("0.95")
    site.wait_for("SENDING")
    [row] = site.wait_for("PENDING")
    assert row.code in ("NO_ANSWER", "NO_CONNECTION")
    assert row.sent_at is None
    archive.signal(signal.SIGCONT)
    [row] = site.wait_for("DELIVERED")
    assert row.attempts >= 2
    assert archive.arrivals() == 1

    archive.stop()
    site.receive("0.95")
    site.wait_until(lambda: site.deliveries()[-1].code == "NO_CONNECTION")
    assert [row.state for row in site.deliveries()] != ["DELIVERED", "DELIVERED"]
    archive.start()
    site.wait_for("DELIVERED", "DELIVERED")
    assert len(archive.held()) == 2


def test_storage_commitment_proves_and_what_was_lost_is_sent_again(
    start_site: StartSite, start_archive: StartArchive
) -> None:
    port = free_port()
    archive = start_archive(commitment_port=port)
    site = start_site(
        archive.destination(proof="storage-commitment", objects=["report"]),
        dicom_commitment_port=port,
    )
    site.receive("0.95")
    [row] = site.wait_for("DELIVERED")
    assert row.code == "COMMITTED"
    archive.delete_all()
    # As if it had been lost between the acknowledgement and the question.
    with site.service.store.writing() as session:
        session.execute(
            update(Delivery).values(state="SENT", delivered_at=None, due_at=row.created_at)
        )
    [row] = site.wait_for("DELIVERED")
    assert (row.code, row.attempts) == ("COMMITTED", 2)
    assert list(archive.held()) == [row.sop_instance_uid]


def test_dicomweb_takes_the_objects_and_qido_proves_it(
    start_site: StartSite, start_archive: StartArchive
) -> None:
    archive = start_archive(dicomweb=True)
    web = {"name": "web", "kind": "stow", "url": f"{archive.url}/dicom-web", "timeout_seconds": 10}
    site = start_site(web)
    site.receive("0.95")
    rows = site.wait_for("DELIVERED", "DELIVERED")
    assert {row.code for row in rows} == {"QIDO"}
    assert archive.arrivals() == 2
    assert set(archive.held()) == {row.sop_instance_uid for row in rows}


def test_an_object_that_the_archive_lost_is_not_called_delivered_and_may_be_sent_again(
    start_site: StartSite, start_archive: StartArchive
) -> None:
    archive = start_archive()
    site = start_site(archive.destination(objects=["report"]), delivery_proof_seconds=1)
    site.receive("0.95")
    [row] = site.wait_for("DELIVERED")
    archive.delete_all()
    with site.service.store.writing() as session:
        session.execute(update(Delivery).values(state="SENT", delivered_at=None))
    [row] = site.wait_for("DELIVERED")
    assert row.attempts == 2
    assert list(archive.held()) == [row.sop_instance_uid]
    # A person may ask for it once more, whatever its state.
    archive.delete_all()
    assert site.service.delivery.desk.retry(Selection(ids=(row.id,))) == [row.id]
    site.wait_until(archive.held)
    site.wait_for("DELIVERED")


def test_an_interrupted_attempt_asks_before_it_sends_again(
    start_site: StartSite, start_archive: StartArchive
) -> None:
    archive = start_archive()
    site = start_site(archive.destination(objects=["report"]))
    site.receive("0.95")
    [row] = site.wait_for("DELIVERED")
    log = archive.folder / "log"
    before = log.read_text(encoding="utf-8", errors="replace").count("C-STORE")
    # What a node leaves that died after the archive stored the object, before it wrote that down.
    with site.service.store.writing() as session:
        session.execute(
            update(Delivery).values(
                state="SENDING", owner=generate_uid()[-32:], leased_until=row.created_at
            )
        )
    [row] = site.wait_for("DELIVERED")
    assert row.code == "FOUND"
    assert log.read_text(encoding="utf-8", errors="replace").count("C-STORE") == before
    assert archive.arrivals() == 1
