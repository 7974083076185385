"""One way of keeping decoded pictures, in a process of its own: ``bench_training`` starts it.

``python -m tests.bench.training_caches WAY FOLDER DATA PICTURES`` prints one JSON object.
"""

import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import CacheDataset, PersistentDataset
from monai.transforms import Transform

from vigil.preprocess import letterbox_of
from vigil_training.config import load_config
from vigil_training.dataset import PictureCache, read_example
from vigil_training.sources import load_examples
from vigil_training.targets import Example

CONFIG = Path(__file__).parents[2] / "training" / "configs" / "lite0-256-first.toml"
_BATCH = 32
Reader = Callable[[int], np.ndarray]


class Read(Transform):
    """What our cache keeps of an example, as MONAI's data sets call it."""

    def __init__(self, examples: Sequence[Example], size: int) -> None:
        self._by_path = {str(example.path): example for example in examples}
        self._size = size

    def __call__(self, data: dict[str, str]) -> dict[str, Any]:
        read = read_example(self._by_path[data["path"]], self._size)
        kept: dict[str, Any] = {
            "picture": torch.from_numpy(read.picture),
            "box": torch.tensor(letterbox_of(*read.shape, self._size)),
        }
        if read.outlines is not None:
            kept["outlines"] = torch.from_numpy(read.outlines)
        return kept


def open_cache(way: str, examples: Sequence[Example], size: int, folder: Path) -> Reader:
    """Read the pictures that are not kept yet, and return what gives one as (S, S) float32."""
    if way in ("array", "folder"):
        cache = PictureCache(examples, size, folder=folder if way == "folder" else None)
        return lambda index: cache.pictures[index].astype(np.float32)
    items = [{"path": str(example.path)} for example in examples]
    read = Read(examples, size)
    if way == "CacheDataset":
        kept = CacheDataset(items, read, num_workers=8, progress=False)
    else:
        kept = PersistentDataset(items, read, folder)
        for index in range(len(kept)):  # it reads when first asked
            kept[index]
    return lambda index: kept[index]["picture"].numpy().astype(np.float32)


def main(way: str, folder: Path, data: Path, pictures: int) -> dict[str, float]:
    """Open a cache, go twice over it in a random order, and say what that took."""
    torch.set_num_threads(1)
    config = load_config(CONFIG)
    every = load_examples(config, data).train
    examples = every[:: max(1, len(every) // pictures)][:pictures]
    before = _memory()
    started = time.perf_counter()
    read = open_cache(way, examples, config.network.size, folder)
    start = time.perf_counter() - started
    order = np.random.default_rng(0).permutation(len(examples))
    total = 0.0
    for turn in range(2):
        started = time.perf_counter()
        for index in order:
            total += float(read(int(index))[100, 100])
        if turn == 0:
            first = time.perf_counter() - started
        second = time.perf_counter() - started
    after = _memory()
    return {
        "pictures": len(examples),
        "start_seconds": start,
        "first_pass_milliseconds": 1000 * first / len(examples),
        "pass_milliseconds": 1000 * second / len(examples),
        "own_mib": after["RssAnon"] - before["RssAnon"],
        "mapped_mib": after["RssFile"] - before["RssFile"],
        "checksum": total,
    }


def _memory() -> dict[str, float]:
    """Return what this process holds for itself, and of files that others may share, in MiB."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    return {name: int(fields[name].split()[0]) / 1024 for name in ("RssAnon", "RssFile")}


if __name__ == "__main__":
    way, folder, data, pictures = sys.argv[1:]
    print(json.dumps(main(way, Path(folder), Path(data), int(pictures))))
