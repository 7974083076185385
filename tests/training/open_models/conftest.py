"""Weights files of the published format: whole modules, pickled by the real package.

The weights are random, but not idle: batch normalisation has seen films, and the last layer is set
so that films differ by about 1.5 in their logits. A network straight from its initialiser gives
nearly the same answer to every picture, and parity would prove nothing.
"""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import nn

from vigil.errors import ConfigurationError
from vigil.phantom import MAX_STORED_VALUE, make_phantom
from vigil_training.open_models.convert import Converted, convert
from vigil_training.open_models.networks import build_network
from vigil_training.open_models.pull import import_torchxrayvision
from vigil_training.open_models.registry import find_model
from vigil_training.open_models.store import ModelStore

NAME = "densenet121-res224-all"
_KINDS = ("normal", "effusion", "cardiomegaly", "opacity")
_GAMMAS = (0.6, 1.0, 1.7)


@pytest.fixture(scope="session")
def xrv() -> ModuleType:
    """torchxrayvision, or a skip."""
    try:
        return import_torchxrayvision()
    except ConfigurationError:
        pytest.skip("torchxrayvision is not installed (extra xrv)")


@pytest.fixture(scope="session")
def densenet(xrv: ModuleType) -> nn.Module:
    """torchxrayvision's DenseNet-121 with lively random weights."""
    torch.manual_seed(0)
    network = xrv.models.DenseNet(num_classes=18, in_channels=1)
    enliven(network, network.classifier, 112, films=6)
    return network


@pytest.fixture(scope="session")
def densenet_file(densenet: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The DenseNet as its authors published theirs: a whole module in the format before 1.6."""
    path = tmp_path_factory.mktemp("published") / find_model(NAME).file
    torch.save(densenet, path, _use_new_zipfile_serialization=False)
    return path


@pytest.fixture(scope="session")
def resnet_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ResNet-50 as its authors publish theirs: a state dictionary."""
    torch.manual_seed(0)
    network = build_network("resnet50")
    enliven(network, network.get_submodule("fc"), 160, films=4)
    path = tmp_path_factory.mktemp("published") / find_model("resnet50-res512-all").file
    torch.save(network.state_dict(), path)
    return path


@pytest.fixture(scope="session")
def store(densenet_file: Path, tmp_path_factory: pytest.TempPathFactory) -> ModelStore:
    """A store that holds the DenseNet; tests that change a store make their own."""
    store = ModelStore(tmp_path_factory.mktemp("store"))
    store.add(densenet_file, find_model(NAME))
    return store


@pytest.fixture(scope="session")
def converted(store: ModelStore, tmp_path_factory: pytest.TempPathFactory) -> Converted:
    """The DenseNet's bundle."""
    return convert(find_model(NAME), store, tmp_path_factory.mktemp("bundle") / "densenet")


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., Path]:
    """Write something with ``torch.save`` and return the file."""

    def write(what: object, **arguments: object) -> Path:
        path = tmp_path / "file.pt"
        torch.save(what, path, **arguments)
        return path

    return write


def enliven(network: nn.Module, head: nn.Module, size: int, films: int) -> None:
    """Give a network batch statistics and a last layer that tell phantoms apart."""
    images = torch.stack([_film(index, size) for index in range(films)])
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
            module.reset_running_stats()
    seen: list[torch.Tensor] = []
    hook = head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    with torch.no_grad():
        network.train()
        network(images)
        network.eval()
        network(images)
        hook.remove()
        embedding = seen[-1]
        centred = embedding - embedding.mean(0)
        weight = torch.randn(18, films) @ centred
        weight *= (1.5 / (centred @ weight.T).std(0))[:, None]
        head.get_parameter("weight").copy_(weight)
        head.get_parameter("bias").copy_(-(embedding.mean(0) @ weight.T))


def _film(index: int, size: int) -> torch.Tensor:
    pixels = make_phantom(50 + index, _KINDS[index % 4], (size, size)).pixels / MAX_STORED_VALUE
    shown = pixels ** _GAMMAS[index % 3] * 2048 - 1024
    return torch.from_numpy(shown.astype(np.float32))[None]
