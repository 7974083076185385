"""Outlines of lungs and heart: a small decoder on the backbone's own feature maps, and its loss.

A feature pyramid (Lin et al. 2017, doi 10.1109/CVPR.2017.106): each map is brought to one width and
added to the next coarser one, enlarged; depthwise separable convolutions keep it at a few per cent
of the backbone's arithmetic.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

_WIDTH = 48
_SMOOTH = 1.0


class StructureDecoder(nn.Module):
    """From feature maps at a quarter to a 32nd of the input to outlines at half of it."""

    def __init__(self, channels: Sequence[int], structures: int) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(c, _WIDTH, 1) for c in channels)
        self.merge = nn.ModuleList(_separable(_WIDTH) for _ in channels[:-1])
        self.outline = nn.Sequential(_separable(_WIDTH), nn.Conv2d(_WIDTH, structures, 1))

    def forward(self, pyramid: Sequence[Tensor]) -> Tensor:
        """Return (N, structures, S/2, S/2) logits.

        Parameters
        ----------
        pyramid
            The feature maps, the finest first, each half as large as the one before.
        """
        x = self.lateral[-1](pyramid[-1])
        for level in range(len(pyramid) - 2, -1, -1):
            x = nn.functional.interpolate(x, scale_factor=2.0, mode="nearest")
            x = self.merge[level](x + self.lateral[level](pyramid[level]))
        return nn.functional.interpolate(
            self.outline(x), scale_factor=2.0, mode="bilinear", align_corners=False
        )


def _separable(width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False),
        nn.Conv2d(width, width, 1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
    )


def structure_loss(
    logits: Tensor, outlines: Tensor, known: Tensor, count: Tensor | None = None
) -> Tensor:
    """Return cross-entropy plus soft Dice loss, over the outlines that are known.

    Parameters
    ----------
    logits, outlines
        (N, structures, h, w); the part of each place that belongs to the structure, 0 to 1.
    known
        (N, structures), 1 where the picture has an outline of the structure.
    count
        How many outlines are known, if these are a part of the batch only.
    """
    probability = torch.sigmoid(logits)
    overlap = (probability * outlines).sum((2, 3))
    areas = probability.sum((2, 3)) + outlines.sum((2, 3))
    dice = 1 - (2 * overlap + _SMOOTH) / (areas + _SMOOTH)
    entropy = nn.functional.binary_cross_entropy_with_logits(logits, outlines, reduction="none")
    each = entropy.mean((2, 3)) + dice
    return (each * known).sum() / (known.sum() if count is None else count).clamp(min=1)
