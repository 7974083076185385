"""How fast a bundle's two networks are on this processor, and whether it has VNNI or its like.

Milliseconds of one picture on one thread: processor time, medians of alternating runs. The 8-bit
network runs in exact arithmetic, as it is served.
"""

import argparse
import statistics
import time

import numpy as np
import onnxruntime

from tests.bench.report import Report
from vigil.bundle import default_bundle, load_bundle
from vigil.classifier import Classifier
from vigil.processor import NetworkChoice, choose_network, integer_features, processor_features

NAME = "networks"
_SHOWN = ("sse4_1", "avx", "avx2", "fma", "avx512f", "avx512bw", "asimd", "sve")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what this part may be told."""
    parser.add_argument("--turns", type=int, default=50, help="networks: runs of each network")


def measure(options: argparse.Namespace) -> Report:
    """Let the networks that the bundle has answer in turn."""
    bundle = load_bundle(options.bundle or default_bundle())
    choices: tuple[NetworkChoice, ...] = ("float", "int8") if bundle.int8_path else ("float",)
    classifiers = {choice: Classifier(bundle, 1, choice) for choice in choices}
    size = bundle.preprocessing.size
    image = np.random.default_rng(0).normal(size=(1, 1, size, size)).astype(np.float32)
    times: dict[NetworkChoice, list[float]] = {choice: [] for choice in choices}
    for turn in range(options.turns + 2):
        for choice, classifier in classifiers.items():
            start = time.process_time()
            classifier.predict(image)
            if turn >= 2:
                times[choice].append(1000 * (time.process_time() - start))
    fast = ", ".join(integer_features()) or "nothing"
    others = ", ".join(sorted(set(_SHOWN) & processor_features()))
    report = Report(
        NAME,
        f"The networks of {bundle.id} at {size} pixels, one thread",
        ("Network", "ms", "MB", "times as fast"),
        caption=f"onnxruntime {onnxruntime.__version__}; for 8-bit integers: {fast}; {others}; "
        f"this processor's choice: {choose_network('auto', bundle.int8_path is not None)}",
    )
    medians = {choice: statistics.median(values) for choice, values in times.items()}
    for choice, classifier in classifiers.items():
        megabytes = classifier.path.stat().st_size / 1e6
        ratio = medians["float"] / medians[choice]
        report.rows.append((choice, f"{medians[choice]:.1f}", f"{megabytes:.1f}", f"{ratio:.2f}"))
        report.values[choice] = {"milliseconds": medians[choice], "megabytes": megabytes}
    return report
