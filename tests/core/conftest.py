"""Fixtures of the core's tests: made-up DICOM objects and a tiny bundle."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian

from vigil.bundle import (
    AttributeName,
    AttributeSpec,
    BundleManifest,
    Calibration,
    FindingSpec,
    ModelFile,
    OperatingPoint,
    Population,
    Preprocessing,
    write_manifest,
)

SIZE = 32


def make_dataset(stored: np.ndarray, **attributes: Any) -> Dataset:
    """Return a CR object around (rows, columns) stored values; attributes set or replace tags."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = (
        ComputedRadiographyImageStorage
    )
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4"
    dataset.StudyInstanceUID = "1.2.3"
    dataset.SeriesInstanceUID = "1.2.3.1"
    dataset.Modality = "CR"
    dataset.BodyPartExamined = "CHEST"
    dataset.ViewPosition = "PA"
    dataset.PatientAge = "040Y"
    dataset.Rows, dataset.Columns = stored.shape[:2]
    dataset.SamplesPerPixel = 1 if stored.ndim == 2 else stored.shape[2]
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated = 8 * stored.dtype.itemsize
    dataset.BitsStored = dataset.BitsAllocated
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(np.issubdtype(stored.dtype, np.signedinteger))
    dataset.PixelData = stored.tobytes()
    for keyword, value in attributes.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    return dataset


@pytest.fixture
def write_dicom(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes such an object and gives its path."""

    def write(stored: np.ndarray, name: str = "picture.dcm", **attributes: Any) -> Path:
        path = tmp_path / name
        make_dataset(stored, **attributes).save_as(path, enforce_file_format=True)
        return path

    return write


@pytest.fixture
def chest_like() -> np.ndarray:
    """(256, 200) uint16, 12 bits: a smooth picture with two dark ovals in a bright frame."""
    rows, columns = np.mgrid[-1:1:256j, -1:1:200j]
    lungs = np.exp(-((rows / 0.6) ** 2) - ((np.abs(columns) - 0.45) / 0.25) ** 2)
    texture = 0.05 * np.sin(40 * rows) * np.cos(30 * columns)
    return ((0.8 - 0.6 * lungs + texture).clip(0, 1) * 4095).astype(np.uint16)


TINY_ATTRIBUTES: tuple[AttributeName, ...] = (
    "frontal_chest", "child", "inverted", "rotated", "mirrored", "anteroposterior",
)  # fmt: skip


def build_bundle(folder: Path, *, attributes: bool = True, **changes: Any) -> BundleManifest:
    """Write a bundle whose network is arithmetic that can be done by hand.

    ``Effusion``'s logit is the mean of the input, ``Pneumonia``'s (adult) is minus that and
    ``Pneumonia:child``'s twice that. ``inverted`` is high if the input's middle is darker than
    its border, ``rotated`` if its upper half is brighter than its lower half, ``mirrored`` if its
    left half is brighter than its right half, ``anteroposterior`` never. ``unfamiliarity`` is the
    embedding's greatest value.
    """
    folder.mkdir(parents=True, exist_ok=True)
    weights = np.array([1, -1, 2], np.float32).reshape(3, 1, 1, 1)
    cell = SIZE // 4
    # On the 4 × 4 features: the middle against the rest, and the rows above against those below.
    middle = np.full((4, 4), 1 / 12, np.float32)
    middle[1:3, 1:3] = -1 / 4
    upper = np.repeat([1, 1, -1, -1], 4).astype(np.float32) / 8
    left = np.tile([1, 1, -1, -1], 4).astype(np.float32) / 8
    looks = np.stack(
        [
            np.zeros(16), np.zeros(16), 8 * middle.ravel(), 8 * upper.ravel(), 8 * left.ravel(),
            np.zeros(16),
        ],
        axis=1,
    ).astype(np.float32)  # fmt: skip
    bias = np.array([4, -4, -4, -4, -4, -4], np.float32)
    nodes = [
        helper.make_node(
            "AveragePool", ["image"], ["features"], kernel_shape=[cell] * 2, strides=[cell] * 2
        ),
        helper.make_node("Conv", ["features", "weights"], ["cams"]),
        helper.make_node("GlobalAveragePool", ["cams"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["logits"]),
        helper.make_node("Sigmoid", ["logits"], ["probabilities"]),
        helper.make_node("Flatten", ["features"], ["embedding"]),
        helper.make_node("Gemm", ["embedding", "looks", "bias"], ["attribute_logits"]),
        helper.make_node("Sigmoid", ["attribute_logits"], ["attributes"]),
        helper.make_node("ReduceMax", ["embedding"], ["unfamiliarity"], axes=[1], keepdims=0),
    ]
    shapes = {
        "logits": ["N", 3],
        "probabilities": ["N", 3],
        "cams": ["N", 3, 4, 4],
        "embedding": ["N", 16],
        "attributes": ["N", 6],
        "unfamiliarity": ["N"],
    }
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 1, SIZE, SIZE])],
        [helper.make_tensor_value_info(k, TensorProto.FLOAT, v) for k, v in shapes.items()],
        [
            numpy_helper.from_array(weights, "weights"),
            numpy_helper.from_array(looks, "looks"),
            numpy_helper.from_array(bias, "bias"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, folder / "model.onnx")
    none = Calibration(method="none")
    fields: dict[str, Any] = {
        "id": "tiny",
        "created": "2026-11-21",
        "description": "arithmetic for tests",
        "architecture": "none",
        "model": ModelFile(
            file="model.onnx",
            sha256=hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest(),
        ),
        "preprocessing": Preprocessing(version=1, size=SIZE),
        "findings": (
            FindingSpec(
                key="Effusion",
                label="Effusion",
                population=Population(min_age_years=15),
                calibration=none,
                flag=OperatingPoint(threshold=0.6),
                critical=OperatingPoint(threshold=0.9),
            ),
            FindingSpec(
                key="Pneumonia",
                label="Pneumonia",
                population=Population(min_age_years=15),
                calibration=none,
                flag=OperatingPoint(threshold=0.5),
            ),
            FindingSpec(
                key="Pneumonia:child",
                label="Pneumonia",
                population=Population(min_age_years=1, max_age_years=5),
                calibration=none,
                flag=OperatingPoint(threshold=0.5),
            ),
        ),
        "attributes": tuple(AttributeSpec(name=name, threshold=0.5) for name in TINY_ATTRIBUTES)
        if attributes
        else (),
        "notice": "Research use only, not a medical device.",
    }
    return write_manifest(folder, BundleManifest(**(fields | changes)))


@pytest.fixture
def bundle_folder(tmp_path: Path) -> Path:
    """The tiny bundle's folder."""
    folder = tmp_path / "tiny"
    build_bundle(folder)
    return folder
