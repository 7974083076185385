from hypothesis import given
from hypothesis import strategies as st

from vigil.bundle import Calibration, FindingSpec, OperatingPoint
from vigil.triage import Priority, assign_priority, highest

NONE = Calibration(method="none")
PNEUMOTHORAX = FindingSpec(
    key="Pneumothorax",
    label="Pneumothorax",
    calibration=NONE,
    flag=OperatingPoint(threshold=0.3),
    critical=OperatingPoint(threshold=0.8),
)
NODULE = FindingSpec(
    key="Nodule", label="Nodule", calibration=NONE, flag=OperatingPoint(threshold=0.4)
)
FIBROSIS = FindingSpec(
    key="Fibrosis",
    label="Fibrosis",
    calibration=NONE,
    flag=OperatingPoint(threshold=0.2),
    priority=Priority.ROUTINE,
)
FINDINGS = (PNEUMOTHORAX, NODULE, FIBROSIS)
PROBABILITIES = st.fixed_dictionaries({f.key: st.floats(0, 1) for f in FINDINGS})
RANK = {Priority.NOT_ANALYSED: 0, Priority.ROUTINE: 1, Priority.URGENT: 2, Priority.CRITICAL: 3}


def test_a_probability_at_its_threshold_is_flagged() -> None:
    decision = assign_priority({"Pneumothorax": 0.3, "Nodule": 0.39, "Fibrosis": 0.0}, FINDINGS)
    assert decision.priority is Priority.URGENT
    assert [flag.label for flag in decision.flags] == ["Pneumothorax"]
    assert decision.flags[0].threshold == 0.3


def test_a_critical_threshold_makes_the_picture_critical_and_comes_first() -> None:
    decision = assign_priority({"Pneumothorax": 0.81, "Nodule": 0.99}, FINDINGS)
    assert decision.priority is Priority.CRITICAL
    assert [flag.label for flag in decision.flags] == ["Pneumothorax", "Nodule"]
    assert "Pneumothorax 0.81 (threshold 0.80)" in decision.reason


def test_a_finding_that_is_only_noted_leaves_the_picture_routine() -> None:
    decision = assign_priority({"Fibrosis": 0.9}, FINDINGS)
    assert decision.priority is Priority.ROUTINE
    assert [flag.label for flag in decision.flags] == ["Fibrosis"]


def test_a_withheld_finding_decides_nothing() -> None:
    assert assign_priority({}, FINDINGS).priority is Priority.ROUTINE


@given(PROBABILITIES, PROBABILITIES)
def test_a_higher_probability_never_lowers_a_priority(
    one: dict[str, float], two: dict[str, float]
) -> None:
    higher = {key: max(one[key], two[key]) for key in one}
    before = assign_priority(one, FINDINGS)
    after = assign_priority(higher, FINDINGS)
    assert RANK[after.priority] >= RANK[before.priority]
    assert {f.key for f in before.flags} <= {f.key for f in after.flags}


@given(st.lists(st.sampled_from(list(Priority))), st.sampled_from(list(Priority)))
def test_another_picture_never_lowers_a_study(pictures: list[Priority], other: Priority) -> None:
    assert RANK[highest([*pictures, other])] >= RANK[highest(pictures)]


def test_what_was_not_analysed_waits_among_the_routine() -> None:
    assert Priority.NOT_ANALYSED.reading_order == Priority.ROUTINE.reading_order
    assert (
        Priority.CRITICAL.reading_order
        < Priority.URGENT.reading_order
        < Priority.ROUTINE.reading_order
    )
