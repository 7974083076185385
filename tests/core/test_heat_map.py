import cv2
import numpy as np
import pytest

from vigil.heat_map import emphasis_of, hottest_point, outline_of, shows_place


def make_map(x: float = 0.3, y: float = 0.7, spread: float = 0.1) -> np.ndarray:
    """Return a map with one hill, at shares of the picture's width and height."""
    rows, columns = np.mgrid[0:64, 0:53]
    distance = ((columns + 0.5) / 53 - x) ** 2 + ((rows + 0.5) / 64 - y) ** 2
    return (0.05 + 0.9 * np.exp(-distance / (2 * spread**2))).astype(np.float32)


def _mask(polygon: np.ndarray, rows: int, columns: int) -> np.ndarray:
    mask = np.zeros((rows, columns), np.uint8)
    cv2.fillPoly(mask, [np.rint(polygon * (columns, rows) - 0.5).astype(np.int32)], 1)
    return mask.astype(bool)


def test_an_outline_holds_what_is_over_the_level_and_nothing_else() -> None:
    map_ = make_map(0.3, 0.7)
    outline = outline_of(map_, 0.5)
    assert (outline[0] == outline[-1]).all()
    mask = _mask(outline, 640, 530)
    logits = np.log(map_ / (1 - map_))
    fine = cv2.resize(logits, (530, 640), interpolation=cv2.INTER_LINEAR)
    truth = fine >= np.median(logits) + 0.5 * (logits.max() - np.median(logits))
    overlap = (mask & truth).sum() / (mask | truth).sum()
    assert overlap > 0.97


def test_a_higher_level_gives_a_smaller_region_inside() -> None:
    small, large = (_mask(outline_of(make_map(), level), 600, 500) for level in (0.8, 0.3))
    assert 0 < small.sum() < large.sum()
    assert not (small & ~large).any()


def test_a_surer_finding_has_no_larger_region() -> None:
    logits = np.log(make_map() / (1 - make_map()))
    sizes = []
    for shift in (-2.0, 0.0, 2.0):
        map_ = (1 / (1 + np.exp(-(logits + shift)))).astype(np.float32)
        sizes.append(_mask(outline_of(map_, 0.5), 600, 500).sum())
    assert max(sizes) < 1.03 * min(sizes)


def test_the_largest_of_several_patches_is_taken() -> None:
    map_ = np.maximum(make_map(0.2, 0.2, 0.05), make_map(0.7, 0.7, 0.12))
    assert outline_of(map_, 0.5).mean(axis=0) == pytest.approx([0.7, 0.7], abs=0.05)


@pytest.mark.parametrize(
    "map_",
    [
        np.full((64, 64), 0.9, np.float32),
        np.where(np.arange(64) < 60, 0.5, 0.7) * np.ones((64, 1)),
        np.zeros((0, 0), np.float32),
        np.full((64, 64), np.nan, np.float32),
    ],
)
def test_a_map_that_shows_no_place_gives_no_region(map_) -> None:
    assert outline_of(map_, 0.5) is None


def test_a_region_at_the_edge_stays_inside_the_picture() -> None:
    pixels = outline_of(make_map(0.0, 1.0, 0.2), 0.4) * (500, 600)
    assert pixels.min() >= 0
    assert pixels[:, 0].max() <= 500
    assert pixels[:, 1].max() <= 600
    assert pixels[:, 1].max() > 598


def test_a_half_precision_map_gives_the_same_region() -> None:
    single, half = outline_of(make_map(), 0.5), outline_of(make_map().astype(np.float16), 0.5)
    assert np.abs(single.mean(axis=0) - half.mean(axis=0)).max() < 0.01


def test_the_hottest_point_is_the_top_of_the_hill() -> None:
    emphasis = emphasis_of(make_map(0.3, 0.7))
    assert emphasis is not None
    assert hottest_point(emphasis) == pytest.approx((0.3, 0.7), abs=0.02)


def test_emphasis_is_one_at_the_top_and_zero_at_the_median() -> None:
    emphasis = emphasis_of(make_map())
    assert emphasis is not None
    assert emphasis.max() == 1
    assert np.median(emphasis) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("size", [(8, 8), (7, 9), (64, 53)])
def test_whether_a_map_shows_a_place_is_told_as_its_emphasis_tells(size: tuple[int, int]) -> None:
    random = np.random.default_rng(0)
    answers = []
    for spread in np.linspace(0.01, 2.0, 60):
        map_ = 1 / (1 + np.exp(-random.normal(-1, spread, size).astype(np.float32)))
        map_ = map_.astype(np.float16).astype(np.float32)
        answers.append(shows_place(map_))
        assert answers[-1] == (emphasis_of(map_) is not None)
    assert set(answers) == {True, False}
    assert False in answers
    assert not shows_place(np.full(size, np.nan, np.float32))
    assert not shows_place(np.zeros((0, 3), np.float32))
