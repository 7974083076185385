import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from vigil.bundle import load_bundle, write_manifest
from vigil.errors import ConfigurationError
from vigil_training.config import NetworkConfig, load_config
from vigil_training.network import DenseNetFeatures, Network, make_network
from vigil_training.open_models.convert import Converted
from vigil_training.open_models.initial import initial_weights, initialise, write_run_weights
from vigil_training.open_models.pickles import PickleRefusedError
from vigil_training.open_models.registry import ORDER
from vigil_training.open_models.store import ModelStore

CONFIGS = Path(__file__).parents[3] / "training" / "configs"
XRV = "xrv:densenet121-res224-all"
DENSE = NetworkConfig(backbone="densenet121", init="random", size=64)
LITE = NetworkConfig(size=64, init="random", stochastic_depth=0)
_STANDARDISED = torch.linspace(-2, 2, 64 * 64).reshape(1, 1, 64, 64)


def test_a_run_begins_where_torchxrayvision_ends(densenet: nn.Module, store: ModelStore) -> None:
    network = Network(DENSE, 3)
    initialise(network, initial_weights(XRV, store), ("Pneumonia", "Tuberculosis", "Lung_Opacity"))
    network.eval()
    with torch.no_grad():
        outputs = network(_STANDARDISED)
        # 0.25 z + 0.5 is the pixel in 0 to 1, and torchxrayvision's range is -1024 to 1024.
        theirs = densenet(_STANDARDISED * 512)
    expected = theirs[:, [ORDER.index("Pneumonia"), ORDER.index("Lung Opacity")]]
    torch.testing.assert_close(outputs.logits[:, [0, 2]], expected, rtol=1e-3, atol=1e-3)


def test_a_bundle_of_an_open_model_leads_to_its_weights(
    converted: Converted, store: ModelStore, tmp_path: Path
) -> None:
    weights = initial_weights(str(converted.folder), store)
    same = initial_weights(XRV, store)
    assert all(torch.equal(weights.state[name], value) for name, value in same.state.items())
    with pytest.raises(ConfigurationError, match="densenet121-res224-all is not in"):
        initial_weights(str(converted.folder), ModelStore(tmp_path))


@pytest.mark.parametrize(
    ("name", "backbone"),
    [
        ("imagenet", "efficientnet-lite0"),
        ("efficientnet-lite0", "efficientnet-lite0"),
        ("efficientnet-lite2", "efficientnet-lite2"),
    ],
)
def test_imagenet_weights_are_those_that_the_package_brings(name: str, backbone: str) -> None:
    config = LITE.model_copy(update={"backbone": backbone})
    network = Network(config, 2)
    weights = initial_weights(name)
    assert weights.backbone == backbone
    initialise(network, weights)
    known = make_network(config.model_copy(update={"init": "imagenet"}), 2)
    found, expected = network.backbone.state_dict(), known.backbone.state_dict()
    assert all(torch.equal(found[key], value) for key, value in expected.items())


def test_torchvisions_file_is_folded_to_one_channel(save: Callable[..., Path]) -> None:
    features = DenseNetFeatures()
    old = {  # as torchvision's older files number their layers
        name.replace("norm1", "norm.1").replace("conv2", "conv.2"): value
        for name, value in features.state_dict().items()
    }
    network = Network(DENSE, 2)
    initialise(network, initial_weights(str(save(old | {"classifier.weight": torch.zeros(1)}))))
    features.to_grey()
    torch.testing.assert_close(network.backbone.state_dict(), features.state_dict(), rtol=0, atol=0)


def test_a_runs_own_weights_are_taken_with_the_outputs_beside_them(tmp_path: Path) -> None:
    shutil.copy(CONFIGS / "smoke.toml", tmp_path / "config.toml")
    outputs = load_config(tmp_path / "config.toml").outputs
    state = make_network(LITE, len(outputs)).state_dict()
    torch.save(state, tmp_path / "best.pt")
    weights = initial_weights(str(tmp_path / "best.pt"))
    assert tuple(weights.head) == outputs
    network = Network(LITE, 2)
    initialise(network, weights, (outputs[-1], "Hernia of nobody"))
    assert torch.equal(network.head.weight[0], state["head.weight"][-1])
    assert not torch.equal(network.head.weight[1], state["head.weight"][-1])


def test_a_bundle_that_carries_its_weights_gives_them(
    stand_in_bundle: Path, tmp_path: Path
) -> None:
    bundle, network = load_bundle(stand_in_bundle), make_network(LITE, 2)
    shutil.copy(bundle.model_path, tmp_path)
    training = {"weights_sha256": write_run_weights(tmp_path, network.state_dict())}
    write_manifest(tmp_path, bundle.manifest.model_copy(update={"training": training}))
    weights = initial_weights(str(tmp_path))
    assert tuple(weights.head) == tuple(finding.key for finding in bundle.manifest.findings)
    again = Network(LITE, 2)
    initialise(again, weights, tuple(weights.head))
    for name, value in network.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], value, rtol=1e-3, atol=1e-4)
    (tmp_path / "weights.safetensors").write_bytes(b"altered")
    with pytest.raises(ConfigurationError, match="was altered: expected SHA-256"):
        initial_weights(str(tmp_path))


def test_a_bundle_without_its_weights_is_refused_with_the_reason(stand_in_bundle: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"holds no weights\.safetensors"):
        initial_weights(str(stand_in_bundle))


def test_weights_of_another_backbone_are_refused(store: ModelStore) -> None:
    with pytest.raises(ConfigurationError, match="holds weights of densenet121, which do not fit"):
        initialise(Network(LITE, 2), initial_weights(XRV, store))


def test_a_pickle_that_would_run_code_is_refused(save: Callable[..., Path]) -> None:
    with pytest.raises(PickleRefusedError, match="asks for"):
        initial_weights(str(save({"w": torch.zeros(1), "more": print})))


def test_other_names_and_files_are_refused(save: Callable[..., Path], densenet: nn.Module) -> None:
    with pytest.raises(ConfigurationError, match="neither a file, nor a bundle's folder"):
        initial_weights("vgg16")
    with pytest.raises(ConfigurationError, match="no open model is called"):
        initial_weights("xrv:vgg16")
    with pytest.raises(ConfigurationError, match="its first tensor is bias"):
        initial_weights(str(save(nn.Linear(2, 2).state_dict())))
    with pytest.raises(ConfigurationError, match=r"takes 1 channel, .*`vigil models import` it"):
        initial_weights(str(save(densenet.state_dict())))
