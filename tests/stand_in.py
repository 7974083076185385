"""A bundle with a network of one layer, which knows phantoms: for tests of what is around it.

It tells effusion and large hearts from the means of a 14 × 14 grid, as ridge regression found them.
"""

import hashlib
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from vigil.bundle import (
    BundleManifest,
    Calibration,
    FindingSpec,
    ModelFile,
    OperatingPoint,
    Preprocessing,
    write_manifest,
)
from vigil.phantom import make_phantom
from vigil.preprocess import PreprocessingSpec, to_model_input

LABELS = ("Effusion", "Cardiomegaly")


def write_stand_in(folder: Path) -> None:
    """Write the bundle into an existing folder."""
    size, cells = 224, 14
    content = _network(size, cells).SerializeToString()
    (folder / "model.onnx").write_bytes(content)
    finding = {
        "calibration": Calibration(method="none"),
        "flag": OperatingPoint(threshold=0.5),
        "critical": OperatingPoint(threshold=0.9),
    }
    write_manifest(
        folder,
        BundleManifest(
            id="stand-in",
            created="2026-01-05",
            description="Knows phantoms only; for tests.",
            architecture="one layer",
            model=ModelFile(file="model.onnx", sha256=hashlib.sha256(content).hexdigest()),
            preprocessing=Preprocessing(version=1, size=size),
            findings=tuple(FindingSpec(key=name, label=name, **finding) for name in LABELS),
            notice="Research use only, not a medical device",
        ),
    )


def _weights(size: int, cells: int) -> tuple[np.ndarray, np.ndarray]:
    """Fit (labels, cells, cells) weights and (labels,) offsets to phantoms, by ridge regression."""
    rows, targets = [], []
    for kind in ("normal", "effusion", "cardiomegaly", "opacity"):
        for seed in range(100, 116):
            phantom = make_phantom(seed, kind, (size, size))
            display = (phantom.pixels.astype(np.uint32) * 16).astype(np.uint16)
            image = to_model_input(display, PreprocessingSpec(size=size))[0, 0]
            side = size // cells
            grid = image.reshape(cells, side, cells, side).mean(axis=(1, 3))
            rows.append(np.append(grid.ravel(), 1.0))
            targets.append([4.0 if label in phantom.labels else -4.0 for label in LABELS])
    design = np.array(rows)
    gram = design.T @ design + 3.0 * np.eye(design.shape[1])
    solution = np.linalg.solve(gram, design.T @ np.array(targets)).T
    return solution[:, :-1].reshape(-1, cells, cells), solution[:, -1]


def _network(size: int, cells: int) -> onnx.ModelProto:
    weights, offsets = _weights(size, cells)
    count, side = len(offsets), size // cells
    constants = {
        "weights": weights[np.newaxis] * cells * cells,
        "offsets": offsets[np.newaxis, :, np.newaxis, np.newaxis],
        "calm": np.array(0.02),
    }
    nodes = [
        helper.make_node(
            "AveragePool", ["image"], ["grid"], kernel_shape=[side] * 2, strides=[side] * 2
        ),
        helper.make_node("Mul", ["grid", "weights"], ["weighted"]),
        helper.make_node("ReduceMean", ["weighted"], ["mean"], axes=[2, 3]),
        helper.make_node("Add", ["mean", "offsets"], ["logit"]),
        helper.make_node("Flatten", ["logit"], ["logits"]),
        # Cells alone are wild; a map that averages to the logit need not be.
        helper.make_node("Sub", ["weighted", "mean"], ["centred"]),
        helper.make_node("Mul", ["centred", "calm"], ["calmed"]),
        helper.make_node("Add", ["calmed", "logit"], ["cams"]),
        helper.make_node("Sigmoid", ["logits"], ["probabilities"]),
        helper.make_node("Flatten", ["grid"], ["embedding"]),
    ]
    outputs = {
        "logits": ["n", count],
        "probabilities": ["n", count],
        "cams": ["n", count, cells, cells],
        "embedding": ["n", cells * cells],
    }
    graph = helper.make_graph(
        nodes,
        "stand-in",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 1, size, size])],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in outputs.items()],
        [numpy_helper.from_array(v.astype(np.float32), n) for n, v in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
