import numpy as np
import pytest

from vigil.preprocess import Letterbox, PreprocessingSpec, letterbox_of, to_model_input
from vigil_training.augment import (
    BLACK,
    Augmentation,
    Corruption,
    apply_corruption,
    draw_corruption,
)
from vigil_training.config import ATTRIBUTES, AugmentationConfig

SIZE = 64
STILL = AugmentationConfig(
    affine_probability=0, gamma_probability=0, noise_probability=0, dropout_probability=0,
    shrink_probability=0, crop_probability=0, invert_probability=0, rotate_quarter_probability=0,
)  # fmt: skip


def _picture(rows: int = 100, columns: int = 60) -> tuple[np.ndarray, Letterbox]:
    pixels = np.random.default_rng(0).integers(0, 65535, (rows, columns)).astype(np.uint16)
    return to_model_input(pixels, PreprocessingSpec(size=SIZE))[0, 0], letterbox_of(
        rows, columns, SIZE
    )


def _filling(box: Letterbox) -> np.ndarray:
    outside = np.ones((SIZE, SIZE), bool)
    outside[box.top : box.top + box.height, box.left : box.left + box.width] = False
    return outside


def test_inverting_turns_the_picture_and_leaves_the_filling_black() -> None:
    picture, box = _picture()
    inverted = apply_corruption(picture, box, Corruption(inverted=True))
    outside = _filling(box)
    assert outside.any()
    np.testing.assert_array_equal(inverted[outside], BLACK)
    np.testing.assert_array_equal(inverted[~outside], -picture[~outside])


def test_inverting_is_what_an_inverted_file_would_give() -> None:
    pixels = np.random.default_rng(1).integers(0, 65535, (128, 128)).astype(np.uint16)
    spec, box = PreprocessingSpec(size=SIZE), letterbox_of(128, 128, SIZE)
    ours = apply_corruption(to_model_input(pixels, spec)[0, 0], box, Corruption(inverted=True))
    files = to_model_input((65535 - pixels).astype(np.uint16), spec)[0, 0]
    np.testing.assert_allclose(ours, files, atol=0.01)


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_quarter_turn_is_what_a_turned_file_would_give(turns: int) -> None:
    pixels = np.random.default_rng(1).integers(0, 65535, (128, 96)).astype(np.uint16)
    spec, box = PreprocessingSpec(size=SIZE), letterbox_of(128, 96, SIZE)
    ours = apply_corruption(
        to_model_input(pixels, spec)[0, 0], box, Corruption(quarter_turns=turns)
    )
    files = to_model_input(np.ascontiguousarray(np.rot90(pixels, turns)), spec)[0, 0]
    np.testing.assert_allclose(ours, files, atol=0.01)


def test_shrinking_blurs_and_keeps_the_size() -> None:
    picture, box = _picture()
    blurred = apply_corruption(picture, box, Corruption(shrink_to=32))
    assert blurred.shape == picture.shape
    assert blurred[~_filling(box)].std() < 0.8 * picture[~_filling(box)].std()


def test_a_crop_fills_the_square_again() -> None:
    picture, box = _picture()
    cropped = apply_corruption(picture, box, Corruption(crop=(0.3, 0.3, 0.0, 0.0)))
    assert (cropped > BLACK).any(axis=0).sum() == SIZE
    assert (cropped > BLACK).any(axis=1).sum() == pytest.approx(SIZE * 40 / 60, abs=2)


def _augment(config: AugmentationConfig, chest: bool = True, seed: int = 0):
    picture, box = _picture()
    outputs = 2 + len(ATTRIBUTES)
    targets = np.zeros(outputs, np.float32)
    targets[[0, 2]] = 1
    mask = np.ones(outputs, np.float32)
    return picture, Augmentation(config, 2, SIZE)(picture, box, chest, targets, mask, (seed,))[:3]


def test_nothing_happens_where_all_probabilities_are_zero() -> None:
    picture, (variant, targets, mask) = _augment(STILL)
    np.testing.assert_allclose(variant, picture, atol=1e-6)
    assert np.flatnonzero(targets).tolist() == [0, 2]
    assert mask.all()


def test_an_inverted_film_teaches_no_findings_but_that_it_is_inverted() -> None:
    config = STILL.model_copy(update={"invert_probability": 1.0})
    _, (_, targets, mask) = _augment(config)
    assert mask.tolist() == [0, 0, *[1] * len(ATTRIBUTES)]
    assert dict(zip(ATTRIBUTES, targets[2:].tolist(), strict=True)) == {
        "frontal_chest": 1, "child": 0, "inverted": 1, "rotated": 0, "mirrored": 0,
        "anteroposterior": 0,
    }  # fmt: skip


def test_a_turned_film_teaches_that_it_is_turned() -> None:
    config = STILL.model_copy(update={"rotate_quarter_probability": 1.0})
    _, (_, targets, mask) = _augment(config)
    assert mask[:2].sum() == 0
    assert targets[2 + ATTRIBUTES.index("rotated")] == 1
    assert targets[2 + ATTRIBUTES.index("inverted")] == 0


def test_a_picture_that_is_no_chest_film_is_neither_inverted_nor_turned() -> None:
    config = AugmentationConfig(invert_probability=1, rotate_quarter_probability=1)
    drawn = [draw_corruption(np.random.default_rng(n), config, chest=False) for n in range(50)]
    assert not any(corruption.hides_findings for corruption in drawn)
    assert 10 < sum(corruption.crop is not None for corruption in drawn) < 40


def test_the_same_seed_gives_the_same_variant_and_another_seed_another() -> None:
    config = AugmentationConfig(affine_probability=1)
    _, (first, _, _) = _augment(config, seed=5)
    _, (again, _, _) = _augment(config, seed=5)
    _, (other, _, _) = _augment(config, seed=6)
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.1


def test_a_variant_stays_in_the_range_of_a_picture_and_the_heart_on_its_side() -> None:
    config = STILL.model_copy(update={"affine_probability": 1.0, "noise_probability": 1.0})
    picture = np.full((SIZE, SIZE), BLACK, np.float32)
    picture[:, SIZE // 2 :] = 2
    box = Letterbox(0, 0, SIZE, SIZE)
    for seed in range(20):
        variant, *_ = Augmentation(config, 0, SIZE)(
            picture, box, True, np.zeros(5, np.float32), np.ones(5, np.float32), (seed,)
        )
        assert variant.min() >= -2
        assert variant.max() <= 2
        assert variant[16:48, 44:60].mean() > variant[16:48, 4:20].mean() + 3
