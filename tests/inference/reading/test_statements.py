"""Folding: pure, so that every history that can be said is tried."""

import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vigil_inference.reading.statements import (
    Act,
    ModelSaid,
    Region,
    Standing,
    Statement,
    fold,
    is_there,
)

START = datetime(2026, 11, 25, 8, tzinfo=UTC)
FLAGGED = ModelSaid("Effusion", "b", "d" * 64, 0.8, 0.5, flagged=True)
UNFLAGGED = replace(FLAGGED, probability=0.2, flagged=False)


def history(*parts: dict[str, object]) -> list[Statement]:
    said = []
    for number, part in enumerate(parts, 1):
        said.append(
            Statement(
                statement_id=str(uuid.UUID(int=number)),
                version=number,
                said_at=START + timedelta(seconds=number),
                **part,  # type: ignore[arg-type]
            )
        )
    return said


def on(act: Act, label: str = "Effusion", **more: object) -> dict[str, object]:
    return {"act": act, "sop_instance_uid": "1", "label": label} | more


def undo(number: int) -> dict[str, object]:
    return {"act": Act.UNDO, "undoes": str(uuid.UUID(int=number))}


SIGN: dict[str, object] = {"act": Act.SIGN_OFF}


@pytest.mark.parametrize(
    ("act", "model", "there"),
    [
        (Act.AGREE, FLAGGED, True),
        (Act.AGREE, UNFLAGGED, False),
        (Act.DISAGREE, FLAGGED, False),
        (Act.DISAGREE, UNFLAGGED, True),
        (Act.ADD, ModelSaid(), True),
        (Act.RULE_OUT, ModelSaid(), False),
        (Act.CORRECT, FLAGGED, False),
    ],
)
def test_whether_a_finding_is_there_follows_from_what_the_model_said(
    act: Act, model: ModelSaid, there: bool
) -> None:
    assert is_there(act, model) is there


def test_the_last_word_on_a_finding_counts_and_the_first_is_kept() -> None:
    said = history(on(Act.AGREE, model=FLAGGED), on(Act.DISAGREE, model=FLAGGED))
    reading = fold(said)
    assert reading.version == 2
    assert not reading.findings["1", "Effusion"].is_present
    assert said[0].act is Act.AGREE


def test_undo_goes_back_one_by_one_to_nothing() -> None:
    parts = [on(Act.AGREE, model=FLAGGED), {"act": Act.NOTE, "note": "x"}]
    assert fold(history(*parts)).note == "x"
    once = fold(history(*parts, undo(2)))
    assert once.note == ""
    assert once.findings["1", "Effusion"].is_present
    assert once.to_undo is not None
    assert once.to_undo.version == 1
    twice = fold(history(*parts, undo(2), undo(1)))
    assert twice.standing is Standing.EMPTY
    assert twice.to_undo is None
    assert twice.version == 4


def test_a_correction_puts_one_finding_in_anothers_place_and_undo_takes_both_back() -> None:
    box = (Region(0.1, 0.2, 0.3, 0.4),)
    correction = on(
        Act.CORRECT, model=FLAGGED, instead="Mass", instead_model=UNFLAGGED, regions=box
    )
    reading = fold(history(correction))
    assert not reading.findings["1", "Effusion"].is_present
    assert reading.findings["1", "Effusion"].regions == ()
    assert reading.findings["1", "Mass"].is_present
    assert reading.findings["1", "Mass"].regions == box
    assert reading.findings["1", "Mass"].model is UNFLAGGED
    assert fold(history(correction, undo(1))).findings == {}


def test_a_withdrawn_finding_is_unknown_again() -> None:
    reading = fold(history(on(Act.AGREE, model=FLAGGED), on(Act.WITHDRAW)))
    assert reading.findings == {}
    assert reading.standing is Standing.DRAFT


def test_signing_freezes_and_an_amendment_counts_only_when_it_is_signed() -> None:
    parts = [on(Act.AGREE, model=FLAGGED), SIGN]
    assert fold(history(*parts)).standing is Standing.SIGNED
    amending = fold(history(*parts, on(Act.DISAGREE, model=FLAGGED)))
    assert amending.standing is Standing.AMENDING
    assert amending.signed is not None
    assert amending.signed.findings["1", "Effusion"].is_present
    assert not amending.findings["1", "Effusion"].is_present
    amended = fold(history(*parts, on(Act.DISAGREE, model=FLAGGED), SIGN))
    assert amended.signed is not None
    assert amended.signed.number == 2
    assert not amended.signed.findings["1", "Effusion"].is_present
    assert amended.editions[0].findings["1", "Effusion"].is_present


def test_a_sign_off_that_is_undone_leaves_what_was_signed_before() -> None:
    parts = [SIGN, {"act": Act.NOTE, "note": "later"}, SIGN]
    reading = fold(history(*parts, undo(3)))
    assert reading.standing is Standing.AMENDING
    assert [one.number for one in reading.editions] == [1]
    assert reading.note == "later"
    assert reading.signed is not None
    assert reading.signed.note == ""


_ACTS = st.sampled_from(["agree", "disagree", "withdraw", "note", "sign", "undo"])


@given(st.lists(st.tuples(_ACTS, st.sampled_from(["Effusion", "Mass"])), max_size=30))
def test_an_undo_right_after_a_statement_leaves_what_stood_before(
    acts: list[tuple[str, str]],
) -> None:
    said: list[Statement] = []

    def add(**fields: object) -> None:
        number = len(said) + 1
        identity = str(uuid.UUID(int=number))
        said.append(Statement(identity, number, said_at=START, **fields))  # type: ignore[arg-type]

    for name, label in acts:
        before = fold(said)
        if name == "undo":
            if before.to_undo is None:
                continue
            add(act=Act.UNDO, undoes=before.to_undo.statement_id)
            assert fold(said).version == before.version + 1
            continue
        if name == "sign":
            add(act=Act.SIGN_OFF)
        elif name == "note":
            add(act=Act.NOTE, note=label)
        else:
            add(act=Act(name), sop_instance_uid="1", label=label, model=FLAGGED)
        after = fold(said)
        undone = replace(
            said[-1], act=Act.UNDO, version=len(said) + 1, statement_id="u",
            undoes=said[-1].statement_id,
        )  # fmt: skip
        back = fold([*said, undone])
        assert (back.findings, back.note, back.standing, len(back.editions)) == (
            before.findings, before.note, before.standing, len(before.editions)
        )  # fmt: skip
        assert after.version == before.version + 1
