"""How long one picture takes: a file read, prepared and judged, by transfer syntax.

``make bench BENCH=triage`` prints medians on this machine, one picture at a time and everything
warm; ``make bench BENCH="triage -- --size 1024 --repeat 9"`` measures otherwise.
"""

import argparse
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import onnxruntime
from pydicom import uid
from rich.console import Console
from rich.table import Table

from vigil.bundle import BundleError, default_bundle, load_bundle
from vigil.classifier import Classifier, available_cores
from vigil.phantom import make_phantom
from vigil.phantom.dicom import write_dx
from vigil.preprocess import to_model_input
from vigil.reading import read_radiograph
from vigil.triager import Triager

SYNTAXES = (
    uid.ExplicitVRLittleEndian,
    uid.DeflatedExplicitVRLittleEndian,
    uid.RLELossless,
    uid.JPEGLSLossless,
    uid.JPEG2000Lossless,
    uid.HTJ2KLossless,
)


def median_milliseconds(action: Callable[[], object], repeat: int) -> float:
    """Return the median time of an action after one that does not count."""
    action()
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        action()
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--size", type=int, default=3000, help="rows and columns")
    parser.add_argument("--repeat", type=int, default=5)
    options = parser.parse_args()
    try:
        bundle = load_bundle(options.bundle or default_bundle())
    except BundleError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    triager, classifier = Triager(bundle), Classifier(bundle)
    phantom = make_phantom(1, "effusion", (options.size, options.size))
    table = Table(
        title=f"One {options.size} × {options.size} 12-bit picture, milliseconds (median of "
        f"{options.repeat}), bundle {bundle.id} at {bundle.preprocessing.size} pixels",
        caption=f"{available_cores()} cores, {platform.machine()}, "
        f"onnxruntime {onnxruntime.__version__}, load {os.getloadavg()[0]:.1f}",
    )
    for column in ("Transfer syntax", "MB", "read", "prepare", "network", "whole"):
        table.add_column(column, justify="left" if column == "Transfer syntax" else "right")
    with tempfile.TemporaryDirectory() as folder:
        for syntax in SYNTAXES:
            path = write_dx(phantom, Path(folder) / "picture.dcm", transfer_syntax=syntax)
            radiograph = read_radiograph(path)
            model_input = to_model_input(radiograph.pixels, bundle.preprocessing)
            steps = [
                lambda path=path: read_radiograph(path),
                lambda pixels=radiograph.pixels: to_model_input(pixels, bundle.preprocessing),
                lambda model_input=model_input: classifier.predict(model_input),
                lambda path=path: triager.triage(path),
            ]
            times = [median_milliseconds(step, options.repeat) for step in steps]
            megabytes = path.stat().st_size / 1e6
            table.add_row(syntax.name, f"{megabytes:.1f}", *(f"{value:.1f}" for value in times))
    Console(width=None if sys.stdout.isatty() else 140).print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
