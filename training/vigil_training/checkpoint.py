"""What a run needs to go on, and how it is kept: whole, or not at all."""

import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from vigil.errors import ConfigurationError
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
    exported. ``commit`` is the working tree's when the run was started.
    """

    network: Network
    averaged: Network
    optimiser: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    position: Position
    device: torch.device
    commit: str = ""


def save(path: Path, state: object) -> None:
    """Write a file so that it is never half there."""
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    partial.replace(path)


def save_checkpoint(out: Path, learner: Learner) -> None:
    """Keep a learner after a whole epoch; random draws need no state, each epoch seeds its own."""
    state = {
        "network": learner.network.state_dict(),
        "averaged": learner.averaged.state_dict(),
        "optimiser": learner.optimiser.state_dict(),
        "scaler": learner.scaler.state_dict(),
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
        learner.scaler.load_state_dict(state["scaler"])
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
