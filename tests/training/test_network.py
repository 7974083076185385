from pathlib import Path

import numpy as np
import pytest
import torch

from vigil.errors import ConfigurationError
from vigil_training.config import NetworkConfig
from vigil_training.network import DenseNetFeatures, LiteFeatures, make_network
from vigil_training.vision import import_torchvision_models

SMALL = NetworkConfig(size=64, init="random", stochastic_depth=0)


def test_the_grey_stem_answers_as_the_rgb_stem_did_on_a_grey_picture() -> None:
    colour, grey = (
        LiteFeatures("efficientnet-lite0", 64, 0.0).eval(),
        LiteFeatures("efficientnet-lite0", 64, 0.0).eval(),
    )
    colour.load_imagenet()
    grey.load_imagenet()
    grey.to_grey()
    pixels = torch.rand(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        rgb = ((pixels * 255 - 127) / 128).expand(1, 3, 64, 64)
        expected = colour.net._bn0(colour.net._conv_stem(rgb))
        found = grey.net._bn0(grey.net._conv_stem((pixels - 0.5) / 0.25))
    # Only the last row and column see the padding, where the constant is missing.
    difference = (expected - found)[..., :-1, :-1].abs().max()
    assert difference < 1e-5 * expected.abs().max()


def test_evenly_padded_convolutions_answer_as_the_packages_own() -> None:
    from efficientnet_lite_pytorch import EfficientNet

    ours = LiteFeatures("efficientnet-lite0", 64, 0.0).eval()
    theirs = EfficientNet.from_name("efficientnet-lite0", image_size=64).eval()
    theirs.load_state_dict(ours.net.state_dict(), strict=False)
    picture = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(ours(picture).features, theirs.extract_features(picture))


@pytest.mark.parametrize("backbone", ["efficientnet-lite0", "efficientnet-lite2", "densenet121"])
def test_a_map_averages_to_its_logit_without_the_bias(backbone: str) -> None:
    network = make_network(SMALL.model_copy(update={"backbone": backbone}), 5).eval()
    picture = torch.randn(2, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits, features, embedding, _ = network(picture)
        maps = network.maps(features, 3)
    assert maps.shape == (2, 3, 2, 2)
    torch.testing.assert_close(maps.mean((2, 3)) + network.head.bias[:3], logits[:, :3])
    torch.testing.assert_close(embedding, features.mean((2, 3)))


@pytest.mark.parametrize(
    ("backbone", "channels"),
    [("efficientnet-lite0", (24, 40, 112, 320)), ("efficientnet-lite2", (24, 48, 120, 352))],
)
def test_outlines_are_made_of_the_last_map_of_each_scale(
    backbone: str, channels: tuple[int, ...]
) -> None:
    config = SMALL.model_copy(update={"backbone": backbone, "structures": True})
    network = make_network(config, 2).eval()
    with torch.no_grad():
        pyramid = network(torch.zeros(1, 1, 64, 64)).pyramid
        outlines = network.structures(pyramid)
    assert [tuple(level.shape[1:]) for level in pyramid] == [
        (count, 64 // scale, 64 // scale)
        for count, scale in zip(channels, (4, 8, 16, 32), strict=True)
    ]
    assert outlines.shape == (1, 2, 32, 32)


def test_torchvision_can_be_imported_whatever_torch_it_was_built_for() -> None:
    assert import_torchvision_models().densenet121 is not None
    assert import_torchvision_models() is import_torchvision_models()


def test_torchvisions_own_weights_start_a_densenet(tmp_path: Path) -> None:
    source = import_torchvision_models().densenet121(weights=None)
    state = source.state_dict()
    # The published file names its layers as torchvision once did.
    old = {
        name.replace(".norm1.", ".norm.1.").replace(".conv2.", ".conv.2."): value
        for name, value in state.items()
    }
    torch.save(old, tmp_path / "densenet121.pth")
    config = NetworkConfig(backbone="densenet121", size=64, init=str(tmp_path / "densenet121.pth"))
    network = make_network(config, 4)
    assert isinstance(network.backbone, DenseNetFeatures)
    loaded = network.backbone.features
    torch.testing.assert_close(
        loaded.denseblock1.denselayer1.conv2.weight,
        state["features.denseblock1.denselayer1.conv2.weight"],
    )
    assert loaded.conv0.weight.shape == (64, 1, 7, 7)


def test_a_runs_own_weights_start_another_run(tmp_path: Path) -> None:
    first = make_network(SMALL, 4)
    torch.save(first.state_dict(), tmp_path / "best.pt")
    second = make_network(SMALL.model_copy(update={"init": str(tmp_path / "best.pt")}), 4)
    for name, value in first.state_dict().items():
        np.testing.assert_array_equal(second.state_dict()[name].numpy(), value.numpy(), name)


class _Bomb:
    def __reduce__(self) -> tuple[object, ...]:
        return (pytest.fail, ("a pickle ran code",))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"weight": _Bomb()}, "holds more or less than weights"),
        ([1, 2], "is no dictionary of tensors"),
        ({"head.bias": torch.zeros(3)}, "does not fit this network"),
    ],
)
def test_a_file_that_is_not_this_networks_weights_is_refused(
    tmp_path: Path, content: object, said: str
) -> None:
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(ConfigurationError, match=said):
        make_network(SMALL.model_copy(update={"init": str(tmp_path / "w.pt")}), 4)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        make_network(SMALL.model_copy(update={"init": str(tmp_path / "none.pt")}), 4)


def test_densenet_has_no_imagenet_weights_to_start_from() -> None:
    with pytest.raises(ConfigurationError, match="no ImageNet weights come with densenet121"):
        make_network(NetworkConfig(backbone="densenet121"), 4)
