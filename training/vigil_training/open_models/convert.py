"""From stored weights to a Vigil bundle: one ONNX graph, the labels, the thresholds, a card.

The bundle's probabilities are the plain sigmoid of the network's logits, which torchxrayvision
gives with ``apply_sigmoid=True`` and no ``op_threshs``. They are not calibrated, and neither is
what torchxrayvision shows by default: its ``op_norm`` bends each output so that its operating
point becomes 0.5. The bundle keeps that point as the flag's threshold instead, so both flag the
same pictures. All of it is experimental until it is calibrated on a site's own films.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vigil import RESEARCH_USE
from vigil.bundle import (
    BundleManifest,
    Calibration,
    FindingSpec,
    ModelFile,
    OperatingPoint,
    Population,
    Preprocessing,
    write_manifest,
)
from vigil.errors import ConfigurationError
from vigil.findings import CONCEPTS
from vigil.triage import Priority
from vigil_training.onnx_graph import MODEL_NAME, parity, to_onnx
from vigil_training.open_models.card import model_card
from vigil_training.open_models.networks import OpenNetwork, OpenOutputs
from vigil_training.open_models.registry import LICENCE, ORDER, PREFIX, OpenModel
from vigil_training.open_models.store import ModelStore

PREPROCESSING_VERSION = 2
YOUNGEST_YEARS = 15.0

# What can wait for its turn; the rest is URGENT where it is flagged, and nothing is CRITICAL.
_ROUTINE = frozenset(
    {
        "Atelectasis", "Cardiomegaly", "Emphysema", "Fibrosis", "Fracture", "Hernia",
        "Infiltration", "Lung_Lesion", "Nodule", "Pleural_Thickening",
    }
)  # fmt: skip


@dataclass(frozen=True)
class Converted:
    """What a conversion made.

    Attributes
    ----------
    folder, manifest
        The bundle.
    left_out
        Trained outputs that have no place in the bundle, each with the reason.
    greatest_difference
        Between torch and onnxruntime, over all outputs.
    """

    folder: Path
    manifest: BundleManifest
    left_out: Mapping[str, str]
    greatest_difference: float


def vigil_label(label: str) -> str:
    """Return how :mod:`vigil.findings` spells one of torchxrayvision's labels."""
    return label.replace(" ", "_")


def convert(model: OpenModel, store: ModelStore, to: Path) -> Converted:
    """Make a bundle of a stored model.

    Parameters
    ----------
    model
        The model, which the store must hold.
    store
        Where its weights are.
    to
        The bundle's folder, new or empty.

    Raises
    ------
    ConfigurationError
        If the weights are not in the store or were altered, or ``to`` is in use.
    BundleError
        If torch and onnxruntime differ by more than ``GREATEST_DIFFERENCE``.
    """
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise ConfigurationError(f"{to}: expected a new or empty folder for the bundle")
    record = store.record(model)
    weights = store.load(model)
    labels, left_out = split_labels(model)
    if not labels:
        raise ConfigurationError(f"{model.name}: none of its outputs has a concept in Vigil")
    network = OpenNetwork(
        model.architecture, weights.state, tuple(ORDER.index(label) for label in labels)
    ).eval()
    graph = to_onnx(network, OpenOutputs._fields, model.size)
    difference = parity(network, OpenOutputs._fields, graph, _probes(model.size))
    thresholds = dict(model.operating_points) | weights.operating_points
    manifest = BundleManifest(
        id=f"xrv-{model.name}".replace("_", "-"),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        description=f"torchxrayvision's {model.name}, as published; not calibrated, not validated.",
        architecture=f"{model.architecture}, mean over the map, linear",
        model=ModelFile(file=MODEL_NAME, sha256=hashlib.sha256(graph).hexdigest()),
        preprocessing=Preprocessing(version=PREPROCESSING_VERSION, size=model.size),
        findings=tuple(_finding(label, thresholds[label]) for label in labels),
        training={
            "open_model": f"{PREFIX}{model.name}",
            "trained_on": model.trained_on,
            "licence": LICENCE,
            "source_file": record.source_file,
            "source_sha256": record.source_sha256,
            "weights_sha256": record.sha256,
            "thresholds": "torchxrayvision's op_threshs",
            "probabilities": "sigmoid of the logits, without op_norm",
        },
        notice=RESEARCH_USE,
    )
    manifest.preprocessing.spec()
    to.mkdir(parents=True, exist_ok=True)
    (to / MODEL_NAME).write_bytes(graph)
    (to / "MODEL_CARD.md").write_text(model_card(model, record, labels, left_out), encoding="utf-8")
    return Converted(to, write_manifest(to, manifest), left_out, difference)


def _finding(label: str, threshold: float) -> FindingSpec:
    name = vigil_label(label)
    return FindingSpec(
        key=name,
        label=name,
        population=Population(min_age_years=YOUNGEST_YEARS),
        calibration=Calibration(method="none"),
        flag=OperatingPoint(threshold=threshold),
        priority=Priority.ROUTINE if name in _ROUTINE else Priority.URGENT,
        experimental=True,
    )


def split_labels(model: OpenModel) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return the outputs that a bundle takes, and the others each with the reason."""
    labels, reasons = [], {}
    for label in ORDER:
        if label not in model.operating_points:
            reasons[label] = "not trained: its output means nothing"
        elif vigil_label(label) not in CONCEPTS:
            reasons[label] = "no verified code in vigil.findings"
        else:
            labels.append(label)
    return tuple(labels), reasons


def _probes(size: int) -> NDArray[np.float32]:
    """Return (2, 1, size, size) pictures over the input's range: a phantom, and noise."""
    from vigil.phantom import MAX_STORED_VALUE, make_phantom

    film = make_phantom(1, size=(size, size)).pixels.astype(np.float32) / MAX_STORED_VALUE
    noise = np.random.default_rng(0).random((size, size), np.float32)
    return (np.stack([film, noise])[:, np.newaxis] * 2048 - 1024).astype(np.float32)
