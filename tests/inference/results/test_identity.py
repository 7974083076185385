import uuid
from dataclasses import replace
from datetime import timedelta

import pytest

from tests.inference.results.studies import (
    TIMESTAMP,
    make_picture,
    make_refusal,
    make_source,
    make_study,
)
from vigil.errors import RefusalCode
from vigil_inference.results import (
    Language,
    Predecessor,
    ResultOptions,
    build_report,
    build_results,
    to_bytes,
)
from vigil_inference.results.identity import (
    ObjectKind,
    make_uid,
    series_instance_uid,
    sop_instance_uid,
    tracking_uid,
)


def test_a_uid_is_a_version_5_uuid_as_a_decimal_number():
    uid = make_uid(uuid.UUID(int=1), "a", "b")
    number = uuid.UUID(int=int(uid.removeprefix("2.25.")))
    assert number.version == 5
    assert len(uid) <= 64


def test_parts_are_not_confused_with_their_concatenation():
    assert make_uid(uuid.UUID(int=1), "ab", "c") != make_uid(uuid.UUID(int=1), "a", "bc")
    assert make_uid(uuid.UUID(int=1), "a|1:b") != make_uid(uuid.UUID(int=1), "a", "b")


@pytest.mark.parametrize(
    "change",
    [
        {"bundle_digest": "40" * 32},
        {"bundle_id": "cxr-test-2"},
        {"software_version": "0.1.1"},
        {"namespace": uuid.UUID(int=9)},
        {"options": ResultOptions(language=Language.FRENCH)},
        {"options": ResultOptions(region_level=0.6)},
        {"predecessor": Predecessor("2.25.1", "2.25.2", "2.25.3")},
    ],
    ids=lambda change: next(iter(change)),
)
def test_another_maker_or_another_configuration_has_other_uids(change):
    study = make_study()
    other = replace(study, **change)
    kind = ObjectKind.REPORT
    assert sop_instance_uid(study, kind) == sop_instance_uid(make_study(), kind)
    assert sop_instance_uid(study, kind) != sop_instance_uid(other, kind)


def test_another_bundle_has_another_series_and_other_tracking_uids():
    study, other = make_study(), make_study(bundle_digest="40" * 32)
    kind = ObjectKind.REPORT
    assert series_instance_uid(study, kind) != series_instance_uid(other, kind)
    picture = study.pictures[0]
    assert tracking_uid(study, picture, "Effusion") != tracking_uid(other, picture, "Effusion")
    assert tracking_uid(study, picture, "Effusion") != tracking_uid(study, picture, "Mass")


def test_the_order_in_which_pictures_arrived_makes_no_difference():
    first = make_picture(source=make_source(number=1))
    second = make_picture(source=make_source(number=2))
    one, other = make_study(first, second), make_study(second, first)
    assert [to_bytes(o) for o in build_results(one)] == [to_bytes(o) for o in build_results(other)]


def test_a_picture_that_failed_and_is_analysed_later_gives_another_report():
    source = make_source()
    failed = make_study(make_refusal(RefusalCode.INTERNAL_ERROR, source=source))
    analysed = make_study(make_picture(source=source))
    assert build_report(failed).SOPInstanceUID != build_report(analysed).SOPInstanceUID


@pytest.mark.parametrize("number", [1, 3], ids=["before", "after"])
def test_a_later_picture_gives_another_report_and_leaves_the_first_capture_as_it_was(number):
    first = make_picture(source=make_source(number=2))
    second = make_picture(
        source=make_source(number=number, PatientAge="044Y"),
        analysed_at=TIMESTAMP + timedelta(minutes=5),
    )
    alone, both = build_results(make_study(first)), build_results(make_study(first, second))
    assert alone[0].SOPInstanceUID != both[0].SOPInstanceUID
    captures = {capture.SOPInstanceUID: to_bytes(capture) for capture in both[1:]}
    assert len(captures) == 2
    assert captures[alone[1].SOPInstanceUID] == to_bytes(alone[1])
    assert sorted(capture.InstanceNumber for capture in both[1:]) == sorted([2, number])


def test_the_objects_of_a_study_all_have_uids_of_their_own():
    results = build_results(make_study(key_objects=True))
    assert len(results) == 3
    assert len({result.SOPInstanceUID for result in results}) == 3
    assert len({result.SeriesInstanceUID for result in results}) == 3
    assert [result.SeriesNumber for result in results] == [9001, 9002, 9003]
