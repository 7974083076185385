"""How fast a bundle's two networks are on this processor, and whether it has VNNI or its like.

``python tests/bench/bench_networks.py --bundle FOLDER`` prints the milliseconds of one picture on
one thread: processor time, medians of alternating runs. The 8-bit network runs in exact
arithmetic, as it is served.
"""

import argparse
import os
import platform
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime

from vigil.bundle import BundleError, default_bundle, load_bundle
from vigil.classifier import Classifier
from vigil.processor import NetworkChoice, choose_network, integer_features, processor_features

_SHOWN = ("sse4_1", "avx", "avx2", "fma", "avx512f", "avx512bw", "asimd", "sve")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--repeat", type=int, default=50)
    options = parser.parse_args()
    choices: tuple[NetworkChoice, ...] = ("float", "int8")
    try:
        bundle = load_bundle(options.bundle or default_bundle())
        classifiers = {choice: Classifier(bundle, 1, choice) for choice in choices}
    except BundleError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    size = bundle.preprocessing.size
    image = np.random.default_rng(0).normal(size=(1, 1, size, size)).astype(np.float32)
    times: dict[NetworkChoice, list[float]] = {choice: [] for choice in choices}
    for turn in range(options.repeat + 2):
        for choice, classifier in classifiers.items():
            start = time.process_time()
            classifier.predict(image)
            if turn >= 2:
                times[choice].append(1000 * (time.process_time() - start))
    medians = {choice: statistics.median(values) for choice, values in times.items()}
    others = sorted(set(_SHOWN) & processor_features())
    print(
        f"{bundle.id} at {size} pixels, {platform.machine()}, onnxruntime "
        f"{onnxruntime.__version__}, load {os.getloadavg()[0]:.1f}"
    )
    print(f"for 8-bit integers: {', '.join(integer_features()) or 'nothing'}; {', '.join(others)}")
    for choice, classifier in classifiers.items():
        megabytes = classifier.path.stat().st_size / 1e6
        print(f"{classifier.network:8} {medians[choice]:6.1f} ms  {megabytes:5.1f} MB")
    print(f"int8 is {medians['float'] / medians['int8']:.2f} times as fast; ", end="")
    print(f"this processor's choice: {choose_network('auto', has_int8=True)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
