"""The upper layer reads PDUs as the standard has them, and waits instead of asking again."""

import threading

import pytest
from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.pdu import P_DATA_TF
from pynetdicom.pdu_primitives import P_DATA
from pynetdicom.sop_class import Verification

from tests.inference.conftest import FakeModel, MakeFile, Until
from vigil_inference.dicom_reactor import DataPdu
from vigil_inference.headers import digest_of
from vigil_inference.sender import send
from vigil_inference.service import Service
from vigil_inference.settings import Settings
from vigil_inference.tables import Instance

ITEMS = [(1, b"\x03command"), (3, b"\x00" + bytes(1000)), (255, b"\x02")]


def encoded(items: list[tuple[int, bytes]]) -> bytearray:
    primitive = P_DATA()
    primitive.presentation_data_value_list = [list(item) for item in items]
    pdu = P_DATA_TF()
    pdu.from_primitive(primitive)
    return bytearray(pdu.encode())


def test_a_data_pdu_says_what_pynetdicom_reads_of_it() -> None:
    content = encoded(ITEMS)
    theirs = P_DATA_TF()
    theirs.decode(bytes(content))
    ours = DataPdu(content).to_primitive().presentation_data_value_list
    assert [(number, bytes(value)) for number, value in ours] == ITEMS
    assert theirs.to_primitive().presentation_data_value_list == ITEMS


def test_its_values_are_views_of_what_was_read() -> None:
    content = encoded(ITEMS)
    (_, first), *_ = DataPdu(content).to_primitive().presentation_data_value_list
    content[11] ^= 0xFF
    assert first[0] == 0x03 ^ 0xFF


@pytest.mark.parametrize(
    ("items", "wrong"),
    [
        (b"\x00\x00", "length of an item"),
        (b"\x00\x00\x00\x09\x01\x00", "of 9 bytes, found 2"),
        (b"\xff\xff\xff\xff\x01\x00", "of 4294967295 bytes, found 2"),
        (b"\x00\x00\x00\x00", "of 0 bytes"),
        (b"\x00\x00\x00\x01\x01", "of 1 bytes"),
    ],
)
def test_items_that_do_not_fill_their_pdu_are_refused(items: bytes, wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        DataPdu(bytearray(b"\x04\x00" + len(items).to_bytes(4, "big") + items))


def test_the_digest_made_on_the_way_is_that_of_the_kept_file(
    settings: Settings, model: FakeModel, make_file: MakeFile
) -> None:
    service = Service(settings, model)
    service.start()
    try:
        paths = [make_file(PixelData=bytes(range(256)) * 4000), make_file()]
        answers = list(
            send(paths, "127.0.0.1", service.listener.port,
                 calling_ae_title="X", called_ae_title="V")
        )  # fmt: skip
        assert [answer.succeeded for answer in answers] == [True, True]
        with service.store.reading() as session:
            rows = session.query(Instance).order_by(Instance.id).all()
        assert [row.sha256 for row in rows] == [digest_of(path) for path in paths]
        kept = [settings.data_dir / row.file_path for row in rows]
        assert [digest_of(path) for path in kept] == [row.sha256 for row in rows]
        assert [row.size_bytes for row in rows] == [path.stat().st_size for path in kept]
    finally:
        service.stop()


def test_idle_associations_are_waited_for_and_hear_at_once_what_concerns_them(
    settings: Settings, model: FakeModel, monkeypatch: pytest.MonkeyPatch, until: Until
) -> None:
    import vigil_inference.dicom_messages as messages
    import vigil_inference.dicom_reactor as reactor

    # So long that whatever is answered within the test was not answered by a timer.
    for module in (messages, reactor):
        monkeypatch.setattr(module, "_IDLE_SECONDS", 600.0)
    service = Service(settings, model)
    service.start()
    before = threading.active_count()
    try:
        ae = AE("IDLE")
        ae.add_requested_context("1.2.840.10008.1.1")
        ae.add_requested_context(ComputedRadiographyImageStorage, ExplicitVRLittleEndian)
        idle = [ae.associate("127.0.0.1", service.listener.port) for _ in range(5)]
        assert all(association.is_established for association in idle)
        for association in idle:
            assert association.send_c_echo().Status == 0x0000
        idle[0].release()
        idle[1].abort()
        until(lambda: sum(a.is_alive() for a in service.listener._ae.active_associations) <= 3)
    finally:
        service.stop()
        for association in idle:
            association.abort()
    until(lambda: threading.active_count() <= before)


def test_a_message_that_came_in_whole_is_not_held_until_its_association_ends(
    service: Service, until: Until
) -> None:
    service.start()
    try:
        ae = AE()
        ae.add_requested_context(Verification)
        association = ae.associate("127.0.0.1", service.listener.port)
        for _ in range(5):
            assert association.send_c_echo().Status == 0x0000
        [served] = service.listener._ae.active_associations
        # Its own thread lets go of the last one, perhaps after that was answered.
        until(lambda: not served.dimse._arriving)
        assert association.is_established
        association.release()
    finally:
        service.stop()
