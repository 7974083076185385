import cv2
import numpy as np
import pytest

from tests.inference.results.studies import make_map
from vigil.gate import Appearance
from vigil.radiograph import ImageDescription, Radiograph
from vigil.triager import _corrections
from vigil_inference.results.region import (
    Correction,
    correction_of,
    in_pixels,
    outline_of,
    to_source,
)


def _mask(polygon: np.ndarray, rows: int, columns: int) -> np.ndarray:
    mask = np.zeros((rows, columns), np.uint8)
    cv2.fillPoly(mask, [np.rint(polygon - 0.5).astype(np.int32)], 1)
    return mask.astype(bool)


def test_an_outline_holds_what_is_over_the_level_and_nothing_else():
    map_ = make_map(0.3, 0.7)
    outline = outline_of(map_, 0.5)
    assert (outline[0] == outline[-1]).all()
    mask = _mask(in_pixels(outline, 640, 530), 640, 530)
    logits = np.log(map_ / (1 - map_))
    fine = cv2.resize(logits, (530, 640), interpolation=cv2.INTER_LINEAR)
    truth = fine >= np.median(logits) + 0.5 * (logits.max() - np.median(logits))
    overlap = (mask & truth).sum() / (mask | truth).sum()
    assert overlap > 0.97


def test_a_higher_level_gives_a_smaller_region_inside():
    small, large = (
        _mask(in_pixels(outline_of(make_map(), level), 600, 500), 600, 500) for level in (0.8, 0.3)
    )
    assert 0 < small.sum() < large.sum()
    assert not (small & ~large).any()


def test_a_surer_finding_has_no_larger_region():
    logits = np.log(make_map() / (1 - make_map()))
    sizes = []
    for shift in (-2.0, 0.0, 2.0):
        map_ = (1 / (1 + np.exp(-(logits + shift)))).astype(np.float32)
        sizes.append(_mask(in_pixels(outline_of(map_, 0.5), 600, 500), 600, 500).sum())
    assert max(sizes) < 1.03 * min(sizes)


def test_the_largest_of_several_patches_is_taken():
    map_ = np.maximum(make_map(0.2, 0.2, 0.05), make_map(0.7, 0.7, 0.12))
    assert outline_of(map_, 0.5).mean(axis=0) == pytest.approx([0.7, 0.7], abs=0.05)


@pytest.mark.parametrize(
    "map_",
    [
        np.full((64, 64), 0.9, np.float32),
        np.zeros((0, 0), np.float32),
        np.full((64, 64), np.nan, np.float32),
    ],
)
def test_a_map_that_shows_no_place_gives_no_region(map_):
    assert outline_of(map_, 0.5) is None


def test_a_region_at_the_edge_stays_inside_the_picture():
    pixels = in_pixels(outline_of(make_map(0.0, 1.0, 0.2), 0.4), 600, 500)
    assert pixels.min() >= 0
    assert pixels[:, 0].max() <= 500
    assert pixels[:, 1].max() <= 600
    assert pixels[:, 1].max() > 598


def test_a_half_precision_map_gives_the_same_region():
    single, half = outline_of(make_map(), 0.5), outline_of(make_map().astype(np.float16), 0.5)
    assert np.abs(single.mean(axis=0) - half.mean(axis=0)).max() < 0.01


@pytest.mark.parametrize("quarters", [0, 1, 2, 3])
def test_an_outline_over_a_turned_picture_is_turned_back(quarters):
    rows, columns = 640, 530
    map_ = cv2.resize(make_map(0.25, 0.65, 0.08), (columns // 10, rows // 10))
    turned = np.ascontiguousarray(np.rot90(map_, -quarters))
    back = to_source(outline_of(turned, 0.5), Correction(quarters))
    straight = outline_of(map_, 0.5)
    one, other = (_mask(in_pixels(p, rows, columns), rows, columns) for p in (back, straight))
    assert (one & other).sum() / (one | other).sum() > 0.97


def test_every_note_that_the_core_writes_of_a_correction_is_understood():
    pixels = np.arange(12, dtype=np.uint16).reshape(3, 4) * 5000
    radiograph = Radiograph(pixels, ImageDescription("PNG", 3, 4), notes=("something else",))
    seen = set()
    for looks in (
        Appearance(rotated=True),
        Appearance(inverted=True),
        Appearance(rotated=True, inverted=True),
    ):
        for candidate in _corrections(radiograph, looks):
            correction = correction_of(candidate.notes)
            assert correction is not None
            expected = np.rot90(pixels, -correction.quarter_turns)
            if correction.is_inverted:
                expected = 65535 - expected
            np.testing.assert_array_equal(candidate.pixels, expected)
            seen.add((correction.quarter_turns, correction.is_inverted))
    assert {turns for turns, _ in seen} == {0, 1, 2, 3}
    assert len(seen) == 7


def test_a_correction_that_is_not_known_is_said_to_be_so():
    assert correction_of(("the picture was mirrored before it was analysed",)) is None
    assert correction_of(("the patient's age is unknown; an adult was assumed",)) == Correction()
