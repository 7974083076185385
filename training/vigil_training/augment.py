"""What happens to a training picture after ``to_model_input``: corruptions and MONAI transforms.

Outlines of lungs and heart go where the picture goes.

Each picture's draws come from a seed of its own (run, epoch, place in the epoch), so an epoch is
the same whatever the number of workers, and a resumed run sees what an uninterrupted one would.
"""

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from monai.data import set_track_meta
from monai.transforms import (
    Compose,
    RandAdjustContrastd,
    RandAffined,
    RandCoarseDropoutd,
    RandGaussianNoised,
)
from numpy.typing import NDArray

from vigil.preprocess import Letterbox, letterbox_of
from vigil_training.config import ATTRIBUTES, AugmentationConfig

BLACK, WHITE = -2.0, 2.0
"""The ends of a standardised picture; the letterbox is filled with black."""
_SHRINK_PIXELS = (64, 97)
_HOLE_PART = (1 / 14, 1 / 5)


@dataclass(frozen=True)
class Corruption:
    """A draw of what is done to a picture as a whole, apart from doing it.

    Attributes
    ----------
    inverted
        Whether bone becomes dark, as in a MONOCHROME1 picture whose header was lost.
    quarter_turns
        How often the picture is turned by 90 degrees, 0 to 3.
    shrink_to
        Longest side in pixels to shrink to before enlarging again, 0 for none.
    crop
        (top, bottom, left, right) parts that are cut away, or None.
    mirrored
        Whether left and right change places, as of a film seen from behind.
    """

    inverted: bool = False
    quarter_turns: int = 0
    shrink_to: int = 0
    crop: tuple[float, float, float, float] | None = None
    mirrored: bool = False

    @property
    def hides_findings(self) -> bool:
        """Whether a picture corrupted like this no longer teaches findings."""
        return self.inverted or self.quarter_turns > 0


def draw_corruption(
    random: np.random.Generator, config: AugmentationConfig, chest: bool
) -> Corruption:
    """Draw a corruption: chest films are inverted, turned and shrunk, other pictures cropped."""
    if not chest:
        if random.random() >= config.crop_probability:
            return Corruption()
        top, bottom, left, right = random.uniform(0, 0.3, 4)
        return Corruption(crop=(top, bottom, left, right))
    inverted = random.random() < config.invert_probability
    turned = not inverted and random.random() < config.rotate_quarter_probability
    shrunk = random.random() < config.shrink_probability
    mirrored = random.random() < config.mirror_probability
    return Corruption(
        mirrored=mirrored,
        inverted=inverted,
        quarter_turns=int(random.integers(1, 4)) if turned else 0,
        shrink_to=int(random.integers(*_SHRINK_PIXELS)) if shrunk else 0,
    )


def apply_corruption(
    picture: NDArray[np.float32], box: Letterbox, corruption: Corruption
) -> NDArray[np.float32]:
    """Return a corrupted copy.

    Parameters
    ----------
    picture
        (S, S) float32 standardised, letterboxed.
    box
        Where the picture lies in it; the filling stays black.
    """
    result = picture.copy()
    rows, columns = slice(box.top, box.top + box.height), slice(box.left, box.left + box.width)
    content = result[rows, columns]
    if corruption.crop is not None:
        return _refit(content, corruption.crop, picture.shape[0])
    if corruption.shrink_to:
        scale = corruption.shrink_to / picture.shape[0]
        small = (max(1, round(box.width * scale)), max(1, round(box.height * scale)))
        reduced = cv2.resize(content, small, interpolation=cv2.INTER_AREA)
        content = cv2.resize(reduced, (box.width, box.height), interpolation=cv2.INTER_LINEAR)
    result[rows, columns] = -content if corruption.inverted else content
    return _moved(result, corruption)


def _moved(square: NDArray[np.float32], corruption: Corruption) -> NDArray[np.float32]:
    """Turn and mirror the last two axes of a picture or of outlines."""
    turned = np.rot90(square, corruption.quarter_turns, axes=(-2, -1))
    return np.ascontiguousarray(turned[..., ::-1] if corruption.mirrored else turned)


def _refit(
    content: NDArray[np.float32], crop: tuple[float, float, float, float], size: int
) -> NDArray[np.float32]:
    """Cut a picture and letterbox what is left."""
    height, width = content.shape
    top, bottom, left, right = crop
    kept = content[
        int(top * height) : max(int(top * height) + 1, round((1 - bottom) * height)),
        int(left * width) : max(int(left * width) + 1, round((1 - right) * width)),
    ]
    box = letterbox_of(kept.shape[0], kept.shape[1], size)
    canvas = np.full((size, size), BLACK, np.float32)
    canvas[box.top : box.top + box.height, box.left : box.left + box.width] = cv2.resize(
        kept, (box.width, box.height), interpolation=cv2.INTER_LINEAR
    )
    return canvas


class Variant(NamedTuple):
    """One variant of a picture, and what it still teaches.

    ``picture`` (S, S), ``targets`` and ``mask`` (outputs,), and ``outlines`` (structures, S, S) or
    None; all float32.
    """

    picture: NDArray[np.float32]
    targets: NDArray[np.float32]
    mask: NDArray[np.float32]
    outlines: NDArray[np.float32] | None


class Augmentation:
    """Makes one variant of a picture, and says what it still teaches."""

    def __init__(self, config: AugmentationConfig, findings: int, size: int) -> None:
        set_track_meta(False)  # plain tensors: no header travels with a picture here
        self._config = config
        self._findings = findings
        shift = round(config.translate * size)
        self._transforms = Compose(
            [
                RandAffined(
                    keys=("picture", "outlines"),
                    allow_missing_keys=True,
                    prob=config.affine_probability,
                    rotate_range=float(np.deg2rad(config.rotate_degrees)),
                    scale_range=(config.scale, config.scale),
                    translate_range=(shift, shift),
                    spatial_size=(size, size),
                    cache_grid=True,
                    mode="bilinear",
                    padding_mode="zeros",
                ),
                RandAdjustContrastd(
                    keys="picture",
                    prob=config.gamma_probability,
                    gamma=(1 / config.gamma, config.gamma),
                ),
                RandGaussianNoised("picture", prob=config.noise_probability, std=config.noise),
                RandCoarseDropoutd(
                    keys="picture",
                    holes=1,
                    max_holes=3,
                    spatial_size=max(1, round(_HOLE_PART[0] * size)),
                    max_spatial_size=max(2, round(_HOLE_PART[1] * size)),
                    fill_value=0,
                    prob=config.dropout_probability,
                ),
            ]
        )

    def __call__(
        self,
        picture: NDArray[np.float32],
        box: Letterbox,
        chest: bool,
        targets: NDArray[np.float32],
        mask: NDArray[np.float32],
        seed: tuple[int, ...],
        outlines: NDArray[np.float32] | None = None,
    ) -> Variant:
        """Return the variant.

        Parameters
        ----------
        picture
            (S, S) float32 standardised.
        box
            Where the picture lies in it.
        chest
            Whether it is a chest film.
        targets, mask
            (outputs,) float32, not changed.
        seed
            Names this draw; the same seed gives the same variant.
        outlines
            (structures, S, S) float32, 1 inside, or None.
        """
        random = np.random.default_rng(seed)
        corruption = draw_corruption(random, self._config, chest)
        targets, mask = targets.copy(), mask.copy()
        if corruption.hides_findings:
            mask[: self._findings] = 0
        if chest:
            attributes = targets[self._findings :]
            attributes[ATTRIBUTES.index("mirrored")] = corruption.mirrored
            attributes[ATTRIBUTES.index("inverted")] = corruption.inverted
            attributes[ATTRIBUTES.index("rotated")] = corruption.quarter_turns > 0
        corrupted = apply_corruption(picture, box, corruption)
        # The transforms fill with zeros, so black is zero while they run.
        shown = {"picture": corrupted[np.newaxis] - np.float32(BLACK)}
        if outlines is not None:
            shown["outlines"] = _moved(outlines, corruption)
        self._transforms.set_random_state(int(random.integers(2**31)))
        varied = {name: np.asarray(value) for name, value in self._transforms(shown).items()}
        varied_picture = np.clip(varied["picture"][0] + np.float32(BLACK), BLACK, WHITE)
        return Variant(varied_picture, targets, mask, varied.get("outlines"))
