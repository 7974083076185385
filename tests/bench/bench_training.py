"""Our cache of decoded pictures beside MONAI's CacheDataset and PersistentDataset.

Each in a process of its own, twice: the second start is that of a resumed or a later run. A pass
reads every picture once in a random order, without augmentation. Real pictures are read in place.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.bench.report import CannotMeasure, Report

NAME = "training"
WAYS = {
    "array": "ours, in memory",
    "CacheDataset": "MONAI CacheDataset",
    "folder": "ours, --cache",
    "PersistentDataset": "MONAI PersistentDataset",
}
_DATA = Path(__file__).parents[2].parent / "shared" / "data" / "cxr-train"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what this part may be told."""
    parser.add_argument("--pictures", type=int, default=1000, help="training: how many to keep")
    parser.add_argument("--data", type=Path, default=_DATA, help="training: the films' folder")


def measure(options: argparse.Namespace) -> Report:
    """Let each way keep the same pictures, and start it once more."""
    if not (options.data / "manifest.csv").is_file():
        raise CannotMeasure(f"there is no manifest.csv in {options.data}: name a folder, --data")
    report = Report(
        NAME,
        f"{options.pictures} decoded pictures at 256 pixels, kept",
        ("Way", "first start s", "second s", "pass ms/picture", "own MiB", "mapped MiB",
         "disk MiB", "files"),
        caption="own: of each process; mapped: shared by processes, given back when memory is "
        "short",
    )  # fmt: skip
    for way, name in WAYS.items():
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            first, second = (_start(way, folder, options) for _ in range(2))
            kept = [path for path in Path(folder).rglob("*") if path.is_file()]
            disk = sum(path.stat().st_size for path in kept) / 2**20
        report.values[way] = {
            "first": first, "second": second, "disk_mib": disk, "files": len(kept)
        }  # fmt: skip
        report.rows.append(
            (name, f"{first['start_seconds']:.1f}", f"{second['start_seconds']:.1f}",
             f"{second['pass_milliseconds']:.2f}", f"{second['own_mib']:.0f}",
             f"{second['mapped_mib']:.0f}", f"{disk:.0f}", str(len(kept)))
        )  # fmt: skip
    return report


def _start(way: str, folder: str, options: argparse.Namespace) -> dict[str, float]:
    command = [sys.executable, "-m", "tests.bench.training_caches", way, folder,
               str(options.data), str(options.pictures)]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CannotMeasure(f"{way}: {done.stderr.strip().splitlines()[-1]}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found
