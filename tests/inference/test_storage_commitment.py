import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import CTImageStorage, generate_uid
from pynetdicom import AE, evt
from pynetdicom.sop_class import StorageCommitmentPushModel, StorageCommitmentPushModelInstance
from sqlalchemy import select

from tests.inference.conftest import FakeModel, MakeFile, Until
from tests.system.peers import free_port
from vigil_inference.intake import Source
from vigil_inference.service import Service
from vigil_inference.settings import Settings
from vigil_inference.tables import Instance

HOST = "127.0.0.1"
Report = tuple[int, Dataset]


@pytest.fixture
def running(service: Service) -> Iterator[Service]:
    service.start()
    yield service
    service.stop()


def reference(path: Path, **changes: str) -> Dataset:
    dataset = dcmread(path, stop_before_pixels=True)
    item = Dataset()
    item.ReferencedSOPClassUID = changes.get("sop_class", dataset.SOPClassUID)
    item.ReferencedSOPInstanceUID = changes.get("sop_instance", dataset.SOPInstanceUID)
    return item


def ask(
    port: int,
    items: list[Dataset],
    *,
    stay: bool = True,
    action: int = 1,
    transaction: str | None = None,
) -> tuple[int, list[Report]]:
    """Ask for commitment; return the answer's status and, if we stay for it, the report."""
    reports: list[Report] = []
    heard = threading.Event()

    def hear(event: evt.Event) -> tuple[int, None]:
        reports.append((event.event_type, event.event_information))
        heard.set()
        return 0x0000, None

    ae = AE("ASKER")
    ae.add_requested_context(StorageCommitmentPushModel)
    association = ae.associate(HOST, port, evt_handlers=[(evt.EVT_N_EVENT_REPORT, hear)])
    assert association.is_established
    information = Dataset()
    information.TransactionUID = generate_uid() if transaction is None else transaction
    information.ReferencedSOPSequence = items
    status, _ = association.send_n_action(
        information, action, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
    )
    if stay and status.Status == 0:
        assert heard.wait(60)
        assert reports[0][1].TransactionUID == information.TransactionUID
    association.release()
    return status.Status, reports


def reasons(report: Dataset) -> list[int]:
    return [item.FailureReason for item in report.get("FailedSOPSequence", [])]


def test_what_is_held_is_confirmed_on_the_askers_own_association(
    running: Service, make_file: MakeFile
) -> None:
    paths = [make_file(), make_file()]
    for path in paths:
        running.intake.accept(path, Source("C-STORE"))
    status, [(event_type, report)] = ask(running.listener.port, [reference(p) for p in paths])
    assert (status, event_type) == (0x0000, 1)
    assert "FailedSOPSequence" not in report
    assert [item.ReferencedSOPInstanceUID for item in report.ReferencedSOPSequence] == [
        dcmread(path).SOPInstanceUID for path in paths
    ]


def test_only_what_is_whole_and_undisputed_is_confirmed(
    running: Service, make_file: MakeFile
) -> None:
    held, damaged, disputed, strange = (make_file() for _ in range(4))
    for path in (held, damaged, disputed, strange):
        running.intake.accept(path, Source("C-STORE"))
    with running.store.reading() as session:
        uid = str(dcmread(damaged).SOPInstanceUID)
        row = session.scalars(select(Instance).where(Instance.sop_instance_uid == uid)).one()
    stored = running.settings.data_dir / row.file_path
    stored.write_bytes(stored.read_bytes()[:-1] + b"\xff")
    other = dcmread(disputed)
    other.PatientID = "P2"
    other.save_as(disputed)
    running.intake.accept(disputed, Source("C-STORE"))
    items = [
        reference(held),
        reference(damaged),
        reference(disputed),
        reference(strange, sop_class=CTImageStorage),
        reference(held, sop_instance="1.2.3"),
    ]
    _, [(event_type, report)] = ask(running.listener.port, items)
    assert event_type == 2
    assert reasons(report) == [0x0110, 0x0110, 0x0119, 0x0112]
    assert len(report.ReferencedSOPSequence) == 1


def test_a_report_goes_to_the_askers_own_listener_where_the_site_names_it(
    settings: Settings, model: FakeModel, make_file: MakeFile, until: Until
) -> None:
    port = free_port()
    named = settings.model_copy(update={"storage_commitment_peers": {"ASKER": f"{HOST}:{port}"}})
    reports: list[int] = []

    def hear(event: evt.Event) -> tuple[int, None]:
        reports.append(event.event_type)
        return 0x0000, None

    listener = AE("ASKER")
    listener.add_supported_context(StorageCommitmentPushModel, scu_role=True, scp_role=True)
    server = listener.start_server(
        (HOST, port), block=False, evt_handlers=[(evt.EVT_N_EVENT_REPORT, hear)]
    )
    service = Service(named, model)
    service.start()
    try:
        path = make_file()
        service.intake.accept(path, Source("C-STORE"))
        status, _ = ask(service.listener.port, [reference(path)], stay=False)
        assert status == 0x0000
        until(lambda: reports == [1])
    finally:
        service.stop()
        server.shutdown()


@pytest.mark.parametrize("missing", ["transaction", "references"])
def test_a_request_that_names_no_transaction_or_no_object_is_refused(
    running: Service, make_file: MakeFile, missing: str
) -> None:
    items = [] if missing == "references" else [reference(make_file())]
    transaction = "" if missing == "transaction" else generate_uid()
    status, reports = ask(running.listener.port, items, transaction=transaction)
    assert (status, reports) == (0x0115, [])


def test_a_report_that_fails_in_a_way_nobody_foresaw_leaves_its_place_to_others(
    running: Service, make_file: MakeFile, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_args: object) -> None:
        raise KeyError("unforeseen")

    monkeypatch.setattr("vigil_inference.storage_commitment._send", fail)
    status, _ = ask(running.listener.port, [reference(make_file())], stay=False)
    assert status == 0x0000
    provider = running.listener._commitment
    until(lambda: not provider._under_way)
    assert provider._waiting == 0


def test_another_action_than_to_commit_is_refused(running: Service, make_file: MakeFile) -> None:
    status, reports = ask(running.listener.port, [reference(make_file())], action=7)
    assert (status, reports) == (0x0123, [])
