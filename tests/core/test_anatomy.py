"""Lungs, heart and the cardiothoracic ratio: measured on shapes whose measures are known."""

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from vigil.anatomy import (
    _DARK,
    _DARK_PERCENTILE,
    AP_NOTE,
    LUNGS_NOT_SEEN_NOTE,
    Anatomy,
    NoRatio,
    _bright_along,
    anatomy_notes,
    for_patient,
    measure_anatomy,
)
from vigil.phantom import make_phantom
from vigil.preprocess import PreprocessingSpec, crop_of, letterbox_of
from vigil.radiograph import View

LUNGS = ((0.15, 0.45), (0.60, 0.90))
"""From x to x, of the picture's width."""
HEART = (0.35, 0.70)
HEIGHTS, HEART_HEIGHTS = (0.15, 0.80), (0.45, 0.75)


def soft_box(
    shape: tuple[int, int], across: tuple[float, float], down: tuple[float, float]
) -> NDArray[np.float32]:
    """Return (rows, columns) float32: the part of each pixel that lies in a box."""
    rows, columns = shape
    parts = []
    for (start, end), count in ((down, rows), (across, columns)):
        cells = np.arange(count)
        reach = np.minimum(end * count, cells + 1) - np.maximum(start * count, cells)
        parts.append(reach.clip(0, 1))
    return np.outer(*parts).astype(np.float32)


def as_structure(picture: NDArray[np.float32], spec: PreprocessingSpec) -> NDArray[np.float32]:
    """Return (s, s): a map over the whole picture as the network gives it, half the input."""
    if spec.version == 2:
        crop = crop_of(*picture.shape)
        seen = picture[crop.top : crop.top + crop.side, crop.left : crop.left + crop.side]
        square = cv2.resize(seen, (spec.size, spec.size), interpolation=cv2.INTER_AREA)
    else:
        box = letterbox_of(*picture.shape, spec.size)
        square = np.zeros((spec.size, spec.size), np.float32)
        reduced = cv2.resize(picture, (box.width, box.height), interpolation=cv2.INTER_AREA)
        square[box.top : box.top + box.height, box.left : box.left + box.width] = reduced
    half = spec.size // 2
    return cv2.resize(square, (half, half), interpolation=cv2.INTER_AREA)


def measure(
    shape: tuple[int, int] = (1000, 1000),
    *,
    lungs: tuple[tuple[float, float], ...] = LUNGS,
    heart: tuple[float, float] | None = HEART,
    heights: tuple[float, float] = HEIGHTS,
    spec: PreprocessingSpec | None = None,
    speck: bool = False,
    pixels: NDArray[np.uint16] | None = None,
) -> Anatomy:
    spec = PreprocessingSpec(1, 256) if spec is None else spec
    lung_map = np.zeros(shape, np.float32)
    for across in lungs:
        lung_map = np.maximum(lung_map, soft_box(shape, across, heights))
    heart_map = np.zeros(shape, np.float32)
    if heart is not None:
        heart_map = soft_box(shape, heart, HEART_HEIGHTS)
    if speck:
        lung_map = np.maximum(lung_map, soft_box(shape, (0.02, 0.06), (0.9, 0.94)))
        heart_map = np.maximum(heart_map, soft_box(shape, (0.92, 0.97), (0.1, 0.15)))
    structures = {
        name: as_structure(map_, spec) for name, map_ in (("lungs", lung_map), ("heart", heart_map))
    }
    if pixels is None:
        pixels = np.full(shape, 30000, np.uint16)
    anatomy = measure_anatomy(structures, pixels, spec)
    assert anatomy is not None
    return anatomy


TRUE_RATIO = (HEART[1] - HEART[0]) / (LUNGS[1][1] - LUNGS[0][0])


def test_the_ratio_is_the_hearts_width_over_that_of_both_lungs():
    anatomy = measure()
    assert anatomy.ratio == pytest.approx(TRUE_RATIO, abs=0.003)
    assert anatomy.no_ratio is None
    assert anatomy.reason == ""
    assert anatomy.heart_line is not None
    assert anatomy.thorax_line is not None
    (x1, y1), (x2, y2) = anatomy.heart_line
    assert (x1, x2) == pytest.approx(HEART, abs=0.002)
    assert y1 == y2
    assert HEART_HEIGHTS[0] < y1 < HEART_HEIGHTS[1]
    assert [point[0] for point in anatomy.thorax_line] == pytest.approx([0.15, 0.90], abs=0.002)


@pytest.mark.parametrize(
    "shape", [(1000, 1000), (1013, 777), (640, 1201), (300, 250), (2400, 2016), (160, 144)]
)
@pytest.mark.parametrize("size", [224, 256])
def test_the_ratio_and_the_lines_are_the_same_whatever_the_pictures_size_and_shape(shape, size):
    anatomy = measure(shape, spec=PreprocessingSpec(1, size))
    assert anatomy.ratio == pytest.approx(TRUE_RATIO, abs=0.01)
    for line, (start, end) in ((anatomy.heart_line, HEART), (anatomy.thorax_line, (0.15, 0.90))):
        assert line is not None
        assert [x for x, _ in line] == pytest.approx([start, end], abs=0.008)
        assert all(0 <= x <= 1 and 0 <= y <= 1 for x, y in line)


def test_random_shapes_are_measured_too():
    random = np.random.default_rng(7)
    for _ in range(25):
        shape = tuple(random.integers(400, 1200, 2))
        left, right = random.uniform(0.08, 0.25), random.uniform(0.75, 0.92)
        start, end = random.uniform(0.30, 0.38), random.uniform(0.62, 0.70)
        anatomy = measure(
            shape, lungs=((left, start + 0.05), (end - 0.05, right)), heart=(start, end)
        )
        assert anatomy.ratio == pytest.approx((end - start) / (right - left), abs=0.012)
        for polygon in (*anatomy.lungs, anatomy.heart):
            assert polygon is not None
            assert polygon.min() >= 0
            assert polygon.max() <= 1
            assert (polygon[0] == polygon[-1]).all()


def test_a_probability_that_crosses_one_half_between_pixels_moves_the_line_between_them():
    found = []
    for end in (0.70, 0.7005, 0.701, 0.7015):
        line = measure(heart=(0.35, end)).heart_line
        assert line is not None
        found.append(line[1][0])
    # A pixel of the map is 0.0078 wide.
    assert np.all(np.diff(found) > 0.0001)
    assert found[-1] - found[0] == pytest.approx(0.0015, abs=0.0008)


def test_specks_change_nothing():
    assert measure(speck=True).ratio == measure().ratio
    assert len(measure(speck=True).lungs) == 2


def test_a_central_crop_is_laid_back_onto_the_whole_picture():
    anatomy = measure((900, 1000), spec=PreprocessingSpec(2, 224))
    assert anatomy.thorax_line is not None
    assert [x for x, _ in anatomy.thorax_line] == pytest.approx([0.15, 0.90], abs=0.008)
    assert anatomy.ratio == pytest.approx(TRUE_RATIO, abs=0.01)


def test_lungs_that_reach_the_crops_edge_are_cut_off():
    anatomy = measure((600, 1000), spec=PreprocessingSpec(2, 224))
    assert anatomy.no_ratio is NoRatio.CUT_OFF
    assert anatomy.lungs_cut > 0.1


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"lungs": ()}, NoRatio.LUNGS_NOT_FOUND),
        ({"heart": None}, NoRatio.HEART_NOT_FOUND),
        ({"lungs": LUNGS[:1]}, NoRatio.LUNG_MISSING),
        ({"lungs": ((0.0, 0.45), LUNGS[1])}, NoRatio.CUT_OFF),
        ({"heights": (0.15, 1.0)}, NoRatio.CUT_OFF),
        ({"heart": (0.49, 0.56)}, NoRatio.IMPLAUSIBLE),
        ({"heart": (0.05, 0.70)}, NoRatio.IMPLAUSIBLE),
    ],
)
def test_where_the_outlines_do_not_carry_a_ratio_there_is_a_reason_and_no_line(changes, why):
    anatomy = measure(**changes)
    assert anatomy.no_ratio is why
    assert anatomy.ratio is None
    assert anatomy.heart_line is None
    assert anatomy.thorax_line is None
    assert anatomy.reason


def test_cut_tops_are_noted_and_leave_the_ratio():
    anatomy = measure(heights=(0.0, 0.80))
    assert anatomy.ratio == pytest.approx(TRUE_RATIO, abs=0.003)
    # Both tops, of the outlines all around.
    assert anatomy.lungs_cut == pytest.approx(0.6 / (2 * 0.6 + 4 * 0.8), abs=0.02)
    assert anatomy_notes(anatomy, View.PA) == [
        "the lungs are cut off: 14% of their outline is the picture's edge"
    ]


def test_a_collimated_fields_edge_cuts_as_the_pictures_does():
    pixels = np.full((1000, 1000), 30000, np.uint16)
    pixels[:, :150] = 0
    assert measure(pixels=pixels).no_ratio is NoRatio.CUT_OFF
    pixels = np.full((1000, 1000), 30000, np.uint16)
    pixels[:, :60] = 0
    anatomy = measure(pixels=pixels)
    assert anatomy.no_ratio is None
    assert anatomy.lungs_cut == 0


def test_hardly_any_lung_is_noted_and_an_ordinary_film_has_no_note():
    tiny = measure(lungs=((0.4, 0.45), (0.55, 0.60)), heights=(0.4, 0.5))
    assert anatomy_notes(tiny, View.PA) == [LUNGS_NOT_SEEN_NOTE]
    assert anatomy_notes(measure(), View.PA) == []


def test_an_ap_film_says_that_the_heart_looks_larger_where_a_ratio_is_given():
    assert anatomy_notes(measure(), View.AP) == [AP_NOTE]
    assert anatomy_notes(measure(heart=None), View.AP) == []


@pytest.mark.parametrize(
    ("age", "looks_child", "is_withheld"),
    [
        (14.9, None, True), (15.0, None, False), (3.0, False, True), (40.0, True, False),
        (None, True, True), (None, False, False), (None, None, False),
    ],
)  # fmt: skip
def test_the_ratio_is_withheld_from_children(age, looks_child, is_withheld):
    anatomy = for_patient(measure(), age, looks_child)
    assert (anatomy.no_ratio is NoRatio.CHILD) is is_withheld
    assert (anatomy.ratio is None) is is_withheld
    assert (anatomy.heart_line is None) is is_withheld
    assert len(anatomy.lungs) == 2


def test_a_network_without_outlines_is_measured_nothing_of():
    pixels = np.full((300, 300), 30000, np.uint16)
    assert measure_anatomy({}, pixels, PreprocessingSpec(1, 224)) is None


def test_a_phantoms_large_heart_has_the_larger_ratio():
    ratios = {}
    spec = PreprocessingSpec(1, 256)
    for kind in ("normal", "cardiomegaly"):
        phantom = make_phantom(5, kind, (500, 420))
        structures = {
            "lungs": as_structure(phantom.lung_mask.astype(np.float32), spec),
            "heart": as_structure(phantom.heart_mask.astype(np.float32), spec),
        }
        pixels = (phantom.pixels.astype(np.uint32) * 16).astype(np.uint16)
        anatomy = measure_anatomy(structures, pixels, spec)
        assert anatomy is not None
        heart, lungs = (
            np.flatnonzero(mask.any(axis=0)) for mask in (phantom.heart_mask, phantom.lung_mask)
        )
        true = (heart[-1] - heart[0] + 1) / (lungs[-1] - lungs[0] + 1)
        assert anatomy.ratio == pytest.approx(true, abs=0.012)
        ratios[kind] = anatomy.ratio
    assert ratios["cardiomegaly"] > ratios["normal"] + 0.1


def test_lines_are_lit_where_their_high_percentile_is():
    random = np.random.default_rng(0)
    # Lines with up to seven bright values: of 200 the percentile asks for four or five.
    pixels = random.integers(0, 2500, (200, 160)).astype(np.uint16)
    for row, bright in enumerate(random.integers(0, 8, 200)):
        pixels[row, random.choice(160, bright, replace=False)] = random.integers(2500, 9000, bright)
    for axis in (0, 1):
        expected = np.percentile(pixels, _DARK_PERCENTILE, axis=axis) > _DARK
        assert 0 < expected.sum() < expected.size
        assert (_bright_along(pixels, pixels > _DARK, axis) == expected).all()
