"""The open models' networks, from torchvision's, with one channel in and the map beside the logit.

torchxrayvision's DenseNet-121 and ResNet-50 are torchvision's but for the first convolution, which
takes one channel; names and shapes of the weights are the same, so theirs load into these.
"""

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor, nn

from vigil_training.open_models.registry import ORDER, Architecture
from vigil_training.vision import import_torchvision_models

HEADS: Mapping[Architecture, str] = {"densenet121": "classifier", "resnet50": "fc"}
"""The last linear layer, by its name in the weights."""


class OpenOutputs(NamedTuple):
    """What one forward pass gives.

    ``logits`` (N, outputs), ``probabilities`` (N, outputs) their sigmoid, ``cams``
    (N, outputs, h, w) what each place adds to the logit, ``embedding`` (N, C).
    """

    logits: Tensor
    probabilities: Tensor
    cams: Tensor
    embedding: Tensor


def build_network(architecture: Architecture) -> nn.Module:
    """Return torchvision's network with one channel in and an output per label of ``ORDER``."""
    models = import_torchvision_models()
    network: nn.Module
    if architecture == "densenet121":
        network = models.densenet121(weights=None, num_classes=len(ORDER))
        network.get_submodule("features").add_module("conv0", _stem())
    else:
        network = models.resnet50(weights=None, num_classes=len(ORDER))
        network.add_module("conv1", _stem())
    return network


def _stem() -> nn.Conv2d:
    return nn.Conv2d(1, 64, kernel_size=7, stride=2, padding=3, bias=False)


@cache
def expected_shapes(architecture: Architecture) -> Mapping[str, tuple[int, ...]]:
    """Return each weight's name and shape, without giving the network any memory."""
    with torch.device("meta"):
        state = build_network(architecture).state_dict()
    return MappingProxyType({name: tuple(value.shape) for name, value in state.items()})


class OpenNetwork(nn.Module):
    """An open model's network, cut down to some of its outputs.

    Parameters
    ----------
    architecture
        Which network.
    state
        All of its weights.
    outputs
        The positions in ``ORDER`` of the outputs to keep.
    """

    def __init__(
        self, architecture: Architecture, state: Mapping[str, Tensor], outputs: tuple[int, ...]
    ) -> None:
        super().__init__()
        network = build_network(architecture)
        network.load_state_dict(state)
        self.trunk = _trunk(architecture, network)
        head = network.get_submodule(HEADS[architecture])
        kept = torch.tensor(outputs)
        self.weight = nn.Parameter(head.get_parameter("weight").detach()[kept])
        self.bias = nn.Parameter(head.get_parameter("bias").detach()[kept])

    def forward(self, image: Tensor) -> OpenOutputs:
        """Return the outputs for (N, 1, S, S) pictures over -1024 to 1024."""
        features = self.trunk(image)
        embedding = features.mean((2, 3))
        logits = nn.functional.linear(embedding, self.weight, self.bias)
        cams = nn.functional.conv2d(features, self.weight[:, :, None, None])
        return OpenOutputs(logits, torch.sigmoid(logits), cams, embedding)


def _trunk(architecture: Architecture, network: nn.Module) -> nn.Sequential:
    """Return the network up to its last feature map, which is not negative."""
    if architecture == "densenet121":
        return nn.Sequential(network.get_submodule("features"), nn.ReLU())
    names = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4")
    return nn.Sequential(*(network.get_submodule(name) for name in names))
