import numpy as np
import pytest
import torch

from vigil.errors import ConfigurationError
from vigil_training.augment import Augmentation, Corruption, apply_corruption
from vigil_training.config import ATTRIBUTES, AugmentationConfig, NetworkConfig
from vigil_training.generated import generated_examples
from vigil_training.network import make_network
from vigil_training.structures import StructureDecoder, structure_loss

SIZE = 64
MIRRORED = AugmentationConfig(
    affine_probability=0, gamma_probability=0, noise_probability=0, dropout_probability=0,
    shrink_probability=0, crop_probability=0, invert_probability=0, rotate_quarter_probability=0,
    mirror_probability=1.0,
)  # fmt: skip


def test_outlines_come_at_half_the_inputs_size_whatever_it_is() -> None:
    network = make_network(NetworkConfig(size=64, init="random", structures=True), 3).eval()
    for size in (64, 96):
        with torch.no_grad():
            outputs = network(torch.randn(2, 1, size, size))
            assert network.structures(outputs.pyramid).shape == (2, 2, size // 2, size // 2)


def test_a_network_without_a_decoder_says_so() -> None:
    network = make_network(NetworkConfig(size=64, init="random"), 3)
    with pytest.raises(ConfigurationError, match="outlines no structures"):
        network.structures([])


def test_the_loss_ignores_outlines_that_are_not_known() -> None:
    outlines = torch.zeros(2, 2, 8, 8)
    outlines[:, :, 2:6, 2:6] = 1
    right = torch.where(outlines > 0, 20.0, -20.0)
    wrong = right.clone()
    wrong[1] *= -1
    known = torch.tensor([[1.0, 1.0], [0.0, 0.0]])
    assert structure_loss(wrong, outlines, known) == pytest.approx(0, abs=1e-4)
    assert structure_loss(wrong, outlines, torch.ones(2, 2)) > 1


def test_a_decoder_learns_an_outline_in_a_few_steps() -> None:
    torch.manual_seed(0)
    outlines = torch.zeros(4, 1, 32, 32)
    for index in range(4):
        outlines[index, 0, 4 + 4 * index : 16 + 4 * index, 8:24] = 1
    quarter = torch.nn.functional.avg_pool2d(outlines, 2)
    pyramid = [quarter.repeat(1, 4, 1, 1)]
    for _ in range(3):
        pyramid.append(torch.nn.functional.avg_pool2d(pyramid[-1], 2))
    decoder = StructureDecoder((4, 4, 4, 4), 1)
    optimiser = torch.optim.Adam(decoder.parameters(), 1e-2)
    known = torch.ones(4, 1)
    first = structure_loss(decoder(pyramid), outlines, known).item()
    for _ in range(30):
        loss = structure_loss(decoder(pyramid), outlines, known)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.3 * first


def test_outlines_go_where_the_picture_goes() -> None:
    from tests.training.conftest import CONFIGS

    from vigil_training.config import load_config
    from vigil_training.dataset import PictureCache

    train, _ = generated_examples(load_config(CONFIGS / "smoke.toml"))
    cache = PictureCache([example for example in train if example.chest][:1], SIZE)
    lungs = cache.outlines[0][0].astype(np.float32) / 255
    # The lungs themselves as the picture: wherever it is moved, its outline must lie on it.
    picture = np.where(lungs > 0.5, 2.0, -2.0).astype(np.float32)
    moving = MIRRORED.model_copy(update={"affine_probability": 1.0, "rotate_degrees": 15})
    for seed in range(5):
        variant = Augmentation(moving, 0, SIZE)(
            picture, cache.boxes[0], True, np.zeros(len(ATTRIBUTES), np.float32),
            np.ones(len(ATTRIBUTES), np.float32), (seed,), np.stack([lungs, lungs]),
        )  # fmt: skip
        assert variant.outlines is not None
        agree = (variant.picture > 0) == (variant.outlines[0] > 0.5)
        assert agree.mean() > 0.97


def test_a_mirrored_film_teaches_its_findings_and_that_it_is_mirrored() -> None:
    picture = np.random.default_rng(0).normal(size=(SIZE, SIZE)).astype(np.float32).clip(-2, 2)
    box = (0, 0, SIZE, SIZE)
    from vigil.preprocess import Letterbox

    outputs = 1 + len(ATTRIBUTES)
    targets = np.zeros(outputs, np.float32)
    targets[:2] = 1
    variant = Augmentation(MIRRORED, 1, SIZE)(
        picture, Letterbox(*box), True, targets, np.ones(outputs, np.float32), (0,)
    )
    np.testing.assert_allclose(variant.picture, picture[:, ::-1], atol=1e-6)
    assert variant.mask.all()
    assert dict(zip(ATTRIBUTES, variant.targets[1:].tolist(), strict=True))["mirrored"] == 1
    turned = apply_corruption(picture, Letterbox(*box), Corruption(mirrored=True, quarter_turns=1))
    np.testing.assert_array_equal(turned, np.rot90(picture)[:, ::-1])
