"""The upper layer reads PDUs as the standard has them, and waits instead of asking again."""

import threading

import pytest
from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.pdu import P_DATA_TF
from pynetdicom.pdu_primitives import P_DATA
from pynetdicom.sop_class import Verification

from tests.inference.conftest import FakeModel, MakeFile, Until
from vigil_inference.dicom_reactor import DataPdu, Item, first_message_of, items_of
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


def told(items: list[Item]) -> list[tuple[int, bytes]]:
    values = DataPdu(items).to_primitive().presentation_data_value_list
    return [(number, bytes(value)) for number, value in values]


def test_a_data_pdu_says_what_pynetdicom_reads_of_it() -> None:
    content = encoded(ITEMS)
    theirs = P_DATA_TF()
    theirs.decode(bytes(content))

    assert told(items_of(memoryview(content)[6:])) == ITEMS
    assert theirs.to_primitive().presentation_data_value_list == ITEMS


def test_what_arrived_ends_with_the_message_and_before_what_is_not_whole() -> None:
    fragments = [(1, b"\x00abc"), (1, b"\x00de"), (1, b"\x02f")]
    pdus = [bytes(encoded([item])) for item in fragments]
    release = b"\x05\x00\x00\x00\x00\x04" + bytes(4)
    malformed = b"\x04\x00\x00\x00\x00\x02\x00\x00"

    def taken(*parts: bytes) -> tuple[list[tuple[int, bytes]], int]:
        items, count = first_message_of(memoryview(b"".join(parts)))
        return told(items), count

    whole = sum(map(len, pdus))
    assert taken(*pdus, pdus[0]) == ([(1, b"\x02abcdef")], whole)
    assert taken(*pdus[:2], release) == ([(1, b"\x00abcde")], len(pdus[0] + pdus[1]))
    assert taken(pdus[0], malformed, pdus[1]) == ([(1, b"\x00abc")], len(pdus[0]))
    for cut in range(1, len(pdus[1])):
        assert taken(pdus[0], pdus[1][:cut]) == ([(1, b"\x00abc")], len(pdus[0]))
    assert taken(pdus[0][:5]) == taken(release) == taken(malformed) == taken(b"") == ([], 0)


def test_a_command_and_its_data_set_stay_apart_and_so_do_contexts() -> None:
    items = [(1, b"\x01com"), (1, b"\x03mand"), (1, b"\x00a"), (3, b"\x00b"), (3, b"\x02c")]
    content = encoded(items)

    assert told(items_of(memoryview(content)[6:])) == [*items[:3], (3, b"\x02bc")]


def test_a_data_pdu_keeps_what_it_was_made_of() -> None:
    content = encoded(ITEMS)
    pdu = DataPdu(items_of(memoryview(content)[6:]))
    content[6:] = bytes(len(content) - 6)

    values = pdu.to_primitive().presentation_data_value_list
    assert [(number, bytes(value)) for number, value in values] == ITEMS


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
        items_of(memoryview(items))


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
