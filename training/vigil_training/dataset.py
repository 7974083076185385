"""Pictures that were read once, and in which order an epoch sees them."""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from vigil.errors import ConfigurationError, ImageRefused, ManifestError
from vigil.image_file import image_format, read_image
from vigil.preprocess import Letterbox, PreprocessingSpec, letterbox_of, to_model_input
from vigil_training.augment import Augmentation
from vigil_training.config import STRUCTURES, RunConfig
from vigil_training.picture_store import Pictures, ReadPicture, keep
from vigil_training.targets import GATE_SOURCE, Example

Item = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]
"""Picture, targets, mask, outlines, and which outlines are known."""


def read_pixels(path: Path) -> NDArray[np.uint16]:
    """Read a PNG or JPEG as the service reads it: (rows, columns) uint16 display values.

    Raises
    ------
    ManifestError
        If the file is no picture that the service would read.
    """
    try:
        file_format = image_format(path)
        if file_format is None:
            raise ManifestError(f"{path}: is neither a PNG nor a JPEG file")
        return read_image(path, file_format).pixels
    except OSError as error:
        raise ManifestError(f"{path}: cannot be read ({error.strerror})") from error
    except ImageRefused as refusal:
        raise ManifestError(f"{path}: {refusal.reason}") from refusal


class PictureCache:
    """All pictures of a run after ``to_model_input``, in half precision, in memory or on the disk.

    Attributes
    ----------
    examples
        What is known of each picture.
    pictures
        (examples, S, S) float16, standardised.
    boxes
        Where each picture lies inside its square.
    outlines
        Index of a picture to (structures, S, S) uint8, 255 inside; a picture without any outline
        is not there, and one that is not known is empty.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        size: int,
        progress: Callable[[int], None] = lambda done: None,
        folder: Path | None = None,
    ) -> None:
        """Read the pictures.

        Parameters
        ----------
        examples
            Each with its file, or its pixels.
        size
            Side of the square.
        progress
            Is told of each picture that is done.
        folder
            Keep what was read there, for later runs and for other processes; None is in memory.

        Raises
        ------
        ManifestError
            If a file is no picture that the service would read.
        StorageError
            If the folder has no room.
        """
        self.examples = tuple(examples)
        self.pictures: Pictures
        self.outlines: Mapping[int, NDArray[np.uint8]]
        if folder is not None:
            kept = keep(folder, self.examples, size, read_example, progress)
            self.pictures, self.boxes, self.outlines = kept
            return
        pictures = np.empty((len(self.examples), size, size), np.float16)
        outlines: dict[int, NDArray[np.uint8]] = {}

        def load(index: int) -> Letterbox:
            read = read_example(self.examples[index], size)
            pictures[index] = read.picture
            if read.outlines is not None:
                outlines[index] = read.outlines
            progress(1)
            return letterbox_of(*read.shape, size)

        with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
            self.boxes = list(pool.map(load, range(len(self.examples))))
        self.pictures, self.outlines = pictures, outlines

    def __len__(self) -> int:
        return len(self.examples)


def read_example(example: Example, size: int) -> ReadPicture:
    """Read an example's picture and outlines, as :class:`PictureCache` keeps them."""
    if example.pixels is not None:
        pixels = example.pixels
    elif example.path is not None:
        pixels = read_pixels(example.path)
    else:
        raise ValueError("an example has neither a file nor pixels")
    picture = to_model_input(pixels, PreprocessingSpec(size=size))[0, 0].astype(np.float16)
    known = any(outline is not None for outline in example.outlines)
    outlines = _outlines(example, size) if known else None
    return ReadPicture(picture, (pixels.shape[0], pixels.shape[1]), outlines)


def _outlines(example: Example, size: int) -> NDArray[np.uint8]:
    """Return (structures, S, S) masks, letterboxed as the picture is."""
    squares = np.zeros((len(example.outlines), size, size), np.uint8)
    for square, outline in zip(squares, example.outlines, strict=True):
        if outline is None:
            continue
        mask = read_pixels(outline) > 0 if isinstance(outline, Path) else outline
        box = letterbox_of(mask.shape[0], mask.shape[1], size)
        shrinks = max(mask.shape) > size
        square[box.top : box.top + box.height, box.left : box.left + box.width] = cv2.resize(
            mask.astype(np.uint8) * 255,
            (box.width, box.height),
            interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR,
        )
    return squares


def pictures_per_source(config: RunConfig) -> dict[str, int]:
    """Return how many pictures of each source an epoch holds, by the shares of the run."""
    shares = {source.name: source.share for source in config.data.sources}
    if config.data.gate_share > 0:
        shares[GATE_SOURCE] = config.data.gate_share
    total = sum(shares.values())
    return {
        name: round(config.optimisation.pictures_per_epoch * share / total)
        for name, share in shares.items()
    }


def epoch_order(
    sources: Sequence[str], counts: dict[str, int], seed: int, epoch: int
) -> NDArray[np.int64]:
    """Return which pictures an epoch sees, in which order.

    Each source is an endless stream of shuffled passes; an epoch takes the next ``counts`` of it,
    so that no picture is seen twice before all of its source were seen once.

    Parameters
    ----------
    sources
        The source of each training picture.
    counts
        Pictures of each source in an epoch.
    seed, epoch
        The run's seed, and the epoch from 0.

    Raises
    ------
    ConfigurationError
        If a source that the run names has no training picture.
    """
    names = np.asarray(sources)
    chosen = []
    for place, (name, count) in enumerate(sorted(counts.items())):
        own = np.flatnonzero(names == name)
        if own.size == 0:
            raise ConfigurationError(f"the source {name} has no picture in the training part")
        wanted = np.arange(epoch * count, (epoch + 1) * count)
        for number in np.unique(wanted // own.size):
            shuffled = np.random.default_rng((seed, place, int(number))).permutation(own)
            chosen.append(shuffled[wanted[wanted // own.size == number] % own.size])
    order = np.concatenate(chosen)
    return np.random.default_rng((seed, len(counts), epoch)).permutation(order)


class TrainingEpoch(Dataset[Item]):
    """One epoch's pictures, augmented as they are asked for."""

    def __init__(
        self,
        cache: PictureCache,
        order: NDArray[np.int64],
        augmentation: Augmentation,
        seed: int,
        epoch: int,
    ) -> None:
        self._cache, self._order, self._augmentation = cache, order, augmentation
        self._seed, self._epoch = seed, epoch
        self.seconds = 0.0
        """What augmentation took, where it runs in this process."""

    def __len__(self) -> int:
        return len(self._order)

    def __getitems__(self, places: Sequence[int]) -> list[Item]:
        """Return the variants at some places: what torch's loader asks for, a batch at a time.

        On one thread: pictures are so small that handing their parts to a second one costs more
        than it saves, and many times as much where others use the second core.
        """
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            return [self[place] for place in places]
        finally:
            torch.set_num_threads(threads)

    def __getitem__(self, place: int) -> Item:
        """Return the variant at a place in the epoch.

        Outlines are at half the size, the part of each place that they cover; a picture without
        any has zeros there, and zeros in what is known.
        """
        started = time.perf_counter()
        index = int(self._order[place])
        example = self._cache.examples[index]
        stored = self._cache.outlines.get(index)
        variant = self._augmentation(
            self._cache.pictures[index].astype(np.float32),
            self._cache.boxes[index],
            example.chest,
            example.targets,
            example.mask,
            (self._seed, self._epoch, place),
            None if stored is None else stored.astype(np.float32) / np.float32(255),
        )
        half = variant.picture.shape[0] // 2
        outlines = np.zeros((len(STRUCTURES), half, half), np.float32)
        if variant.outlines is not None:
            rows = variant.outlines[:, ::2] + variant.outlines[:, 1::2]
            outlines = (rows[:, :, ::2] + rows[:, :, 1::2]) / np.float32(4)
        known = [float(outline is not None) for outline in example.outlines]
        self.seconds += time.perf_counter() - started
        return (
            torch.from_numpy(variant.picture[np.newaxis]),
            torch.from_numpy(variant.targets),
            torch.from_numpy(variant.mask),
            torch.from_numpy(outlines),
            torch.tensor(known),
        )


def validation_subset(cache: PictureCache, limit: int) -> NDArray[np.int64]:
    """Return the pictures scored after each epoch: at most ``limit`` of a source, 0 is all.

    They are spread evenly over the source's rows, so no patient order favours one end.
    """
    names = np.asarray([example.source for example in cache.examples])
    chosen = []
    for name in sorted(set(names.tolist())):
        own = np.flatnonzero(names == name)
        if limit and own.size > limit:
            own = own[np.linspace(0, own.size - 1, limit).round().astype(np.int64)]
        chosen.append(own)
    return np.concatenate(chosen)
