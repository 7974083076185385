from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from vigil.errors import ConfigurationError
from vigil_training.open_models.networks import build_network, expected_shapes
from vigil_training.open_models.pickles import Saved
from vigil_training.open_models.registry import ORDER, find_model
from vigil_training.open_models.weights import check_weights, read_weights, to_safetensors

DENSENET = find_model("densenet121-res224-all")
RESNET = find_model("resnet50-res512-all")


def _arrays(architecture: str = "densenet121") -> dict[str, np.ndarray]:
    shapes = expected_shapes(architecture)
    return {
        name: np.zeros(shape, np.int64 if name.endswith("tracked") else np.float32)
        for name, shape in shapes.items()
    }


def test_the_networks_have_as_many_weights_as_their_authors_say() -> None:
    # BENCHMARKS.md: 6,966,034 and 23,538,642 parameters.
    for architecture, count in (("densenet121", 6_966_034), ("resnet50", 23_538_642)):
        parameters = build_network(architecture).parameters()
        assert sum(value.numel() for value in parameters) == count


def test_weights_of_another_architecture_are_refused_with_what_was_found() -> None:
    resnet = Saved("torchvision.models.resnet.ResNet", _arrays("resnet50"))
    with pytest.raises(
        ConfigurationError,
        match=r"file: expected densenet121-res224-all \(densenet121\) with features.conv0.weight "
        r"\(64, 1, 7, 7\), found torchvision.models.resnet.ResNet without it",
    ):
        check_weights(resnet, DENSENET, "file")


def test_weights_of_another_shape_are_refused_with_expected_and_found() -> None:
    arrays = _arrays() | {"classifier.weight": np.zeros((14, 1024), np.float32)}
    with pytest.raises(
        ConfigurationError,
        match=r"with classifier.weight \(18, 1024\), found a state dictionary with "
        r"classifier.weight \(14, 1024\)",
    ):
        check_weights(Saved(None, arrays), DENSENET, "file")


def test_weights_too_many_are_refused() -> None:
    arrays = _arrays() | {"more.weight": np.zeros(3, np.float32)}
    with pytest.raises(ConfigurationError, match=r"with 1 more, such as more\.weight"):
        check_weights(Saved(None, arrays), DENSENET, "file")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("classifier.bias", np.full(18, np.nan, np.float32), "not finite"),
        ("classifier.bias", np.zeros(18, np.int64), "expected floating point"),
        ("features.norm0.running_var", np.full(64, -1, np.float32), "negative variance"),
        ("op_threshs", np.full(18, 2, np.float32), "between 0 and 1"),
        (
            "op_threshs",
            np.full(14, 0.5, np.float32),
            r"expected 18 operating points, found \(14,\)",
        ),
    ],
)
def test_values_that_no_network_has_are_refused(name: str, value: np.ndarray, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        check_weights(Saved(None, _arrays() | {name: value}), DENSENET, "file")


def test_a_file_that_counts_no_batches_is_taken() -> None:
    arrays = {n: v for n, v in _arrays().items() if not n.endswith("num_batches_tracked")}
    weights = check_weights(Saved(None, arrays), DENSENET, "file")
    assert set(weights.state) == set(expected_shapes("densenet121"))


def test_the_resnet_within_the_packages_class_is_taken() -> None:
    arrays = {f"model.{name}": value for name, value in _arrays("resnet50").items()}
    points = np.full(18, 0.25, np.float32)
    weights = check_weights(Saved(None, arrays | {"op_threshs": points}), RESNET, "file")
    assert "conv1.weight" in weights.state
    assert set(weights.operating_points) == set(RESNET.labels)


def test_operating_points_of_the_file_survive_being_kept(tmp_path: Path) -> None:
    points = np.linspace(0.1, 0.9, 18).astype(np.float32)
    arrays = _arrays() | {"op_threshs": points}
    weights = check_weights(Saved(None, arrays), DENSENET, "file")
    path = tmp_path / "kept.safetensors"
    path.write_bytes(to_safetensors(weights))
    again = check_weights(read_weights(path), DENSENET, str(path))
    assert again.operating_points == weights.operating_points
    assert again.operating_points[ORDER[3]] == pytest.approx(points[3])


def test_safetensors_are_read_and_refused_when_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "weights.bin"
    safetensors.torch.save_file({"w": torch.arange(1000.0)}, path)
    np.testing.assert_array_equal(read_weights(path).arrays["w"], np.arange(1000.0))
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ConfigurationError, match="expected a whole safetensors file"):
        read_weights(path)


def test_half_precision_is_widened(save: Callable[..., Path]) -> None:
    state = {name: torch.ones(shape).half() for name, shape in expected_shapes("resnet50").items()}
    weights = check_weights(read_weights(save(state)), RESNET, "file")
    assert weights.state["fc.weight"].dtype == torch.float32
    assert weights.state["bn1.num_batches_tracked"].dtype == torch.int64
