"""Figures from made-up answers: nothing is judged here, so every value can be said beforehand."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from vigil.bundle import BundleManifest, UncertainBand, load_bundle
from vigil_training.calibrate import sigmoid
from vigil_training.curves import roc_curve
from vigil_training.evaluate import Judged, measure
from vigil_training.figures import Evaluation
from vigil_training.manifest import ManifestRow
from vigil_training.merits import Answer
from vigil_training.plots import draw


@pytest.fixture(scope="module")
def manifest(stand_in_bundle: Path) -> BundleManifest:
    """A bundle that was trained on `one`; its effusion is uncertain from 0.3 to 0.6."""
    plain = load_bundle(stand_in_bundle).manifest
    band = UncertainBand(low=0.3, high=0.6, target_coverage=0.9)
    effusion = plain.findings[0].model_copy(update={"uncertain": band})
    training = {"sources": "one, third", "split_seed": 0, "validation_fraction": 0.2}
    findings = (effusion, *plain.findings[1:])
    return plain.model_copy(update={"findings": findings, "training": training})


def _answer(number: int, ill: bool, probability: float, source: str = "one", **row) -> Answer:
    plain = ManifestRow(
        number=number, path=Path(f"{number}.png"), source=source, patient_id=f"p{number}",
        image_id=str(number), view="PA", age_years=30 + number % 40, sex="FM"[number % 2],
        labels=frozenset({"Effusion"} if ill else ()), label_scope=frozenset({"Effusion"}),
    )  # fmt: skip
    return Answer(
        row=dataclasses.replace(plain, **row), code=None, corrected=False,
        priority="URGENT" if probability >= 0.5 else "ROUTINE",
        probabilities={"Effusion": probability, "Cardiomegaly": 0.1},
        keys={"Effusion": "Effusion", "Cardiomegaly": "Cardiomegaly"},
        flagged=frozenset({"Effusion"} if probability >= 0.5 else ()), outlines={},
    )  # fmt: skip


def _calibrated(n: int, lift: float = 0.0, source: str = "one", first: int = 0) -> list[Answer]:
    """Films whose disease comes as often as promised, before all promises are lifted."""
    random = np.random.default_rng(0)
    logits = random.normal(-0.5, 2, n)
    ill = random.random(n) < sigmoid(logits)
    said = sigmoid(logits + lift)
    return [
        _answer(first + i, bool(ill[i]), float(said[i]), source, patient_id=f"p{first + i}")
        for i in range(n)
    ]


def _measured(manifest: BundleManifest, answers: list[Answer], split: str = "val") -> Evaluation:
    rows = tuple(answer.row for answer in answers)
    judged = Judged(manifest, rows, tuple(answers), split, "manifest.csv", 1.0)
    return measure(judged, samples=100)


def test_a_calibration_that_other_patients_fit_is_judged_beside_the_shipped_one(
    manifest: BundleManifest,
) -> None:
    (lifted,) = _measured(manifest, _calibrated(600, lift=1.5)).results
    assert lifted.reliability is not None
    assert lifted.cross_fitted is not None
    assert lifted.reliability.calibration_error > lifted.reliability.by_chance_high
    assert lifted.reliability.intercept == pytest.approx(-1.5, abs=0.3)
    assert lifted.cross_fitted.calibration_error < lifted.reliability.calibration_error / 2
    assert lifted.cross_fitted.intercept == pytest.approx(0, abs=0.2)
    # Outside the validation split these patients fitted nothing, and nothing is fitted again.
    (plain,) = _measured(manifest, _calibrated(600, lift=1.5), split="all").results
    assert plain.cross_fitted is None


def test_patients_of_a_source_that_was_not_trained_on_are_judged_as_the_bundle_ships(
    manifest: BundleManifest,
) -> None:
    found = _measured(manifest, _calibrated(200) + _calibrated(200, 1.5, "foreign", 500))
    one, foreign = sorted(found.results, key=lambda row: row.source != "one")
    assert one.cross_fitted is not None
    assert foreign.cross_fitted is None
    assert foreign.certainty is not None
    assert not foreign.certainty.cross_conformal
    by_name = {source.source: source for source in found.sources}
    assert by_name["one"].trained_on
    assert by_name["foreign"].trained_on is False
    assert by_name["foreign"].flagged == foreign.flagged


def test_the_bands_promise_is_measured_on_patients_who_chose_no_end(
    manifest: BundleManifest,
) -> None:
    (figures,) = _measured(manifest, _calibrated(600)).results
    assert figures.certainty is not None
    assert figures.certainty.cross_conformal
    assert figures.certainty.present_held == pytest.approx(0.9, abs=0.04)
    assert figures.certainty.absent_held == pytest.approx(0.9, abs=0.04)
    shipped = _measured(manifest, _calibrated(600), split="all").results[0].certainty
    answers = _calibrated(600)
    ill = np.asarray([bool(a.row.labels) for a in answers])
    said = np.asarray([a.probabilities["Effusion"] for a in answers])
    assert shipped is not None
    assert shipped.present_held == pytest.approx((said[ill] >= 0.3).mean())
    assert shipped.absent_held == pytest.approx((said[~ill] <= 0.6).mean())
    assert shipped.uncertain == pytest.approx(((said >= 0.3) & (said <= 0.6)).mean())


def test_the_finding_that_judged_most_films_of_a_source_stands_first(
    manifest: BundleManifest,
) -> None:
    child = manifest.findings[0].model_copy(update={"key": "Effusion:child"})
    both = manifest.model_copy(update={"findings": (*manifest.findings, child)})
    answers = [_answer(number, number % 2 == 0, 0.5) for number in range(12)]
    young = [one._replace(keys={**one.keys, "Effusion": "Effusion:child"}) for one in answers[:8]]
    judged = Judged(both, (), (*young, *answers[8:]), "all", "films.csv", 0.0)
    (row,) = [row for row in measure(judged, 0).results if row.label == "Effusion"]
    assert row.keys == ("Effusion:child", "Effusion")


def test_a_part_of_the_patients_is_shown_only_with_enough_of_both_classes(
    manifest: BundleManifest,
) -> None:
    found = _measured(manifest, _calibrated(120))
    parts = {(part.group, part.part): part for part in found.parts}
    women = [a for a in _calibrated(120) if a.row.sex == "F"]
    assert parts["sex", "F"].n == len(women)
    assert parts["sex", "F"].positives == sum(bool(a.row.labels) for a in women)
    assert ("age", "60 and over") not in parts
    for part in found.parts:
        assert part.positive_patients >= 20
        assert part.patients - part.positive_patients >= 20
    # Many films of few patients are few patients.
    few = [a._replace(row=dataclasses.replace(a.row, patient_id=f"p{i % 15}"))
           for i, a in enumerate(_calibrated(120))]  # fmt: skip
    assert _measured(manifest, few).parts == ()


def test_flags_where_nobody_looked_for_a_label_are_counted(manifest: BundleManifest) -> None:
    scope = frozenset({"Cardiomegaly"})
    strangers = [
        _answer(900 + i, False, 0.7 if i < 9 else 0.4 if i < 15 else 0.1, "third",
                label_scope=scope)
        for i in range(30)
    ]  # fmt: skip
    found = _measured(manifest, _calibrated(60) + strangers)
    by_key = {(row.label, row.source): row for row in found.background}
    assert set(by_key) == {("Effusion", "third"), ("Cardiomegaly", "one")}
    effusion = by_key["Effusion", "third"]
    assert (effusion.films, effusion.patients) == (30, 30)
    assert effusion.flagged == pytest.approx(0.3)
    assert effusion.uncertain == pytest.approx(0.2)
    low, high = effusion.flagged_interval
    assert low < 0.3 < high


def test_a_label_of_which_a_source_holds_no_negative_is_not_fitted_again(
    manifest: BundleManifest,
) -> None:
    ill_only = [_answer(900 + i, True, 0.2, "third") for i in range(25)]
    found = _measured(manifest, _calibrated(200) + ill_only)
    third = next(row for row in found.results if row.source == "third")
    assert third.cross_fitted is None
    one = next(row for row in found.results if row.source == "one")
    alone = _measured(manifest, _calibrated(200)).results[0]
    assert one.cross_fitted == alone.cross_fitted


def test_a_roc_curve_has_a_point_for_each_distinct_score() -> None:
    truth = np.asarray([True, False, True, False])
    alarms, hits = roc_curve(truth, np.asarray([0.9, 0.5, 0.5, 0.1]))
    assert alarms.tolist() == [0, 0, 0.5, 1]
    assert hits.tolist() == [0, 0.5, 1, 1]


def test_a_picture_is_drawn_for_each_label_with_both_classes(
    manifest: BundleManifest, tmp_path: Path
) -> None:
    answers = _calibrated(60)
    rows = tuple(answer.row for answer in answers)
    judged = Judged(manifest, rows, tuple(answers), "val", "manifest.csv", 1.0)
    (file,) = draw(judged, measure(judged, samples=20), tmp_path / "plots")
    assert file.name == "Effusion.png"
    assert file.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
