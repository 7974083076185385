import pytest
from sklearn.metrics import cohen_kappa_score

from tests.inference.reading.conftest import HANH, MINH, Room
from vigil_inference.reading.statistics import (
    Figure,
    Judged,
    Table,
    agreement,
    kappa,
    read_statistics,
    wilson,
)


def judged(a: int, b: int, c: int, d: int) -> list[Judged]:
    """Return pictures of as many patients in the four cells of a table."""
    answers = [(True, True)] * a + [(True, False)] * b + [(False, True)] * c + [(False, False)] * d
    return [Judged(str(n), first, second) for n, (first, second) in enumerate(answers)]


def near(figure: Figure | None, value: float, low: float, high: float) -> bool:
    assert figure is not None
    return (figure.value, figure.low, figure.high) == pytest.approx((value, low, high), abs=5e-4)


def test_kappa_and_its_interval_are_those_of_a_table_computed_by_hand() -> None:
    # p = .4 .1 / .2 .3: observed .7, by chance .5; variance (.10972 + .10188 - .01) / (50 · .25).
    table = Table(both_positive=20, first_only=5, second_only=10, both_negative=15)
    assert near(kappa(table, 50), 0.4, 0.4 - 1.96 * 0.126996, 0.4 + 1.96 * 0.126996)
    first = [1] * 25 + [0] * 25
    second = [1] * 20 + [0] * 5 + [1] * 10 + [0] * 15
    assert near(kappa(table, 50), cohen_kappa_score(first, second), 0.1511, 0.6489)


def test_kappa_of_judges_who_never_differ_from_chance_or_say_one_thing_only() -> None:
    independent = Table(both_positive=9, first_only=21, second_only=21, both_negative=49)
    found = kappa(independent, 100)
    assert found is not None
    assert found.value == pytest.approx(0)
    assert kappa(Table(both_positive=0, first_only=0, second_only=0, both_negative=9), 9) is None
    assert kappa(Table(both_positive=0, first_only=0, second_only=0, both_negative=0), 0) is None


def test_wilsons_interval_is_the_published_one() -> None:
    # Newcombe (1998), table I: 81/263, 15/148, 0/20, 1/29, score method without continuity.
    for hits, n, low, high in (
        (81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ):  # fmt: skip
        assert near(wilson(hits / n, n), hits / n, low, high)


def test_positive_and_negative_agreement_leave_out_what_both_call_the_other() -> None:
    found = agreement(judged(20, 5, 10, 15))
    assert found.overall is not None
    assert found.overall.value == 0.7
    # 2 · 20 / (2 · 20 + 15) and 2 · 15 / (2 · 15 + 15); the intervals are 2p / (1 + p) of
    # Wilson's of 20/35 and 15/30: .4086 to .7202, and .3315 to .6685.
    assert near(found.positive, 40 / 55, 0.5801, 0.8373)
    assert near(found.negative, 30 / 45, 0.4979, 0.8013)


def test_films_of_one_patient_do_not_narrow_an_interval() -> None:
    once = agreement([Judged("a", True, True), Judged("b", True, False)])
    often = agreement([Judged("a", True, True)] * 10 + [Judged("b", True, False)] * 10)
    assert (often.pictures, often.patients) == (20, 2)
    assert once.overall == often.overall


def test_sensitivity_and_specificity_are_counted_against_signed_readings(room: Room) -> None:
    # flag and truth: 2 right, 1 false alarm, 1 miss, 3 rightly silent; one study is not signed.
    for number, (probability, act) in enumerate(
        [(0.8, "agree"), (0.9, "agree"), (0.7, "disagree"), (0.2, "disagree"), (0.1, "agree"),
         (0.1, "agree")]
    ):  # fmt: skip
        study = room.receive(number, {"Effusion": probability})
        room.say(study, act, label="Effusion")
        room.sign(study)
    study = room.receive(7, {"Effusion": 0.3})
    room.sign(study, rest=True)
    room.say(room.receive(8, {"Effusion": 0.9}), "disagree", label="Effusion")
    found = read_statistics(room.store)
    assert (found.studies, found.signed_studies, found.readers) == (8, 7, 1)
    [row] = found.findings
    assert (row.label, row.bundle_digest) == ("Effusion", "d" * 64)
    table = row.table
    assert (table.both_positive, table.first_only) == (2, 1)
    assert (table.second_only, table.both_negative) == (1, 3)
    assert (row.pictures, row.explicit, row.shown) == (7, 6, 7)
    # Wilson's of 2/3 and 3/4.
    assert near(row.sensitivity, 2 / 3, 0.2077, 0.9385)
    assert near(row.specificity, 3 / 4, 0.3006, 0.9544)
    assert near(row.positive_predictive_value, 2 / 3, 0.2077, 0.9385)
    assert near(row.negative_predictive_value, 3 / 4, 0.3006, 0.9544)
    codes = [caveat.code for caveat in found.caveats]
    assert codes == ["SAW_THE_MODEL", "ONLY_SIGNED", "UNSPOKEN_IS_UNKNOWN", "FEW"]
    assert "7 of 8 studies" in found.caveats[1].sentence


def test_bundles_are_not_mixed_and_what_the_model_did_not_say_is_not_counted(room: Room) -> None:
    for number, digest in enumerate(["a" * 64, "b" * 64]):
        study = room.receive(number, {"Effusion": 0.8, "Mass": None}, digest=digest)
        room.say(study, "agree", label="Effusion")
        room.say(study, "rule_out", label="Mass")
        room.say(study, "add", label="Scoliosis")
        room.sign(study)
    found = read_statistics(room.store).findings
    assert [(row.label, row.bundle_digest[0], row.pictures) for row in found] == [
        ("Effusion", "a", 1), ("Effusion", "b", 1)
    ]  # fmt: skip


def test_a_correction_counts_for_both_findings(room: Room) -> None:
    study = room.receive(1, {"Effusion": 0.8, "Mass": 0.1})
    room.say(study, "correct", label="Effusion", instead="Mass")
    room.sign(study)
    effusion, mass = read_statistics(room.store).findings
    assert (effusion.label, effusion.table.first_only) == ("Effusion", 1)
    assert (mass.label, mass.table.second_only) == ("Mass", 1)


def test_the_newest_signed_edition_counts_and_an_open_amendment_does_not(room: Room) -> None:
    study = room.receive(1, {"Effusion": 0.8})
    room.say(study, "agree", label="Effusion")
    room.sign(study)
    room.say(study, "disagree", label="Effusion", amendment=True)
    assert read_statistics(room.store).findings[0].table.both_positive == 1
    room.sign(study)
    assert read_statistics(room.store).findings[0].table.first_only == 1


def test_two_readers_of_one_study_are_compared_and_the_first_is_set_against_the_model(
    room: Room,
) -> None:
    for number, (one, other) in enumerate([("agree", "agree"), ("agree", "disagree")]):
        study = room.receive(number, {"Effusion": 0.8})
        for reader, act in ((HANH, one), (MINH, other)):
            room.say(study, act, reader, label="Effusion")
            room.sign(study, reader)
    found = read_statistics(room.store)
    assert (found.readers, found.twice_signed_studies) == (2, 2)
    assert found.findings[0].table.both_positive == 2
    [between] = found.between_readers
    assert (between.label, between.table.both_positive, between.table.first_only) == (
        "Effusion", 1, 1
    )  # fmt: skip
    assert "SECOND_READER_NOT_BLIND" in [caveat.code for caveat in found.caveats]


def test_readers_are_compared_by_what_they_signed_before_they_saw_each_other(room: Room) -> None:
    study = room.receive(1, {"Effusion": 0.8})
    for reader, act in ((HANH, "agree"), (MINH, "disagree")):
        room.say(study, act, reader, label="Effusion")
        room.sign(study, reader)
    room.say(study, "agree", MINH, label="Effusion", amendment=True)
    room.sign(study, MINH)
    [between] = read_statistics(room.store).between_readers
    assert (between.table.both_positive, between.table.first_only) == (0, 1)


def test_without_a_reading_there_are_no_figures(room: Room) -> None:
    found = read_statistics(room.store)
    assert (found.findings, found.between_readers, found.signed_studies) == ((), (), 0)
