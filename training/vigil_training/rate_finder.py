"""Which learning rate to begin with: a range test (Smith 2017, arXiv 1506.01186).

The rate grows from step to step, and the loss says where learning begins and where it ends. The
steps are the run's own, with all of its losses, clipping and precision, which MONAI's finder could
not take (``docs/decisions/training-at-scale.md``).
"""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vigil.errors import ConfigurationError
from vigil_training.config import RunConfig
from vigil_training.drawing import new_figure

FIRST_RATE, LAST_RATE = 1e-6, 1.0
_SMOOTHING = 0.9
_DIVERGED = 4.0
"""A smoothed loss of so many times its least ends the test."""


@dataclass(frozen=True)
class RateTest:
    """A range test: each step's rate, its loss and the smoothed loss, and what they suggest.

    ``suggestion`` is the rate at which the smoothed loss falls most steeply.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]
    suggestion: float


def find_rate(
    config: RunConfig, data: Path | None, folder: Path, steps: int, cache: Path | None = None
) -> RateTest:
    """Run a range test from the run's first weights; no checkpoint is read or written.

    Parameters
    ----------
    config, data, cache
        As for :func:`vigil_training.train.train`.
    folder
        Gets ``learning-rate.json`` and ``learning-rate.png``, and nothing else.
    steps
        From the first rate to the last.

    Raises
    ------
    ConfigurationError
        If the loss diverged before anything was learnt.
    """
    from vigil_training.stopwatch import Stopwatch
    from vigil_training.train import prepare, training_step

    run = prepare(config, data, None, cache)
    run.learner.network.train()
    random = np.random.default_rng(config.seed)
    rates: list[float] = []
    losses: list[float] = []
    epoch = 0
    while len(losses) < steps and not diverged(losses):
        for batch in run.loader(run.epoch(epoch)):
            rate = rate_at(len(losses), steps)
            loss = training_step(run, batch, rate, random, Stopwatch()).item()
            rates.append(rate)
            losses.append(loss)
            if len(losses) == steps or diverged(losses):
                break
        epoch += 1
    kept = [place for place, loss in enumerate(losses) if math.isfinite(loss)]
    rates, losses = [rates[n] for n in kept], [losses[n] for n in kept]
    curve = smoothed(losses)
    found = RateTest(tuple(rates), tuple(losses), tuple(curve.tolist()), suggestion(rates, curve))
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(asdict(found), indent=1)
    (folder / "learning-rate.json").write_text(text + "\n", encoding="utf-8")
    _draw(found, folder / "learning-rate.png")
    return found


def rate_at(step: int, steps: int) -> float:
    """Return a step's rate: from the first to the last by equal factors."""
    return float(FIRST_RATE * (LAST_RATE / FIRST_RATE) ** (step / max(1, steps - 1)))


def smoothed(losses: list[float]) -> NDArray[np.float64]:
    """Return the exponential moving average of losses, without its lean to the start."""
    values, average = [], 0.0
    for step, loss in enumerate(losses, 1):
        average = _SMOOTHING * average + (1 - _SMOOTHING) * loss
        values.append(average / (1 - _SMOOTHING**step))
    return np.asarray(values)


def diverged(losses: list[float]) -> bool:
    """Return whether nothing more is to be learnt from higher rates."""
    if not losses:
        return False
    if not math.isfinite(losses[-1]):
        return True
    curve = smoothed(losses)
    return bool(curve[-1] > _DIVERGED * curve.min())


def suggestion(rates: list[float], curve: NDArray[np.float64]) -> float:
    """Return the rate at which the smoothed loss falls most steeply, over the rate's logarithm.

    Raises
    ------
    ConfigurationError
        If it falls nowhere.
    """
    if len(curve) >= 3:
        slope = np.gradient(curve, np.log(rates))
        place = int(slope.argmin())
        if slope[place] < 0:
            return rates[place]
    raise ConfigurationError(
        "the loss fell at no learning rate: is optimisation.batch large enough, and --steps?"
    )


def _draw(found: RateTest, path: Path) -> None:
    figure = new_figure(7, 4.5)
    axes = figure.add_subplot()
    axes.plot(found.rates, found.losses, color="#9ab3c9", linewidth=1, label="loss of a step")
    axes.plot(found.rates, found.smoothed, color="#0b5cab", linewidth=2, label="smoothed")
    axes.axvline(found.suggestion, color="#b3541e", linestyle="--")
    axes.annotate(
        f"steepest: {found.suggestion:.1e}",
        (found.suggestion, 0.97),
        xycoords=("data", "axes fraction"),
        xytext=(6, 0),
        textcoords="offset points",
        color="#b3541e",
        va="top",
    )
    low, high = min(found.smoothed), found.smoothed[0]
    axes.set_ylim(low - 0.15 * (high - low) - 0.02, high + 0.5 * (high - low) + 0.02)
    axes.set_xscale("log")
    axes.set_xlabel("learning rate")
    axes.set_ylabel("loss")
    axes.legend(loc="lower left", frameon=False)
    figure.savefig(path, dpi=120)
