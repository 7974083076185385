import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select

from tests.inference.reading.conftest import HANH, MINH, Room, record_of
from vigil.triage import Priority
from vigil_inference.reading.book import (
    IdentityTaken,
    PriorityOnlyRises,
    ReadingBook,
    ReadingChanged,
    ReadingSigned,
    StatementInvalid,
)
from vigil_inference.reading.records import NewStatement
from vigil_inference.reading.statements import Standing
from vigil_inference.reading.tables import StatementRow
from vigil_inference.store import Store, StudyUnknown
from vigil_inference.tables import RANK, Instance


def count(room: Room) -> int:
    with room.store.reading() as session:
        return session.scalar(select(func.count()).select_from(StatementRow)) or 0


def test_a_statement_keeps_who_when_and_what_the_model_had_said(room: Room) -> None:
    study = room.receive(1, {"Effusion": 0.8})
    room.say(
        study, "agree", label="Effusion", note="nhiều bên trái",
        regions=({"x": 0.1, "y": 0.5, "width": 0.2, "height": 0.25},),
    )  # fmt: skip
    own = room.own(study)
    assert own is not None
    [said] = own.statements
    assert (own.reader, own.reader_name) == ("hanh", "BS. Trần Thị Hạnh")
    assert abs((room.store.now() - said.said_at).total_seconds()) < 60
    assert (said.model.bundle_id, said.model.bundle_digest) == ("fake", "d" * 64)
    assert (said.model.finding_key, said.model.probability) == ("Effusion", 0.8)
    assert (said.model.threshold, said.model.flagged, said.model.was_shown) == (0.5, True, True)
    assert said.note == "nhiều bên trái"
    [region] = own.reading.findings[f"{study}.1", "Effusion"].regions
    assert (region.x, region.y, region.width, region.height) == (0.1, 0.5, 0.2, 0.25)


def test_a_reading_never_changes_the_models_result(room: Room) -> None:
    study = room.receive(1, {"Effusion": 0.8})

    def result() -> Any:
        with room.store.reading() as session:
            row = session.scalars(select(Instance)).one()
            return row.result, row.state, row.priority, row.bundle_digest

    before = result()
    room.say(study, "disagree", label="Effusion")
    room.say(study, "correct", label="Effusion", instead="Mass")
    room.sign(study)
    assert result() == before
    assert room.study(study).priority is Priority.URGENT


def test_signing_marks_the_study_as_read_and_undo_takes_that_back(room: Room) -> None:
    study = room.receive(1, {"Effusion": 0.8})
    room.say(study, "agree", label="Effusion")
    assert room.study(study).read_at is None
    room.sign(study)
    row = room.study(study)
    signed = room.reading(study).signed
    assert signed is not None
    assert (row.read_at, row.read_by) == (signed.signed.said_at, "hanh")
    room.undo(study)
    assert (room.study(study).read_at, room.study(study).read_by) == (None, "")
    assert room.reading(study).standing is Standing.DRAFT
    assert count(room) == 3


def test_a_second_reading_is_kept_apart_and_stands_when_the_first_is_undone(room: Room) -> None:
    study = room.receive(1, {"Effusion": 0.8})
    room.say(study, "agree", label="Effusion")
    room.sign(study)
    room.say(study, "disagree", MINH, label="Effusion")
    room.sign(study, MINH)
    place = (f"{study}.1", "Effusion")
    assert room.reading(study).findings[place].is_present
    assert not room.reading(study, MINH).findings[place].is_present
    assert room.study(study).read_by == "hanh"
    room.undo(study)
    assert room.study(study).read_by == "minh"
    room.undo(study, MINH)
    assert room.study(study).read_at is None


def test_who_signed_before_a_later_picture_came_has_not_read_the_study(room: Room) -> None:
    study = room.receive(1, {"Effusion": 0.1})
    room.sign(study)
    room.receive(1, {"Effusion": 0.9}, study=study, sop=f"{study}.2", received_at=room.store.now())
    assert room.study(study).read_at is None
    room.say(study, "note", MINH, note="x")  # another's word must not bring the signature back
    assert room.study(study).read_at is None
    room.sign(study, MINH)
    assert room.study(study).read_by == "minh"


def test_what_is_said_after_signing_must_say_that_it_amends(room: Room) -> None:
    study = room.receive(1, {"Effusion": 0.8})
    room.sign(study)
    with pytest.raises(ReadingSigned):
        room.say(study, "agree", label="Effusion")
    room.say(study, "agree", label="Effusion", amendment=True)
    room.say(study, "note", note="x")  # the amendment is open now
    room.sign(study)
    own = room.own(study)
    assert own is not None
    assert [one.is_amendment for one in own.statements] == [False, True, True, True]
    assert [one.number for one in own.reading.editions] == [1, 2]
    first = own.reading.editions[0].signed.said_at
    assert room.study(study).read_at == first


def test_a_stale_statement_is_refused_and_nothing_of_it_is_kept(room: Room) -> None:
    study = room.receive(1, {"Effusion": 0.8, "Mass": 0.1})
    room.say(study, "agree", label="Effusion")
    with pytest.raises(ReadingChanged, match="version 0 of the reading was seen, and it is at 1"):
        room.say(study, "disagree", label="Effusion", seen_version=0)
    assert count(room) == 1
    room.say(study, "agree", MINH, label="Mass", seen_version=0)  # another's reading is another's


def test_the_same_statement_sent_again_is_said_once(room: Room) -> None:
    study = room.receive(1, {"Effusion": 0.8})
    new = NewStatement(
        id=uuid.uuid4(), seen_version=0, act="agree", sop_instance_uid=f"{study}.1",
        label="Effusion", note=" a\r\nb ",
    )  # fmt: skip
    assert room.book.say(study, HANH, new)
    room.say(study, "note", note="later")
    assert not room.book.say(study, HANH, new)
    assert count(room) == 2
    with pytest.raises(IdentityTaken):
        room.book.say(study, MINH, new)
    with pytest.raises(IdentityTaken):
        room.book.say(study, HANH, new.model_copy(update={"note": "other"}))


def test_of_two_pages_that_saw_the_same_version_one_is_told_to_look_again(room: Room) -> None:
    study = room.receive(1, {"Effusion": 0.8})
    rounds = 6
    barrier = threading.Barrier(2)

    def say(act: str, version: int) -> str:
        barrier.wait()
        try:
            room.say(study, act, label="Effusion", seen_version=version)
        except ReadingChanged:
            return "changed"
        return "kept"

    with ThreadPoolExecutor(2) as pool:
        for version in range(rounds):
            outcomes = sorted(pool.map(say, ["agree", "disagree"], [version] * 2))
            assert outcomes == ["changed", "kept"]
    own = room.own(study)
    assert own is not None
    assert [one.version for one in own.statements] == list(range(1, rounds + 1))


def test_two_readers_at_once_hold_each_other_up_in_nothing(room: Room) -> None:
    study = room.receive(1, {"Effusion": 0.8})
    barrier = threading.Barrier(2)

    def read(reader: Any) -> None:
        barrier.wait()
        for act in ("agree", "disagree", "agree"):
            room.say(study, act, reader, label="Effusion")
        room.sign(study, reader)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(read, [HANH, MINH]))
    for reader in (HANH, MINH):
        assert room.reading(study, reader).version == 4
        assert room.reading(study, reader).standing is Standing.SIGNED
    firsts = [room.reading(study, reader).signed for reader in (HANH, MINH)]
    assert room.study(study).read_at == min(one.signed.said_at for one in firsts if one)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"act": "agree", "label": "Mass"}, "nothing of this finding"),
        ({"act": "agree", "label": "Hernia"}, "nothing of this finding"),
        ({"act": "add", "label": "Broken_Heart"}, "vocabulary"),
        ({"act": "add", "label": "Mass", "sop_instance_uid": "9.9"}, "no such picture"),
        ({"act": "add", "label": "Mass", "instead": "Nodule"}, "nothing else"),
        ({"act": "correct", "label": "Effusion"}, "names another finding"),
        ({"act": "correct", "label": "Effusion", "instead": "Effusion"}, "names another"),
        ({"act": "withdraw", "label": "Mass"}, "nothing stands"),
        ({"act": "note", "label": "Mass"}, "speaks of the study"),
        ({"act": "undo"}, "names what it takes back"),
        ({"act": "undo", "undoes": uuid.uuid4()}, "nothing left"),
        ({"act": "note", "rest_absent": ("1.2.1.1",)}, "only a sign-off"),
        (
            {"act": "add", "label": "Mass",
             "regions": ({"x": 0.9, "y": 0, "width": 0.2, "height": 0.1},)},
            "leaves the picture",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_said_is_refused(room: Room, fields: dict[str, Any], message: str) -> None:
    study = room.receive(1, {"Effusion": 0.8, "Mass": None})
    with pytest.raises(StatementInvalid, match=message):
        room.say(study, **fields)
    assert count(room) == 0


def test_a_withheld_finding_can_be_added_and_ruled_out(room: Room) -> None:
    study = room.receive(1, {"Mass": None})
    room.say(study, "rule_out", label="Mass")
    said = room.reading(study).findings[f"{study}.1", "Mass"]
    assert (said.is_present, said.statement.model.flagged) == (False, None)


def test_a_picture_that_nothing_analysed_can_be_read_all_the_same(room: Room) -> None:
    study = room.receive(1, None)
    room.say(study, "add", label="Rib_Fracture")
    room.sign(study, rest=True)
    signed = room.reading(study).signed
    assert signed is not None
    assert signed.confirmed == ()
    assert room.study(study).read_by == "hanh"


def test_the_rest_is_absent_only_where_it_was_shown_unflagged_and_unspoken(room: Room) -> None:
    study = room.receive(1, {"Effusion": 0.8, "Mass": 0.1, "Nodule": 0.2, "Edema": None})
    room.say(study, "disagree", label="Nodule")
    room.sign(study, rest=True)
    signed = room.reading(study).signed
    assert signed is not None
    # Effusion is flagged: silence is no answer to that. Edema was withheld.
    assert [(one.label, one.model.probability) for one in signed.confirmed] == [("Mass", 0.1)]


def test_where_the_site_shows_a_flag_for_the_study_only_readers_speak_for_themselves(
    store: Store,
) -> None:
    room = Room(store)
    room.book = ReadingBook(store, shows_findings=False)
    study = room.receive(1, {"Effusion": 0.8, "Mass": 0.1})
    with pytest.raises(StatementInvalid, match="expected add or rule_out"):
        room.say(study, "agree", label="Effusion")
    room.say(study, "add", label="Effusion")
    room.sign(study, rest=True)
    signed = room.reading(study).signed
    assert signed is not None
    assert signed.confirmed == ()
    said = signed.findings[f"{study}.1", "Effusion"].statement
    assert (said.model.flagged, said.model.was_shown) == (True, False)


def test_a_study_that_is_not_known_is_not_read(room: Room) -> None:
    with pytest.raises(StudyUnknown):
        room.say("9.9", "note", note="x", seen_version=0)
    with pytest.raises(StudyUnknown):
        room.book.raise_by_hand("9.9", HANH, "1", Priority.URGENT, "x")


def test_the_next_study_is_the_most_pressing_that_nobody_has_signed(room: Room) -> None:
    routine = room.receive(1, {"Effusion": 0.1})
    urgent = room.receive(2, {"Effusion": 0.8})
    later = room.receive(3, {"Effusion": 0.8})
    assert room.book.next_unread("") == urgent
    assert room.book.next_unread(urgent) == later
    room.sign(urgent)
    assert room.book.next_unread(urgent) == later
    room.book.raise_by_hand(routine, HANH, "1", Priority.CRITICAL, "x")
    assert room.book.next_unread(urgent) == routine
    room.sign(later)
    room.sign(routine)
    assert room.book.next_unread(routine) is None


def test_a_priority_raised_by_hand_keeps_who_and_why_and_is_due_like_any_other(
    room: Room,
) -> None:
    study = room.receive(1, {"Effusion": 0.1})
    identity = str(uuid.uuid4())
    assert room.book.raise_by_hand(study, MINH, identity, Priority.CRITICAL, " khó thở nặng ")
    assert not room.book.raise_by_hand(study, MINH, identity, Priority.CRITICAL, "again")
    [raised] = room.book.read(study).raises
    assert (raised.priority_before, raised.priority) == (Priority.ROUTINE, Priority.CRITICAL)
    assert (raised.raised_by, raised.raised_by_name) == ("minh", "BS. Lê Minh")
    assert raised.reason == "khó thở nặng"
    row = room.study(study)
    assert row.priority is Priority.CRITICAL
    assert row.reading_order == Priority.CRITICAL.reading_order
    assert row.release_due_at is not None


def test_a_priority_is_not_raised_without_a_reason_nor_lowered_with_one(room: Room) -> None:
    study = room.receive(1, {"Effusion": 0.8})
    with pytest.raises(StatementInvalid, match="reason"):
        room.book.raise_by_hand(study, HANH, "1", Priority.CRITICAL, " \n")
    for priority in (Priority.URGENT, Priority.ROUTINE, Priority.NOT_ANALYSED):
        with pytest.raises(PriorityOnlyRises, match="URGENT; it can only be raised"):
            room.book.raise_by_hand(study, HANH, "1", priority, "looks better")
    assert room.book.read(study).raises == ()


_STEPS = st.lists(
    st.tuples(st.sampled_from(["model", "hand"]), st.sampled_from(list(Priority))), max_size=8
)


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(_STEPS)
def test_a_rank_never_falls_whoever_asks(room: Room, steps: list[tuple[str, Priority]]) -> None:
    study = f"1.{uuid.uuid4().int % 10**20}"
    room.receive(0, None, study=study)
    highest = 0
    for number, (who, priority) in enumerate(steps):
        if who == "model":
            sop = f"{study}.{number + 2}"
            room.receive(0, None, study=study, sop=sop)
            with room.store.reading() as session:
                row = session.scalars(
                    select(Instance).where(Instance.sop_instance_uid == sop)
                ).one()
            record = record_of({}).model_copy(update={"priority": priority})
            assert room.store.record_result(row.id, record)
        elif RANK[priority] > highest:
            assert room.book.raise_by_hand(study, HANH, str(uuid.uuid4()), priority, "x")
        else:
            with pytest.raises(PriorityOnlyRises):
                room.book.raise_by_hand(study, HANH, str(uuid.uuid4()), priority, "x")
        highest = max(highest, RANK[priority])
        found = room.study(study)
        assert found.priority_rank == highest
        assert found.reading_order == found.priority.reading_order
