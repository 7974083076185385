"""What happens to a training picture after ``to_model_input``: corruptions and MONAI transforms.

Each picture's draws come from a seed of its own (run, epoch, place in the epoch), so an epoch is
the same whatever the number of workers, and a resumed run sees what an uninterrupted one would.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from monai.data import set_track_meta
from monai.transforms import (
    Compose,
    RandAdjustContrast,
    RandAffine,
    RandCoarseDropout,
    RandGaussianNoise,
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
    """

    inverted: bool = False
    quarter_turns: int = 0
    shrink_to: int = 0
    crop: tuple[float, float, float, float] | None = None

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
    return Corruption(
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
    return np.ascontiguousarray(np.rot90(result, corruption.quarter_turns))


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


class Augmentation:
    """Makes one variant of a picture, and says what it still teaches.

    No flip: it would put the heart on the right, and dextrocardia is not what is to be learnt.
    """

    def __init__(self, config: AugmentationConfig, findings: int, size: int) -> None:
        set_track_meta(False)  # plain tensors: no header travels with a picture here
        self._config = config
        self._findings = findings
        shift = round(config.translate * size)
        self._transforms = Compose(
            [
                RandAffine(
                    prob=config.affine_probability,
                    rotate_range=float(np.deg2rad(config.rotate_degrees)),
                    scale_range=(config.scale, config.scale),
                    translate_range=(shift, shift),
                    mode="bilinear",
                    padding_mode="zeros",
                ),
                RandAdjustContrast(
                    prob=config.gamma_probability, gamma=(1 / config.gamma, config.gamma)
                ),
                RandGaussianNoise(prob=config.noise_probability, std=config.noise),
                RandCoarseDropout(
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
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """Return the variant, its targets and its mask.

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
        """
        random = np.random.default_rng(seed)
        corruption = draw_corruption(random, self._config, chest)
        targets, mask = targets.copy(), mask.copy()
        if corruption.hides_findings:
            mask[: self._findings] = 0
            attributes = targets[self._findings :]
            attributes[ATTRIBUTES.index("inverted")] = corruption.inverted
            attributes[ATTRIBUTES.index("rotated")] = corruption.quarter_turns > 0
        corrupted = apply_corruption(picture, box, corruption)
        self._transforms.set_random_state(int(random.integers(2**31)))
        # The transforms fill with zeros, so black is zero while they run.
        varied = np.asarray(self._transforms(corrupted[np.newaxis] - np.float32(BLACK)))
        return np.clip(varied[0] + np.float32(BLACK), BLACK, WHITE), targets, mask
