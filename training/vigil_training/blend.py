"""Pictures blended in pairs (mixup, Zhang et al. 2018, arXiv 1710.09412)."""

from typing import NamedTuple

import numpy as np
import torch

from vigil_training.config import OptimisationConfig

_CONCENTRATION = 0.4
"""Of the beta distribution that shares are drawn from: most blends lean to one of the pair."""


class Blend(NamedTuple):
    """How the pictures of a step are blended: each with its partner, which gets the rest."""

    partner: torch.Tensor
    share: float

    def mix(self, images: torch.Tensor) -> torch.Tensor:
        """Return (N, ...) pictures, each blended with its partner."""
        return self.share * images + (1 - self.share) * images[self.partner]


def draw_blend(
    options: OptimisationConfig, pictures: int, random: np.random.Generator
) -> Blend | None:
    """Draw whether and how a step's pictures are blended.

    Parameters
    ----------
    options
        Its ``mixup_share`` is the part of the steps that are blended.
    pictures
        How many pictures of the step this process has; partners are found among them.
    random
        In the same state in every process: all blend, or none does.
    """
    if options.mixup_share == 0 or random.random() >= options.mixup_share:
        return None
    share = float(random.beta(_CONCENTRATION, _CONCENTRATION))
    return Blend(torch.from_numpy(random.permutation(pictures)), share)
