"""One training run, top to bottom: pictures, network, epochs, checkpoints, the best weights.

::

    runs/<name>/
        config.toml      the configuration as it was
        checkpoint.pt    everything needed to go on after the last whole epoch
        best.pt          averaged weights of the epoch with the highest mean validation AUROC, or
                         of the last, as the run's ``keep`` says
        log.jsonl        one JSON object an epoch
"""

import json
import math
import os
import shutil
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch.utils.data import DataLoader

from vigil.errors import ConfigurationError
from vigil_training.augment import Augmentation
from vigil_training.checkpoint import (
    CHECKPOINT_NAME,
    Learner,
    Position,
    current_commit,
    load_checkpoint,
    save,
    save_checkpoint,
)
from vigil_training.config import STRUCTURES, OptimisationConfig, RunConfig, load_config
from vigil_training.dataset import (
    PictureCache,
    TrainingEpoch,
    epoch_order,
    pictures_per_source,
    validation_subset,
)
from vigil_training.loss import masked_loss, positive_weights
from vigil_training.network import Network, make_network
from vigil_training.sources import Examples, load_examples
from vigil_training.statistics import auroc
from vigil_training.structures import structure_loss
from vigil_training.targets import Example
from vigil_training.teacher import soften

_MIXUP_CONCENTRATION = 0.4
"""Of the beta distribution that shares are drawn from: most blends lean to one of the pair."""


@dataclass
class EpochRecord:
    """What the log says of one epoch."""

    epoch: int
    loss: float
    learning_rate: float
    waiting_share: float
    seconds: float = 0.0
    mean_auroc: float = 0.0
    auroc: dict[str, float] = field(default_factory=dict)
    dice: dict[str, float] = field(default_factory=dict)


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
        Whether to go on after the last whole epoch in ``out``; the weights at the end are those
        of an uninterrupted run on the same machine.

    Returns
    -------
    float
        The mean validation AUROC of the weights that are kept.

    Raises
    ------
    ConfigurationError
        If the folder holds another run, or there is nothing to resume.
    ManifestError
        If a manifest must not be trained on.
    """
    config, console = load_config(config_path), Console(stderr=True)
    options, findings = config.optimisation, len(config.findings)
    _check_folder(config_path, out, resume)
    examples = load_examples(config, data)
    if not resume:
        out.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(config_path, out / "config.toml")
        (out / "log.jsonl").unlink(missing_ok=True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu":
        torch.set_num_threads(_cores())

    training, held_out = _caches(config, examples, console)
    counts = pictures_per_source(config)
    sources = [example.source for example in training.examples]
    scored = validation_subset(held_out, options.validation_limit_per_source)
    console.print(
        f"{len(training)} training pictures, {len(held_out)} held out; an epoch: {counts}"
    )

    learner = _new_learner(config, device)
    if resume:
        load_checkpoint(out, learner)
    position = learner.position
    augmentation = Augmentation(config.augmentation, findings, config.network.size)
    positive = torch.from_numpy(positive_weights(examples.train, findings, options)).to(device)
    importance = torch.ones(len(config.outputs), device=device)
    importance[findings:] = options.attribute_weight

    while (
        position.epoch < options.epochs and position.epoch - position.best_epoch <= options.patience
    ):
        started = time.monotonic()
        # Seeded by the epoch, so that a resumed run drops what an uninterrupted one drops.
        torch.manual_seed(config.seed * 100_003 + position.epoch)
        order = epoch_order(sources, counts, config.seed, position.epoch)
        loader = DataLoader(
            TrainingEpoch(training, order, augmentation, config.seed, position.epoch),
            batch_size=options.batch,
            num_workers=options.workers,
            drop_last=True,
        )
        with _progress(console) as bar:
            record = _train_epoch(learner, loader, options, positive, importance, bar)
        logits = predict(learner.averaged, held_out.pictures, scored, options.batch * 2, device)
        record.auroc = validation_auroc([held_out.examples[i] for i in scored], logits, config)
        record.mean_auroc = float(np.mean(list(record.auroc.values()))) if record.auroc else 0.0
        if config.network.structures:
            record.dice = validation_dice(learner.averaged, held_out, options.batch, device)
        record.seconds = time.monotonic() - started

        position.epoch += 1
        position.seconds += record.seconds
        if options.keep == "last" or record.mean_auroc > position.best:
            position.best, position.best_epoch = record.mean_auroc, position.epoch
            save(out / "best.pt", learner.averaged.state_dict())
        save_checkpoint(out, learner)
        with (out / "log.jsonl").open("a", encoding="utf-8") as log:
            log.write(json.dumps(asdict(record)) + "\n")
        console.print(
            f"epoch {record.epoch}: loss {record.loss:.4f}, mean AUROC {record.mean_auroc:.4f} "
            f"(kept: {position.best:.4f} of epoch {position.best_epoch}), {record.seconds:.0f} s, "
            f"{record.waiting_share:.1%} waiting for pictures"
        )
    return position.best


def _caches(
    config: RunConfig, examples: Examples, console: Console
) -> tuple[PictureCache, PictureCache]:
    """Read the training and the held-out pictures; a teacher answers to the former."""
    with _progress(console) as bar:
        task = bar.add_task("reading pictures", total=len(examples.train) + len(examples.val))
        training = PictureCache(examples.train, config.network.size, lambda n: bar.advance(task, n))
        held_out = PictureCache(examples.val, config.network.size, lambda n: bar.advance(task, n))
        if config.teacher is not None:
            asked = bar.add_task("asking the teacher", total=None)
            soften(training, config, lambda n: bar.advance(asked, n))
    return training, held_out


def _new_learner(config: RunConfig, device: torch.device) -> Learner:
    torch.manual_seed(config.seed)
    network = make_network(config.network, len(config.outputs), config.outputs)
    averaged = make_network(config.network, len(config.outputs))
    averaged.load_state_dict(network.state_dict())
    for module in (network, averaged):
        # Twice as fast as the usual order on a CPU without it.
        module.to(device=device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    options = config.optimisation
    parameters = list(network.parameters())
    groups = [  # biases and normalisation are not decayed
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": options.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimiser = torch.optim.AdamW(groups, lr=options.learning_rate)
    scaler = torch.amp.GradScaler(enabled=device.type == "cuda")
    commit = current_commit()
    return Learner(network, averaged.eval(), optimiser, scaler, Position(), device, commit)


def _train_epoch(
    learner: Learner,
    loader: DataLoader[tuple[torch.Tensor, ...]],
    options: OptimisationConfig,
    positive: torch.Tensor,
    importance: torch.Tensor,
    bar: Progress,
) -> EpochRecord:
    """Go once over an epoch's pictures."""
    network, device, steps = learner.network, learner.device, len(loader)
    epoch = learner.position.epoch
    task = bar.add_task(f"epoch {epoch + 1}/{options.epochs}", total=steps)
    network.train()
    started, waited, total, rate = time.monotonic(), 0.0, 0.0, 0.0
    asked = started
    for step, batch in enumerate(loader, epoch * steps):
        waited += time.monotonic() - asked
        images, targets, mask, outlines, known = (
            tensor.to(device, non_blocking=True) for tensor in batch
        )
        if options.first_size and epoch < options.first_size_epochs:
            images, outlines = _reduced(images, outlines, options.first_size)
        rate = learning_rate(options, step, steps * options.epochs)
        for group in learner.optimiser.param_groups:
            group["lr"] = rate
        blend = draw_blend(options, len(images))
        # Half precision pays on CUDA only: on a CPU, single was as fast (docs/decisions).
        with torch.autocast(device.type, torch.float16, enabled=device.type == "cuda"):
            shown = images if blend is None else blend.mix(images)
            outputs = network(shown.contiguous(memory_format=torch.channels_last))
        logits = outputs.logits.float()
        loss = masked_loss(logits, targets, mask, positive, importance)
        rows = known.any(1)
        if blend is not None:
            other = masked_loss(
                logits, targets[blend.partner], mask[blend.partner], positive, importance
            )
            loss = blend.share * loss + (1 - blend.share) * other
            rows = torch.zeros_like(rows)
        # One row alone has no batch statistics.
        if network.decoder is not None and rows.sum() > 1:
            outlined = network.structures([level[rows].float() for level in outputs.pyramid])
            loss = loss + options.structure_weight * structure_loss(
                outlined, outlines[rows], known[rows]
            )
        learner.optimiser.zero_grad(set_to_none=True)
        learner.scaler.scale(loss).backward()
        learner.scaler.unscale_(learner.optimiser)
        torch.nn.utils.clip_grad_norm_(network.parameters(), options.gradient_norm)
        learner.scaler.step(learner.optimiser)
        learner.scaler.update()
        # The first averages would be mostly the first weights: the decay grows into its value.
        update_average(learner.averaged, network, min(options.ema_decay, (1 + step) / (10 + step)))
        total += loss.item()
        bar.advance(task)
        asked = time.monotonic()
    waiting_share = waited / max(time.monotonic() - started, 1e-9)
    return EpochRecord(epoch + 1, total / max(steps, 1), rate, waiting_share)


class Blend(NamedTuple):
    """How the pictures of a step are blended: each with its partner, which gets the rest."""

    partner: torch.Tensor
    share: float

    def mix(self, images: torch.Tensor) -> torch.Tensor:
        """Return (N, ...) pictures, each blended with its partner."""
        return self.share * images + (1 - self.share) * images[self.partner]


def draw_blend(options: OptimisationConfig, pictures: int) -> Blend | None:
    """Draw whether and how a step's pictures are blended, from torch's generator."""
    if options.mixup_share == 0 or torch.rand(()) >= options.mixup_share:
        return None
    concentration = torch.tensor(_MIXUP_CONCENTRATION)
    share = torch.distributions.Beta(concentration, concentration).sample().item()
    return Blend(torch.randperm(pictures), share)


def _reduced(
    images: torch.Tensor, outlines: torch.Tensor, size: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return pictures of a smaller size, and outlines of half of it."""
    return (
        torch.nn.functional.interpolate(images, size=(size, size), mode="area"),
        torch.nn.functional.interpolate(outlines, size=(size // 2, size // 2), mode="area"),
    )


def learning_rate(options: OptimisationConfig, step: int, steps: int) -> float:
    """Return the rate at a step: a linear warm-up, then half a cosine down to a hundredth."""
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
    pictures: NDArray[np.floating],
    indices: NDArray[np.int64],
    batch: int,
    device: torch.device,
) -> NDArray[np.float32]:
    """Return (len(indices), outputs) logits of (n, S, S) pictures, without augmentation."""
    network.eval()
    parts = []
    for start in range(0, len(indices), batch):
        part = pictures[indices[start : start + batch]].astype(np.float32)[:, np.newaxis]
        images = torch.from_numpy(part).to(device).contiguous(memory_format=torch.channels_last)
        parts.append(network(images).logits.float().cpu().numpy())
    return np.concatenate(parts)


@torch.no_grad()
def validation_dice(
    network: Network, held_out: PictureCache, batch: int, device: torch.device
) -> dict[str, float]:
    """Return each structure's mean Dice coefficient over the held-out pictures with its outline."""
    network.eval()
    indices = sorted(held_out.outlines)
    found: dict[str, list[float]] = {name: [] for name in STRUCTURES}
    for start in range(0, len(indices), batch):
        part = indices[start : start + batch]
        images = torch.from_numpy(held_out.pictures[part].astype(np.float32)[:, np.newaxis])
        outputs = network(images.to(device).contiguous(memory_format=torch.channels_last))
        outlined = (network.structures(outputs.pyramid) > 0).cpu().numpy()
        for index, masks in zip(part, outlined, strict=True):
            truth = held_out.outlines[index][:, ::2, ::2] > 127
            for place, name in enumerate(STRUCTURES):
                if held_out.examples[index].outlines[place] is not None:
                    overlap = 2 * (masks[place] & truth[place]).sum()
                    total = masks[place].sum() + truth[place].sum()
                    found[name].append(float(overlap / max(total, 1)))
    return {name: float(np.mean(values)) for name, values in found.items() if values}


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
            value = auroc(targets[rows, index], logits[rows, index])
            if value is not None:
                values.append(value)
        if values:
            found[finding.key] = float(np.mean(values))
    return found


def _check_folder(config_path: Path, out: Path, resume: bool) -> None:
    """Refuse to write over a run, or to go on with another."""
    if not resume:
        if (out / CHECKPOINT_NAME).exists():
            raise ConfigurationError(f"{out}: holds a run; add --resume, or choose another --out")
    elif not (out / CHECKPOINT_NAME).is_file():
        raise ConfigurationError(f"{out}: there is no checkpoint to go on from")
    elif (out / "config.toml").read_bytes() != config_path.read_bytes():
        raise ConfigurationError(f"{out}: the run was started with another configuration")


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )
