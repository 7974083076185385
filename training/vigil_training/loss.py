"""Binary cross-entropy in which what is unknown does not count."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vigil_training.config import OptimisationConfig
from vigil_training.targets import Example


def masked_loss(
    logits: Tensor,
    targets: Tensor,
    mask: Tensor,
    positive_weight: Tensor,
    output_weight: Tensor,
    known: Tensor | None = None,
) -> Tensor:
    """Return the mean over outputs of each output's mean loss over its known targets.

    The mean within an output comes first, so that a finding which few pictures know (tuberculosis)
    counts as much as one that most know. An output that no picture of the batch knows is left out.

    Parameters
    ----------
    logits, targets, mask
        (N, outputs); a target counts where the mask is 1.
    positive_weight
        (outputs,) weight of a positive against a negative.
    output_weight
        (outputs,) weight of an output against the others.
    known
        (outputs,) how much of each output is known, if these are a part of the batch only: the sum
        over the parts is then the whole batch's loss.
    """
    each = torch.nn.functional.binary_cross_entropy_with_logits(
        logits, targets, pos_weight=positive_weight, reduction="none"
    )
    known = mask.sum(0) if known is None else known
    mean = (each * mask).sum(0) / known.clamp(min=1)
    weight = output_weight * (known > 0)
    return (mean * weight).sum() / weight.sum().clamp(min=1e-8)


def positive_weights(
    examples: Sequence[Example], findings: int, config: OptimisationConfig
) -> NDArray[np.float32]:
    """Return (outputs,) weights: (negatives / positives) ** power, limited; attributes 1."""
    targets = np.stack([example.targets for example in examples])
    mask = np.stack([example.mask for example in examples])
    positives = (targets * mask).sum(0)
    negatives = ((1 - targets) * mask).sum(0)
    weights = (negatives / np.maximum(positives, 1)) ** config.positive_weight_power
    limited: NDArray[np.float32] = weights.clip(1, config.positive_weight_limit).astype(np.float32)
    limited[findings:] = 1
    return limited
