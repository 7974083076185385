import json
from pathlib import Path

import pytest

from vigil_training.config import RunConfig, load_config
from vigil_training.rate_finder import diverged, find_rate, rate_at, smoothed, suggestion
from vigil_training.step_profile import StepProfile, profile

SMOKE = Path(__file__).parents[2] / "training" / "configs" / "smoke.toml"


@pytest.fixture
def small() -> RunConfig:
    config = load_config(SMOKE)
    return config.model_copy(
        update={
            "network": config.network.model_copy(update={"size": 32}),
            "optimisation": config.optimisation.model_copy(update={"batch": 8}),
        }
    )


def test_a_profile_says_where_each_part_of_a_step_goes(small: RunConfig, tmp_path: Path) -> None:
    found = profile(small, None, tmp_path, 3)
    assert set(found.seconds) == {
        "waiting", "augmentation", "transfer", "forward", "loss", "backward", "optimiser",
        "average",
    }  # fmt: skip
    # Which part takes longer is the machine's matter: others may use it between two steps.
    assert all(found.seconds[part] > 0 for part in ("augmentation", "forward", "backward"))
    assert found.bare_seconds > 0
    assert found.epoch_ratio > found.step_ratio
    assert 0 < found.waiting_share < 1
    assert json.loads((tmp_path / "profile.json").read_text())["steps"] == 3
    assert "traceEvents" in json.loads((tmp_path / "trace.json").read_text())
    assert {path.name for path in tmp_path.iterdir()} == {"profile.json", "trace.json"}


def test_shares_and_ratios_are_those_of_the_seconds() -> None:
    seconds = {"waiting": 1.0, "augmentation": 1.0, "forward": 3.0, "backward": 5.0}
    found = StepProfile(10, 32, seconds, 8.0, validation_seconds=5.0, epoch_steps=20)
    assert found.waiting_share == pytest.approx(0.2)
    assert found.step_ratio == pytest.approx(10 / 8)
    assert found.epoch_ratio == pytest.approx((20 + 5) / 16)


def test_a_range_test_leaves_a_plot_and_its_figures_and_nothing_else(
    small: RunConfig, tmp_path: Path
) -> None:
    found = find_rate(small, None, tmp_path, 24)
    assert {path.name for path in tmp_path.iterdir()} == {
        "learning-rate.json", "learning-rate.png"
    }  # fmt: skip
    assert (tmp_path / "learning-rate.png").read_bytes().startswith(b"\x89PNG")
    assert found.suggestion in found.rates
    assert 1e-6 <= found.suggestion <= 1
    assert json.loads((tmp_path / "learning-rate.json").read_text())["losses"] == list(found.losses)


def test_the_steepest_fall_is_suggested_and_a_blown_up_loss_ends_the_test() -> None:
    rates = [rate_at(step, 7) for step in range(7)]
    assert rates[0] == pytest.approx(1e-6)
    assert rates[6] == pytest.approx(1)
    losses = [1.0, 1.0, 0.9, 0.5, 0.1, 0.1, 3.0]
    import numpy as np

    assert suggestion(rates, np.asarray(losses)) == pytest.approx(1e-3)
    assert smoothed([2.0, 2.0]).tolist() == pytest.approx([2.0, 2.0])
    assert not diverged([1.0, 0.5, 0.6])
    assert diverged([1.0, 0.5, 40.0])
    assert diverged([1.0, float("nan")])
