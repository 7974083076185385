"""One training run, top to bottom: pictures, network, epochs, checkpoints, the best weights.

::

    runs/<name>/
        config.toml      the configuration as it was
        checkpoint.pt    everything needed to go on after the last whole epoch
        best.pt          averaged weights of the epoch with the highest mean validation AUROC, or
                         of the last, as the run's ``keep`` says
        log.jsonl        one JSON object an epoch
        tensorboard/     the same figures, and the loss of every tenth step

Each process of a run goes through all of this with its part of every batch; the first one writes.
"""

import math
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from lightning_fabric import Fabric
from rich.console import Console
from rich.progress import Progress
from torch import Tensor, nn
from torch.utils.data import DataLoader

from vigil.errors import ConfigurationError
from vigil_training.augment import Augmentation
from vigil_training.blend import Blend, draw_blend
from vigil_training.checkpoint import (
    CHECKPOINT_NAME,
    Learner,
    Position,
    current_commit,
    load_checkpoint,
    save,
    save_checkpoint,
)
from vigil_training.config import OptimisationConfig, RunConfig, load_config
from vigil_training.dataset import (
    PictureCache,
    TrainingEpoch,
    epoch_order,
    pictures_per_source,
    validation_subset,
)
from vigil_training.devices import launch, own_places, part, split_batch
from vigil_training.loss import masked_loss, positive_weights
from vigil_training.network import Network, make_network
from vigil_training.progress import training_progress
from vigil_training.run_log import EpochRecord, RunLog, open_log
from vigil_training.shared_normalisation import share_batch_statistics
from vigil_training.sources import load_examples
from vigil_training.stopwatch import Stopwatch
from vigil_training.structures import structure_loss
from vigil_training.teacher import soften
from vigil_training.validation import predict, validation_auroc, validation_dice

Batch = Sequence[Tensor]
"""Pictures, targets, mask, outlines, and which outlines are known."""
_LOGGED_EVERY = 10
"""Steps."""
_FORKS = sys.platform == "linux"


def train(
    config_path: Path,
    data: Path | None,
    out: Path,
    resume: bool = False,
    *,
    devices: int | None = None,
    cache: Path | None = None,
    mlflow: str | None = None,
) -> float:
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
    devices
        How many GPUs, or processes where there is no GPU; None is one, or what ``torchrun`` says.
    cache
        A folder that keeps decoded pictures; None is in memory.
    mlflow
        An MLflow tracking address, or None.

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
    StorageError
        If a checkpoint cannot be written; the one before is whole.
    """
    config = load_config(config_path)
    _check_folder(config_path, out, resume)
    run = prepare(config, data, devices, cache)
    options, learner, fabric = config.optimisation, run.learner, run.learner.fabric
    if fabric.is_global_zero and not resume:
        out.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(config_path, out / "config.toml")
    if resume:
        load_checkpoint(out, learner)
    position, held_out = learner.position, run.held_out
    scored = validation_subset(held_out, options.validation_limit_per_source)

    with open_log(
        out,
        config,
        writes=fabric.is_global_zero,
        done=position.epoch,
        step=position.epoch * run.steps,
        mlflow=mlflow,
    ) as log:
        while (
            position.epoch < options.epochs
            and position.epoch - position.best_epoch <= options.patience
        ):
            clock = Stopwatch()
            record = train_epoch(run, log)
            logits = predict(learner.averaged, held_out, scored, options.batch * 2, fabric)
            record.auroc = validation_auroc([held_out.examples[i] for i in scored], logits, config)
            record.mean_auroc = float(np.mean(list(record.auroc.values()))) if record.auroc else 0.0
            if config.network.structures:
                record.dice = validation_dice(learner.averaged, held_out, options.batch, fabric)
            clock.lap("epoch")
            record.seconds = clock.total

            position.epoch += 1
            position.seconds += record.seconds
            better = options.keep == "last" or record.mean_auroc > position.best
            if better:
                position.best, position.best_epoch = record.mean_auroc, position.epoch
            if fabric.is_global_zero:
                # A line too many is dropped by whoever goes on; one too few could not be made up.
                log.epoch(record, position.epoch * run.steps)
                if better:
                    save(out / "best.pt", learner.averaged.state_dict())
                save_checkpoint(out, learner)
            run.console.print(
                f"epoch {record.epoch}: loss {record.loss:.4f}, "
                f"mean AUROC {record.mean_auroc:.4f} (kept: {position.best:.4f} of epoch "
                f"{position.best_epoch}), {record.seconds:.0f} s, "
                f"{record.waiting_share:.1%} waiting for pictures"
            )
    part(fabric)
    return position.best


@dataclass
class Preparation:
    """A run before its first step: pictures, what is minimised, and who learns.

    ``counts`` are the pictures of each source in an epoch, ``steps`` the batches they make.
    """

    config: RunConfig
    training: PictureCache
    held_out: PictureCache
    counts: dict[str, int]
    steps: int
    augmentation: Augmentation
    positive: Tensor
    importance: Tensor
    learner: Learner
    console: Console

    def epoch(self, number: int) -> TrainingEpoch:
        """Return an epoch's pictures, counted from 0."""
        seed = self.config.seed
        sources = [example.source for example in self.training.examples]
        order = epoch_order(sources, self.counts, seed, number)
        return TrainingEpoch(self.training, order, self.augmentation, seed, number)

    def loader(self, pictures: TrainingEpoch) -> DataLoader[tuple[Tensor, ...]]:
        """Return this process's part of an epoch, batch by batch."""
        options, fabric = self.config.optimisation, self.learner.fabric
        rank, processes = fabric.global_rank, fabric.world_size
        return DataLoader(
            pictures,
            batch_size=split_batch(options.batch, processes),
            sampler=own_places(len(pictures), options.batch, rank, processes).tolist(),
            num_workers=options.workers,
            # A fork shares the pictures in memory; anything else would be sent all of them.
            multiprocessing_context="fork" if options.workers and _FORKS else None,
            pin_memory=fabric.device.type == "cuda",
        )


def prepare(
    config: RunConfig, data: Path | None, devices: int | None = None, cache: Path | None = None
) -> Preparation:
    """Read a run's pictures and make its first weights; the parameters are those of ``train``."""
    options, findings = config.optimisation, len(config.findings)
    examples = load_examples(config, data)
    counts = pictures_per_source(config)
    if sum(counts.values()) < options.batch:
        raise ConfigurationError(
            f"optimisation.pictures_per_epoch makes an epoch of {sum(counts.values())} pictures, "
            f"less than one batch of {options.batch}"
        )
    fabric = launch(options, devices, outlines=config.network.structures)
    console = Console(stderr=True, quiet=not fabric.is_global_zero)
    with training_progress(console) as bar:
        total = len(examples.train) + len(examples.val)
        task = bar.add_task("reading pictures", total=total, note="")
        size = config.network.size
        training, held_out = (
            PictureCache(part, size, lambda done: bar.advance(task, done), cache)
            for part in (examples.train, examples.val)
        )
        if config.teacher is not None:
            asked = bar.add_task("asking the teacher", total=None, note="")
            soften(training, config, lambda done: bar.advance(asked, done))
    console.print(
        f"{len(training)} training pictures, {len(held_out)} held out; an epoch: {counts}"
    )
    positive = torch.from_numpy(positive_weights(examples.train, findings, options))
    importance = torch.ones(len(config.outputs))
    importance[findings:] = options.attribute_weight
    return Preparation(
        config=config,
        training=training,
        held_out=held_out,
        counts=counts,
        steps=sum(counts.values()) // options.batch,
        augmentation=Augmentation(config.augmentation, findings, config.network.size),
        positive=positive.to(fabric.device),
        importance=importance.to(fabric.device),
        learner=new_learner(config, fabric),
        console=console,
    )


class Answers(NamedTuple):
    """What a training pass gives: (N, outputs) logits, and outlines where they were asked for."""

    logits: Tensor
    outlined: Tensor | None


class TrainingPass(nn.Module):
    """All of a network that one step trains, so that several processes share its gradients."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor, rows: Tensor | None) -> Answers:
        """Return the logits of (N, 1, S, S) pictures, and the outlines of those in ``rows``."""
        outputs = self.network(images)
        if rows is None:
            return Answers(outputs.logits, None)
        pyramid = [level[rows] for level in outputs.pyramid]
        return Answers(outputs.logits, self.network.structures(pyramid))


def new_learner(config: RunConfig, fabric: Fabric) -> Learner:
    """Make a run's first weights on its devices; the same in every process."""
    torch.manual_seed(config.seed)
    options = config.optimisation
    network = make_network(config.network, len(config.outputs), config.outputs).train()
    averaged = make_network(config.network, len(config.outputs))
    averaged.load_state_dict(network.state_dict())
    if fabric.world_size > 1:
        share_batch_statistics(network, fabric.device)
    for module in (network, averaged):
        # Twice as fast as the usual order on a CPU without it.
        module.to(device=fabric.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    parameters = list(network.parameters())
    groups = [  # biases and normalisation are not decayed
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": options.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimiser = torch.optim.AdamW(groups, lr=options.learning_rate)
    trained, placed = fabric.setup(TrainingPass(network), optimiser)
    return Learner(network, averaged.eval(), trained, placed, Position(), fabric, current_commit())


def train_epoch(run: Preparation, log: RunLog) -> EpochRecord:
    """Go once over an epoch's pictures."""
    learner, options = run.learner, run.config.optimisation
    fabric, epoch, first = (
        learner.fabric,
        learner.position.epoch,
        learner.position.epoch * run.steps,
    )
    # Seeded by the epoch, so that a resumed run drops what an uninterrupted one drops; what is
    # drawn inside the network differs between processes, what is done to a step does not.
    torch.manual_seed(config_seed(run.config, epoch) + 7_919 * fabric.global_rank)
    random = np.random.default_rng((run.config.seed, epoch))
    total, rate = torch.zeros((), dtype=torch.float64, device=fabric.device), 0.0
    learner.network.train()
    loader = run.loader(run.epoch(epoch))
    with training_progress(run.console) as bar:
        task = bar.add_task(f"epoch {epoch + 1}/{options.epochs}", total=run.steps, note="")
        clock = Stopwatch()
        for step, batch in enumerate(loader, first):
            clock.lap("waiting")
            rate = learning_rate(options, step, run.steps * options.epochs)
            loss = training_step(run, batch, rate, random, clock)
            decay = min(options.ema_decay, (1 + step) / (10 + step))
            # The first averages would be mostly the first weights: the decay grows into its value.
            update_average(learner.averaged, learner.network, decay)
            clock.lap("average")
            total += loss
            if step % _LOGGED_EVERY == 0:
                _show(bar, task, loss.item(), (step - first + 1) * options.batch / clock.total)
                log.step(step, loss.item(), rate)
            bar.advance(task)
        clock.lap("end")
    mean = fabric.all_reduce(total / run.steps, reduce_op="mean")
    assert isinstance(mean, Tensor)
    return EpochRecord(
        epoch=epoch + 1,
        loss=mean.item(),
        learning_rate=rate,
        waiting_share=clock.share("waiting"),
        pictures_per_second=run.steps * options.batch / clock.total,
    )


def config_seed(config: RunConfig, epoch: int) -> int:
    """Return the seed of what the network draws in an epoch: dropout, stochastic depth."""
    return config.seed * 100_003 + epoch


def training_step(
    run: Preparation, batch: Batch, rate: float, random: np.random.Generator, clock: Stopwatch
) -> Tensor:
    """Change the weights once.

    Parameters
    ----------
    run
        Who learns, and what is minimised.
    batch
        This process's part of the step's pictures, on the processor.
    rate
        The learning rate.
    random
        In the same state in every process.
    clock
        Is told when each part is done.

    Returns
    -------
    Tensor
        The loss; its mean over all processes is that of the whole batch.
    """
    learner, options, fabric = run.learner, run.config.optimisation, run.learner.fabric
    images, targets, mask, outlines, known = (
        tensor.to(fabric.device, non_blocking=True) for tensor in batch
    )
    if options.first_size and learner.position.epoch < options.first_size_epochs:
        images, outlines = _reduced(images, outlines, options.first_size)
    blend = draw_blend(options, len(images), random)
    rows = known.any(1)
    counts = _counts(fabric, mask, known, rows)
    # One row alone has no batch statistics.
    teaches_outlines = run.config.network.structures and blend is None and counts.rows > 1
    shown = images if blend is None else blend.mix(images)
    shown = shown.contiguous(memory_format=torch.channels_last)
    clock.lap("transfer")
    answers = learner.forward(shown, rows if teaches_outlines else None)
    clock.lap("forward")
    loss = _label_loss(run, answers.logits, targets, mask, blend, counts)
    if answers.outlined is not None:
        outline_loss = structure_loss(
            answers.outlined, outlines[rows], known[rows], counts.outlines
        )
        loss = loss + options.structure_weight * outline_loss
    # Gradients are averaged over processes; each divided by the whole batch's counts.
    loss = loss * fabric.world_size
    clock.lap("loss")
    learner.optimiser.zero_grad(set_to_none=True)
    fabric.backward(loss)
    clock.lap("backward")
    fabric.clip_gradients(
        learner.forward, learner.optimiser, options.gradient_norm, error_if_nonfinite=False
    )
    for group in learner.optimiser.param_groups:
        group["lr"] = rate
    learner.optimiser.step()
    clock.lap("optimiser")
    return loss.detach()


class _Counts(NamedTuple):
    """How much the whole batch knows: of each output, of outlines, and how many rows have any."""

    known: Tensor
    outlines: Tensor
    rows: int


def _counts(fabric: Fabric, mask: Tensor, known: Tensor, rows: Tensor) -> _Counts:
    own = torch.cat([mask.sum(0), known.sum().view(1), rows.sum().float().view(1)])
    every = own if fabric.world_size == 1 else fabric.all_reduce(own, reduce_op="sum")
    assert isinstance(every, Tensor)
    return _Counts(every[:-2], every[-2], int(every[-1].item()))


def _label_loss(
    run: Preparation,
    logits: Tensor,
    targets: Tensor,
    mask: Tensor,
    blend: Blend | None,
    counts: _Counts,
) -> Tensor:
    """Return the loss of the labels; a blended picture is taught both of its pictures' labels."""
    loss = masked_loss(logits, targets, mask, run.positive, run.importance, counts.known)
    if blend is None:
        return loss
    theirs = (targets[blend.partner], mask[blend.partner])
    other = masked_loss(logits, *theirs, run.positive, run.importance, counts.known)
    return blend.share * loss + (1 - blend.share) * other


def _reduced(images: Tensor, outlines: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Return pictures of a smaller size, and outlines of half of it."""
    return (
        nn.functional.interpolate(images, size=(size, size), mode="area"),
        nn.functional.interpolate(outlines, size=(size // 2, size // 2), mode="area"),
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


def _show(bar: Progress, task: object, loss: float, rate: float) -> None:
    bar.update(task, note=f"loss {loss:.3f}, {rate:.1f} pictures/s")  # type: ignore[arg-type]


def _check_folder(config_path: Path, out: Path, resume: bool) -> None:
    """Refuse to write over a run, or to go on with another."""
    if not resume:
        if (out / CHECKPOINT_NAME).exists():
            raise ConfigurationError(f"{out}: holds a run; add --resume, or choose another --out")
    elif not (out / CHECKPOINT_NAME).is_file():
        raise ConfigurationError(f"{out}: there is no checkpoint to go on from")
    elif (out / "config.toml").read_bytes() != config_path.read_bytes():
        raise ConfigurationError(f"{out}: the run was started with another configuration")
