"""How long one picture takes and where the time goes, against the limit and against the peer.

``make bench BENCH=picture`` measures each transfer syntax at 1,024 and 3,000 pixels, one picture at
a time and everything warm. The *limit* is the decoder alone at the size needed and the
network alone in onnxruntime. The *peer* is what a user writes without Vigil: pydicom,
torchxrayvision's own preprocessing and its DenseNet-121 in torch, on the same files; its weights
are random, which costs the same time.

Times are of the processor, all threads together, medians; each side's network has one thread. On a
machine that does other things they say more than the clock, which is in ``values`` too.
"""

import argparse
import platform
import statistics
import tempfile
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import imagecodecs
import numpy as np
import onnxruntime
import pydicom
from pydicom import uid
from pydicom.encaps import encapsulate

from tests.bench.report import CannotMeasure, Report
from vigil.bundle import default_bundle, load_bundle
from vigil.classifier import Classifier, available_cores
from vigil.errors import ConfigurationError
from vigil.phantom import Phantom, make_phantom
from vigil.phantom.dicom import write_dx
from vigil.preprocess import to_model_input
from vigil.triager import Triager

NAME = "picture"
SIZES = (1024, 3000)
SYNTAXES = (
    uid.ExplicitVRLittleEndian,
    uid.DeflatedExplicitVRLittleEndian,
    uid.RLELossless,
    uid.JPEGLosslessSV1,
    uid.JPEGExtended12Bit,
    uid.JPEGLSLossless,
    uid.JPEG2000Lossless,
    uid.HTJ2KLossless,
)
_ENCODERS: dict[str, Callable[[np.ndarray], bytes]] = {
    uid.JPEGLosslessSV1: lambda a: imagecodecs.jpeg_encode(
        a, lossless=True, predictor=1, bitspersample=12
    ),
    uid.JPEGExtended12Bit: lambda a: imagecodecs.jpeg_encode(a, level=95, bitspersample=12),
}
# Where a step is called, by the part of the time that it belongs to.
_STEPS = {
    "read": ("vigil.reading.open_dicom", "vigil.reading.describe", "vigil.pixels._frame"),
    "decode": (
        "vigil.pixels.decode_plain",
        "vigil.pixels.decode_low_pass",
        "vigil.pixels._decode",
        "vigil.pixels.average_in_file",
    ),
    "reduce": ("vigil.pixels.average_blocks", "vigil.pixels.lay_out"),
    "display": ("vigil.dicom.to_display",),
    "prepare": ("vigil.triager.fit_to_input", "vigil.triager.to_model_input"),
    "network": ("vigil.classifier.Classifier.predict",),
}
_PARTS = (*_STEPS, "rest")
_OF_LIMIT_GOAL = 1.5
_GOALS = {  # at 3,000 pixels
    uid.ExplicitVRLittleEndian: 40.0,
    uid.JPEG2000Lossless: 20.0,
    uid.JPEGLSLossless: 8.0,
}
_SAME_NETWORK_GOAL = 4.0


class Stopwatch:
    """Adds up processor time by part, each without what was measured within it."""

    def __init__(self) -> None:
        self.milliseconds: dict[str, float] = defaultdict(float)
        self._inner = [0.0]

    def watched(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function, its time added to a part."""

        def timed(*arguments: Any, **named: Any) -> Any:
            start = time.process_time()
            self._inner.append(0.0)
            try:
                return function(*arguments, **named)
            finally:
                took = 1000 * (time.process_time() - start)
                self.milliseconds[part] += took - self._inner.pop()
                self._inner[-1] += took

        return timed

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Measure all steps while this lasts."""
        patches = []
        for part, names in _STEPS.items():
            for name in names:
                owner, attribute = name.rsplit(".", 1)
                function = getattr(_resolve(owner), attribute)
                patches.append(patch(name, self.watched(part, function)))
        try:
            for each in patches:
                each.start()
            yield
        finally:
            for each in patches:
                each.stop()


def _resolve(name: str) -> Any:
    import importlib

    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        module, attribute = name.rsplit(".", 1)
        return getattr(importlib.import_module(module), attribute)


def medians(action: Callable[[], object], repeat: int) -> tuple[float, float]:
    """Return the median milliseconds of the processor and of the clock, after one to warm up."""
    action()
    processor, clock = [], []
    for _ in range(repeat):
        began, start = time.process_time(), time.perf_counter()
        action()
        clock.append(1000 * (time.perf_counter() - start))
        processor.append(1000 * (time.process_time() - began))
    return statistics.median(processor), statistics.median(clock)


def write_film(phantom: Phantom, syntax: uid.UID, path: Path) -> Path:
    """Write a phantom in a transfer syntax, those too that :func:`write_dx` does not write."""
    if syntax not in _ENCODERS:
        return write_dx(phantom, path, transfer_syntax=syntax)
    dataset = pydicom.dcmread(write_dx(phantom, path))
    dataset.PixelData = encapsulate([bytes(_ENCODERS[syntax](phantom.pixels))])
    dataset["PixelData"].VR = "OB"
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.save_as(path)
    return path


def parts_of(triager: Triager, path: Path, repeat: int) -> dict[str, float]:
    """Return the median processor time of each part of a triage."""
    found: dict[str, list[float]] = defaultdict(list)
    for turn in range(repeat + 1):
        watch = Stopwatch()
        start = time.process_time()
        with watch.watching():
            start = time.process_time()
            result = triager.triage(path)
            whole = 1000 * (time.process_time() - start)
        if result.status != "analysed":
            raise RuntimeError(f"the phantom was not analysed: {result.code}")
        if turn:
            for part in _STEPS:
                found[part].append(watch.milliseconds[part])
            found["rest"].append(whole - sum(watch.milliseconds.values()))
    return {part: statistics.median(found[part]) for part in _PARTS}


class Peer:
    """pydicom, torchxrayvision and torch, as their own examples put them together."""

    def __init__(self) -> None:
        """Build the network.

        Raises
        ------
        CannotMeasure
            If torchxrayvision is not installed.
        """
        from vigil_training.open_models.pull import import_torchxrayvision

        try:
            self._xrv = import_torchxrayvision()
        except ConfigurationError as error:
            raise CannotMeasure(f"{error}; --no-peer measures without it") from error
        import torch

        self._torch = torch
        torch.manual_seed(0)
        # Threads that wait for each other spin, and would count as the processor's time.
        torch.set_num_threads(1)
        self.network = self._xrv.models.DenseNet(num_classes=18, in_channels=1).eval()
        self.network.op_threshs, self.network.apply_sigmoid = None, True
        self._crop = self._xrv.datasets.XRayCenterCrop()
        self._resize = self._xrv.datasets.XRayResizer(224)

    def judge(self, path: Path) -> Any:
        """Return the network's answers to a file."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = self._xrv.utils.read_xray_dcm(path)[np.newaxis]
        image = self._resize(self._crop(image))
        with self._torch.inference_mode():
            return self.network(self._torch.from_numpy(image)[None].float())

    def bundle(self, folder: Path) -> Path:
        """Make a bundle of the very same network."""
        from vigil_training.open_models.convert import convert
        from vigil_training.open_models.registry import find_model
        from vigil_training.open_models.store import ModelStore

        model = find_model("densenet121-res224-all")
        file = folder / model.file
        self._torch.save(self.network, file, _use_new_zipfile_serialization=False)
        store = ModelStore(folder / "store")
        store.add(file, model)
        return convert(model, store, folder / "densenet").folder


def answer_in_integers(triager: Triager, folder: Path) -> None:
    """Let a triager's network answer in 8-bit integers, with ranges from a few phantoms.

    It tells the speed and nothing of what is lost: that takes trained weights and films
    (``vigil quantize``).
    """
    from vigil_training.quantization.films import Films
    from vigil_training.quantization.graph import Quantiser, session_of

    spec = triager.bundle.preprocessing
    phantoms = [make_phantom(seed, "effusion", (512, 512)).pixels << 4 for seed in range(4)]
    pictures = np.concatenate([to_model_input(phantom, spec)[0] for phantom in phantoms])
    quantiser = Quantiser(triager._classifier.path, folder)
    ranges = quantiser.ranges(Films((), pictures.astype(np.float16)), "MinMax")
    triager._classifier._session = session_of(quantiser.write(ranges, quantiser.blocks))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what this part may be told."""
    parser.add_argument("--repeat", type=int, default=7, help="picture: of each measurement")
    parser.add_argument("--size", type=int, action="append", help="picture: rows, repeatable")
    parser.add_argument("--no-peer", action="store_true", help="picture: leave torch out")


def measure(options: argparse.Namespace) -> Report:
    """Measure all syntaxes and sizes.

    Raises
    ------
    BundleError
        If there is no bundle.
    """
    bundle = load_bundle(options.bundle or default_bundle())
    triager, repeat = Triager(bundle, 1), options.repeat
    side = bundle.preprocessing.size
    image = np.random.default_rng(0).normal(size=(1, 1, side, side)).astype(np.float32)
    network, _ = medians(lambda: Classifier.predict(triager._classifier, image), 3 * repeat)
    peer = None if options.no_peer else Peer()
    peer_repeat = max(2, repeat // 2)
    report = Report(
        NAME,
        f"One picture of 12 bits, milliseconds of the processor (median of {repeat}), "
        f"{bundle.id} at {side} pixels",
        ("Picture", *_PARTS, "whole", "clock", "limit", "of limit", "peer", "faster"),
        caption=f"{available_cores()} cores, {platform.machine()}, onnxruntime "
        f"{onnxruntime.__version__}",
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for size in options.size or SIZES:
            phantom = make_phantom(1, "effusion", (size, size))
            for syntax in SYNTAXES:
                path = write_film(phantom, syntax, folder / "picture.dcm")
                parts = parts_of(triager, path, repeat)
                whole, clock = medians(lambda path=path: triager.triage(path), repeat)
                limit = parts["decode"] + network
                if syntax == uid.DeflatedExplicitVRLittleEndian:
                    limit += parts["read"]  # the inflating is done there
                values = {"parts": parts, "whole": whole, "clock": clock, "limit": limit}
                row = [f"{size} {syntax.name.split(' Image')[0].split(', Non')[0]}"]
                row += [f"{parts[part]:.1f}" for part in _PARTS]
                row += [f"{whole:.1f}", f"{clock:.1f}", f"{limit:.1f}"]
                row += [f"{whole / limit:.2f} {'✓' if whole / limit <= _OF_LIMIT_GOAL else '✗'}"]
                goal = _GOALS.get(syntax) if size == max(SIZES) else None
                if peer is not None:
                    try:
                        theirs, their_clock = medians(
                            lambda path=path: peer.judge(path), peer_repeat
                        )
                    except RuntimeError:  # pydicom has no decoder for 12-bit JPEG
                        row += ["cannot", ""]
                    else:
                        values |= {"peer": theirs, "peer_clock": their_clock, "goal": goal}
                        row += [f"{theirs:.0f}", _against(theirs / whole, goal)]
                report.rows.append(tuple(row))
                report.values[f"{size} {syntax.name}"] = values
        if peer is not None:
            path = write_dx(make_phantom(1, "effusion", (1024, 1024)), folder / "same.dcm")
            theirs, their_clock = medians(lambda: peer.judge(path), peer_repeat)
            same = Triager.load(peer.bundle(folder), 1)
            for network in ("the same DenseNet-121", "it in 8-bit integers"):
                if "integers" in network:
                    answer_in_integers(same, folder)
                ours, clock = medians(lambda: same.triage(path), repeat)
                columns = f"{ours:.1f}", f"{clock:.1f}", "", "", f"{theirs:.0f}"
                ratio = _against(theirs / ours, _SAME_NETWORK_GOAL)
                report.rows.append((f"1024 {network}", *[""] * len(_PARTS), *columns, ratio))
                report.values[network] = {
                    "whole": ours, "clock": clock, "peer": theirs, "peer_clock": their_clock,
                }  # fmt: skip
    return report


def _against(ratio: float, goal: float | None) -> str:
    return f"{ratio:.1f}" + (
        "" if goal is None else f" of {goal:g} {'✓' if ratio >= goal else '✗'}"
    )
