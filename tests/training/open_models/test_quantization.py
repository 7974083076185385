"""An open model in 8-bit integers: it has no split of its own, and names its layers otherwise."""

import csv
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from tests.training.conftest import COLUMNS

from vigil.bundle import load_bundle
from vigil.classifier import Classifier
from vigil.phantom import make_phantom
from vigil.preprocess import to_model_input
from vigil_training.open_models.convert import Converted
from vigil_training.quantization import figures as figures_module
from vigil_training.quantization import films as films_module
from vigil_training.quantization import measure as measure_module
from vigil_training.quantization import search as search_module
from vigil_training.quantization.search import quantize


def _write_films(folder: Path, count: int) -> Path:
    with (folder / "manifest.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for number in range(count):
            kind = "effusion" if number % 2 else "normal"
            pixels = make_phantom(7000 + number, kind, (160, 160)).pixels
            cv2.imwrite(str(folder / f"{number}.png"), (pixels << 4).astype(np.uint16))
            writer.writerow(
                {
                    "path": f"{number}.png", "source": "phantom", "patient_id": f"p{number}",
                    "image_id": number, "view": "PA", "age": 40, "sex": "F", "boxes": "[]",
                    "labels": "Effusion" if number % 2 else "", "label_scope": "Effusion",
                    "original_width": 160, "original_height": 160,
                }
            )  # fmt: skip
    return folder


@pytest.mark.slow
def test_an_open_models_trunk_is_quantised_and_its_maps_are_not(
    converted: Converted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure_module, "_RUNS", 1)
    monkeypatch.setattr(measure_module, "_SAMPLES", 20)
    monkeypatch.setattr(search_module, "_RANKING_FILMS", 2)
    monkeypatch.setattr(films_module, "_CORRUPTED_FILMS", 1)
    # Its weights are random: what it loses says nothing.
    for name, value in (
        ("GREATEST_FALL", 2.0), ("GREATEST_ECE_RISE", 1.0), ("LEAST_AGREEMENT", 0.0),
        ("LEAST_SPEED_UP", 0.0),
    ):  # fmt: skip
        monkeypatch.setattr(figures_module, name, value)
    films = tmp_path / "films"
    films.mkdir()
    folder = tmp_path / "quantised"
    figures = quantize(converted.folder, _write_films(films, 16), to=folder)
    assert figures.accepted
    assert figures.blocks > 58  # of DenseNet-121's dense layers alone
    bundle = load_bundle(folder)
    assert bundle.manifest.model_int8 is not None
    graph = onnx.load(folder / "model.int8.onnx").graph
    made_by = {output: node for node in graph.node for output in node.output}
    integers = {True: 0, False: 0}
    for node in graph.node:
        if node.op_type in ("Conv", "Gemm"):
            weights = made_by.get(node.input[1])
            is_integer = weights is not None and weights.op_type == "DequantizeLinear"
            integers["/trunk/" in node.name] += is_integer
    assert integers == {True: 120, False: 0}
    image = to_model_input(make_phantom(1, size=(300, 260)).pixels << 4, bundle.preprocessing)
    one, other = (Classifier(bundle, 1, name).predict(image) for name in ("float", "int8"))
    assert one.cams.shape == other.cams.shape
    assert np.corrcoef(one.embedding, other.embedding)[0, 1] > 0.9
