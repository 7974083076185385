import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from vigil.bundle import load_bundle
from vigil.classifier import Classifier
from vigil.errors import BundleError, ConfigurationError
from vigil.phantom import make_phantom
from vigil.preprocess import to_model_input
from vigil_training.calibrate import Operation
from vigil_training.config import NetworkConfig, load_config
from vigil_training.export import (
    OUTPUT_NAMES,
    ServedNetwork,
    export,
)
from vigil_training.network import make_network
from vigil_training.onnx_graph import GREATEST_DIFFERENCE, parity, to_onnx

CONFIGS = Path(__file__).parents[2] / "training" / "configs"
SIZE = 64


def _operation(slope: float, intercept: float) -> Operation:
    from vigil.bundle import Calibration, OperatingPoint

    calibration = Calibration(method="platt", slope=slope, intercept=intercept)
    return Operation(calibration, OperatingPoint(threshold=0.5), None, None, None, 0, True)


@pytest.fixture(scope="module")
def served() -> ServedNetwork:
    torch.manual_seed(0)
    network = make_network(NetworkConfig(size=SIZE), 6)
    operations = (_operation(0.5, -1.0), _operation(2.0, 0.3))
    return ServedNetwork(network, operations).eval()


@pytest.fixture(scope="module")
def graph(served: ServedNetwork) -> bytes:
    return to_onnx(served, served.output_names, SIZE)


def _phantoms(count: int) -> np.ndarray:
    from vigil.preprocess import PreprocessingSpec

    spec = PreprocessingSpec(size=SIZE)
    films = [make_phantom(n, "effusion" if n % 2 else "normal", (128, 128)) for n in range(count)]
    return np.concatenate([to_model_input((film.pixels << 4), spec) for film in films])


def test_torch_and_onnxruntime_agree_on_every_output(served: ServedNetwork, graph: bytes) -> None:
    assert parity(served, served.output_names, graph, _phantoms(4)) <= GREATEST_DIFFERENCE


def test_a_graph_of_other_weights_is_refused(served: ServedNetwork, graph: bytes) -> None:
    network = make_network(NetworkConfig(size=SIZE), 6)
    other = ServedNetwork(network, (_operation(0.5, -1.0), _operation(2.0, 0.3))).eval()
    with pytest.raises(
        BundleError, match=r"torch and onnxruntime differ by .* expected at most 1e-04"
    ):
        parity(other, other.output_names, graph, _phantoms(2))


def test_the_graph_has_the_agreed_interface_and_no_normalisation_left(graph: bytes) -> None:
    model = onnx.load_from_string(graph)
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 17)]
    shapes = {
        value.name: [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in [*model.graph.input, *model.graph.output]
    }
    assert shapes == {
        "image": ["N", 1, SIZE, SIZE], "logits": ["N", 2], "probabilities": ["N", 2],
        "cams": ["N", 2, 2, 2], "embedding": ["N", 1280], "attributes": ["N", 4],
    }  # fmt: skip
    operators = {node.op_type for node in model.graph.node}
    assert not operators & {"BatchNormalization", "Pad"}


def test_any_number_of_pictures_goes_through_at_once_and_each_is_judged_alone(graph: bytes) -> None:
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    images = _phantoms(3)
    together = session.run(list(OUTPUT_NAMES), {"image": images})
    for index in range(3):
        alone = session.run(list(OUTPUT_NAMES), {"image": images[index : index + 1]})
        for one, all_ in zip(alone, together, strict=True):
            np.testing.assert_allclose(one[0], all_[index], atol=1e-4)


def test_probabilities_are_calibrated_inside_the_graph(graph: bytes) -> None:
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    logits, probabilities, attributes = session.run(
        ["logits", "probabilities", "attributes"], {"image": _phantoms(2)}
    )
    expected = 1 / (1 + np.exp(-(logits * [0.5, 2.0] + [-1.0, 0.3])))
    np.testing.assert_allclose(probabilities, expected, atol=1e-6)
    assert ((attributes > 0) & (attributes < 1)).all()


def test_the_smoke_bundle_is_served(smoke_bundle: Path) -> None:
    bundle = load_bundle(smoke_bundle)
    assert [finding.key for finding in bundle.manifest.findings] == [
        "Effusion", "Cardiomegaly", "Consolidation",
    ]  # fmt: skip
    assert [a.name for a in bundle.manifest.attributes] == [
        "frontal_chest", "child", "inverted", "rotated", "mirrored", "anteroposterior",
    ]  # fmt: skip
    assert bundle.manifest.training["split_seed"] == 0
    assert bundle.manifest.training["experimental_rule"]
    assert all(finding.calibration.method == "platt" for finding in bundle.manifest.findings)
    pixels = make_phantom(1, "normal", (256, 256)).pixels << 4
    prediction = Classifier(bundle, threads=1).predict(to_model_input(pixels, bundle.preprocessing))
    assert set(prediction.probabilities) == {"Effusion", "Cardiomegaly", "Consolidation"}
    assert prediction.cams.shape == (3, 2, 2)


def test_a_bundle_starts_another_run_where_its_own_ended(smoke_bundle: Path) -> None:
    manifest = load_bundle(smoke_bundle).manifest
    config = load_config(CONFIGS / "smoke.toml")
    keys = tuple(finding.key for finding in manifest.findings)
    begun = make_network(
        config.network.model_copy(update={"init": str(smoke_bundle)}), len(keys), keys
    ).eval()
    images = _phantoms(2)
    session = onnxruntime.InferenceSession(
        str(smoke_bundle / "model.onnx"), providers=["CPUExecutionProvider"]
    )
    logits, outlines = session.run(["logits", "structures"], {"image": images})
    with torch.no_grad():
        outputs = begun(torch.from_numpy(images))
        structures = torch.sigmoid(begun.structures(outputs.pyramid))
    # Matrices are kept in half precision.
    np.testing.assert_allclose(outputs.logits.numpy(), logits, atol=0.02)
    np.testing.assert_allclose(structures.numpy(), outlines, atol=0.02)


def test_thresholds_of_the_smoke_bundle_reach_what_the_rules_promise(smoke_bundle: Path) -> None:
    for finding in load_bundle(smoke_bundle).manifest.findings:
        assert finding.flag.positives > 5
        assert finding.flag.sensitivity is not None
        assert finding.flag.specificity is not None
        if finding.experimental:
            assert finding.flag.specificity >= 0.95
            assert finding.critical is None
            assert finding.priority == "ROUTINE"
        else:
            assert finding.flag.sensitivity >= 0.8 or finding.flag.specificity >= 0.75


def test_a_run_without_weights_is_not_exported(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"holds no best\.pt"):
        export(tmp_path, None, tmp_path / "bundle")


def test_a_changed_threshold_is_noticed(smoke_bundle: Path, tmp_path: Path) -> None:
    folder = tmp_path / "smoke"
    shutil.copytree(smoke_bundle, folder)
    manifest = json.loads((folder / "bundle.json").read_text(encoding="utf-8"))
    manifest["findings"][0]["flag"]["threshold"] = 0.99
    (folder / "bundle.json").write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(BundleError, match="altered"):
        load_bundle(folder)
