"""One training run, top to bottom: pictures, network, epochs, checkpoints, the best weights.

::

    runs/<name>/
        config.toml      the configuration as it was
        checkpoint.pt    everything needed to go on after the last whole epoch
        best.pt          averaged weights of the epoch with the highest mean validation AUROC
        log.jsonl        one JSON object an epoch
"""

import json
import math
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch.utils.data import DataLoader

from vigil.errors import ConfigurationError
from vigil_training.augment import Augmentation
from vigil_training.config import RunConfig, load_config
from vigil_training.dataset import (
    PictureCache,
    TrainingEpoch,
    epoch_order,
    pictures_per_source,
    validation_subset,
)
from vigil_training.loss import masked_loss, positive_weights
from vigil_training.network import Network, make_network
from vigil_training.sources import load_examples
from vigil_training.statistics import auroc
from vigil_training.targets import Example

State = dict[str, torch.Tensor]


@dataclass
class Position:
    """How far a run is."""

    epoch: int = 0
    best: float = -1.0
    best_epoch: int = -1
    seconds: float = 0.0


@dataclass
class Epoch:
    """What the log says of one epoch."""

    epoch: int
    loss: float
    learning_rate: float
    mean_auroc: float
    auroc: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    waiting_share: float = 0.0


def train(config_path: Path, data: Path | None, out: Path, resume: bool = False) -> float:
    """Train a network and leave its checkpoints in ``out``.

    Parameters
    ----------
    config_path
        The run's TOML.
    data
        The folder that the manifests' paths are relative to; None for generated pictures.
    out
        The run's folder.
    resume
        Whether to go on after the last whole epoch in ``out``.

    Returns
    -------
    float
        The best mean validation AUROC.

    Raises
    ------
    ConfigurationError
        If the folder holds another run, or there is nothing to resume.
    ManifestError
        If a manifest must not be trained on.
    """
    config, console = load_config(config_path), Console(stderr=True)
    _prepare_folder(config_path, out, resume)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(config.seed)
    if device.type == "cpu":
        torch.set_num_threads(len(os.sched_getaffinity(0)))

    examples = load_examples(config, data)
    with _progress(console) as bar:
        task = bar.add_task("reading pictures", total=len(examples.train) + len(examples.val))
        training = PictureCache(examples.train, config.network.size, lambda n: bar.advance(task, n))
        validation = PictureCache(examples.val, config.network.size, lambda n: bar.advance(task, n))
    scored = validation_subset(validation, config.optimisation.validation_limit_per_source)
    counts = pictures_per_source(config)
    sources = [example.source for example in training.examples]
    console.print(f"{len(training)} training pictures, {len(validation)} for validation; an epoch: {counts}")

    findings, options = len(config.findings), config.optimisation
    network = make_network(config.network, len(config.outputs))
    network.to(device, memory_format=torch.channels_last)
    averaged = make_network(config.network, len(config.outputs))
    averaged.load_state_dict(network.state_dict())
    averaged.to(device, memory_format=torch.channels_last).eval()
    optimiser = torch.optim.AdamW(_parameter_groups(network, options.weight_decay), lr=options.learning_rate)
    scaler = torch.amp.GradScaler(enabled=device.type == "cuda")
    augmentation = Augmentation(config.augmentation, findings, config.network.size)
    positive = torch.from_numpy(positive_weights(examples.train, findings, options)).to(device)
    importance = torch.ones(len(config.outputs), device=device)
    importance[findings:] = options.attribute_weight
    steps_per_epoch = sum(counts.values()) // options.batch
    position = Position()
    if resume:
        position = _load_checkpoint(out, network, averaged, optimiser, scaler)

    while position.epoch < options.epochs and position.epoch - position.best_epoch <= options.patience:
        started, waited, total = time.monotonic(), 0.0, 0.0
        # Seeded by the epoch, so that a resumed run drops what an uninterrupted one drops.
        torch.manual_seed(config.seed * 100_003 + position.epoch)
        order = epoch_order(sources, counts, config.seed, position.epoch)
        loader = DataLoader(
            TrainingEpoch(training, order, augmentation, config.seed, position.epoch),
            batch_size=options.batch, num_workers=options.workers, drop_last=True,
        )
        network.train()
        rate = options.learning_rate
        with _progress(console) as bar:
            task = bar.add_task(f"epoch {position.epoch + 1}/{options.epochs}", total=steps_per_epoch)
            asked = time.monotonic()
            for step, (images, targets, mask) in enumerate(loader, position.epoch * steps_per_epoch):
                waited += time.monotonic() - asked
                rate = learning_rate(config, step, steps_per_epoch * options.epochs)
                for group in optimiser.param_groups:
                    group["lr"] = rate
                images = images.to(device, memory_format=torch.channels_last)
                # float16 pays on CUDA only: on a CPU, float32 was as fast (docs/decisions).
                with torch.autocast(device.type, torch.float16, enabled=device.type == "cuda"):
                    logits = network(images).logits
                loss = masked_loss(logits.float(), targets.to(device), mask.to(device), positive, importance)
                optimiser.zero_grad(set_to_none=True)
                scaler.scale(loss).backward()
                scaler.unscale_(optimiser)
                torch.nn.utils.clip_grad_norm_(network.parameters(), options.gradient_norm)
                scaler.step(optimiser)
                scaler.update()
                # Early averages would be mostly the first weights: the decay grows into its value.
                update_average(averaged, network, min(options.ema_decay, (1 + step) / (10 + step)))
                total += loss.item()
                bar.update(task, advance=1, description=f"epoch {position.epoch + 1}/{options.epochs} loss {loss.item():.3f}")
                asked = time.monotonic()
        logits_of = predict(averaged, validation.pictures, scored, options.batch * 2, device)
        by_finding = validation_auroc([validation.examples[i] for i in scored], logits_of, config)
        mean = float(np.mean(list(by_finding.values()))) if by_finding else 0.0
        seconds = time.monotonic() - started
        position = Position(position.epoch + 1, position.best, position.best_epoch, position.seconds + seconds)
        if mean > position.best:
            position.best, position.best_epoch = mean, position.epoch
            _save(out / "best.pt", averaged.state_dict())
        _save_checkpoint(out, network, averaged, optimiser, scaler, position)
        entry = Epoch(position.epoch, total / max(steps_per_epoch, 1), rate, mean, by_finding, seconds, waited / seconds)
        with (out / "log.jsonl").open("a", encoding="utf-8") as log:
            log.write(json.dumps(entry.__dict__) + "\n")
        console.print(
            f"epoch {entry.epoch}: loss {entry.loss:.4f}, mean AUROC {mean:.4f} (best {position.best:.4f} "
            f"in epoch {position.best_epoch}), {seconds:.0f} s, {entry.waiting_share:.1%} waiting for pictures"
        )
    return position.best


def learning_rate(config: RunConfig, step: int, steps: int) -> float:
    """Return the rate at a step: a linear warm-up, then half a cosine down to a hundredth."""
    options = config.optimisation
    warm_up = min(options.warm_up_steps, steps // 4)
    if step < warm_up:
        return options.learning_rate * (step + 1) / warm_up
    done = (step - warm_up) / max(1, steps - warm_up)
    return options.learning_rate * (0.01 + 0.99 * (1 + math.cos(math.pi * min(1.0, done))) / 2)


@torch.no_grad()
def update_average(averaged: Network, network: Network, decay: float) -> None:
    """Move the averaged weights, and batch normalisation's statistics, towards the network's."""
    new = network.state_dict()
    for name, value in averaged.state_dict().items():
        if value.dtype.is_floating_point:
            value.lerp_(new[name], 1 - decay)
        else:
            value.copy_(new[name])


@torch.no_grad()
def predict(
    network: Network,
    pictures: NDArray[np.float16],
    indices: NDArray[np.int64],
    batch: int,
    device: torch.device,
) -> NDArray[np.float32]:
    """Return (len(indices), outputs) logits of pictures as they are, without augmentation."""
    network.eval()
    parts = []
    for start in range(0, len(indices), batch):
        part = pictures[indices[start : start + batch]].astype(np.float32)[:, np.newaxis]
        images = torch.from_numpy(part).to(device, memory_format=torch.channels_last)
        parts.append(network(images).logits.float().cpu().numpy())
    return np.concatenate(parts)


def validation_auroc(
    examples: list[Example], logits: NDArray[np.float32], config: RunConfig
) -> dict[str, float]:
    """Return each finding's AUROC, the mean over sources; one that has one class only is left out.

    Within a source, because telling two hospitals apart must not count as seeing a disease.
    """
    targets = np.stack([example.targets for example in examples]) > 0.5
    mask = np.stack([example.mask for example in examples]) > 0.5
    sources = np.asarray([example.source for example in examples])
    found = {}
    for index, finding in enumerate(config.findings):
        values = []
        for source in sorted(set(sources.tolist())):
            rows = mask[:, index] & (sources == source)
            value = auroc(targets[rows, index], logits[rows, index]) if rows.any() else None
            if value is not None:
                values.append(value)
        if values:
            found[finding.key] = float(np.mean(values))
    return found


def _parameter_groups(network: Network, decay: float) -> Iterator[dict[str, object]]:
    """Yield weights with decay, and biases and normalisation without."""
    parameters = list(network.parameters())
    yield {"params": [p for p in parameters if p.ndim > 1], "weight_decay": decay}
    yield {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0}


def _prepare_folder(config_path: Path, out: Path, resume: bool) -> None:
    kept = out / "config.toml"
    if resume:
        if not (out / "checkpoint.pt").is_file():
            raise ConfigurationError(f"{out}: there is no checkpoint to go on from")
        if kept.read_bytes() != config_path.read_bytes():
            raise ConfigurationError(f"{out}: was started with another configuration than {config_path}")
        return
    if (out / "checkpoint.pt").exists():
        raise ConfigurationError(f"{out}: holds a run already; add --resume, or choose another --out")
    out.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(config_path, kept)
    (out / "log.jsonl").unlink(missing_ok=True)


def _save(path: Path, state: object) -> None:
    """Write a file so that it is never half there."""
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    partial.replace(path)


def _save_checkpoint(
    out: Path,
    network: Network,
    averaged: Network,
    optimiser: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    position: Position,
) -> None:
    state = {
        "network": network.state_dict(),
        "averaged": averaged.state_dict(),
        "optimiser": optimiser.state_dict(),
        "scaler": scaler.state_dict(),
        "position": position.__dict__,
        "commit": _commit(),
    }
    _save(out / "checkpoint.pt", state)


def _load_checkpoint(
    out: Path,
    network: Network,
    averaged: Network,
    optimiser: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
) -> Position:
    state = torch.load(out / "checkpoint.pt", map_location="cpu", weights_only=True)
    network.load_state_dict(state["network"])
    averaged.load_state_dict(state["averaged"])
    optimiser.load_state_dict(state["optimiser"])
    scaler.load_state_dict(state["scaler"])
    return Position(**state["position"])


def _commit() -> str:
    """Return the commit of the working tree, empty outside of one."""
    try:
        found = subprocess.run(  # noqa: S603
            ["git", "rev-parse", "HEAD"],  # noqa: S607
            cwd=Path(__file__).parent, capture_output=True, text=True, check=True, timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return found.stdout.strip()


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        console=console, disable=not console.is_terminal,
    )
