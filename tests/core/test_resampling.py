"""Making pictures smaller: the weights, and that they are what OpenCV and the definition say."""

import cv2
import numpy as np
import pytest

from vigil.resampling import area_axis, gaussian_axis, resample


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((2000, 2000), (256, 256)),
        ((1500, 1218), (256, 208)),
        ((1024, 1024), (256, 256)),
        ((2500, 2048), (256, 210)),
        ((2051, 4100), (128, 256)),
        ((257, 300), (219, 256)),
        ((256, 256), (256, 256)),
        ((700, 3), (256, 1)),
    ],
)
def test_area_averaging_is_opencvs(shape: tuple[int, int], size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(7).integers(0, 65536, shape, np.uint16)

    ours = resample(pixels, area_axis(shape[0], size[0]), area_axis(shape[1], size[1]))

    theirs = cv2.resize(pixels.astype(np.float64), size[::-1], interpolation=cv2.INTER_AREA)
    assert ours.dtype == np.float32
    assert ours.shape == size
    np.testing.assert_allclose(ours, theirs, atol=0.05)


@pytest.mark.parametrize(("length", "size"), [(2000, 256), (257, 256), (65535, 256), (5, 2)])
def test_each_pixel_counts_as_much_as_any_other(length: int, size: int) -> None:
    axis = area_axis(length, size)

    for bands in (axis.rows, axis.columns):
        shares = np.zeros(length)
        for band in bands:
            shares[band.inputs] += band.weights.sum(0)
            np.testing.assert_allclose(band.weights.sum(1), 1, rtol=1e-5)
        np.testing.assert_allclose(shares, size / length, rtol=1e-4)


def test_bands_are_all_of_the_weights() -> None:
    axis = gaussian_axis(1001, 224)

    for bands in (axis.rows, axis.columns):
        totals = np.concatenate([band.weights.sum(1) for band in bands])
        np.testing.assert_allclose(totals, axis.totals, rtol=1e-5)
    # Away from the border nothing of the picture is missing, at the border something is.
    assert axis.totals[112] == pytest.approx(1, abs=1e-5)
    assert axis.totals[0] < 0.99
