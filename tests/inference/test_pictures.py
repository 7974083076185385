from pathlib import Path

import cv2
import numpy as np
import pytest

from vigil.phantom import make_phantom
from vigil_inference.pictures import PictureStore, fitted_size, reduce_picture, render_heat_map

SHA = "ab" * 32


def test_a_map_comes_back_as_it_was_stored(tmp_path: Path) -> None:
    pictures = PictureStore(tmp_path)
    grid = np.array([[0.01, 0.5], [0.999, 0.0]], np.float32)
    pictures.save(SHA, np.zeros((4, 4), np.uint16), {"Effusion": grid}, 64)
    loaded = pictures.load_map(SHA, "Effusion")
    assert loaded is not None
    np.testing.assert_allclose(loaded, grid, atol=5e-4)
    assert pictures.load_map(SHA, "Mass") is None
    assert pictures.load_map("cd" * 32, "Effusion") is None
    assert sorted(p.suffix for p in tmp_path.rglob("*.*")) == [".jpg", ".npz"]


@pytest.mark.parametrize(
    ("size", "expected"),
    [((3000, 2000), (1536, 1024)), ((100, 50), (100, 50)), ((10, 20000), (1, 1536))],
)
def test_a_picture_is_shrunk_to_its_longer_side_and_never_enlarged(
    size: tuple[int, int], expected: tuple[int, int]
) -> None:
    assert fitted_size(*size, 1536) == expected


def test_sixteen_bits_become_eight_with_black_and_white_kept() -> None:
    pixels = np.array([[0, 32768, 65535]], np.uint16)
    assert reduce_picture(pixels, 64).tolist() == [[0, 128, 255]]


@pytest.mark.parametrize("size", [(667, 551), (1400, 1200), (2001, 1999)])
def test_a_shrunk_picture_is_that_of_exact_averaging_but_for_single_pixels(
    size: tuple[int, int],
) -> None:
    pixels = make_phantom(2, "effusion", size).pixels * np.uint16(16)
    shrunk = reduce_picture(pixels, 512)
    exact = cv2.resize(pixels, shrunk.shape[::-1], interpolation=cv2.INTER_AREA) / 256
    assert shrunk.shape == fitted_size(*size, 512)
    difference = np.abs(shrunk - exact)
    assert difference.mean() < 1.5
    assert np.quantile(difference, 0.99) < 12


def test_a_flat_map_stays_transparent_however_high_it_is() -> None:
    overlay = render_heat_map(np.full((8, 8), 0.97, np.float32), 32, 32, 0.5)
    assert overlay[..., 3].max() == 0


def test_a_map_that_nowhere_reaches_the_threshold_is_fainter_than_one_that_does() -> None:
    low = np.full((8, 8), 0.01, np.float32)
    low[2, 2] = 0.1
    high = np.full((8, 8), 0.01, np.float32)
    high[2, 2] = 0.8
    faint = render_heat_map(low, 32, 32, 0.5)[..., 3].max()
    strong = render_heat_map(high, 32, 32, 0.5)[..., 3].max()
    assert 0 < faint < 0.3 * strong


def test_the_hottest_place_of_the_overlay_is_that_of_the_map() -> None:
    grid = np.full((8, 6), 0.05, np.float32)
    grid[6, 1] = 0.9
    alpha = render_heat_map(grid, 80, 60, 0.5)[..., 3]
    row, column = np.unravel_index(alpha.argmax(), alpha.shape)
    assert (row // 10, column // 10) == (6, 1)
