import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import typer
from scipy import stats
from typer.testing import CliRunner

from vigil.bundle import BundleManifest, load_bundle
from vigil.errors import ConfigurationError, ManifestError
from vigil.site_calibration import at_site, load_site_calibration
from vigil_training.cli import register
from vigil_training.evaluate import Judged
from vigil_training.manifest import ManifestRow
from vigil_training.merits import Answer
from vigil_training.site.calibration import SiteGoals, calibrate_site
from vigil_training.site.cli import _USED
from vigil_training.site.compare import compare_bundles
from vigil_training.site.films import site_films
from vigil_training.site.sample_size import certainty_of, half_width, positives_needed
from vigil_training.site.thresholds import Workload, figures_at

MakeJudged = Callable[..., Judged]


def _row(number: int, sick: bool, **changes: object) -> ManifestRow:
    fields = {
        "number": number + 2, "path": Path(f"{number}.png"), "source": "site",
        "patient_id": f"p{number}", "image_id": str(number), "view": "PA",
        "age_years": 30.0 if number % 4 < 2 else 60.0, "sex": "F" if number % 8 < 4 else "M",
        "labels": frozenset({"Effusion"} if sick else ()), "label_scope": frozenset({"Effusion"}),
    }  # fmt: skip
    return ManifestRow(**(fields | changes))


@pytest.fixture
def judged(stand_in_bundle: Path) -> MakeJudged:
    """Answers whose logits are normal, with mean ``apart`` where the finding is."""
    manifest = load_bundle(stand_in_bundle).manifest

    def make(
        sick: int = 100, well: int = 300, apart: float = 2.5, shift: float = 0.0, seed: int = 0,
        manifest: BundleManifest = manifest, **changes: object,
    ) -> Judged:  # fmt: skip
        random = np.random.default_rng(seed)
        answers = []
        for number in range(sick + well):
            ill = number < sick
            logit = random.normal() + apart * ill + shift
            probability = float(1 / (1 + np.exp(-logit)))
            answers.append(
                Answer(
                    _row(number, ill, **changes), None, False, "ROUTINE",
                    {"Effusion": probability}, {"Effusion": "Effusion"}, frozenset(), {},
                )
            )  # fmt: skip
        rows = tuple(answer.row for answer in answers)
        return Judged(manifest, rows, tuple(answers), "all", "films.csv", 0.0)

    return make


def test_the_threshold_reaches_the_sensitivity_and_the_file_belongs_to_the_bundle(
    judged: MakeJudged, stand_in_bundle: Path
) -> None:
    made = calibrate_site("Phú Thọ", judged(shift=-3.0), SiteGoals(0.9, 0.7))
    (report,), (finding,) = made.report.findings, made.calibration.findings
    assert (report.films, report.positive_patients, report.negative_patients) == (400, 100, 300)
    assert finding.flag.sensitivity == pytest.approx(0.9)
    assert report.chosen.sensitivity == finding.flag.sensitivity
    assert report.chosen.specificity > 0.8
    # The bundle's own threshold, made elsewhere, finds far fewer of a site that scores lower.
    assert report.bundles_own.sensitivity < 0.35
    assert report.errors.crossed < report.errors.bundle / 2
    assert report.crossed_sensitivity == pytest.approx(0.9, abs=0.04)
    assert report.certainty.positives == 100
    placed = at_site(load_bundle(stand_in_bundle), made.calibration)
    assert placed.bundle.manifest.findings[0].flag == finding.flag
    # Normal scores 2.5 apart: the logit of the truth is 2.5 (x - 1.25) plus that of prevalence.
    assert finding.calibration.slope == pytest.approx(2.5, rel=0.2)


def test_the_sites_probability_is_that_of_its_prevalence(judged: MakeJudged) -> None:
    films = judged()
    (at_sample,) = calibrate_site("x", films, SiteGoals()).calibration.findings
    (at_site_,) = calibrate_site("x", films, SiteGoals(prevalence=0.02)).calibration.findings
    moved = at_sample.calibration.intercept - at_site_.calibration.intercept
    assert moved == pytest.approx(np.log(0.25 / 0.75) - np.log(0.02 / 0.98))
    assert at_site_.calibration.slope == at_sample.calibration.slope
    assert at_site_.flag.sensitivity == at_sample.flag.sensitivity
    assert at_site_.flag.specificity == at_sample.flag.specificity
    assert at_site_.flag.threshold < at_sample.flag.threshold


def test_yield_and_cost_are_plain_arithmetic() -> None:
    probability = np.asarray([0.9, 0.8, 0.2, 0.7, 0.1, 0.1, 0.1, 0.1])
    truth = np.asarray([True, True, True, False, False, False, False, False])
    patients = np.asarray([str(n) for n in range(8)])
    work = Workload(films_a_day=200, prevalence=0.03, film_cost=2, test_cost=10)
    row = figures_at(0.5, probability, truth, patients, work)
    assert (row.sensitivity, row.specificity) == (pytest.approx(2 / 3), pytest.approx(0.8))
    assert row.found_a_day == pytest.approx(200 * 0.03 * 2 / 3)
    assert row.missed_a_day == pytest.approx(200 * 0.03 / 3)
    assert row.flagged_a_day == pytest.approx(4 + 200 * 0.97 * 0.2)
    assert row.positive_predictive_value == pytest.approx(4 / 42.8)
    assert row.negative_predictive_value == pytest.approx(155.2 / 157.2)
    assert row.tests_per_found == pytest.approx(42.8 / 4)
    assert row.cost_a_day == pytest.approx(400 + 428)
    assert row.cost_per_found == pytest.approx(828 / 4)
    nothing = figures_at(0.95, probability, truth, patients, work)
    assert nothing.tests_per_found is None
    assert nothing.positive_predictive_value is None


def test_the_certainty_is_that_of_drawn_scores_whatever_their_distribution() -> None:
    random = np.random.default_rng(0)
    for draw, above in (
        (random.normal, stats.norm.sf),
        (random.exponential, stats.expon.sf),
    ):
        scores = np.sort(draw(size=(20_000, 50)), axis=1)
        lowest_found = scores[:, 5]  # 45 of 50 are at or above it
        held = (above(lowest_found) >= 0.85).mean()
        assert held == pytest.approx(certainty_of(50, 0.9, 0.85), abs=0.015)
    needed = positives_needed(0.9, 0.85)
    assert certainty_of(needed, 0.9, 0.85) >= 0.95 > certainty_of(needed - 1, 0.9, 0.85)
    assert all(certainty_of(n, 0.9, 0.85) >= 0.95 for n in range(needed, 3 * needed))
    assert half_width(0.9, 70) == pytest.approx(0.07, abs=0.005)
    with pytest.raises(ValueError, match="less than the target"):
        positives_needed(0.8, 0.8)


@pytest.mark.parametrize(
    ("sick", "well", "said"),
    [
        (10, 0, "no patients without it"),
        (0, 200, "no patients with it"),
        (4, 6, "4 patients with it and 6 patients without it"),
        (9, 200, "9 patients with it"),
    ],
)
def test_ten_films_or_one_class_are_refused_with_what_is_missing(
    judged: MakeJudged, sick: int, well: int, said: str
) -> None:
    for labels in ((), ("Effusion",)):
        with pytest.raises(ConfigurationError, match=said) as refused:
            calibrate_site("x", judged(sick, well), SiteGoals(), labels)
        assert "at least 10 patients with" in str(refused.value)
        assert f"{sick + well} films" in str(refused.value)


def test_few_films_and_a_weak_bundle_are_warned_of(judged: MakeJudged) -> None:
    made = calibrate_site("x", judged(12, 15, apart=0.3), SiteGoals(0.9, 0.7))
    warnings = " ".join(made.report.findings[0].warnings)
    assert "12 patients with it and 15 without are few" in warnings
    assert "70% was asked for" in warnings
    assert "95 % would take" in warnings
    assert "do not show that the bundle tells it" in warnings
    enough = calibrate_site("x", judged(600, 600, apart=4), SiteGoals(0.9, 0.7))
    assert enough.report.findings[0].warnings == ()


def test_a_subgroup_that_is_told_worse_is_named(judged: MakeJudged) -> None:
    films = judged(200, 200)
    answers = [
        answer._replace(probabilities={"Effusion": answer.probabilities["Effusion"] / 4})
        if answer.row.sex == "M" and answer.row.labels
        else answer
        for answer in films.answers
    ]
    changed = Judged(films.manifest, films.rows, tuple(answers), "all", "films.csv", 0.0)
    report = calibrate_site("x", changed, SiteGoals()).report.findings[0]
    parts = {(part.group, part.part): part for part in report.subgroups}
    assert parts["sex", "M"].differs
    assert parts["sex", "M"].sensitivity < parts["sex", "F"].sensitivity
    assert any("sex M differs" in warning for warning in report.warnings)
    assert set(parts) >= {("age", "15 to 39"), ("age", "60 and over"), ("view", "PA")}


def test_a_chosen_threshold_stands_and_a_wrong_one_is_named(judged: MakeJudged) -> None:
    goals = SiteGoals(thresholds={"Effusion": 0.75})
    made = calibrate_site("x", judged(), goals)
    assert made.calibration.findings[0].flag.threshold == 0.75
    assert made.calibration.findings[0].critical.threshold >= 0.75
    with pytest.raises(ConfigurationError, match="--threshold Mass: expected one of Effusion"):
        calibrate_site("x", judged(), SiteGoals(thresholds={"Mass": 0.5}))
    with pytest.raises(ConfigurationError, match=r"Effusion is 1\.5, expected a probability"):
        calibrate_site("x", judged(), SiteGoals(thresholds={"Effusion": 1.5}))


def test_scores_that_are_no_numbers_are_named_by_row(judged: MakeJudged) -> None:
    films = judged(20, 20)
    answers = list(films.answers)
    for place in (3, 7):
        answers[place] = answers[place]._replace(probabilities={"Effusion": float("nan")})
    broken = Judged(films.manifest, films.rows, tuple(answers), "all", "films.csv", 0.0)
    with pytest.raises(ManifestError, match="the probability of row 5, 9 is no number"):
        calibrate_site("x", broken, SiteGoals())


def test_refused_films_are_counted_and_logits_are_the_networks_own(judged: MakeJudged) -> None:
    films = judged(20, 20)
    refused = Answer(
        _row(99, True), "NOT_CHEST", False, "NOT_ANALYSED", {}, {}, frozenset(), {}
    )  # fmt: skip
    found = site_films(films.manifest, "Effusion", (*films.answers, refused))
    assert found.refused == {"NOT_CHEST": 1}
    assert found.truth.size == 40
    logits = np.log(found.probabilities / (1 - found.probabilities))
    assert found.logits == pytest.approx(logits, abs=1e-6)


def _at(manifest: BundleManifest, threshold: float, name: str) -> BundleManifest:
    findings = tuple(
        finding.model_copy(
            update={"flag": finding.flag.model_copy(update={"threshold": threshold})}
        )
        for finding in manifest.findings
    )
    return manifest.model_copy(update={"findings": findings, "id": name})


def _by_row(used: Sequence[object]) -> dict[tuple[str, str], object]:
    return {(row.bundle, row.threshold_of): row for row in used}


def test_a_new_version_at_the_old_threshold_is_another_test(
    judged: MakeJudged, stand_in_bundle: Path
) -> None:
    manifest = load_bundle(stand_in_bundle).manifest
    old = judged(seed=1, manifest=_at(manifest, 0.76, "old"))
    # The new network sees as well, on a scale that is 1.5 lower.
    new = judged(seed=1, shift=-1.5, manifest=_at(manifest, 0.42, "new"))
    (found,) = compare_bundles(old, new, samples=300).findings
    rows = _by_row(found.used)
    assert found.auroc[0] == pytest.approx(found.auroc[1])
    assert rows["old", "old"].sensitivity > 0.85
    trap = rows["new", "old"]
    assert trap.sensitivity < 0.5
    assert trap.differs
    assert trap.sensitivity_difference_interval[1] < -0.2
    assert not rows["new", "new"].differs
    assert not rows["new", "these films"].differs
    assert rows["old", "new"].specificity < rows["old", "old"].specificity


def test_bundles_that_share_nothing_or_too_little_are_refused(judged: MakeJudged) -> None:
    films = judged()
    with pytest.raises(ConfigurationError, match="9 patients with it"):
        compare_bundles(judged(9, 50), judged(9, 50))
    renamed = films.manifest.findings[0].model_copy(update={"key": "Effusion:other"})
    other = films.manifest.model_copy(update={"findings": (renamed,)})
    with pytest.raises(ConfigurationError, match="share no finding"):
        compare_bundles(films, Judged(other, films.rows, films.answers, "all", "x", 0.0))


@pytest.fixture
def app() -> typer.Typer:
    application = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)
    register(application)
    return application


def test_the_commands_calibrate_compare_write_and_draw(
    app: typer.Typer, stand_in_bundle: Path, phantom_manifest: Path, tmp_path: Path
) -> None:
    out, figures, plots = tmp_path / "a.json", tmp_path / "b.json", tmp_path / "plots"
    result = CliRunner().invoke(
        app,
        ["calibrate", "--site", "Trạm y tế", "--manifest", str(phantom_manifest), "--bundle",
         str(stand_in_bundle), "--to", str(out), "--json", str(figures), "--plots", str(plots),
         "--films-a-day", "50", "--prevalence", "0.1", "--test-cost", "12"],
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "Trạm y tế" in result.output
    assert "warning:" in result.output
    assert load_site_calibration(out).bundle_digest == load_bundle(stand_in_bundle).digest
    report = json.loads(figures.read_text(encoding="utf-8"))
    assert report["findings"][0]["workload"]["films_a_day"] == 50
    assert (plots / "Effusion.png").read_bytes().startswith(b"\x89PNG")

    result = CliRunner().invoke(
        app,
        ["calibrate", "compare", "--manifest", str(phantom_manifest), "--bundle",
         str(stand_in_bundle), "--with", str(stand_in_bundle), "--json", str(figures),
         "--plots", str(plots / "two")],
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert all(f"{name} " in result.output for name in _USED)
    assert (plots / "two" / "Effusion.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads(figures.read_text(encoding="utf-8"))["findings"][0]["key"] == "Effusion"


def test_wrong_arguments_are_one_sentence(
    app: typer.Typer, stand_in_bundle: Path, phantom_manifest: Path
) -> None:
    films = ["calibrate", "--site", "x", "--manifest", str(phantom_manifest), "--bundle",
             str(stand_in_bundle)]  # fmt: skip
    for arguments, said in (
        (["calibrate"], "--site NAME is missing"),
        (["calibrate", "--site", "x"], "--manifest CSV is missing"),
        ([*films, "--finding", "Fracture"], "--finding Fracture: stand-in has no such finding"),
        ([*films, "--threshold", "Effusion"], "expected FINDING=PROBABILITY"),
        ([*films, "--threshold", "=0.5"], "expected FINDING=PROBABILITY"),
        ([*films, "--split", "dev"], "--split is dev"),
    ):
        error = CliRunner().invoke(app, arguments).exception
        assert isinstance(error, ConfigurationError)
        assert said in str(error)
    assert CliRunner().invoke(app, ["calibrate", "--help"]).exit_code == 0
