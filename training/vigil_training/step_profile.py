"""Where a step's time goes, and what it is beside the bare forward and backward passes."""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from torch import Tensor

from vigil_training.config import RunConfig
from vigil_training.dataset import validation_subset
from vigil_training.stopwatch import Stopwatch
from vigil_training.train import Batch, Preparation, prepare, training_step, update_average
from vigil_training.validation import predict

_WARM_UP = 3
_TRACED = 2


@dataclass(frozen=True)
class StepProfile:
    """What ``vigil train --profile`` measured.

    Attributes
    ----------
    steps, batch
        How many steps, of how many pictures.
    seconds
        By part of a step, all steps together. ``waiting`` is for data beyond the augmentation that
        ran in the same process.
    bare_seconds
        Forward and backward passes alone, of the same batches, between the steps.
    validation_seconds
        One epoch's validation, from a part of it.
    epoch_steps
        Steps of an epoch.
    """

    steps: int
    batch: int
    seconds: dict[str, float]
    bare_seconds: float
    validation_seconds: float
    epoch_steps: int

    @property
    def waiting_share(self) -> float:
        """The part of a step in which nothing is learnt because its pictures are not there."""
        waited = self.seconds.get("waiting", 0) + self.seconds.get("augmentation", 0)
        return waited / sum(self.seconds.values())

    @property
    def step_ratio(self) -> float:
        """How many times as long as the bare passes a step takes."""
        return sum(self.seconds.values()) / self.bare_seconds

    @property
    def epoch_ratio(self) -> float:
        """The same of a whole epoch with its validation."""
        epoch = sum(self.seconds.values()) / self.steps * self.epoch_steps
        return (epoch + self.validation_seconds) / (
            self.bare_seconds / self.steps * self.epoch_steps
        )

    def lines(self) -> list[str]:
        """Return the table that is printed."""
        total = sum(self.seconds.values())
        rows = [
            f"{name:14} {1000 * spent / self.steps:9.1f} ms {spent / total:7.1%}"
            for name, spent in self.seconds.items()
        ]
        return [
            f"{self.steps} steps of {self.batch} pictures, a step:",
            *rows,
            f"{'all':14} {1000 * total / self.steps:9.1f} ms, "
            f"{self.steps * self.batch / total:.1f} pictures/s",
            f"data (waiting and augmentation): {self.waiting_share:.1%} of a step",
            f"bare forward and backward passes: {1000 * self.bare_seconds / self.steps:.1f} ms; "
            f"a step is {self.step_ratio:.2f} times, an epoch with its validation "
            f"{self.epoch_ratio:.2f} times as long",
        ]


def profile(
    config: RunConfig, data: Path | None, folder: Path, steps: int, cache: Path | None = None
) -> StepProfile:
    """Take some steps of a run and write where their time went; the run itself is not touched.

    Parameters
    ----------
    config, data, cache
        As for :func:`vigil_training.train.train`.
    folder
        Gets ``profile.json`` and ``trace.json``, torch's profile of two further steps, which
        chrome://tracing and Perfetto open.
    steps
        How many are measured, after three that warm up.
    """
    run = prepare(config, data, None, cache)
    # The size that most of a run, and its end, is trained at.
    run.learner.position.epoch = config.optimisation.first_size_epochs
    run.learner.network.train()
    device = run.learner.fabric.device
    settle = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    random = np.random.default_rng(config.seed)
    clock, bare, augmented = Stopwatch(settle), 0.0, 0.0
    for step, (batch, seconds) in enumerate(_batches(run, _WARM_UP + steps)):
        if step == _WARM_UP:
            clock, bare, augmented = Stopwatch(settle), 0.0, 0.0
        clock.skip()  # the loader's time and the bare passes are taken for themselves
        waited, in_process = seconds
        clock.seconds["waiting"] = clock.seconds.get("waiting", 0.0) + max(0, waited - in_process)
        augmented += in_process
        training_step(run, batch, config.optimisation.learning_rate / 10, random, clock)
        update_average(run.learner.averaged, run.learner.network, 0.99)
        clock.lap("average")
        bare += _bare(run, batch, settle)
    _trace(run, folder / "trace.json", random)
    found = StepProfile(
        steps=steps,
        batch=config.optimisation.batch,
        seconds={"waiting": 0.0, "augmentation": augmented} | clock.seconds,
        bare_seconds=bare,
        validation_seconds=_validation(run),
        epoch_steps=run.steps,
    )
    shares = {"waiting_share": found.waiting_share, "step_ratio": found.step_ratio}
    text = json.dumps(asdict(found) | shares | {"epoch_ratio": found.epoch_ratio}, indent=1)
    (folder / "profile.json").write_text(text + "\n", encoding="utf-8")
    return found


def _batches(run: Preparation, count: int) -> Iterator[tuple[Batch, tuple[float, float]]]:
    """Give batches, and the seconds that each was waited for, and those of its augmentation."""
    given, epoch = 0, run.config.optimisation.first_size_epochs
    while True:
        pictures = run.epoch(epoch)
        loader = iter(run.loader(pictures))
        for _ in range(run.steps):
            started, before = perf_counter(), pictures.seconds
            batch = next(loader)
            yield batch, (perf_counter() - started, pictures.seconds - before)
            given += 1
            if given == count:
                return
        epoch += 1


def _bare(run: Preparation, batch: Batch, settle: Callable[[], None]) -> float:
    """Return the seconds of a batch's passes, with the decoder where it has outlines."""
    images, rows = batch[0].to(run.learner.fabric.device), batch[4].any(1)
    outlined = rows if run.config.network.structures and int(rows.sum()) > 1 else None
    images = images.contiguous(memory_format=torch.channels_last)
    run.learner.optimiser.zero_grad(set_to_none=True)
    settle()
    started = perf_counter()
    answers = run.learner.forward(images, outlined)
    loss: Tensor = answers.logits.mean()
    if answers.outlined is not None:
        loss = loss + answers.outlined.mean()
    run.learner.fabric.backward(loss)
    settle()
    taken = perf_counter() - started
    run.learner.optimiser.zero_grad(set_to_none=True)
    return taken


def _trace(run: Preparation, path: Path, random: np.random.Generator) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    activities = [torch.profiler.ProfilerActivity.CPU]
    if run.learner.fabric.device.type == "cuda":
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=activities) as recorded:
        for batch, _ in _batches(run, _TRACED):
            training_step(run, batch, 1e-5, random, Stopwatch())
    recorded.export_chrome_trace(str(path))


def _validation(run: Preparation) -> float:
    """Return the seconds of an epoch's validation, from at most four batches of it."""
    options = run.config.optimisation
    scored = validation_subset(run.held_out, options.validation_limit_per_source)
    part = scored[: 8 * options.batch]
    started = perf_counter()
    predict(run.learner.averaged, run.held_out, part, options.batch * 2, run.learner.fabric)
    return (perf_counter() - started) * len(scored) / len(part)
