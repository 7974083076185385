import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from vigil.errors import ConfigurationError
from vigil_training.config import OptimisationConfig
from vigil_training.devices import check_precision, launch, own_places, split_batch

HERE = Path(__file__).parent
PROCESSES = HERE / "processes.py"
SMOKE = HERE.parents[1] / "training" / "configs" / "smoke.toml"
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A small run whose network draws nothing, since each process draws for itself."""
    text = SMOKE.read_text(encoding="utf-8")
    for old, new in (("phantoms = 120", "phantoms = 60"), ("size = 64", "size = 32"),
                     ("pictures_per_epoch = 96", "pictures_per_epoch = 24"),
                     ("batch = 16", "batch = 8"), ("dropout = 0.1", "dropout = 0.0"),
                     ("validation_fraction = 0.4", "validation_fraction = 0.5")):  # fmt: skip
        assert old in text
        text = text.replace(old, new)
    path = tmp_path / "small.toml"
    path.write_text(text, encoding="utf-8")
    return path


def _python(*arguments: str) -> subprocess.CompletedProcess[str]:
    found = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=False, timeout=560,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert found.returncode == 0, found.stderr[-3000:]
    return found


def test_two_processes_take_the_steps_of_one_with_the_same_batch(
    config: Path, tmp_path: Path
) -> None:
    one, two = tmp_path / "one.pt", tmp_path / "two.pt"
    _python(str(PROCESSES), "steps", str(config), str(one))
    _python(*TORCHRUN, str(PROCESSES), "steps", str(config), str(two))
    alone, together = (torch.load(path, weights_only=True) for path in (one, two))
    assert len(alone["losses"]) == 3
    assert alone["losses"][2] < alone["losses"][0]
    np.testing.assert_allclose(together["losses"], alone["losses"], rtol=1e-9)
    # Weights, and the means and deviations of batch normalisation, over three steps in float64.
    for name, value in alone["network"].items():
        torch.testing.assert_close(together["network"][name], value, rtol=1e-6, atol=1e-7, msg=name)


def test_two_processes_end_with_the_same_bits_twice_also_after_an_interruption(
    config: Path, tmp_path: Path
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    _python(*TORCHRUN, str(PROCESSES), "trained", str(config), str(whole))
    _python(*TORCHRUN, str(PROCESSES), "interrupted", str(config), str(parts))
    assert torch.load(parts / "checkpoint.pt", weights_only=True)["position"]["epoch"] == 1
    _python(*TORCHRUN, str(PROCESSES), "trained", str(config), str(parts))
    one, other = (
        torch.load(folder / "checkpoint.pt", weights_only=True) for folder in (whole, parts)
    )
    assert one["position"]["epoch"] == other["position"]["epoch"] == 2
    assert one["position"]["best"] == other["position"]["best"]
    for part in ("network", "averaged"):
        assert all(torch.equal(other[part][name], value) for name, value in one[part].items())
    assert len((whole / "log.jsonl").read_text(encoding="utf-8").splitlines()) == 2


def test_vigil_starts_its_processes_itself(config: Path, tmp_path: Path) -> None:
    code = tmp_path / "console.py"  # what the console script holds
    code.write_text("from vigil.cli import main\nmain()\n", encoding="utf-8")
    out = tmp_path / "run"
    said = _python(
        str(code), "train", str(config), "--out", str(out), "--devices", "2",
        "--cache", str(tmp_path / "cache"),
    )  # fmt: skip
    assert "GLOBAL_RANK: 1, MEMBER: 2/2" in said.stderr
    assert said.stdout.count("mean validation AUROC") == 1
    assert torch.load(out / "checkpoint.pt", weights_only=True)["position"]["epoch"] == 2
    assert len((out / "log.jsonl").read_text(encoding="utf-8").splitlines()) == 2


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_each_batch_is_split_between_processes_and_nothing_is_seen_twice(processes: int) -> None:
    parts = [own_places(27, 8, rank, processes) for rank in range(processes)]
    assert {part.size for part in parts} == {24 // processes}
    size = 8 // processes
    for step in range(3):
        batch = [part[step * size : (step + 1) * size] for part in parts]
        np.testing.assert_array_equal(np.concatenate(batch), np.arange(8 * step, 8 * step + 8))


def test_a_batch_that_does_not_go_into_the_processes_is_refused() -> None:
    assert split_batch(32, 4) == 8
    with pytest.raises(ConfigurationError, match="batch is 32, expected a multiple of the 3"):
        split_batch(32, 3)
    # More processes than pictures, or one picture each, which has no batch statistics.
    with pytest.raises(ConfigurationError, match="at least two pictures for each"):
        split_batch(8, 16)
    with pytest.raises(ConfigurationError, match="at least two pictures for each"):
        split_batch(8, 8)


def test_half_precision_with_a_scaled_loss_needs_a_gpu() -> None:
    check_precision("fp16", cuda=True)
    check_precision("bf16", cuda=False)
    with pytest.raises(ConfigurationError, match="fp16 needs a GPU; expected float32 or bf16"):
        check_precision("fp16", cuda=False)


def test_more_devices_than_torchrun_started_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setenv("WORLD_SIZE", "4")
    options = OptimisationConfig(epochs=1, pictures_per_epoch=8, batch=8)
    with pytest.raises(ConfigurationError, match="torchrun started 2 processes: leave it out"):
        launch(options, 4, outlines=False)
