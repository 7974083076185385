"""The served network in 8-bit integers: static quantisation, accepted only if nothing is lost.

Backbone and decoder are quantised (activations unsigned, weights signed and scaled per channel),
the linear layer, the maps, the calibration and what follows stay in floating point. Blocks that
cost most are put back into floating point until the validation patients are judged as before; if
that takes more than half of the blocks, the bundle keeps its one network.

All of it is measured in exact integer arithmetic, which is what a processor with VNNI does and
what :func:`vigil.processor.exact_integers` asks of one without: ``docs/decisions/int8.md``.
"""

import hashlib
import json
import re
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationMethod, QDQQuantizer, QuantType
from onnxruntime.quantization.calibrate import TensorsData, create_calibrator
from onnxruntime.quantization.shape_inference import quant_pre_process

from vigil.bundle import Bundle, FindingSpec, ModelFile, load_bundle, write_manifest
from vigil.classifier import OPTIONAL_OUTPUTS
from vigil.errors import BundleError, ConfigurationError
from vigil.preprocess import letterbox_of, to_model_input
from vigil.processor import exact_integers, integer_features
from vigil.reference import write_reference_outputs
from vigil_training.augment import Corruption, apply_corruption
from vigil_training.dataset import read_pixels
from vigil_training.manifest import ManifestRow, read_manifest
from vigil_training.model_card import METRICS_NAME, read_metrics, write_section
from vigil_training.quantization_figures import (
    FindingLoss,
    QuantizationFigures,
    Step,
)
from vigil_training.reliability import expected_calibration_error
from vigil_training.split import side_of_row
from vigil_training.statistics import auroc, auroc_fall_interval

INT8_NAME = "model.int8.onnx"
SECTION = "quantization"

CALIBRATION_FILMS = 256
_RANKING_FILMS = 48
_CORRUPTED_FILMS = 100
_SAMPLES = 500
_PERCENTILE = 99.999
_RUNS = 40
_TYPES = ("Conv", "Add", "Clip", "Relu")
_BLOCK = re.compile(r".*?/(?:_blocks\.\d+|denselayer\d+|transition\d+|decoder)(?=/)")
_QUANTISED_PART = re.compile(r"/(?:backbone|decoder)/")
_METHODS = {"MinMax": CalibrationMethod.MinMax, "Percentile": CalibrationMethod.Percentile}

Outputs = dict[str, NDArray[np.float32]]
Report = Callable[[str], None]


class Films(NamedTuple):
    """Pictures after ``to_model_input``: (n, S, S) float16, and the row of each."""

    rows: tuple[ManifestRow, ...]
    pictures: NDArray[np.float16]


@dataclass(frozen=True)
class _Judged:
    """The validation films, and what the network in floating point says of them."""

    bundle: Bundle
    films: Films
    upright: Outputs
    corrupted: NDArray[np.float16]
    spoilt: Outputs


def quantize(
    folder: Path,
    data: Path,
    *,
    to: Path | None = None,
    report: Report = lambda line: None,
) -> QuantizationFigures:
    """Add an 8-bit network to a bundle, if its validation patients are judged as before.

    Parameters
    ----------
    folder
        The bundle's folder.
    data
        The folder of ``manifest.csv``: training pictures calibrate the quantisation, validation
        pictures, by the bundle's own split, accept or refuse it.
    to
        Where the bundle is copied first; it is changed in place by default.
    report
        Told of each step in a sentence.

    Returns
    -------
    QuantizationFigures
        What was measured. It becomes a section of ``metrics.json`` and of the card where ``vigil
        evaluate --card`` has measured this bundle.

    Raises
    ------
    BundleError
        If the bundle is not whole, or nothing in its graph can be quantised.
    ConfigurationError
        If the bundle does not record its split, or a side has no picture.
    """
    if to is not None:
        shutil.copytree(folder, to)
        folder = to
    bundle = load_bundle(folder)
    rows = read_manifest(data / "manifest.csv")
    train, val = _split(bundle, rows)
    calibration = read_films(bundle, _spread(train, CALIBRATION_FILMS))
    judged = _judge(bundle, read_films(bundle, val))
    report(f"{len(calibration.rows)} calibration and {len(val)} validation pictures are read")
    with TemporaryDirectory() as place:
        best, network = _search(bundle, calibration, judged, Path(place), report)
    figures = _publish(bundle, best, network)
    report("; ".join(figures.complaints) or f"{folder / INT8_NAME} is accepted")
    return figures


def _split(
    bundle: Bundle, rows: Sequence[ManifestRow]
) -> tuple[list[ManifestRow], list[ManifestRow]]:
    """Return the rows of the bundle's own sources on its training and on its validation side."""
    training = bundle.manifest.training
    seed, fraction = training.get("split_seed"), training.get("validation_fraction")
    if not isinstance(seed, int) or not isinstance(fraction, float):
        raise ConfigurationError(
            f"the bundle {bundle.id} does not record how its patients were split: no picture is "
            "known to be a training picture"
        )
    named = {name.strip() for name in str(training.get("sources", "")).split(",")}
    sides: dict[str, list[ManifestRow]] = {"train": [], "val": [], "test": []}
    for row in rows:
        if row.source in named and row.view != "LATERAL":
            sides[side_of_row(row, seed, fraction)].append(row)
    for side in ("train", "val"):
        if not sides[side]:
            raise ConfigurationError(f"the manifest holds no {side} picture of {sorted(named)}")
    return sides["train"], sides["val"]


def _spread(rows: Sequence[ManifestRow], count: int) -> list[ManifestRow]:
    """Return as many rows of each source as of the others, as far as it has them, spread evenly."""
    sources = {row.source: [other for other in rows if other.source == row.source] for row in rows}
    chosen: list[ManifestRow] = []
    ascending = sorted(sources.values(), key=len)
    for place, own in enumerate(ascending):
        share = min(len(own), -(-(count - len(chosen)) // (len(ascending) - place)))
        chosen += [own[i] for i in np.linspace(0, len(own) - 1, share).round().astype(int)]
    return chosen


def read_films(bundle: Bundle, rows: Sequence[ManifestRow]) -> Films:
    """Read pictures as the bundle's network sees them."""
    size = bundle.preprocessing.size
    pictures = np.empty((len(rows), size, size), np.float16)
    for picture, row in zip(pictures, rows, strict=True):
        picture[:] = to_model_input(read_pixels(row.path), bundle.preprocessing)[0, 0]
    return Films(tuple(rows), pictures)


def _session(network: str | bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    exact_integers(options)
    return onnxruntime.InferenceSession(network, options, providers=["CPUExecutionProvider"])


def answers(bundle: Bundle, network: str | bytes, pictures: NDArray[np.floating]) -> Outputs:
    """Return what a graph says of (n, S, S) pictures, outlines in half precision."""
    session = _session(network)
    present = {output.name for output in session.get_outputs()}
    asked = ["logits", "probabilities", *(n for n in OPTIONAL_OUTPUTS if n in present)]
    parts: dict[str, list[NDArray[np.float32]]] = {name: [] for name in asked}
    for picture in pictures:
        image = picture.astype(np.float32)[np.newaxis, np.newaxis]
        for name, value in zip(asked, session.run(asked, {"image": image}), strict=True):
            parts[name].append(value.astype(np.float16) if name == "structures" else value)
    return {name: np.concatenate(values) for name, values in parts.items()}


def _judge(bundle: Bundle, films: Films) -> _Judged:
    network = str(bundle.model_path)
    corrupted = _corrupted(bundle, films)
    return _Judged(
        bundle,
        films,
        answers(bundle, network, films.pictures),
        corrupted,
        answers(bundle, network, corrupted),
    )


def _corrupted(bundle: Bundle, films: Films) -> NDArray[np.float16]:
    """Return films inverted, turned and mirrored in turn: what the gate must catch."""
    kinds = (
        Corruption(inverted=True),
        *(Corruption(quarter_turns=n) for n in (1, 2, 3)),
        Corruption(mirrored=True),
    )
    count = min(len(films.rows), _CORRUPTED_FILMS)
    size, made = bundle.preprocessing.size, []
    for place, index in enumerate(np.linspace(0, len(films.rows) - 1, count).astype(int)):
        rows, columns = read_pixels(films.rows[index].path).shape
        box = letterbox_of(rows, columns, size)
        picture = films.pictures[index].astype(np.float32)
        made.append(apply_corruption(picture, box, kinds[place % len(kinds)]).astype(np.float16))
    return np.stack(made)


class Quantiser:
    """A graph with the ranges of its tensors, ready to be written with any blocks in integers.

    Attributes
    ----------
    blocks
        The names of its blocks, in the graph's order.
    """

    def __init__(self, network: Path, place: Path) -> None:
        self._prepared = place / "prepared.onnx"
        quant_pre_process(str(network), str(self._prepared), skip_symbolic_shape=True)
        self._nodes: dict[str, list[str]] = {}
        maker: dict[str, str] = {}
        for node in onnx.load(self._prepared).graph.node:
            if node.op_type in _TYPES and _QUANTISED_PART.search(node.name):
                # An activation belongs to the convolution before it, whatever it is called.
                own = _block_of(node.name)
                is_activation = node.op_type in ("Clip", "Relu")
                block = maker.get(node.input[0], own) if is_activation else own
                maker[node.output[0]] = block
                self._nodes.setdefault(block, []).append(node.name)
        self.blocks = tuple(self._nodes)
        if not self.blocks:
            raise BundleError(f"{network}: its graph names no backbone that could be quantised")

    def ranges(self, films: Films, calibration: str) -> TensorsData:
        """Return each tensor's range over films, by one of onnxruntime's methods."""
        method = _METHODS[calibration]
        options = {"percentile": _PERCENTILE, "num_bins": 2048}
        with redirect_stdout(StringIO()):
            calibrator = create_calibrator(
                str(self._prepared),
                list(_TYPES),
                str(self._prepared.with_suffix(f".{calibration}.onnx")),
                method,
                extra_options=options if method is CalibrationMethod.Percentile else {},
            )
            calibrator.infer_session = _session(calibrator.augmented_model_path)
            # It keeps all that one call is given: a few pictures at a time fit into memory.
            for start in range(0, len(films.pictures), 4):
                images = films.pictures[start : start + 4, np.newaxis].astype(np.float32)
                calibrator.collect_data(_Reader(images))
            return calibrator.compute_data()

    def write(self, ranges: TensorsData, blocks: Sequence[str]) -> bytes:
        """Return the graph with these blocks in integers."""
        nodes = [name for block in blocks for name in self._nodes[block]]
        if not nodes:  # which onnxruntime would take for all of them
            return self._prepared.read_bytes()
        quantiser = QDQQuantizer(
            onnx.load(self._prepared),
            per_channel=True,
            reduce_range=False,
            weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QUInt8,
            tensors_range=ranges,
            nodes_to_quantize=nodes,
            nodes_to_exclude=[],
            op_types_to_quantize=list(_TYPES),
            extra_options={},
        )
        quantiser.quantize_model()
        content: bytes = quantiser.model.model.SerializeToString()
        return content


class _Reader:
    """Pictures, one by one, as onnxruntime's calibration asks for them."""

    def __init__(self, images: NDArray[np.float32]) -> None:
        self._images = iter(images)

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        image = next(self._images, None)
        return None if image is None else {"image": image[np.newaxis]}


def _block_of(node: str) -> str:
    found = _BLOCK.match(node)
    return found.group() if found else node.rpartition("/")[0]


def signal_to_noise(expected: Outputs, found: Outputs) -> float:
    """Return the logits' signal-to-noise ratio in decibels; the outlines' if that is lower."""
    ratios = []
    for name in ("logits", "structures"):
        if name in expected:
            signal = expected[name].astype(np.float64)
            signal = signal - signal.mean(0)
            noise = expected[name].astype(np.float64) - found[name]
            ratios.append(10 * np.log10((signal**2).sum() / max((noise**2).sum(), 1e-12)))
    return float(min(ratios))


def _search(
    bundle: Bundle, calibration: Films, judged: _Judged, place: Path, report: Report
) -> tuple[QuantizationFigures, bytes]:
    """Return the first network that is accepted, or the last that is not, with its figures."""
    quantiser = Quantiser(bundle.model_path, place)
    few = calibration.pictures[:: max(1, len(calibration.rows) // _RANKING_FILMS)]
    expected = answers(bundle, str(bundle.model_path), few)

    def ratio(ranges: TensorsData, blocks: Sequence[str]) -> float:
        found = answers(bundle, quantiser.write(ranges, blocks), few)
        return signal_to_noise(expected, found)

    choices = []
    for name in _METHODS:
        ranges = quantiser.ranges(calibration, name)
        choices.append((ratio(ranges, quantiser.blocks), name, ranges))
        report(f"all blocks quantised, calibrated by {name}: {choices[-1][0]:.1f} dB")
    _, method, ranges = max(choices, key=lambda choice: choice[0])
    ranking: list[str] = []
    steps: list[Step] = []
    count = 0
    while True:
        in_float = tuple(ranking[:count])
        blocks = [block for block in quantiser.blocks if block not in in_float]
        network = quantiser.write(ranges, blocks)
        figures = _measure(judged, network, len(calibration.rows), method, quantiser, in_float)
        steps.append(Step(calibration=method, in_float=in_float, complaints=figures.complaints))
        report(f"{len(in_float)} blocks in floating point: " + _said(figures))
        if not figures.losses or 2 * max(count + 1, 2) > len(quantiser.blocks):
            done = {"steps": tuple(steps), "accepted": not figures.complaints}
            return figures.model_copy(update=done), network
        if not ranking:
            ranking = sorted(quantiser.blocks, key=lambda block: ratio(ranges, [block]))
        count += 1 if count < 4 else 2


def _said(figures: QuantizationFigures) -> str:
    return "; ".join(figures.complaints) or "nothing is lost"


def _measure(
    judged: _Judged,
    network: bytes,
    calibrated_on: int,
    method: str,
    quantiser: Quantiser,
    in_float: tuple[str, ...],
) -> QuantizationFigures:
    bundle, films = judged.bundle, judged.films
    upright = answers(bundle, network, films.pictures)
    spoilt = answers(bundle, network, judged.corrupted)
    losses, agree, asked = [], 0, 0
    for index, finding in enumerate(bundle.manifest.findings):
        admitted = _admitted(bundle, finding, films.rows, judged.upright)
        one, other = (o["probabilities"][admitted, index] for o in (judged.upright, upright))
        same = (one >= finding.flag.threshold) == (other >= finding.flag.threshold)
        agree, asked = agree + int(same.sum()), asked + same.size
        known = admitted & np.asarray([finding.label in row.label_scope for row in films.rows])
        if known.any():
            losses.append(_loss(finding, index, films.rows, known, judged.upright, upright))
    float_ms, int8_ms = speeds(str(bundle.model_path), network, bundle.preprocessing.size)
    return QuantizationFigures(
        digest=bundle.digest,
        accepted=False,
        calibration=method,
        calibration_pictures=calibrated_on,
        validation_pictures=len(films.rows),
        blocks=len(quantiser.blocks),
        in_float=in_float,
        steps=(),
        findings=tuple(losses),
        flags_agree=agree / max(asked, 1),
        gate_agrees=_gate_agreement(
            bundle, _joined(judged.upright, judged.spoilt), _joined(upright, spoilt)
        ),
        dice=_dice(bundle, judged.upright, upright),
        milliseconds_float=float_ms,
        milliseconds_int8=int8_ms,
        bytes_float=bundle.model_path.stat().st_size,
        bytes_int8=len(network),
        processor=integer_features(),
        onnxruntime=onnxruntime.__version__,
    )


def _joined(one: Outputs, other: Outputs) -> Outputs:
    gate = ("attributes", "unfamiliarity")
    return {name: np.concatenate([one[name], other[name]]) for name in gate if name in one}


def _admitted(
    bundle: Bundle, finding: FindingSpec, rows: Sequence[ManifestRow], expected: Outputs
) -> NDArray[np.bool_]:
    """Return (n,) of which films the finding may be said; the network tells unknown ages."""
    names = [attribute.name for attribute in bundle.manifest.attributes]
    child = np.zeros(len(rows), np.bool_)
    if "child" in names:
        column = names.index("child")
        limit = bundle.manifest.attributes[column].threshold
        child = expected["attributes"][:, column] >= limit
    lowest, highest = finding.population.min_age_years, finding.population.max_age_years
    for_children = highest is not None and highest < 18
    anyone = lowest is None and highest is None
    return np.asarray(
        [
            row.view in finding.population.views
            and (
                finding.population.includes_age(row.age_years)
                if row.age_years is not None
                else anyone or for_children == bool(young)
            )
            for row, young in zip(rows, child, strict=True)
        ],
        np.bool_,
    )


def _loss(
    finding: FindingSpec,
    index: int,
    rows: Sequence[ManifestRow],
    known: NDArray[np.bool_],
    expected: Outputs,
    found: Outputs,
) -> FindingLoss:
    own = [row for row, used in zip(rows, known, strict=True) if used]
    truth = np.asarray([finding.label in row.labels for row in own], np.bool_)
    sources = np.asarray([row.source for row in own], np.str_)
    patients = np.asarray([f"{row.source}/{row.patient_id}" for row in own], np.str_)
    one, other = (o["probabilities"][known, index].astype(np.float64) for o in (expected, found))
    fall = auroc_fall_interval(truth, one, other, patients, _SAMPLES, strata=sources)
    threshold = finding.flag.threshold
    return FindingLoss(
        key=finding.key,
        experimental=finding.experimental,
        pictures=len(own),
        positive_patients=int(np.unique(patients[truth]).size),
        auroc_float=auroc(truth, one, sources),
        auroc_int8=auroc(truth, other, sources),
        fall_low=None if fall is None else fall.low,
        fall_high=None if fall is None else fall.high,
        ece_float=expected_calibration_error(truth, one),
        ece_int8=expected_calibration_error(truth, other),
        flags_agree=float(((one >= threshold) == (other >= threshold)).mean()),
    )


def _gate_agreement(bundle: Bundle, expected: Outputs, found: Outputs) -> dict[str, float]:
    """Return the part of each of the gate's decisions that is the same, films and spoilt ones."""
    shares = {}
    for column, attribute in enumerate(bundle.manifest.attributes):
        one, other = (o["attributes"][:, column] >= attribute.threshold for o in (expected, found))
        shares[str(attribute.name)] = float((one == other).mean())
    limits = bundle.manifest.unfamiliarity
    if limits is not None:
        for name, limit in (("notice", limits.notice), ("refuse", limits.refuse)):
            one, other = (o["unfamiliarity"] > limit for o in (expected, found))
            shares[f"unfamiliarity, {name}"] = float((one == other).mean())
    return shares


def _dice(bundle: Bundle, expected: Outputs, found: Outputs) -> dict[str, float]:
    """Return each outline's mean Dice coefficient between the two networks."""
    dice = {}
    for channel, name in enumerate(bundle.manifest.structures):
        one, other = (o["structures"][:, channel] >= 0.5 for o in (expected, found))
        both, areas = (one & other).sum((1, 2)), one.sum((1, 2)) + other.sum((1, 2))
        dice[str(name)] = float(np.where(areas > 0, 2 * both / np.maximum(areas, 1), 1.0).mean())
    return dice


def speeds(first: str | bytes, second: str | bytes, size: int) -> tuple[float, float]:
    """Return two graphs' processor milliseconds for one picture of size × size on one thread.

    Processor time, since others may use the machine; the runs alternate, since it may throttle.
    """
    sessions = [_session(first), _session(second)]
    image = np.random.default_rng(0).normal(size=(1, 1, size, size)).astype(np.float32)
    times: list[list[float]] = [[], []]
    for turn in range(_RUNS + 2):
        for session, own in zip(sessions, times, strict=True):
            start = time.process_time()
            session.run(None, {"image": image})
            if turn >= 2:
                own.append(1000 * (time.process_time() - start))
    return median(times[0]), median(times[1])


def _publish(bundle: Bundle, figures: QuantizationFigures, network: bytes) -> QuantizationFigures:
    """Write the network if it was accepted, the references of both, and the figures."""
    folder, entry = bundle.folder, None
    (folder / INT8_NAME).unlink(missing_ok=True)
    if figures.accepted:
        (folder / INT8_NAME).write_bytes(network)
        entry = ModelFile(file=INT8_NAME, sha256=hashlib.sha256(network).hexdigest())
    manifest = write_manifest(folder, bundle.manifest.model_copy(update={"model_int8": entry}))
    write_reference_outputs(folder)
    figures = figures.model_copy(update={"digest": manifest.digest})
    path = folder / METRICS_NAME
    if path.is_file() and (metrics := read_metrics(path)).digest == bundle.digest:
        # They were measured on the network in floating point, which is in the new bundle as it was.
        moved = metrics.model_copy(update={"digest": manifest.digest}).model_dump(mode="json")
        path.write_text(json.dumps(moved, indent=1, ensure_ascii=False) + "\n", "utf-8")
        write_section(folder, SECTION, "8-bit integers", figures)
    return figures
