"""What a run needs to go on, and how it is kept: whole, or not at all."""

import os
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import nn

from vigil.errors import ConfigurationError, StorageError
from vigil_training.network import Network

CHECKPOINT_NAME = "checkpoint.pt"


@dataclass
class Position:
    """How far a run is: whole epochs done, the best of them, and the time they took."""

    epoch: int = 0
    best: float = -1.0
    best_epoch: int = 0
    seconds: float = 0.0


@dataclass
class Learner:
    """All that changes while a run goes on.

    ``averaged`` is the exponential moving average of ``network``: it is what is validated and
    exported. ``forward`` is the pass that is trained, on this run's devices and in its precision.
    ``commit`` is the working tree's when the run was started.
    """

    network: Network
    averaged: Network
    forward: nn.Module
    optimiser: torch.optim.Optimizer
    position: Position
    fabric: Fabric
    commit: str = ""


def save(path: Path, state: object) -> None:
    """Write a file so that it is never half there.

    Raises
    ------
    StorageError
        If it cannot be written; what was there before is whole.
    """
    partial = path.with_suffix(".partial")
    try:
        with partial.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except (OSError, RuntimeError) as error:  # torch's writer hides the system's error in its own
        cause = next((e for e in (error, error.__context__) if isinstance(e, OSError)), None)
        partial.unlink(missing_ok=True)
        reason = cause.strerror if cause is not None else "is the disk full?"
        raise StorageError(
            f"{path}: could not be written ({reason}); go on with --resume when there is room"
        ) from error


def save_checkpoint(out: Path, learner: Learner) -> None:
    """Keep a learner after a whole epoch; random draws need no state, each epoch seeds its own."""
    state = {
        "network": learner.network.state_dict(),
        "averaged": learner.averaged.state_dict(),
        "optimiser": learner.optimiser.state_dict(),
        "scaler": learner.fabric.strategy.precision.state_dict(),
        "position": asdict(learner.position),
        "commit": learner.commit,
    }
    save(out / CHECKPOINT_NAME, state)


def load_checkpoint(out: Path, learner: Learner) -> None:
    """Put a learner where its run stopped.

    Raises
    ------
    ConfigurationError
        If the checkpoint is damaged or of another network.
    """
    try:
        state = torch.load(out / CHECKPOINT_NAME, map_location="cpu", weights_only=True)
        learner.network.load_state_dict(state["network"])
        learner.averaged.load_state_dict(state["averaged"])
        learner.optimiser.load_state_dict(state["optimiser"])
        learner.fabric.strategy.precision.load_state_dict(state["scaler"])
        learner.position.__dict__.update(state["position"])
        learner.commit = state["commit"]
    except Exception as error:  # torch raises several types for a file that it did not write
        raise ConfigurationError(f"{out}: the checkpoint is damaged or of another run") from error


def current_commit() -> str:
    """Return the commit of the working tree, empty outside of one."""
    try:
        found = subprocess.run(
            ["git", "rev-parse", "HEAD"],  # noqa: S607
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return found.stdout.strip()
