"""What an 8-bit network loses, and what it gains: both networks on the same validation films."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from vigil.bundle import Bundle, FindingSpec
from vigil.classifier import OPTIONAL_OUTPUTS
from vigil.processor import integer_features
from vigil_training.manifest import ManifestRow
from vigil_training.quantization.figures import FindingLoss, QuantizationFigures
from vigil_training.quantization.films import Films, corrupted
from vigil_training.quantization.graph import Quantiser, session_of
from vigil_training.reliability import expected_calibration_error
from vigil_training.statistics import auroc, auroc_fall_interval

_SAMPLES = 500
_RUNS = 40

Outputs = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Judged:
    """The validation films, and what the network in floating point says of them."""

    bundle: Bundle
    films: Films
    upright: Outputs
    corrupted: NDArray[np.float16]
    spoilt: Outputs


def answers(bundle: Bundle, network: str | bytes, pictures: NDArray[np.floating]) -> Outputs:
    """Return what a graph says of (n, S, S) pictures, outlines in half precision."""
    session = session_of(network)
    present = {output.name for output in session.get_outputs()}
    asked = ["logits", "probabilities", *(n for n in OPTIONAL_OUTPUTS if n in present)]
    parts: dict[str, list[NDArray[np.float32]]] = {name: [] for name in asked}
    for picture in pictures:
        image = picture.astype(np.float32)[np.newaxis, np.newaxis]
        for name, value in zip(asked, session.run(asked, {"image": image}), strict=True):
            parts[name].append(value.astype(np.float16) if name == "structures" else value)
    return {name: np.concatenate(values) for name, values in parts.items()}


def judge(bundle: Bundle, films: Films) -> Judged:
    """Return what the network in floating point says of films, whole and spoilt."""
    network = str(bundle.model_path)
    spoilt = corrupted(bundle, films)
    return Judged(
        bundle,
        films,
        answers(bundle, network, films.pictures),
        spoilt,
        answers(bundle, network, spoilt),
    )


def measure(
    judged: Judged,
    network: bytes,
    calibrated_on: int,
    method: str,
    quantiser: Quantiser,
    in_float: tuple[str, ...],
) -> QuantizationFigures:
    """Return what an 8-bit network loses and gains; whether it is accepted is not said yet.

    ``calibrated_on`` pictures gave the ranges, by ``method``; ``in_float`` names the blocks that
    stayed in floating point.
    """
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


def speeds(first: str | bytes, second: str | bytes, size: int) -> tuple[float, float]:
    """Return two graphs' processor milliseconds for one picture of size × size on one thread.

    Processor time, since others may use the machine; the runs alternate, since it may throttle.
    """
    sessions = [session_of(first), session_of(second)]
    image = np.random.default_rng(0).normal(size=(1, 1, size, size)).astype(np.float32)
    times: list[list[float]] = [[], []]
    for turn in range(_RUNS + 2):
        for session, own in zip(sessions, times, strict=True):
            start = time.process_time()
            session.run(None, {"image": image})
            if turn >= 2:
                own.append(1000 * (time.process_time() - start))
    return median(times[0]), median(times[1])
