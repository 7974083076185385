import json
import os
from pathlib import Path

import pytest
from tensorboardX.proto import event_pb2
from tensorboardX.record_writer import masked_crc32c

from vigil.errors import ConfigurationError
from vigil_training.config import load_config
from vigil_training.run_log import EpochRecord, open_log

SMOKE = Path(__file__).parents[2] / "training" / "configs" / "smoke.toml"


def _events(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Read event files as TensorBoard does: length, its checksum, an event, its checksum."""
    found: dict[str, list[tuple[int, float]]] = {}
    for path in sorted(folder.glob("events.*")):
        content, at = path.read_bytes(), 0
        while at < len(content):
            length = int.from_bytes(content[at : at + 8], "little")
            body = content[at + 12 : at + 12 + length]
            end = at + 16 + length
            assert masked_crc32c(body) == int.from_bytes(content[end - 4 : end], "little")
            event = event_pb2.Event.FromString(body)
            for value in event.summary.value:
                found.setdefault(value.tag, []).append((event.step, value.simple_value))
            at = end
    return found


def test_a_run_leaves_the_same_figures_in_its_log_and_for_tensorboard(smoke_run: Path) -> None:
    lines = [json.loads(line) for line in (smoke_run / "log.jsonl").read_text().splitlines()]
    events = _events(smoke_run / "tensorboard")
    assert [step for step, _ in events["epoch/loss"]] == [6, 12]
    for name in ("loss", "mean_auroc", "waiting_share", "pictures_per_second"):
        expected = [line[name] for line in lines]
        assert [value for _, value in events[f"epoch/{name}"]] == pytest.approx(expected, rel=1e-6)
    expected = [line["dice"]["lungs"] for line in lines]
    assert [value for _, value in events["epoch/dice/lungs"]] == pytest.approx(expected, rel=1e-6)
    assert len(events["step/loss"]) == 2


def test_lines_that_no_checkpoint_holds_are_dropped(tmp_path: Path) -> None:
    config = load_config(SMOKE)
    lines = [json.dumps({"epoch": epoch}) for epoch in (1, 2, 3)]
    (tmp_path / "log.jsonl").write_text("\n".join(lines) + '\n{"epo', encoding="utf-8")
    with open_log(tmp_path, config, writes=True, done=2, step=12, mlflow=None) as log:
        log.epoch(EpochRecord(3, 0.5, 1e-3, 0.1), 18)
    kept = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in kept] == [1, 2, 3]
    assert kept[2]["loss"] == 0.5


def test_all_but_the_first_process_write_nothing(tmp_path: Path) -> None:
    with open_log(tmp_path, load_config(SMOKE), writes=False, done=0, step=0, mlflow=None) as log:
        log.step(1, 0.5, 1e-3)
        log.epoch(EpochRecord(1, 0.5, 1e-3, 0.1), 6)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_an_mlflow_store_gets_the_figures_and_a_resumed_run_goes_on_there(tmp_path: Path) -> None:
    from mlflow.tracking import MlflowClient

    address, config = f"sqlite:///{tmp_path / 'mlflow.db'}", load_config(SMOKE)
    out = tmp_path / "run"
    out.mkdir()
    for epoch in (1, 2):
        with open_log(out, config, writes=True, done=epoch - 1, step=0, mlflow=address) as log:
            auroc = {"Pneumonia:child": 0.7 + epoch / 100}
            log.epoch(EpochRecord(epoch, 1 / epoch, 1e-3, 0.1, auroc=auroc), 6 * epoch)
    client = MlflowClient(tracking_uri=address)
    experiment = client.get_experiment_by_name("vigil")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    assert len(runs) == 1
    assert runs[0].info.status == "FINISHED"
    assert runs[0].info.run_name == "smoke"
    assert runs[0].data.params["optimisation.batch"] == "16"
    history = client.get_metric_history(runs[0].info.run_id, "loss")
    assert [(point.step, point.value) for point in history] == [(1, 1.0), (2, 0.5)]
    assert runs[0].data.metrics["auroc/Pneumonia-child"] == pytest.approx(0.72)
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_an_mlflow_address_that_is_none_is_one_sentence(tmp_path: Path) -> None:
    with (
        pytest.raises(ConfigurationError, match="--mlflow nonsense://x"),
        open_log(tmp_path, load_config(SMOKE), writes=True, done=0, step=0, mlflow="nonsense://x"),
    ):
        pass
