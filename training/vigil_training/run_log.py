"""What is written down of a run while it goes on.

``log.jsonl`` is the record: one object an epoch. The same figures go to TensorBoard's event files
in the run's folder, and to an MLflow server or folder if one is named.
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from vigil.errors import ConfigurationError
from vigil_training.config import RunConfig

LOG_NAME = "log.jsonl"
EVENTS_NAME = "tensorboard"
_MLFLOW_NAME = "mlflow-run.txt"


@dataclass
class EpochRecord:
    """What the log says of one epoch."""

    epoch: int
    loss: float
    learning_rate: float
    waiting_share: float
    seconds: float = 0.0
    pictures_per_second: float = 0.0
    mean_auroc: float = 0.0
    auroc: dict[str, float] = field(default_factory=dict)
    dice: dict[str, float] = field(default_factory=dict)

    def figures(self) -> dict[str, float]:
        """Return every figure by a name with slashes, as trackers group them."""
        plain = {
            name: value for name, value in asdict(self).items() if isinstance(value, float | int)
        }
        plain.pop("epoch")
        nested = {f"auroc/{name}": value for name, value in self.auroc.items()}
        return plain | nested | {f"dice/{name}": value for name, value in self.dice.items()}


class RunLog:
    """A run's record and its trackers; in all but the first process, nothing."""

    def __init__(self, out: Path, events: Any = None, mlflow: "_MLflow | None" = None) -> None:
        self._out, self._events, self._mlflow = out, events, mlflow

    def step(self, step: int, loss: float, rate: float) -> None:
        """Draw a step's loss and learning rate."""
        if self._events is not None:
            self._events.add_scalar("step/loss", loss, step)
            self._events.add_scalar("step/learning_rate", rate, step)

    def epoch(self, record: EpochRecord, step: int) -> None:
        """Write an epoch down."""
        if self._events is None:
            return
        with (self._out / LOG_NAME).open("a", encoding="utf-8") as log:
            log.write(json.dumps(asdict(record)) + "\n")
        for name, value in record.figures().items():
            self._events.add_scalar(f"epoch/{name}", value, step)
        self._events.flush()
        if self._mlflow is not None:
            self._mlflow.log(record.figures(), record.epoch)


@contextmanager
def open_log(
    out: Path, config: RunConfig, *, writes: bool, done: int, step: int, mlflow: str | None
) -> Iterator[RunLog]:
    """Give a run's log and close it at the end.

    Parameters
    ----------
    out
        The run's folder.
    config
        Its configuration, whose values MLflow keeps.
    writes
        Whether this is the process that writes.
    done
        Whole epochs that the run goes on after; what is written of later ones is dropped, since a
        run that was killed may have logged an epoch that its checkpoint does not hold.
    step
        Steps of these epochs.
    mlflow
        An MLflow tracking address, such as ``sqlite:///mlflow.db`` or that of a server.

    Raises
    ------
    ConfigurationError
        If MLflow is asked for and not installed.
    """
    tracker = None if mlflow is None else _MLflow(mlflow, out, config, writes=writes)
    if not writes:
        yield RunLog(out)
        return
    _cut(out / LOG_NAME, done)
    from tensorboardX import SummaryWriter

    status = "FAILED"
    with SummaryWriter(str(out / EVENTS_NAME), purge_step=step or None) as events:
        try:
            yield RunLog(out, events, tracker)
            status = "FINISHED"
        finally:
            if tracker is not None:
                tracker.end(status)


def _cut(path: Path, epochs: int) -> None:
    """Keep the lines of the first epochs."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    kept = [line for line in lines if line.endswith("}") and json.loads(line)["epoch"] <= epochs]
    path.write_text("".join(line + "\n" for line in kept), encoding="utf-8")


class _MLflow:
    """A run at an MLflow tracking address; a resumed run goes on in the same one."""

    def __init__(self, address: str, out: Path, config: RunConfig, *, writes: bool) -> None:
        # A hospital's machine is told nothing by a library: no usage reports.
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        try:
            from mlflow.exceptions import MlflowException
            from mlflow.tracking import MlflowClient
        except ImportError as error:
            raise ConfigurationError(
                "--mlflow needs MLflow: install the package with its extra, vigil-cxr[mlflow]"
            ) from error
        if not writes:
            return
        try:
            self._client = MlflowClient(tracking_uri=address)
            self._id = self._find(out / _MLFLOW_NAME, config)
        except MlflowException as error:
            raise ConfigurationError(f"--mlflow {address}: {error}") from error

    def _find(self, path: Path, config: RunConfig) -> str:
        if path.is_file():
            identity = path.read_text(encoding="utf-8").strip()
            self._client.set_terminated(identity, "RUNNING")
            return identity
        experiment = self._client.get_experiment_by_name("vigil")
        number = experiment.experiment_id if experiment else self._client.create_experiment("vigil")
        run = self._client.create_run(number, run_name=config.name)
        for name, value in _flat(config.model_dump(mode="json", exclude={"findings"})).items():
            self._client.log_param(run.info.run_id, name, value)
        path.write_text(run.info.run_id + "\n", encoding="utf-8")
        return str(run.info.run_id)

    def log(self, figures: Mapping[str, float], epoch: int) -> None:
        """Send an epoch's figures."""
        for name, value in figures.items():
            # MLflow allows no colon in a name.
            self._client.log_metric(self._id, name.replace(":", "-"), value, step=epoch)

    def end(self, status: str) -> None:
        """Say that the run ended."""
        self._client.set_terminated(self._id, status)


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        elif value is not None:
            flat[prefix + name] = str(value)[:500]
    return flat
