from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from vigil.errors import BundleError
from vigil_training.heat_maps.shuffled_weights import STAGES, MapNetwork, shuffled_networks

SHAPES = {
    "first": (6, 1, 3, 3),
    "second": (6, 6, 3, 3),
    "third": (6, 6, 3, 3),
    "head": (2, 6, 1, 1),
}


def _write(path: Path, *, layers: bool = True) -> None:
    """Write a network of four layers of weights, and one beside them."""
    random = np.random.default_rng(3)
    weights = {name: random.normal(size=shape) for name, shape in SHAPES.items()}
    weights["beside"] = random.normal(size=(6, 2))
    names = ["image", "a", "b", "c", "cams"]
    nodes = [
        helper.make_node("Conv", [names[n], weight], [names[n + 1]])
        for n, weight in enumerate(SHAPES)
    ]
    nodes += [
        helper.make_node("GlobalAveragePool", ["c"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["embedding"]),
        helper.make_node("MatMul", ["embedding", "beside"], ["logits"]),
    ]
    if not layers:
        nodes = [
            helper.make_node("Identity", ["image"], ["cams"]),
            helper.make_node("Flatten", ["image"], ["logits"]),
        ]
    graph = helper.make_graph(
        nodes, "four",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 1, 16, 16])],
        [
            helper.make_tensor_value_info("cams", TensorProto.FLOAT, None),
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, None),
        ],
        [numpy_helper.from_array(v.astype(np.float32), k) for k, v in weights.items()],
    )  # fmt: skip
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path
    )


def _weights(network: MapNetwork) -> dict[str, np.ndarray]:
    model = onnx.load_from_string(network.content)
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def test_each_stage_shuffles_further_from_the_output_and_keeps_every_layers_values(
    tmp_path: Path,
) -> None:
    _write(tmp_path / "model.onnx")
    before = onnx.load(tmp_path / "model.onnx")
    own = {tensor.name: numpy_helper.to_array(tensor) for tensor in before.graph.initializer}
    changed = {}
    for stage, network in shuffled_networks(tmp_path / "model.onnx", seed=1):
        weights = _weights(network)
        changed[stage] = {name for name in own if not np.array_equal(own[name], weights[name])}
        for name, values in own.items():
            np.testing.assert_array_equal(np.sort(values.ravel()), np.sort(weights[name].ravel()))
    everything = {"head", "third", "second", "first"}
    assert changed == {
        "head": {"head"},
        "last quarter of the layers": {"head"},
        "last half": {"head", "third"},
        "all": everything,
    }


def test_the_maps_change_with_the_weights_and_are_the_same_for_the_same_seed(
    tmp_path: Path,
) -> None:
    _write(tmp_path / "model.onnx")
    image = np.random.default_rng(0).random((1, 1, 16, 16)).astype(np.float32)
    one, again, other = (
        [network.maps(image) for _, network in shuffled_networks(tmp_path / "model.onnx", seed)]
        for seed in (1, 1, 2)
    )
    assert [maps.shape for maps in one] == [(2, 10, 10)] * len(STAGES)
    for first, second in zip(one, again, strict=True):
        np.testing.assert_array_equal(first, second)
    assert not np.allclose(one[0], other[0])
    assert not np.allclose(one[0], one[-1])


def test_a_graph_without_weights_before_its_maps_is_refused(tmp_path: Path) -> None:
    _write(tmp_path / "model.onnx", layers=False)
    with pytest.raises(BundleError, match="no layer with weights"):
        list(shuffled_networks(tmp_path / "model.onnx"))
