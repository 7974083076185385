import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from vigil.errors import ConfigurationError
from vigil.phantom import make_phantom
from vigil.preprocess import PreprocessingSpec, to_model_input
from vigil_training.checkpoint import Learner, save_checkpoint
from vigil_training.config import NetworkConfig, OptimisationConfig, load_config
from vigil_training.loss import masked_loss
from vigil_training.network import make_network
from vigil_training.sources import load_examples
from vigil_training.train import learning_rate, prepare, train, update_average

SMOKE = Path(__file__).parents[2] / "training" / "configs" / "smoke.toml"


def test_a_handful_of_pictures_is_learnt_by_heart() -> None:
    torch.manual_seed(0)
    kinds = ["normal", "effusion", "cardiomegaly", "normal", "effusion", "cardiomegaly"]
    pixels = [(make_phantom(n, k, (96, 96)).pixels << 4) for n, k in enumerate(kinds)]
    spec = PreprocessingSpec(size=64)
    images = torch.from_numpy(np.concatenate([to_model_input(p, spec) for p in pixels]))
    targets = torch.tensor([[k == "effusion", k == "cardiomegaly"] for k in kinds]).float()
    network = make_network(NetworkConfig(size=64, dropout=0, stochastic_depth=0), 2).train()
    optimiser = torch.optim.AdamW(network.parameters(), lr=2e-3)
    ones = torch.ones(2)
    losses = []
    for _ in range(25):
        loss = masked_loss(network(images).logits, targets, torch.ones(6, 2), ones, ones)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[0] > 0.4
    assert losses[-1] < 0.02
    assert ((network(images).logits > 0) == (targets > 0.5)).all()


@pytest.fixture
def small_run(tmp_path: Path) -> Path:
    text = SMOKE.read_text(encoding="utf-8")
    for old, new in (("phantoms = 120", "phantoms = 40"), ("size = 64", "size = 32"),
                     ("pictures_per_epoch = 96", "pictures_per_epoch = 24"),
                     ("batch = 16", "batch = 8"),
                     ("stochastic_depth = 0.0", "stochastic_depth = 0.2"),
                     ("[optimisation]", "[optimisation]\nmixup_share = 0.5"),
                     ("validation_fraction = 0.4", "validation_fraction = 0.5")):  # fmt: skip
        assert old in text
        text = text.replace(old, new)
    path = tmp_path / "small.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(
    small_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(small_run, None, whole)

    class PulledPlugError(Exception):
        pass

    def pull(out: Path, learner: Learner) -> None:
        if learner.position.epoch == 2:
            raise PulledPlugError
        save_checkpoint(out, learner)

    with monkeypatch.context() as patched:
        patched.setattr("vigil_training.train.save_checkpoint", pull)
        with pytest.raises(PulledPlugError):
            train(small_run, None, parts)
    assert torch.load(parts / "checkpoint.pt", weights_only=True)["position"]["epoch"] == 1
    # The second epoch was logged, but is not in the checkpoint: it is made and logged again.
    train(small_run, None, parts, resume=True)
    log = (parts / "log.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["epoch"] for line in log] == [1, 2]
    one = torch.load(whole / "checkpoint.pt", weights_only=True)
    other = torch.load(parts / "checkpoint.pt", weights_only=True)
    assert one["position"]["epoch"] == other["position"]["epoch"] == 2
    for part in ("network", "averaged"):
        for name, value in one[part].items():
            torch.testing.assert_close(other[part][name], value, rtol=0, atol=0, msg=name)


def test_a_run_is_neither_overwritten_nor_resumed_with_another_configuration(
    small_run: Path, smoke_run: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(smoke_run, folder)
    with pytest.raises(ConfigurationError, match="holds a run; add --resume"):
        train(small_run, None, folder)
    with pytest.raises(ConfigurationError, match="started with another configuration"):
        train(small_run, None, folder, resume=True)
    with pytest.raises(ConfigurationError, match="no checkpoint to go on from"):
        train(small_run, None, tmp_path / "empty", resume=True)
    (folder / "checkpoint.pt").write_bytes(b"damaged")
    with pytest.raises(ConfigurationError, match="the checkpoint is damaged"):
        train(SMOKE, None, folder, resume=True)


def test_the_log_holds_one_line_an_epoch_with_its_figures(smoke_run: Path) -> None:
    lines = [json.loads(line) for line in (smoke_run / "log.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2]
    assert lines[1]["loss"] < lines[0]["loss"]
    assert set(lines[1]["auroc"]) == {"Effusion", "Cardiomegaly", "Consolidation"}
    expected = np.mean(list(lines[1]["auroc"].values()))
    assert lines[1]["mean_auroc"] == pytest.approx(expected)


def test_generated_pictures_are_split_and_labelled() -> None:
    config = load_config(SMOKE)
    examples = load_examples(config, None)
    assert len(examples.train) + len(examples.val) == config.data.phantoms
    assert not {e.patient for e in examples.train} & {e.patient for e in examples.val}
    lateral = [e for e in examples.train if not e.chest]
    assert lateral
    assert all(e.mask.sum() == 1 for e in lateral)
    positives = np.stack([e.targets for e in examples.train]).sum(0)
    assert (positives[:3] > 5).all()


def test_a_run_on_manifests_asks_for_their_folder() -> None:
    with pytest.raises(ConfigurationError, match="name its folder with --data"):
        load_examples(load_config(SMOKE.with_name("lite0-256.toml")), None)


def test_the_rate_warms_up_then_falls_to_a_hundredth() -> None:
    options = OptimisationConfig(
        epochs=1, pictures_per_epoch=1, learning_rate=1e-3, warm_up_steps=10
    )
    rates = [learning_rate(options, step, 100) for step in range(101)]
    assert rates[0] == pytest.approx(1e-4)
    assert rates[9] == pytest.approx(1e-3)
    assert rates[10] == pytest.approx(1e-3)
    assert rates[55] == pytest.approx(1e-3 * (0.01 + 0.99 / 2))
    assert rates[100] == pytest.approx(1e-5)


def test_the_average_moves_towards_the_network_and_takes_its_counters() -> None:
    config = NetworkConfig(size=32, init="random")
    averaged, network = make_network(config, 1), make_network(config, 1)
    with torch.no_grad():
        averaged.head.weight.fill_(1)
        network.head.weight.fill_(3)
    network.backbone.net._bn0.num_batches_tracked.fill_(7)
    update_average(averaged, network, 0.75)
    assert averaged.head.weight.unique().tolist() == [1.5]
    assert averaged.backbone.net._bn0.num_batches_tracked == 7


@pytest.mark.parametrize(("keep", "epoch"), [("best", 1), ("last", 2)])
def test_a_run_keeps_its_best_or_its_last_epoch(
    small_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keep: str, epoch: int
) -> None:
    text = small_run.read_text(encoding="utf-8")
    small_run.write_text(text.replace("[optimisation]", f'[optimisation]\nkeep = "{keep}"'))
    figures = iter([{"Effusion": 0.9}, {"Effusion": 0.6}])
    monkeypatch.setattr("vigil_training.train.validation_auroc", lambda *_: next(figures))
    kept = train(small_run, None, tmp_path / "run")
    state = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)
    assert state["position"]["best_epoch"] == epoch
    assert kept == pytest.approx({1: 0.9, 2: 0.6}[epoch])
    weights = torch.load(tmp_path / "run" / "best.pt", weights_only=True)
    same = all(torch.equal(weights[name], state["averaged"][name]) for name in weights)
    assert same is (keep == "last")


def test_two_runs_with_the_same_seed_end_with_the_same_bits(
    small_run: Path, tmp_path: Path
) -> None:
    kept = [train(small_run, None, tmp_path / name) for name in ("one", "other")]
    assert kept[0] == kept[1]
    one, other = (
        torch.load(tmp_path / name / "checkpoint.pt", weights_only=True)["network"]
        for name in ("one", "other")
    )
    assert all(torch.equal(one[name], other[name]) for name in one)
    text = small_run.read_text(encoding="utf-8")
    small_run.write_text(text.replace("seed = 1\n", "seed = 2\n", 1), encoding="utf-8")
    train(small_run, None, tmp_path / "third")
    third = torch.load(tmp_path / "third" / "checkpoint.pt", weights_only=True)["network"]
    assert not torch.equal(third["head.weight"], one["head.weight"])


def test_an_epoch_smaller_than_one_batch_is_refused(small_run: Path, tmp_path: Path) -> None:
    text = small_run.read_text(encoding="utf-8")
    small_run.write_text(text.replace("batch = 8", "batch = 32"), encoding="utf-8")
    with pytest.raises(ConfigurationError, match="an epoch of 24 pictures, less than one batch"):
        train(small_run, None, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_in_bfloat16_learns_what_one_in_float32_does(small_run: Path, tmp_path: Path) -> None:
    text = small_run.read_text(encoding="utf-8")
    # One step an epoch: its figures differ by bfloat16's three digits, and nothing blows them up.
    text = text.replace("pictures_per_epoch = 24", "pictures_per_epoch = 8")
    for precision in ("float32", "bf16"):
        path = tmp_path / f"{precision}.toml"
        path.write_text(
            text.replace("[optimisation]", f'[optimisation]\nprecision = "{precision}"'), "utf-8"
        )
        train(path, None, tmp_path / precision)
    full, half = (
        json.loads((tmp_path / name / "log.jsonl").read_text().splitlines()[0])["loss"]
        for name in ("float32", "bf16")
    )
    assert half == pytest.approx(full, rel=0.02)
    assert half != full
    state = torch.load(tmp_path / "bf16" / "checkpoint.pt", weights_only=True)["network"]
    assert {value.dtype for value in state.values()} == {torch.float32, torch.int64}


def test_a_precision_that_nobody_knows_is_refused(small_run: Path, tmp_path: Path) -> None:
    text = small_run.read_text(encoding="utf-8")
    for precision, said in (
        ("half", "optimisation.precision: Input should be 'float32', 'bf16' or 'fp16'"),
        ("fp16", "fp16 needs a GPU"),
    ):
        if precision == "fp16" and torch.cuda.is_available():
            continue
        small_run.write_text(
            text.replace("[optimisation]", f'[optimisation]\nprecision = "{precision}"'), "utf-8"
        )
        with pytest.raises(ConfigurationError, match=said):
            train(small_run, None, tmp_path / "run")


def test_a_run_can_go_on_from_the_disk_with_the_same_bits(small_run: Path, tmp_path: Path) -> None:
    kept = train(small_run, None, tmp_path / "memory")
    assert train(small_run, None, tmp_path / "disk", cache=tmp_path / "cache") == kept
    one, other = (
        torch.load(tmp_path / name / "best.pt", weights_only=True) for name in ("memory", "disk")
    )
    assert all(torch.equal(one[name], value) for name, value in other.items())


# From Python 3.12 on a fork beside other threads is warned of; torch's workers compute on one.
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_pictures_made_by_another_process_train_the_same_bits(
    small_run: Path, tmp_path: Path
) -> None:
    kept = train(small_run, None, tmp_path / "alone")
    text = small_run.read_text(encoding="utf-8")
    assert "workers = 0 " in text
    small_run.write_text(text.replace("workers = 0 ", "workers = 2 "), encoding="utf-8")
    assert train(small_run, None, tmp_path / "helped") == kept
    one, other = (
        torch.load(tmp_path / name / "best.pt", weights_only=True) for name in ("alone", "helped")
    )
    assert all(torch.equal(one[name], value) for name, value in other.items())


def test_pictures_made_in_this_process_are_made_on_one_thread(small_run: Path) -> None:
    run = prepare(load_config(small_run), None)
    torch.set_num_threads(2)
    seen = []
    made = run.augmentation.__call__

    def watched(*arguments: object) -> object:
        seen.append(torch.get_num_threads())
        return made(*arguments)  # type: ignore[arg-type]

    run.augmentation = watched  # type: ignore[assignment]
    next(iter(run.loader(run.epoch(0))))
    assert seen == [1] * 8
    assert torch.get_num_threads() == 2
