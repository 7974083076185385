from pathlib import Path

import numpy as np
import pytest

from vigil.preprocess import (
    PreprocessingSpec,
    crop_of,
    letterbox_of,
    onto_picture,
    percentile_of,
    to_model_input,
    unseen_fraction,
)

BLACK = np.float32((0 - 0.5) / 0.25)
WHITE = np.float32((1 - 0.5) / 0.25)


def test_the_longer_side_fills_the_input_and_the_rest_is_black() -> None:
    pixels = np.random.default_rng(0).integers(0, 65536, (100, 400)).astype(np.uint16)
    result = to_model_input(pixels, PreprocessingSpec(1, 64))
    assert result.shape == (1, 1, 64, 64)
    assert result.dtype == np.float32
    assert (result[0, 0, :24] == BLACK).all()
    assert (result[0, 0, 40:] == BLACK).all()
    assert result[0, 0, 24:40].std() > 0.1


def test_values_are_the_area_mean_between_the_percentiles() -> None:
    pixels = np.random.default_rng(2).integers(0, 65536, (96, 96)).astype(np.uint16)
    means = pixels.reshape(32, 3, 32, 3).mean((1, 3))
    low, high = np.percentile(means, (0.5, 99.5))
    expected = ((means - low) / (high - low)).clip(0, 1)
    result = to_model_input(pixels, PreprocessingSpec(1, 32))[0, 0]
    np.testing.assert_allclose(result, (expected - 0.5) / 0.25, atol=1e-3)


def test_a_sites_brightness_and_contrast_do_not_change_the_input() -> None:
    pixels = np.random.default_rng(1).integers(20000, 40000, (90, 90)).astype(np.uint16)
    brighter = (pixels.astype(np.int32) * 3 // 2 + 1000).astype(np.uint16)
    spec = PreprocessingSpec(1, 48)
    np.testing.assert_allclose(
        to_model_input(pixels, spec), to_model_input(brighter, spec), atol=2e-3
    )


def test_a_picture_of_one_grey_does_not_divide_by_zero() -> None:
    result = to_model_input(np.full((50, 50), 1234, np.uint16), PreprocessingSpec(1, 32))
    assert np.isfinite(result).all()


@pytest.mark.parametrize(
    ("shape", "box"),
    [
        ((100, 100), (0, 0, 64, 64)),
        ((200, 100), (0, 16, 64, 32)),
        ((3, 3000), (31, 0, 1, 64)),
    ],
)
def test_letterbox_keeps_the_aspect_ratio_in_the_middle(
    shape: tuple[int, int], box: tuple[int, ...]
) -> None:
    assert letterbox_of(*shape, 64) == box


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((0, 4), np.uint16),
        np.zeros((4, 4, 3), np.uint16),
    ],
)
def test_other_arrays_are_refused_with_what_was_expected(pixels: np.ndarray) -> None:
    with pytest.raises(ValueError, match="expected a non-empty"):
        to_model_input(pixels, PreprocessingSpec())


def test_an_unknown_version_is_refused() -> None:
    with pytest.raises(ValueError, match="version 99 is unknown; this software knows 1, 2"):
        PreprocessingSpec(version=99)


def test_the_procedure_has_not_changed_since_version_1_was_named() -> None:
    # tests/golden/README.md says how the array was made. A change of the procedure is a new
    # version, not a new golden array: bundles that are in service were trained with this one.
    golden = np.load(Path(__file__).parents[1] / "golden" / "to_model_input_v1.npy")
    rows, columns = np.mgrid[-1:1:300j, -1:1:240j]
    pixels = (32768 + 16384 * np.sin(9 * rows) + 12000 * np.cos(7 * columns * rows)).astype(
        np.uint16
    )
    np.testing.assert_allclose(
        to_model_input(pixels, PreprocessingSpec(1, 48))[0, 0], golden, atol=1e-3
    )


def test_version_2_maps_the_whole_range_of_the_central_square() -> None:
    pixels = np.zeros((40, 60), np.uint16)
    pixels[:, 10:50] = np.random.default_rng(0).integers(0, 65536, (40, 40)).astype(np.uint16)
    result = to_model_input(pixels, PreprocessingSpec(2, 40))[0, 0]
    # At its own size the square is only scaled: 0 and 65535 become -1024 and 1024.
    expected = pixels[:, 10:50].astype(np.float64) / 65535 * 2048 - 1024
    np.testing.assert_allclose(result, expected, atol=1e-3)


def test_version_2_reduces_by_a_gaussian_and_linear_interpolation() -> None:
    # To half: deviation 0.5, radius 2, and each output lies between two smoothed pixels.
    pixels = np.random.default_rng(4).integers(0, 65536, (64, 64)).astype(np.uint16)
    kernel = np.exp(-0.5 * (np.arange(-2, 3) / 0.5) ** 2)
    kernel /= kernel.sum()
    smooth = np.pad(pixels / 65535 * 2048 - 1024, 2)
    for axis in (0, 1):
        smooth = np.apply_along_axis(np.convolve, axis, smooth, kernel, "valid")
    expected = smooth.reshape(32, 2, 32, 2).mean((1, 3))
    result = to_model_input(pixels, PreprocessingSpec(2, 32))[0, 0]
    np.testing.assert_allclose(result, expected, atol=2e-3)


def test_version_2_sees_all_of_one_grey_as_that_grey_within_the_border() -> None:
    result = to_model_input(np.full((300, 300), 65535, np.uint16), PreprocessingSpec(2, 32))[0, 0]
    np.testing.assert_allclose(result[4:-4, 4:-4], 1024, atol=0.01)
    assert result[0, 0] < 1024  # outside lies the middle of the range


@pytest.mark.parametrize(
    ("shape", "crop", "unseen"),
    [((100, 100), (0, 0, 100), 0.0), ((101, 60), (20, 0, 60), 0.406), ((3, 12), (0, 5, 3), 0.75)],
)
def test_the_central_square_and_what_lies_beside_it(
    shape: tuple[int, int], crop: tuple[int, ...], unseen: float
) -> None:
    assert crop_of(*shape) == crop
    assert unseen_fraction(*shape, PreprocessingSpec(2, 64)) == pytest.approx(unseen, abs=1e-3)
    assert unseen_fraction(*shape, PreprocessingSpec(1, 64)) == 0


def test_a_map_lies_over_the_picture_where_the_input_came_from() -> None:
    square = np.ones((64, 64), np.float32)
    square[:, 40:] = 2
    wide = onto_picture(square, 100, 200, PreprocessingSpec(2, 224))
    assert wide.shape == (32, 64)
    assert (wide[:, :16] == 0).all()
    assert (wide[:, 16:35] == 1).all()
    assert (wide[:, 37:48] == 2).all()
    assert (wide[:, 48:] == 0).all()
    tall = onto_picture(square, 200, 100, PreprocessingSpec(1, 224))
    np.testing.assert_array_equal(tall, square[:, 16:48])


@pytest.mark.parametrize("count", [1, 2, 101, 65_536])
def test_a_percentile_of_sorted_values_is_numpys(count: int) -> None:
    values = np.random.default_rng(count).integers(0, 65536, count).astype(np.uint16)
    for wanted in (0, 0.5, 1, 50, 99, 99.5, 100):
        expected = np.percentile(values, wanted)
        assert percentile_of(np.sort(values), wanted) == pytest.approx(expected, rel=1e-12)
