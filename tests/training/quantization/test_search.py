import csv
import hashlib
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import torch
from tests.training.conftest import COLUMNS

from vigil.bundle import (
    AttributeSpec,
    BundleManifest,
    Calibration,
    FindingSpec,
    ModelFile,
    OperatingPoint,
    Preprocessing,
    load_bundle,
    write_manifest,
)
from vigil.classifier import Classifier
from vigil.errors import ConfigurationError
from vigil.phantom import make_phantom
from vigil.reference import INT8_TOLERANCE, ReferenceOutputs, check_reference_outputs
from vigil.triager import Triager
from vigil_training.calibrate import Operation
from vigil_training.config import NetworkConfig
from vigil_training.evaluate import evaluate
from vigil_training.export import ServedNetwork
from vigil_training.manifest import read_manifest
from vigil_training.model_card import read_metrics, write_metrics
from vigil_training.network import make_network
from vigil_training.onnx_graph import to_onnx
from vigil_training.quantization import figures as figures_module
from vigil_training.quantization import films as films_module
from vigil_training.quantization import graph as graph_module
from vigil_training.quantization import measure as measure_module
from vigil_training.quantization import search as search_module
from vigil_training.quantization.figures import FindingLoss, QuantizationFigures
from vigil_training.quantization.films import read_films, sides_of, spread
from vigil_training.quantization.graph import Quantiser
from vigil_training.quantization.measure import answers, signal_to_noise
from vigil_training.quantization.search import quantize
from vigil_training.split import side_of_row

SIZE = 64


@pytest.fixture(scope="module", autouse=True)
def _few_repetitions() -> Iterator[None]:
    """What is repeated for precision is repeated less: no figure is asserted to a digit here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measure_module, "_RUNS", 1)
        patch.setattr(measure_module, "_SAMPLES", 20)
        patch.setattr(search_module, "_RANKING_FILMS", 2)
        patch.setattr(films_module, "_CORRUPTED_FILMS", 5)
        # Which of the two is the faster depends on the processor of the moment.
        patch.setattr(figures_module, "LEAST_SPEED_UP", 0.0)
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty phantoms as PNG files, half of them with an effusion."""
    folder = tmp_path_factory.mktemp("films")
    with (folder / "manifest.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for number in range(40):
            kind = "effusion" if number % 2 else "normal"
            pixels = make_phantom(7000 + number, kind, (160, 160)).pixels
            cv2.imwrite(str(folder / f"{number}.png"), (pixels << 4).astype(np.uint16))
            row: Mapping[str, object] = {
                "path": f"{number}.png", "source": "phantom", "patient_id": f"p{number}",
                "image_id": number, "view": "PA", "age": 40, "sex": "F", "boxes": "[]",
                "labels": "Effusion" if number % 2 else "", "label_scope": "Effusion",
                "original_width": 160, "original_height": 160,
            }  # fmt: skip
            writer.writerow(row)
    return folder


@pytest.fixture(scope="module")
def plain_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of a network with ImageNet's weights that no radiograph has taught anything."""
    folder = tmp_path_factory.mktemp("models") / "plain"
    folder.mkdir()
    torch.manual_seed(0)
    network = make_network(NetworkConfig(size=SIZE, init="imagenet", structures=True), 3)
    calibration = Calibration(method="none")
    flag = OperatingPoint(threshold=0.5)
    operations = (Operation(calibration, flag, None, None, None, 0, False),)
    served = ServedNetwork(network.eval(), operations).eval()
    graph = to_onnx(served, served.output_names, SIZE)
    (folder / "model.onnx").write_bytes(graph)
    manifest = BundleManifest(
        id="plain",
        created="2026-11-24",
        description="ImageNet's weights",
        architecture="efficientnet-lite0",
        model=ModelFile(file="model.onnx", sha256=hashlib.sha256(graph).hexdigest()),
        preprocessing=Preprocessing(version=1, size=SIZE),
        findings=(
            FindingSpec(key="Effusion", label="Effusion", calibration=calibration, flag=flag),
        ),
        attributes=tuple(
            AttributeSpec(name=name, threshold=0.5) for name in ("frontal_chest", "child")
        ),
        structures=("lungs", "heart"),
        training={"split_seed": 0, "validation_fraction": 0.4, "sources": "phantom"},
        notice="Research use only, not a medical device.",
    )
    write_manifest(folder, manifest)
    return folder


@pytest.fixture(scope="module")
def quantised(
    plain_bundle: Path, data: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, QuantizationFigures]:
    """The same with an 8-bit network: limits wide, for its network has learnt nothing."""
    folder = tmp_path_factory.mktemp("models") / "quantised"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures_module, "GREATEST_FALL", 2.0)
        patch.setattr(figures_module, "GREATEST_ECE_RISE", 1.0)
        patch.setattr(figures_module, "LEAST_AGREEMENT", 0.0)
        patch.setattr(figures_module, "LEAST_DICE", 0.0)
        figures = quantize(plain_bundle, data, to=folder)
    return folder, figures


def _loss(**changes: object) -> FindingLoss:
    plain = {
        "key": "Effusion", "experimental": False, "pictures": 200, "positive_patients": 40,
        "auroc_float": 0.800, "auroc_int8": 0.799, "fall_low": -0.002, "fall_high": 0.004,
        "ece_float": 0.03, "ece_int8": 0.03, "flags_agree": 1.0,
    }  # fmt: skip
    return FindingLoss.model_validate(plain | changes)


def test_a_finding_accepts_what_costs_it_less_than_the_limits() -> None:
    assert _loss().complaint is None
    assert _loss(auroc_int8=0.794).complaint == "Effusion: AUROC falls by 0.0060"
    assert _loss(ece_int8=0.045).complaint == "Effusion: calibration error rises by 0.015"


def test_an_experimental_finding_complains_once_its_fall_is_beyond_chance() -> None:
    unsure = _loss(experimental=True, auroc_int8=0.78, fall_low=-0.01, fall_high=0.05)
    assert unsure.complaint is None
    sure = _loss(experimental=True, auroc_int8=0.78, fall_low=0.006, fall_high=0.03)
    assert sure.complaint == "Effusion: AUROC falls by 0.0200"


def test_the_bundle_is_whole_and_both_networks_hold_their_references(
    quantised: tuple[Path, QuantizationFigures], plain_bundle: Path
) -> None:
    folder, figures = quantised
    assert figures.accepted
    bundle = load_bundle(folder)
    assert bundle.manifest.model_int8 is not None
    assert bundle.manifest.model == load_bundle(plain_bundle).manifest.model
    assert bundle.digest == figures.digest
    assert bundle.digest != load_bundle(plain_bundle).digest
    for choice in ("float", "int8"):
        difference = check_reference_outputs(Triager.load(folder, 1, choice))
        assert difference is not None
        assert difference < 1e-5
    references = ReferenceOutputs.model_validate_json(
        (folder / "reference_outputs.json").read_bytes()
    )
    assert references.cases[0].probabilities != references.cases_int8[0].probabilities


def test_the_8_bit_network_is_smaller_and_keeps_its_head_in_floating_point(
    quantised: tuple[Path, QuantizationFigures],
) -> None:
    folder, figures = quantised
    assert figures.bytes_int8 < 0.4 * figures.bytes_float
    graph = onnx.load(folder / "model.int8.onnx").graph
    made_by = {output: node for node in graph.node for output in node.output}
    integers = {"backbone": 0, "head": 0}
    for node in graph.node:
        if node.op_type in ("Conv", "Gemm"):
            weights = made_by.get(node.input[1])
            is_integer = weights is not None and weights.op_type == "DequantizeLinear"
            inside = "/backbone/" in node.name or "/decoder/" in node.name
            integers["backbone" if inside else "head"] += is_integer
    assert integers["backbone"] > 50
    assert integers["head"] == 0


def test_the_two_networks_nearly_agree(quantised: tuple[Path, QuantizationFigures]) -> None:
    bundle = load_bundle(quantised[0])
    image = np.random.default_rng(0).normal(size=(1, 1, 64, 64)).astype(np.float32)
    one = Classifier(bundle, 1, "float").predict(image)
    other = Classifier(bundle, 1, "int8").predict(image)
    assert one.cams.shape == other.cams.shape
    assert set(one.structures) == set(other.structures)
    assert np.corrcoef(one.embedding, other.embedding)[0, 1] > 0.9


def test_blocks_in_floating_point_bring_the_answers_nearer(
    plain_bundle: Path, data: Path, tmp_path: Path
) -> None:
    bundle = load_bundle(plain_bundle)
    films = read_films(bundle, read_manifest(data / "manifest.csv")[:12])
    quantiser = Quantiser(bundle.model_path, tmp_path)
    assert not any("swish" in block for block in quantiser.blocks)
    ranges = quantiser.ranges(films, "MinMax")
    expected = answers(bundle, str(bundle.model_path), films.pictures)
    ratios = [
        signal_to_noise(expected, answers(bundle, quantiser.write(ranges, blocks), films.pictures))
        for blocks in (quantiser.blocks, quantiser.blocks[-1:], ())
    ]
    assert ratios[0] < ratios[1] < ratios[2]


def test_a_network_that_is_no_faster_where_it_should_be_is_refused(
    quantised: tuple[Path, QuantizationFigures], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figures_module, "LEAST_SPEED_UP", 1.1)
    made_for_it = {"processor": ("avx512_vnni",), "milliseconds_float": 7.0, "findings": ()}
    slow = quantised[1].model_copy(
        update={**made_for_it, "flags_agree": 1.0, "gate_agrees": {}, "dice": {},
                "milliseconds_int8": 7.1}
    )  # fmt: skip
    assert slow.losses == ()
    assert slow.complaints == ("it is 0.99 times as fast, expected 1.1 or more",)
    assert slow.model_copy(update={"milliseconds_int8": 6.0}).complaints == ()
    # Without instructions for 8-bit integers its speed here says nothing of it.
    assert slow.model_copy(update={"processor": ()}).complaints == ()


def test_what_the_patients_refuse_is_recorded_and_not_served(
    plain_bundle: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figures_module, "GREATEST_ECE_RISE", -1.0)
    # A few large blocks, so that few have to be tried.
    monkeypatch.setattr(graph_module, "_BLOCK", re.compile(r".*?/(?:_blocks\.1?|decoder)"))
    folder = tmp_path / "refused"
    shutil.copytree(plain_bundle, folder)
    write_metrics(
        folder / "metrics.json", evaluate(folder, data / "manifest.csv", limit=4, samples=0)
    )
    (folder / "model.int8.onnx").write_bytes(b"an older one")
    said: list[str] = []
    figures = quantize(folder, data, report=said.append)
    assert not figures.accepted
    assert len(figures.steps) > 2
    assert [len(step.in_float) for step in figures.steps][:3] == [0, 1, 2]
    # Which of its rules an untrained network meets first depends on the processor.
    assert "Effusion: " in said[-1]
    assert load_bundle(folder).manifest.model_int8 is None
    assert not (folder / "model.int8.onnx").exists()
    assert check_reference_outputs(Triager.load(folder, 1)) is not None
    section = read_metrics(folder / "metrics.json").sections["quantization"]
    assert QuantizationFigures.model_validate(section.figures) == figures
    assert "No 8-bit network" in (folder / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert figures.card_lines()[0].startswith("No 8-bit network: Effusion: ")


def test_validation_pictures_do_not_calibrate(plain_bundle: Path, data: Path) -> None:
    bundle = load_bundle(plain_bundle)
    train, val = sides_of(bundle, read_manifest(data / "manifest.csv"))
    assert len(train) + len(val) == 40
    assert {side_of_row(row, 0, 0.4) for row in train} == {"train"}
    assert {side_of_row(row, 0, 0.4) for row in val} == {"val"}


def test_calibration_pictures_are_spread_over_the_sources(data: Path) -> None:
    from dataclasses import replace

    rows = read_manifest(data / "manifest.csv")
    mixed = [replace(row, source="small" if i < 4 else "large") for i, row in enumerate(rows)]
    chosen = spread(mixed, 20)
    assert [row.source for row in chosen].count("small") == 4
    assert len({row.path for row in chosen}) == 20


def test_a_bundle_that_names_no_split_is_not_quantised(
    plain_bundle: Path, data: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "open"
    shutil.copytree(plain_bundle, folder)
    manifest = load_bundle(folder).manifest
    write_manifest(folder, manifest.model_copy(update={"training": {}}))
    with pytest.raises(ConfigurationError, match="does not record how its patients were split"):
        quantize(folder, data)


def test_films_that_know_none_of_the_findings_can_accept_nothing(
    plain_bundle: Path, data: Path
) -> None:
    from dataclasses import replace

    rows = [replace(row, label_scope=frozenset()) for row in read_manifest(data / "manifest.csv")]
    with pytest.raises(ConfigurationError, match="knows whether a finding of the bundle is there"):
        sides_of(load_bundle(plain_bundle), rows)


def test_the_references_tolerance_covers_a_processor_that_rounds_otherwise(
    quantised: tuple[Path, QuantizationFigures],
) -> None:
    """Without any optimisation onnxruntime calculates the same graph in floating point."""
    import onnxruntime

    folder, _ = quantised
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    network = str(folder / "model.int8.onnx")
    plain = onnxruntime.InferenceSession(network, options, providers=["CPUExecutionProvider"])
    pictures = np.random.default_rng(0).normal(size=(4, 64, 64)).astype(np.float32)
    served = answers(load_bundle(folder), network, pictures)["probabilities"]
    (other,) = plain.run(["probabilities"], {"image": pictures[:, np.newaxis]})
    assert 0 <= np.abs(served - other).max() < INT8_TOLERANCE
