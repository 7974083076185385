"""Softer targets: what earlier runs say of the training films, beside their labels."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from vigil.errors import ConfigurationError
from vigil_training.config import ATTRIBUTES, RunConfig, TeacherConfig, load_config
from vigil_training.dataset import PictureCache
from vigil_training.network import Network, make_network
from vigil_training.targets import Example

_BATCH = 32


def soften(
    cache: PictureCache, config: RunConfig, progress: Callable[[int], None] = lambda done: None
) -> None:
    """Mix earlier runs' probabilities into a cache's targets, in place.

    Their answer to a film is the mean of all networks' to the film and to its mirror image.

    Raises
    ------
    ConfigurationError
        If a teacher's weights cannot be read or do not fit.
    """
    teacher = config.teacher
    if teacher is None:
        return
    networks = [_network(Path(weights), config) for weights in teacher.weights]
    child = len(config.findings) + ATTRIBUTES.index("child")
    adults = [
        index
        for index, example in enumerate(cache.examples)
        if example.chest and example.mask[child] and not example.targets[child]
    ]
    columns = [config.outputs.index(key) for key in teacher.findings]
    examples = list(cache.examples)
    for start in range(0, len(adults), _BATCH):
        part = adults[start : start + _BATCH]
        pictures = cache.pictures[part]
        answers = np.mean([_probabilities(network, pictures) for network in networks], axis=0)
        for index, answer in zip(part, answers, strict=True):
            examples[index] = softened(examples[index], answer, columns, teacher)
        progress(len(part))
    cache.examples = tuple(examples)


def softened(
    example: Example, answer: NDArray[np.float32], columns: list[int], teacher: TeacherConfig
) -> Example:
    """Return an example whose targets in ``columns`` lean to an answer of (outputs,) in 0 to 1."""
    targets, mask = example.targets.copy(), example.mask.copy()
    known = mask[columns] > 0
    share = np.where(known, teacher.share, 1.0)
    targets[columns] = (1 - share) * targets[columns] + share * answer[columns]
    mask[columns] = np.where(known, mask[columns], teacher.unknown_weight)
    return replace(example, targets=targets, mask=mask)


def _network(weights: Path, config: RunConfig) -> Network:
    """Return a teacher: as its own run's configuration beside it says, else as the pupil is."""
    beside = weights.parent / "config.toml"
    own = load_config(beside) if beside.is_file() else config
    if own.outputs != config.outputs:
        raise ConfigurationError(f"teacher.weights: {weights} has other outputs than this run")
    given = own.network.model_copy(update={"init": str(weights)})
    network = make_network(given, len(config.outputs), config.outputs).eval()
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network


@torch.no_grad()
def _probabilities(network: Network, pictures: NDArray[np.floating]) -> NDArray[np.float32]:
    images = torch.from_numpy(pictures.astype(np.float32)[:, np.newaxis])
    images = images.contiguous(memory_format=torch.channels_last)
    answers = torch.sigmoid(network(images).logits) + torch.sigmoid(network(images.flip(3)).logits)
    result: NDArray[np.float32] = (answers / 2).numpy()
    return result
