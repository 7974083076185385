import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vigil_training.calibrate import (
    Goals,
    Operation,
    Validation,
    alarm_threshold,
    attribute_point,
    background_logits,
    flag_threshold,
    operate,
    operating_point,
    platt,
    probabilities,
    sigmoid,
    specific_threshold,
)


def _drawn(slope: float, intercept: float, n: int = 40_000) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    logits = random.normal(-1, 2, n)
    return logits, random.random(n) < sigmoid(slope * logits + intercept)


@pytest.mark.parametrize(("slope", "intercept"), [(1, 0), (0.4, -1.5), (2.5, 1)])
def test_platt_recovers_the_parameters_that_made_the_labels(slope: float, intercept: float) -> None:
    found = platt(*_drawn(slope, intercept))
    assert found.slope == pytest.approx(slope, rel=0.06)
    assert found.intercept == pytest.approx(intercept, abs=0.06)


def test_calibrated_probabilities_have_the_frequency_of_the_disease() -> None:
    logits, truth = _drawn(0.5, -1)
    assert probabilities(logits, platt(logits, truth)).mean() == pytest.approx(
        truth.mean(), abs=1e-3
    )


def test_perfect_separation_stays_finite_and_worse_than_chance_keeps_the_order() -> None:
    truth = np.arange(20) >= 10
    perfect = platt(np.where(truth, 5.0, -5.0), truth)
    assert 0 < perfect.slope < 10
    wrong = platt(np.where(truth, -1.0, 1.0) + np.linspace(0, 0.1, 20), truth)
    assert wrong.slope == pytest.approx(0.05)
    assert platt(np.zeros(3), np.ones(3, bool)).method == "none"


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0.01, 0.99), st.booleans()), min_size=2, max_size=60),
    st.sampled_from([0.5, 0.8, 0.9, 1.0]),
)
def test_a_flag_reaches_its_sensitivity_at_the_least_cost(
    rows: list[tuple[float, bool]], target: float
) -> None:
    probability = np.asarray([p for p, _ in rows])
    truth = np.asarray([t for _, t in rows])
    if not truth.any():
        assert flag_threshold(probability, truth, target) == 0.5
        return
    point = operating_point(probability, truth, flag_threshold(probability, truth, target))
    assert point.sensitivity is not None
    assert point.sensitivity >= target - 1e-9
    higher = probability[probability > probability[probability >= point.threshold].min()]
    for threshold in higher:
        assert (probability[truth] >= threshold).mean() < target


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.floats(0.01, 0.99), st.booleans()), min_size=2, max_size=60))
def test_a_specific_threshold_reaches_its_specificity(rows: list[tuple[float, bool]]) -> None:
    probability = np.asarray([p for p, _ in rows])
    truth = np.asarray([t for _, t in rows])
    point = operating_point(probability, truth, specific_threshold(probability, truth, 0.95))
    assert point.specificity is None or point.specificity >= 0.95 - 1e-9
    assert 0 <= point.threshold <= 1


def _validation(shift: float, positives: int, patients_each: int = 1) -> Validation:
    random = np.random.default_rng(1)
    truth = np.arange(400) < positives
    logits = random.normal(truth * shift, 1)
    patients = np.asarray([f"p{i // patients_each}" for i in range(400)])
    return Validation(logits, truth, patients, np.full(400, "nih"))


def test_a_finding_is_experimental_by_the_written_rule_only() -> None:
    goals = Goals(target_sensitivity=0.9)
    good = operate(_validation(2.5, 60), goals, samples=200)
    assert not good.experimental
    assert good.interval is not None
    assert good.interval.low > 0.7
    assert operate(_validation(2.5, 19), goals, samples=200).experimental
    assert operate(_validation(2.5, 60, patients_each=4), goals, samples=200).experimental
    assert operate(_validation(0.5, 60), goals, samples=200).experimental


def test_a_finding_that_is_seen_reaches_its_goals() -> None:
    goals = Goals(target_sensitivity=0.9, least_specificity=0.7, critical_specificity=0.95)
    good = operate(_validation(2.5, 60), goals, samples=200)
    assert good.flag.sensitivity is not None
    assert good.flag.sensitivity >= 0.9
    assert good.critical is not None
    assert good.critical.specificity is not None
    assert good.critical.specificity >= 0.95
    assert good.critical.threshold >= good.flag.threshold


def test_a_flag_does_not_buy_sensitivity_below_the_least_specificity() -> None:
    validation = _validation(1.5, 60)
    greedy = operate(validation, Goals(0.99, least_specificity=0.0), samples=200)
    bounded = operate(validation, Goals(0.99, least_specificity=0.75), samples=200)
    assert not greedy.experimental
    assert greedy.flag.specificity is not None
    assert greedy.flag.specificity < 0.7
    assert bounded.flag.specificity is not None
    assert bounded.flag.specificity >= 0.75


def test_an_experimental_finding_is_flagged_rarely_and_never_critical() -> None:
    weak = operate(_validation(0.3, 60), Goals(0.9, critical_specificity=0.95), samples=200)
    assert weak.experimental
    assert weak.critical is None
    assert weak.flag.specificity is not None
    assert weak.flag.specificity >= 0.95


def test_a_flag_is_bounded_on_films_where_nobody_looked_for_it() -> None:
    validation, goals = _validation(2.5, 60), Goals(0.9, greatest_background_share=0.25)
    free = operate(validation, goals, samples=200)
    assert (free.background_share, free.background) == (None, 0)
    # Another hospital's films, half of them over the threshold that the sensitivity asks for.
    other = np.random.default_rng(2).normal(_logit(free), 1, 300)
    bounded = operate(validation, goals, samples=200, background=other)
    assert bounded.flag.threshold > free.flag.threshold
    assert bounded.background == 300
    assert bounded.background_share is not None
    assert 0.2 < bounded.background_share <= 0.25
    assert bounded.flag.sensitivity is not None
    assert free.flag.sensitivity is not None
    assert bounded.flag.sensitivity < free.flag.sensitivity
    # Sensitivity first: films that are flagged seldom change nothing, and a few bound nothing.
    assert operate(validation, goals, 200, other - 9).flag == free.flag
    few = operate(validation, goals, 200, other[:19] + 9)
    assert few.flag == free.flag
    assert few.background_share == 1


def _logit(operation: Operation) -> float:
    threshold, fit = operation.flag.threshold, operation.calibration
    return (np.log(threshold / (1 - threshold)) - fit.intercept) / fit.slope


def test_background_is_adults_of_sources_that_do_not_know_the_finding() -> None:
    sources = np.asarray(["nih", "nih", "tb", "tb", "tb"])
    known = np.asarray([False, False, True, False, False])
    adult = np.asarray([True, False, True, True, True])
    assert background_logits(np.arange(5.0), known, adult, sources).tolist() == [0]


def test_only_a_confirmed_finding_says_where_it_is_uncertain() -> None:
    confirmed = operate(_validation(2.5, 60), Goals(0.9), samples=200)
    assert confirmed.uncertain is not None
    assert 0 < confirmed.uncertain.low < confirmed.uncertain.high < 1
    assert confirmed.uncertain.coverage_present == pytest.approx(0.9, abs=0.1)
    assert operate(_validation(0.5, 60), Goals(0.9), samples=200).uncertain is None


def test_a_finding_without_a_positive_still_has_an_honest_operation() -> None:
    nothing = operate(_validation(0, 0), Goals(0.9, critical_specificity=0.95), samples=20)
    assert nothing.experimental
    assert nothing.auroc is None
    assert nothing.flag.sensitivity is None
    assert nothing.calibration.method == "none"


def test_an_attribute_raises_no_more_false_alarms_than_allowed() -> None:
    random = np.random.default_rng(0)
    quiet, loud = random.normal(-2, 1, 1000), random.normal(2, 1, 300)
    point = attribute_point("inverted", quiet, loud, 0.005)
    assert point.false_alarms <= 0.005
    assert point.caught == pytest.approx(
        (loud >= np.log(point.threshold / (1 - point.threshold))).mean()
    )
    assert (point.without, point.with_attribute) == (1000, 300)


def test_a_gap_between_the_groups_is_cut_in_its_middle() -> None:
    assert alarm_threshold(np.full(50, -6.0), np.full(50, 8.0), 0.01) == 1.0


def test_good_films_are_not_refused_and_other_pictures_are() -> None:
    random = np.random.default_rng(0)
    films, others = random.normal(6, 1, 1000), random.normal(-6, 1, 300)
    point = attribute_point("frontal_chest", films, others, 0.005)
    assert point.false_alarms <= 0.005
    assert point.caught == 1
    assert 0.1 < point.threshold < 0.9
