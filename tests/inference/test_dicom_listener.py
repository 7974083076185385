import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    CTImageStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)
from pynetdicom import AE
from pynetdicom.sop_class import Verification
from sqlalchemy import select

from tests.inference.conftest import FakeModel, MakeFile, Until, make_dataset
from vigil.errors import StorageError
from vigil_inference.dicom_listener import TRANSFER_SYNTAXES, handle_store
from vigil_inference.dicom_messages import Received
from vigil_inference.doors import DoorBook
from vigil_inference.sender import send
from vigil_inference.service import Service
from vigil_inference.settings import Settings
from vigil_inference.tables import Instance, Study


@pytest.fixture
def running(service: Service) -> Iterator[Service]:
    service.start()
    yield service
    service.stop()


def store_as_is(service: Service, path: Path, **announced: str) -> Dataset:
    """Send a file's data set without decoding it, under whatever UIDs a test wants."""
    ae = AE("MODALITY")
    ae.add_requested_context(ComputedRadiographyImageStorage, ExplicitVRLittleEndian)
    association = ae.associate("127.0.0.1", service.listener.port)
    assert association.is_established
    dataset = make_dataset(**announced)
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    content = path.read_bytes()
    context = association.accepted_contexts[0]
    from io import BytesIO

    from pynetdicom.dimse_primitives import C_STORE

    request = C_STORE()
    request.MessageID = 1
    request.Priority = 2
    request.AffectedSOPClassUID = dataset.SOPClassUID
    request.AffectedSOPInstanceUID = dataset.SOPInstanceUID
    request.DataSet = BytesIO(content)
    association._reactor_checkpoint.clear()
    while not association._is_paused:
        pass
    association.dimse.send_msg(request, context.context_id)
    _, answer = association.dimse.get_msg(block=True)
    association._reactor_checkpoint.set()
    association.release()
    status = Dataset()
    status.Status = answer.Status
    status.ErrorComment = answer.ErrorComment or ""
    return status


def data_set_of(path: Path, folder: Path) -> Path:
    """Write a file's data set alone, as it travels in a C-STORE."""
    from pynetdicom.dsutils import split_dataset

    _, offset = split_dataset(path)
    bare = folder / "bare"
    bare.write_bytes(path.read_bytes()[offset:])
    return bare


def only_row(service: Service) -> Instance:
    with service.store.reading() as session:
        return session.scalars(select(Instance)).one()


def test_an_echo_is_answered(running: Service) -> None:
    ae = AE("MODALITY")
    ae.add_requested_context(Verification)
    association = ae.associate("127.0.0.1", running.listener.port)
    assert association.send_c_echo().Status == 0x0000
    association.release()


def test_a_picture_that_is_sent_is_kept_acknowledged_and_analysed(
    running: Service, make_file: MakeFile, until: Until
) -> None:
    path = make_file("0.95")
    [sent] = send(
        [path],
        "127.0.0.1",
        running.listener.port,
        calling_ae_title="XRAY1",
        called_ae_title="VIGIL",
    )
    assert sent.succeeded
    assert sent.message == "0x0000 Success"
    row = until(lambda: (row := only_row(running)).state != "received" and row)
    assert (row.calling_ae_title, row.door, row.priority) == ("XRAY1", "C-STORE", "CRITICAL")
    kept = dcmread(running.settings.data_dir / row.file_path)
    assert kept.PixelData == dcmread(path).PixelData
    assert kept.PatientName == "Nguyễn^Văn An"


def test_a_vietnamese_name_arrives_as_it_was_sent(running: Service, make_file: MakeFile) -> None:
    path = make_file(PatientName="Đặng^Thị Hường=鄧^氏香")
    list(
        send([path], "127.0.0.1", running.listener.port, calling_ae_title="X", called_ae_title="V")
    )
    with running.store.reading() as session:
        assert session.scalars(select(Study.patient_name)).one() == "Đặng^Thị Hường=鄧^氏香"


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, RLELossless])
def test_an_object_arrives_byte_by_byte_in_its_own_transfer_syntax(
    running: Service, tmp_path: Path, syntax: str
) -> None:
    dataset = make_dataset()
    if syntax == ImplicitVRLittleEndian:
        dataset.file_meta.TransferSyntaxUID = syntax
    else:
        dataset.compress(syntax)
    path = tmp_path / "sent.dcm"
    dataset.save_as(path, enforce_file_format=True)
    [sent] = send(
        [path], "127.0.0.1", running.listener.port, calling_ae_title="X", called_ae_title="V"
    )
    assert sent.succeeded
    row = only_row(running)
    kept = (running.settings.data_dir / row.file_path).read_bytes()
    assert row.transfer_syntax_uid == syntax
    assert kept.endswith(data_set_of(path, tmp_path).read_bytes())


def test_a_data_set_that_is_not_the_announced_object_is_refused(
    running: Service, make_file: MakeFile, tmp_path: Path
) -> None:
    bare = data_set_of(make_file(), tmp_path)
    status = store_as_is(running, bare, SOPInstanceUID="1.2.3.4")
    assert status.Status == 0xA900
    assert "SOP instance" in status.ErrorComment


def test_noise_is_refused_and_the_next_picture_is_served(
    running: Service, make_file: MakeFile, tmp_path: Path
) -> None:
    noise = tmp_path / "noise"
    noise.write_bytes(os.urandom(5000))
    assert store_as_is(running, noise).Status == 0xC000
    path = make_file()
    uid = str(dcmread(path).SOPInstanceUID)
    bare = data_set_of(path, tmp_path)
    assert store_as_is(running, bare, SOPInstanceUID=uid).Status == 0x0000


def test_an_object_of_another_modality_is_kept_and_explained(
    running: Service, make_file: MakeFile, until: Until
) -> None:
    path = make_file("NOT_RADIOGRAPH", SOPClassUID=CTImageStorage, Modality="CT")
    [sent] = send(
        [path], "127.0.0.1", running.listener.port, calling_ae_title="X", called_ae_title="V"
    )
    assert sent.succeeded
    row = until(lambda: (row := only_row(running)).state != "received" and row)
    assert (row.state, row.code) == ("not_analysed", "NOT_RADIOGRAPH")


def test_other_bytes_under_a_known_uid_are_answered_with_a_warning(
    running: Service, make_file: MakeFile
) -> None:
    path = make_file()
    dataset = dcmread(path)
    dataset.PatientID = "P2"
    changed = path.with_name("changed.dcm")
    dataset.save_as(changed)
    answers = send(
        [path, path, changed],
        "127.0.0.1",
        running.listener.port,
        calling_ae_title="X",
        called_ae_title="V",
    )
    assert [sent.message[:6] for sent in answers] == ["0x0000", "0x0000", "0xB000"]


@pytest.mark.parametrize(
    ("error", "expected"),
    [(StorageError("the disk is full"), 0xA700), (RuntimeError("a bug about Nguyễn^An"), 0xC001)],
)
def test_no_error_leaves_the_handler_and_none_is_acknowledged(
    error: Exception, expected: int
) -> None:
    def accept(*_: object, **__: object) -> NoReturn:
        raise error

    discarded: list[bool] = []
    data_set = SimpleNamespace(
        finish=lambda: Received(Path("nowhere"), "0"), discard=lambda: discarded.append(True)
    )
    event: Any = SimpleNamespace(
        assoc=SimpleNamespace(
            requestor=SimpleNamespace(ae_title="X"),
            dimse=SimpleNamespace(release=lambda data_set: None),
        ),
        request=SimpleNamespace(
            AffectedSOPClassUID="1", AffectedSOPInstanceUID="2", DataSet=data_set
        ),
    )
    intake: Any = SimpleNamespace(accept=accept, doors=DoorBook())
    status = handle_store(event, intake)
    assert status.Status == expected
    assert "Nguyễn" not in status.ErrorComment
    assert discarded == [True]


def test_a_full_disk_is_answered_with_out_of_resources_through_a_real_association(
    settings: Settings, model: FakeModel, make_file: MakeFile
) -> None:
    free = shutil.disk_usage(settings.data_dir.parent).free
    full = settings.model_copy(update={"storage_reserve_bytes": free + free // 2})
    service = Service(full, model)
    service.start()
    try:
        [sent] = send(
            [make_file()],
            "127.0.0.1",
            service.listener.port,
            calling_ae_title="X",
            called_ae_title="V",
        )
    finally:
        service.stop()
    assert not sent.succeeded
    assert sent.message.startswith("0xA700")


def test_associations_that_would_store_are_refused_before_the_disk_is_full(
    settings: Settings, model: FakeModel, make_file: MakeFile
) -> None:
    full = settings.model_copy(update={"storage_reserve_bytes": 1 << 60})
    service = Service(full, model)
    service.start()
    port = service.listener.port
    try:
        [sent] = send([make_file()], "127.0.0.1", port, calling_ae_title="X", called_ae_title="V")
        ae = AE("MONITOR")
        ae.add_requested_context(Verification)
        association = ae.associate("127.0.0.1", port)
        assert association.send_c_echo().Status == 0x0000
        association.release()
    finally:
        service.stop()
    assert sent.message == "not sent: the peer rejected the association"


def test_a_title_that_is_not_allowed_is_rejected(
    settings: Settings, model: FakeModel, make_file: MakeFile
) -> None:
    guarded = settings.model_copy(update={"dicom_allowed_calling_ae_titles": ["PACS"]})
    service = Service(guarded, model)
    service.start()
    path = make_file()
    try:
        port = service.listener.port
        stranger = list(
            send([path], "127.0.0.1", port, calling_ae_title="OTHER", called_ae_title="V")
        )
        known = list(send([path], "127.0.0.1", port, calling_ae_title="PACS", called_ae_title="V"))
    finally:
        service.stop()
    assert [sent.succeeded for sent in stranger + known] == [False, True]
    assert "rejected" in stranger[0].message


def test_a_sender_that_breaks_off_leaves_nothing_and_the_next_is_served(
    running: Service, make_file: MakeFile
) -> None:
    ae = AE("MODALITY")
    ae.add_requested_context(ComputedRadiographyImageStorage, ExplicitVRLittleEndian)
    association = ae.associate("127.0.0.1", running.listener.port)
    association.abort()
    [sent] = send(
        [make_file()],
        "127.0.0.1",
        running.listener.port,
        calling_ae_title="X",
        called_ae_title="V",
    )
    assert sent.succeeded


def test_plain_transfer_syntaxes_are_preferred() -> None:
    assert TRANSFER_SYNTAXES[:2] == [ExplicitVRLittleEndian, ImplicitVRLittleEndian]
    assert len(set(TRANSFER_SYNTAXES)) == len(TRANSFER_SYNTAXES)


def test_a_port_that_is_taken_is_an_error_that_names_it(
    running: Service, settings: Settings, model: FakeModel, tmp_path: Path
) -> None:
    taken = settings.model_copy(
        update={"dicom_port": running.listener.port, "data_dir": tmp_path / "other"}
    )
    second = Service(taken, model)
    try:
        with pytest.raises(StorageError, match="EADDRINUSE"):
            second.listener.start()
    finally:
        second.store.close()
