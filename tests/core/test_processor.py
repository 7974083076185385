import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from tests.core.conftest import SIZE, build_bundle
from vigil.bundle import ModelFile, load_bundle
from vigil.classifier import Classifier
from vigil.errors import BundleError, ConfigurationError
from vigil.processor import (
    INTEGER_FEATURES,
    Network,
    choose_network,
    exact_integers,
    integer_features,
    network_choice,
    processor_features,
)
from vigil.reference import REFERENCE_NAME, check_reference_outputs, write_reference_outputs
from vigil.triager import Triager

AVX2_ONLY = frozenset({"sse4_1", "avx", "avx2", "fma"})


@pytest.fixture
def both(tmp_path: Path) -> Path:
    """A bundle whose second network gives other answers than its first."""
    folder = tmp_path / "both"
    build_bundle(folder)
    import onnx
    from onnx import numpy_helper

    model = onnx.load(folder / "model.onnx")
    weights = next(w for w in model.graph.initializer if w.name == "weights")
    weights.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weights) * 2, "weights"))
    content = model.SerializeToString()
    second = ModelFile(file="model.int8.onnx", sha256=hashlib.sha256(content).hexdigest())
    build_bundle(folder, model_int8=second)
    (folder / "model.int8.onnx").write_bytes(content)
    return folder


@pytest.mark.parametrize("feature", sorted(INTEGER_FEATURES))
def test_each_instruction_for_integers_chooses_the_8_bit_network(feature: str) -> None:
    assert choose_network("auto", True, AVX2_ONLY | {feature}) is Network.INT8
    assert choose_network("float", True, AVX2_ONLY | {feature}) is Network.FLOAT32
    assert choose_network("auto", False, AVX2_ONLY | {feature}) is Network.FLOAT32


def test_a_processor_without_one_keeps_floating_point_unless_it_is_told() -> None:
    assert choose_network("auto", True, AVX2_ONLY) is Network.FLOAT32
    assert choose_network("int8", True, AVX2_ONLY) is Network.INT8
    assert integer_features(AVX2_ONLY) == ()


def test_exact_arithmetic_is_asked_of_a_processor_only_where_its_fast_one_is_not() -> None:
    def asked(features: frozenset[str]) -> bool:
        options = onnxruntime.SessionOptions()
        exact_integers(options, features)
        return options.get_session_config_entry("session.x64quantprecision") == "1"

    assert asked(AVX2_ONLY)
    with pytest.raises(RuntimeError):  # onnxruntime has no entry of that name
        asked(AVX2_ONLY | {"avx_vnni"})


@pytest.mark.skipif(not integer_features(), reason="the processor's fast integers overflow")
def test_where_it_is_not_asked_for_the_bits_are_the_same() -> None:
    """Products of 255 and -128 in a row are what overflows 16 bits."""
    from onnx import TensorProto, helper, numpy_helper

    weights = np.full((64, 32), -128, np.int8)
    weights[:, ::3] = 127
    node = helper.make_node("MatMulInteger", ["a", "b"], ["c"])
    graph = helper.make_graph(
        [node],
        "products",
        [helper.make_tensor_value_info("a", TensorProto.UINT8, [16, 64])],
        [helper.make_tensor_value_info("c", TensorProto.INT32, [16, 32])],
        [numpy_helper.from_array(weights, "b")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    options = onnxruntime.SessionOptions()
    exact_integers(options)
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    values = np.full((16, 64), 255, np.uint8)

    (found,) = session.run(None, {"a": values})

    np.testing.assert_array_equal(found, values.astype(np.int32) @ weights.astype(np.int32))


def test_a_bundle_without_the_8_bit_network_refuses_to_pretend(bundle_folder: Path) -> None:
    with pytest.raises(BundleError, match="the bundle brings none"):
        Triager.load(bundle_folder, threads=1, network="int8")


def test_this_processor_says_what_linux_says_of_it() -> None:
    path = Path("/proc/cpuinfo")
    if not path.is_file():
        pytest.skip("Linux only")
    words = set(path.read_text(encoding="utf-8").split())
    assert processor_features()
    assert set(integer_features()) == INTEGER_FEATURES & words


def test_the_environment_chooses(monkeypatch: pytest.MonkeyPatch, both: Path) -> None:
    monkeypatch.setenv("VIGIL_NETWORK", "int8")
    assert Triager.load(both, threads=1).network is Network.INT8
    monkeypatch.setenv("VIGIL_NETWORK", "float")
    assert Triager.load(both, threads=1).network is Network.FLOAT32
    monkeypatch.setenv("VIGIL_NETWORK", "fast")
    with pytest.raises(ConfigurationError, match="VIGIL_NETWORK is fast, expected auto, float"):
        network_choice()
    monkeypatch.delenv("VIGIL_NETWORK")
    assert network_choice() == "auto"


def test_the_network_that_answers_is_the_one_that_is_named(both: Path) -> None:
    image = np.full((1, 1, SIZE, SIZE), 0.5, np.float32)
    bundle = load_bundle(both)
    single = Classifier(bundle, 1, "float").predict(image).logits["Effusion"]
    double = Classifier(bundle, 1, "int8").predict(image).logits["Effusion"]
    assert double == pytest.approx(2 * single, rel=1e-5)
    assert single != 0


def test_a_result_names_its_network_and_a_digest_that_covers_it(both: Path, tmp_path: Path) -> None:
    missing = tmp_path / "none.dcm"
    results = {
        choice: Triager.load(both, 1, choice).triage(missing) for choice in ("float", "int8")
    }
    said = {choice: result.to_json(missing) for choice, result in results.items()}
    assert said["float"]["network"] == "float32"
    assert said["int8"]["network"] == "int8"
    assert said["float"]["bundle"] == said["int8"]["bundle"]
    with (both / "model.int8.onnx").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(BundleError, match=r"model\.int8\.onnx: the network was altered"):
        load_bundle(both)
    (both / "model.int8.onnx").unlink()
    with pytest.raises(BundleError, match=r"model\.int8\.onnx: cannot be read"):
        load_bundle(both)


def test_each_network_is_checked_against_its_own_references(both: Path) -> None:
    outputs = write_reference_outputs(both)
    assert outputs.cases[0].probabilities != outputs.cases_int8[0].probabilities
    for choice in ("float", "int8"):
        assert check_reference_outputs(Triager.load(both, 1, choice)) < 1e-6
    path = both / REFERENCE_NAME
    swapped = json.loads(path.read_text())
    swapped["cases"], swapped["cases_int8"] = swapped["cases_int8"], swapped["cases"]
    path.write_text(json.dumps(swapped))
    for choice in ("float", "int8"):
        with pytest.raises(BundleError, match="differ from the references"):
            check_reference_outputs(Triager.load(both, 1, choice))


def test_a_copy_without_references_of_the_8_bit_network_says_so(both: Path, tmp_path: Path) -> None:
    write_reference_outputs(both)
    folder = shutil.copytree(both, tmp_path / "copy")
    path = folder / REFERENCE_NAME
    path.write_text(json.dumps(json.loads(path.read_text()) | {"cases_int8": []}))
    assert check_reference_outputs(Triager.load(folder, 1, "int8")) is None
    assert check_reference_outputs(Triager.load(folder, 1, "float")) is not None
