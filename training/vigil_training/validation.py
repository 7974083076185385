"""What the held-out pictures say of a network after an epoch."""

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray

from vigil_training.config import STRUCTURES, RunConfig
from vigil_training.dataset import PictureCache
from vigil_training.devices import gathered
from vigil_training.network import Network
from vigil_training.statistics import auroc
from vigil_training.targets import Example


@torch.no_grad()
def predict(
    network: Network, cache: PictureCache, indices: NDArray[np.int64], batch: int, fabric: Fabric
) -> NDArray[np.float32]:
    """Return (len(indices), outputs) logits of a cache's pictures, without augmentation.

    Each process judges its share of the pictures; all of them get every answer.
    """
    network.eval()
    own = indices[fabric.global_rank :: fabric.world_size]
    parts = [np.zeros((0, network.head.out_features), np.float32)]
    for start in range(0, len(own), batch):
        images = _images(cache, own[start : start + batch], fabric.device)
        parts.append(network(images).logits.float().cpu().numpy())
    return gathered(fabric, np.concatenate(parts), len(indices))


def _images(cache: PictureCache, indices: NDArray[np.int64], device: torch.device) -> torch.Tensor:
    part = cache.pictures[indices].astype(np.float32)[:, np.newaxis]
    return torch.from_numpy(part).to(device).contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def validation_dice(
    network: Network, held_out: PictureCache, batch: int, fabric: Fabric
) -> dict[str, float]:
    """Return each structure's mean Dice coefficient over the held-out pictures with its outline."""
    network.eval()
    indices = np.asarray(sorted(held_out.outlines), np.int64)
    own = indices[fabric.global_rank :: fabric.world_size]
    found = np.full((len(own), len(STRUCTURES)), np.nan, np.float32)
    for start in range(0, len(own), batch):
        part = own[start : start + batch]
        outputs = network(_images(held_out, part, fabric.device))
        outlined = (network.structures(outputs.pyramid) > 0).cpu().numpy()
        for row, (index, masks) in enumerate(zip(part.tolist(), outlined, strict=True), start):
            truth = held_out.outlines[index][:, ::2, ::2] > 127
            for place in range(len(STRUCTURES)):
                if held_out.examples[index].outlines[place] is not None:
                    overlap = 2 * (masks[place] & truth[place]).sum()
                    total = masks[place].sum() + truth[place].sum()
                    found[row, place] = overlap / max(total, 1)
    every = gathered(fabric, found, len(indices)).astype(np.float64)
    known = (
        (name, values[~np.isnan(values)]) for name, values in zip(STRUCTURES, every.T, strict=True)
    )
    return {name: float(values.mean()) for name, values in known if values.size}


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
