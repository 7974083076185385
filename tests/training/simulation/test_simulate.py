import json
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from vigil.bundle import BundleManifest, OperatingPoint, load_bundle
from vigil.errors import ConfigurationError
from vigil.triage import Priority
from vigil_training.cli import register
from vigil_training.manifest import ManifestRow
from vigil_training.merits import Answer
from vigil_training.simulation.films import draw_films
from vigil_training.simulation.operation import answered_operation, point_operation
from vigil_training.simulation.outcome import ALL_CONDITIONS, Order
from vigil_training.simulation.run import simulate
from vigil_training.simulation.scenario import (
    DEFAULT_SCENARIO,
    THE_REST,
    Scenario,
    Variant,
    load_scenario,
)

ROOM = {
    "name": "a small room",
    "days": 30,
    "warm_up_days": 1,
    "replications": 3,
    "not_analysed": 0.0,
    "arrivals": {"films_a_day": 200},
    "shifts": [
        {"name": "day", "start_hour": 7, "end_hour": 19, "readers": 1, "films_an_hour": 16},
        {"name": "night", "start_hour": 19, "end_hour": 7, "readers": 1, "films_an_hour": 9},
    ],
    "conditions": [
        {"name": "Effusion", "prevalence": 0.05, "sensitivity": 0.9, "specificity": 0.95,
         "target_minutes": 30},
    ],
}  # fmt: skip


def _room(**changes: object) -> Scenario:
    return Scenario.model_validate(ROOM | changes)


@pytest.fixture
def manifest(stand_in_bundle: Path) -> BundleManifest:
    return load_bundle(stand_in_bundle).manifest


@pytest.fixture
def measured(manifest: BundleManifest) -> BundleManifest:
    """The stand-in as if it had been measured."""
    point = OperatingPoint(
        threshold=0.5, sensitivity=0.8, specificity=0.9, positives=200, negatives=2000
    )
    critical = OperatingPoint(
        threshold=0.9, sensitivity=0.4, specificity=0.99, positives=200, negatives=2000
    )
    findings = tuple(
        finding.model_copy(update={"flag": point, "critical": critical})
        for finding in manifest.findings
    )
    return manifest.model_copy(update={"findings": findings})


def test_the_sick_are_read_sooner_and_the_rest_pay_for_it(manifest: BundleManifest) -> None:
    (found,) = simulate(_room(), manifest).variants
    sick, rest = found.gain("Effusion"), found.gain(THE_REST)
    assert sick.vigil.low > 0
    assert sick.possible.mean > sick.vigil.mean
    assert rest.vigil.high < 0
    # The order moves waiting about and makes none (to within what chance leaves).
    waits = {
        order: 0.05 * found.waiting(order, "Effusion").mean.mean
        + 0.95 * found.waiting(order, THE_REST).mean.mean
        for order in Order
    }
    assert waits[Order.VIGIL] == pytest.approx(waits[Order.ARRIVAL], rel=0.15)
    assert waits[Order.PERFECT] == pytest.approx(waits[Order.ARRIVAL], rel=0.15)
    late = [found.waiting(order, "Effusion").over_target.mean for order in Order]
    assert late[0] > late[1] > late[2]
    assert found.seen["Effusion"].mean == pytest.approx(0.9, abs=0.05)
    assert found.raised_rest.mean == pytest.approx(0.05, abs=0.02)
    waiting = found.waiting(Order.VIGIL, "Effusion")
    assert list(waiting.percentiles) == sorted(waiting.percentiles)


def test_a_lower_sensitivity_costs_the_sick_and_a_reader_less_costs_everybody(
    manifest: BundleManifest,
) -> None:
    room = _room(
        variants=[
            {"name": "worse", "sensitivity": 0.60},
            {"name": "fewer", "readers": {"day": 2, "night": 0}},
            {"name": "blind", "sensitivity": 0.0, "specificity": 1.0},
        ]
    )
    base, worse, fewer, blind = simulate(room, manifest).variants
    assert 0 < worse.gain("Effusion").vigil.mean < base.gain("Effusion").vigil.mean
    assert worse.waiting(Order.ARRIVAL, THE_REST) == base.waiting(Order.ARRIVAL, THE_REST)
    night = [v.waiting(Order.ARRIVAL, THE_REST, "night").mean.mean for v in (base, fewer)]
    assert night[1] > 2 * night[0]
    assert blind.raised.mean == 0
    # Nothing flagged is the order of arrival, but for the seconds of the analysis.
    assert abs(blind.gain(ALL_CONDITIONS).vigil.mean) < 0.2


def test_the_same_seed_gives_the_same_figures_however_many_processes(
    manifest: BundleManifest,
) -> None:
    room = _room(days=5)
    one, two, other = (
        simulate(room, manifest, jobs=1).variants,
        simulate(room, manifest, jobs=2).variants,
        simulate(room.model_copy(update={"seed": 1}), manifest).variants,
    )
    assert one == two
    assert one != other


def test_progress_is_told(manifest: BundleManifest) -> None:
    seen: list[tuple[int, int]] = []
    simulate(_room(days=3), manifest, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_films_come_as_the_scenario_says() -> None:
    by_hour = [0.0] * 24
    by_hour[9], by_hour[20] = 3.0, 1.0
    room = _room(
        days=140,
        arrivals={"films_a_day": 100, "by_hour": by_hour, "by_weekday": [2, 1, 1, 1, 1, 1, 0]},
        reading={"distribution": "lognormal", "coefficient_of_variation": 0.8},
    )
    films = draw_films(room, 1, np.random.default_rng(0))
    assert films.arrivals.size == pytest.approx(14_000, abs=5 * 14_000**0.5)
    assert (np.diff(films.arrivals) >= 0).all()
    hours = films.arrivals // 3600 % 24
    assert set(hours.tolist()) == {9, 20}
    assert (hours == 9).mean() == pytest.approx(0.75, abs=0.02)
    days = films.arrivals // 86400 % 7
    assert (days == 0).mean() == pytest.approx(2 / 7, abs=0.02)
    assert not (days == 6).any()
    assert (films.groups == 0).mean() == pytest.approx(0.05, abs=0.01)
    assert films.work.mean() == pytest.approx(1, abs=0.03)
    assert films.work.std() == pytest.approx(0.8, abs=0.05)
    assert [room.shifts[i].name for i in films.shifts[:2]] == ["day", "day"]
    assert set(films.shifts[hours == 20].tolist()) == {1}
    assert films.counted.sum() == (films.arrivals >= 86400).sum()


def test_a_bundles_points_make_priorities_and_carry_their_uncertainty(
    measured: BundleManifest,
) -> None:
    room = _room(conditions=[{"name": "Effusion", "prevalence": 0.3}], days=100)
    operation = point_operation(measured, room)
    films = draw_films(room, operation.columns, np.random.default_rng(0))
    sick = films.groups == 0
    seen, critical = [], []
    for seed in range(60):
        ranks = operation.ranks(films, np.random.default_rng(seed))
        seen.append((ranks[sick] < Priority.ROUTINE.reading_order).mean())
        critical.append((ranks[sick] == Priority.CRITICAL.reading_order).mean())
    # Effusion is seen in 0.8, and cardiomegaly is wrongly flagged in a tenth of the others.
    assert np.mean(seen) == pytest.approx(0.8 + 0.2 * 0.1, abs=0.02)
    assert np.mean(critical) == pytest.approx(0.4 + 0.6 * 0.01, abs=0.03)
    # 200 positives leave about 0.028 open: more than the films alone, which are always the same.
    assert 0.015 < np.std(seen) < 0.05


def test_a_refused_film_waits_among_the_routine(measured: BundleManifest) -> None:
    room = _room(conditions=[{"name": "Effusion", "prevalence": 0.3}], not_analysed=1.0)
    operation = point_operation(measured, room)
    films = draw_films(room, operation.columns, np.random.default_rng(0))
    ranks = operation.ranks(films, np.random.default_rng(0))
    assert set(ranks.tolist()) == {Priority.ROUTINE.reading_order}


def test_findings_of_another_age_or_without_a_priority_raise_nothing(
    measured: BundleManifest,
) -> None:
    effusion, heart = measured.findings
    population = effusion.population.model_copy(update={"max_age_years": 5.0})
    changed = measured.model_copy(
        update={
            "findings": (
                effusion.model_copy(update={"priority": Priority.ROUTINE, "critical": None}),
                heart.model_copy(update={"population": population}),
            )
        }
    )
    operation = point_operation(
        changed, _room(conditions=[{"name": "Effusion", "prevalence": 0.1}])
    )
    assert operation.alarms == ()
    assert "no priority for it (experimental)" in operation.notes[0]
    unknown = point_operation(changed, _room(conditions=[{"name": "Mass", "prevalence": 0.1}]))
    assert "has no such finding" in unknown.notes[0]


def test_points_that_nobody_measured_are_asked_for(manifest: BundleManifest) -> None:
    room = _room(conditions=[{"name": "Effusion", "prevalence": 0.1}])
    with pytest.raises(ConfigurationError, match="finding Effusion: the bundle does not say its"):
        point_operation(manifest, room)
    with pytest.raises(ConfigurationError, match="condition Effusion: its specificity is not"):
        point_operation(manifest, room, Variant(name="x", sensitivity=0.9))
    assert "its false alarms are not counted" in point_operation(manifest, _room()).notes[0]


def _answer(number: int, priority: str, labels: str = "", age: float | None = 50) -> Answer:
    row = ManifestRow(
        number=number, path=Path("x"), source="site", patient_id=str(number),
        image_id=str(number), view="PA", age_years=age, sex="F",
        labels=frozenset(filter(None, labels.split("|"))),
        label_scope=frozenset({"Effusion", "Mass"}),
    )  # fmt: skip
    return Answer(row, None, False, priority, {}, {}, frozenset(), {})


def test_answers_on_films_stand_for_films_of_their_group(manifest: BundleManifest) -> None:
    answers = [
        *(_answer(n, "CRITICAL", "Effusion|Mass") for n in range(30)),
        *(_answer(n, "ROUTINE", "Mass") for n in range(30, 50)),
        *(_answer(n, "URGENT") for n in range(50, 60)),
        *(_answer(n, "ROUTINE") for n in range(60, 90)),
        *(_answer(n, "CRITICAL", age=3) for n in range(90, 200)),
    ]
    room = _room(
        conditions=[
            {"name": "Mass", "prevalence": 0.2},
            {"name": "Effusion", "prevalence": 0.2, "order": "CRITICAL"},
        ],
    )
    operation = answered_operation(answers, room, "answers")
    assert operation.notes == (
        "films that stand for each group: Mass 20, Effusion 30, the rest 40",
    )
    films = draw_films(room, operation.columns, np.random.default_rng(0))
    ranks = operation.ranks(films, np.random.default_rng(0))
    assert set(ranks[films.groups == 1].tolist()) == {0}
    assert set(ranks[films.groups == 0].tolist()) == {2}
    shares = [
        (operation.ranks(films, np.random.default_rng(seed))[films.groups == 2] == 1).mean()
        for seed in range(40)
    ]
    assert np.mean(shares) == pytest.approx(0.25, abs=0.05)
    assert np.std(shares) > 0.03  # the bootstrap over 40 patients
    found = simulate(room, manifest, operation).variants[0]
    assert found.gain("Effusion").vigil.mean > 0
    with pytest.raises(ConfigurationError, match="Mass: answers holds 5 such films, at least 10"):
        answered_operation(answers[:35], room, "answers")


def test_the_default_room_is_about_two_hundred_thousand_films_a_year_and_can_be_read() -> None:
    room = load_scenario()
    assert room.arrivals.films_a_day * 365 == pytest.approx(200_000, rel=0.01)
    assert room.load < 0.95
    assert {variant.sensitivity for variant in room.variants} >= {0.93, 0.60}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ("days = 0", "days: Input should be greater than or equal to 1"),
        ("surprise = 1", "surprise: Extra inputs are not permitted"),
        ("warm_up_days = 400", "warm_up_days is 400 of 365 days"),
        ("by_hour = [1, 2]", "by_hour holds 2 weights, expected 24"),
        ("days = many", "is not TOML"),
    ],
)
def test_a_wrong_scenario_is_one_sentence(tmp_path: Path, changed: str, said: str) -> None:
    key = changed.partition(" = ")[0]
    lines = DEFAULT_SCENARIO.read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if not line.startswith(key)]
    where = kept.index("[arrivals]") + (1 if key.startswith("by_") else -1)
    path = tmp_path / "room.toml"
    path.write_text("\n".join([*kept[:where], changed, *kept[where:]]), encoding="utf-8")
    with pytest.raises(ConfigurationError, match=said):
        load_scenario(path)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"shifts": [ROOM["shifts"][0], ROOM["shifts"][0]]}, "two shifts are called day"),
        ({"conditions": [ROOM["conditions"][0] | {"name": THE_REST}]}, "may not be called"),
        ({"variants": [{"name": "x", "readers": {"dawn": 1}}]}, "there is no shift dawn"),
        ({"variants": [{"name": "x", "readers": {"day": 0, "night": 0}}]}, "nobody ever reads"),
        (
            {"conditions": [{"name": n, "prevalence": 0.6} for n in ("A", "B")]},
            "the prevalences add up to 1.2",
        ),
    ],
)
def test_a_scenario_that_makes_no_sense_is_refused(changes: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        _room(**changes)


def test_too_few_readers_are_said_to_be(manifest: BundleManifest) -> None:
    room = _room(days=3, arrivals={"films_a_day": 400})
    assert "add readers or hours" in simulate(room, manifest).variants[0].notes[-1]


def test_the_command_prints_writes_and_draws(stand_in_bundle: Path, tmp_path: Path) -> None:
    app = typer.Typer()
    register(app)
    scenario = tmp_path / "room.toml"
    text = DEFAULT_SCENARIO.read_text(encoding="utf-8").replace(
        "\nprevalence", "\nsensitivity = 0.8\nspecificity = 0.9\nprevalence"
    )
    scenario.write_text(text.replace("548", "60"), encoding="utf-8")
    picture, figures = tmp_path / "out" / "waits.png", tmp_path / "out" / "waits.json"
    result = CliRunner().invoke(
        app,
        ["simulate", str(scenario), "--bundle", str(stand_in_bundle), "--days", "6",
         "--replications", "2", "--jobs", "1", "--json", str(figures), "--plot", str(picture)],
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "one reader at night" in result.output
    assert "not a medical device" in result.output.replace("\n", " ")
    content = json.loads(figures.read_text(encoding="utf-8"))
    assert content["scenario"]["days"] == 6
    assert content["digest"] == load_bundle(stand_in_bundle).digest
    assert picture.read_bytes().startswith(b"\x89PNG")
    shown = CliRunner().invoke(app, ["simulate", "--example"])
    assert shown.output == DEFAULT_SCENARIO.read_text(encoding="utf-8")
    wrong = CliRunner().invoke(app, ["simulate", str(tmp_path / "none.toml")])
    assert isinstance(wrong.exception, ConfigurationError)
