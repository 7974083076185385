"""A bundle with a network of one layer, which knows phantoms: for tests of what is around it.

It tells effusion and large hearts from the means of a 14 × 14 grid, as ridge regression found them,
and outlines lungs and heart from the same means.
"""

import hashlib
from pathlib import Path

import cv2
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
from vigil.phantom import Phantom, make_phantom
from vigil.preprocess import PreprocessingSpec, letterbox_of, to_model_input

LABELS = ("Effusion", "Cardiomegaly")
STRUCTURES = ("lungs", "heart")
_OUTLINED = 28
_KINDS = ("normal", "effusion", "cardiomegaly", "opacity")


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
            structures=STRUCTURES,
            notice="Research use only, not a medical device",
        ),
    )


def _phantoms(shape: tuple[int, int], seeds: range) -> list[Phantom]:
    return [make_phantom(seed, kind, shape) for kind in _KINDS for seed in seeds]


def _weights(phantoms: list[Phantom], size: int, cells: int) -> tuple[np.ndarray, np.ndarray]:
    """Fit (labels, cells, cells) weights and (labels,) offsets to phantoms, by ridge regression."""
    rows = [_means(phantom.pixels, size, cells) for phantom in phantoms]
    targets = [
        [4.0 if label in phantom.labels else -4.0 for label in LABELS] for phantom in phantoms
    ]
    solution = _ridge(np.array(rows), np.array(targets), 3.0)
    return solution[:, :-1].reshape(-1, cells, cells), solution[:, -1]


def _outline_weights(
    phantoms: list[Phantom], size: int, cells: int
) -> tuple[np.ndarray, np.ndarray]:
    """Fit (cells², structures · side²) weights and offsets to the masks of phantoms."""
    rows, targets = [], []
    for phantom in phantoms:
        rows.append(_means(phantom.pixels, size, cells))
        masks = (phantom.lung_mask, phantom.heart_mask)
        # Half-way between two cells' values lies the outline.
        targets.append(np.concatenate([12 * (_square(m, size) - 0.5).ravel() for m in masks]))
    solution = _ridge(np.array(rows), np.array(targets), 0.3)
    return solution[:, :-1].T, solution[:, -1]


def _square(mask: np.ndarray, size: int) -> np.ndarray:
    box = letterbox_of(*mask.shape, size)
    square = np.zeros((size, size), np.float32)
    inside = cv2.resize(mask.astype(np.float32), (box.width, box.height))
    square[box.top : box.top + box.height, box.left : box.left + box.width] = inside
    return cv2.resize(square, (_OUTLINED, _OUTLINED), interpolation=cv2.INTER_AREA)


def _means(pixels: np.ndarray, size: int, cells: int) -> np.ndarray:
    """Return the means of the grid's cells, and 1."""
    display = (pixels.astype(np.uint32) * 16).astype(np.uint16)
    image = to_model_input(display, PreprocessingSpec(size=size))[0, 0]
    side = size // cells
    grid = image.reshape(cells, side, cells, side).mean(axis=(1, 3))
    return np.append(grid.ravel(), 1.0)


def _ridge(design: np.ndarray, targets: np.ndarray, strength: float) -> np.ndarray:
    gram = design.T @ design + strength * np.eye(design.shape[1])
    return np.linalg.solve(gram, design.T @ targets).T


def _network(size: int, cells: int) -> onnx.ModelProto:
    squares = _phantoms((size, size), range(100, 116))
    weights, offsets = _weights(squares, size, cells)
    # Of a film's shape too, so that a letterbox is known.
    portraits = _phantoms((size, size * 5 // 6), range(116, 120))
    outline_weights, outline_offsets = _outline_weights([*squares, *portraits], size, cells)
    count, side = len(offsets), size // cells
    constants = {
        "weights": weights[np.newaxis] * cells * cells,
        "offsets": offsets[np.newaxis, :, np.newaxis, np.newaxis],
        "calm": np.array(0.02),
        "outline_weights": outline_weights,
        "outline_offsets": outline_offsets,
        "finer": np.array([1.0, 1.0, size / 2 / _OUTLINED, size / 2 / _OUTLINED]),
    }
    shape = numpy_helper.from_array(np.array([-1, len(STRUCTURES), _OUTLINED, _OUTLINED]), "shape")
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
        helper.make_node(
            "Gemm", ["embedding", "outline_weights", "outline_offsets"], ["outline_logits"]
        ),
        helper.make_node("Reshape", ["outline_logits", "shape"], ["outlines"]),
        helper.make_node("Resize", ["outlines", "", "finer"], ["fine_outlines"], mode="linear"),
        helper.make_node("Sigmoid", ["fine_outlines"], ["structures"]),
    ]
    outputs = {
        "logits": ["n", count],
        "probabilities": ["n", count],
        "cams": ["n", count, cells, cells],
        "embedding": ["n", cells * cells],
        "structures": ["n", len(STRUCTURES), size // 2, size // 2],
    }
    graph = helper.make_graph(
        nodes,
        "stand-in",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 1, size, size])],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in outputs.items()],
        [
            *(numpy_helper.from_array(v.astype(np.float32), n) for n, v in constants.items()),
            shape,
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
