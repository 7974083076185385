import cv2
import numpy as np
import pytest

from tests.inference.results.studies import make_map
from vigil.gate import Appearance
from vigil.heat_map import outline_of
from vigil.radiograph import ImageDescription, Radiograph
from vigil.triager import _corrections
from vigil_inference.results.region import (
    Correction,
    correction_of,
    in_pixels,
    to_source,
)


def _mask(polygon: np.ndarray, rows: int, columns: int) -> np.ndarray:
    mask = np.zeros((rows, columns), np.uint8)
    cv2.fillPoly(mask, [np.rint(polygon - 0.5).astype(np.int32)], 1)
    return mask.astype(bool)


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
