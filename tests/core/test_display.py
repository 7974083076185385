import numpy as np
import pytest
from pydicom import Dataset

from tests.core.conftest import make_dataset
from vigil.display import to_display

RAMP = np.arange(4096, dtype=np.uint16).reshape(64, 64)


def _shown(stored: np.ndarray, **attributes: object) -> np.ndarray:
    pixels, _ = to_display(stored, make_dataset(stored, **attributes))
    return pixels.astype(np.float64) / 65535


def _lut(first: int, bits: int, values: list[int]) -> Dataset:
    item = Dataset()
    item.LUTDescriptor = [len(values), first, bits]
    item.LUTData = values
    item.add_new(0x00283006, "US", values)
    return item


def test_a_window_maps_its_edges_to_black_and_white() -> None:
    shown = _shown(RAMP, BitsStored=12, WindowCenter=2048, WindowWidth=1024)
    # PS3.3 C.11.2.1.2.1: black up to c - 0.5 - (w-1)/2, white above c - 0.5 + (w-1)/2.
    expected = ((RAMP - 2047.5) / 1023 + 0.5).clip(0, 1)
    np.testing.assert_allclose(shown, expected, atol=2e-5)


def test_of_several_windows_the_first_is_taken() -> None:
    several = _shown(RAMP, WindowCenter=[1000, 3000], WindowWidth=[500, 100])
    np.testing.assert_array_equal(several, _shown(RAMP, WindowCenter=1000, WindowWidth=500))


def test_the_window_is_in_rescaled_values() -> None:
    shown = _shown(
        RAMP, RescaleSlope=2, RescaleIntercept=-1000, WindowCenter=3096, WindowWidth=2048
    )
    expected = ((2.0 * RAMP - 1000 - 3095.5) / 2047 + 0.5).clip(0, 1)
    np.testing.assert_allclose(shown, expected, atol=2e-5)


def test_a_sigmoid_window_is_one_half_at_its_centre() -> None:
    shown = _shown(RAMP, WindowCenter=2000, WindowWidth=800, VOILUTFunction="SIGMOID")
    expected = 1 / (1 + np.exp(-4 * (RAMP.astype(float) - 2000) / 800))
    np.testing.assert_allclose(shown, expected, atol=2e-5)


def test_a_voi_lut_wins_over_a_window() -> None:
    values = list(range(255, -1, -1))
    stored = np.arange(256, dtype=np.uint16).reshape(16, 16)
    shown = _shown(
        stored, BitsStored=8, VOILUTSequence=[_lut(0, 8, values)], WindowCenter=10, WindowWidth=5
    )
    np.testing.assert_allclose(shown, (255.0 - stored) / 255, atol=2e-5)


def test_without_a_window_the_percentiles_are_taken() -> None:
    shown = _shown(RAMP)
    assert shown.min() == 0
    assert shown.max() == 1
    assert np.count_nonzero(shown == 0) == pytest.approx(0.005 * RAMP.size, abs=2)


def test_monochrome1_is_inverted_so_bone_is_bright() -> None:
    window = {"WindowCenter": 2048, "WindowWidth": 4096}
    mono2 = _shown(RAMP, BitsStored=12, **window)
    mono1 = _shown(
        (4095 - RAMP).astype(np.uint16),
        BitsStored=12,
        PhotometricInterpretation="MONOCHROME1",
        **window,
    )
    np.testing.assert_allclose(mono1, mono2, atol=3e-4)


def test_the_inversion_comes_after_the_window() -> None:
    # An asymmetric window: inverting first would put the bright part elsewhere.
    shown = _shown(RAMP, PhotometricInterpretation="MONOCHROME1", WindowCenter=600, WindowWidth=400)
    expected = 1 - ((RAMP - 599.5) / 399 + 0.5).clip(0, 1)
    np.testing.assert_allclose(shown, expected, atol=2e-5)


def test_two_attributes_that_say_inverse_make_one_inversion() -> None:
    once = _shown(RAMP, PhotometricInterpretation="MONOCHROME1")
    both = _shown(RAMP, PhotometricInterpretation="MONOCHROME1", PresentationLUTShape="INVERSE")
    np.testing.assert_array_equal(once, both)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_padding_is_black_and_does_not_count(photometric: str) -> None:
    stored = RAMP.copy()
    stored[:, :20] = 60000
    attributes = {"PhotometricInterpretation": photometric, "PixelPaddingValue": 60000}
    shown = _shown(stored, **attributes)
    assert (shown[:, :20] == 0).all()
    assert np.unique(shown[:, 20:]).size > 1000


def test_a_padding_range_is_masked_whole() -> None:
    shown = _shown(RAMP, PixelPaddingValue=4000, PixelPaddingRangeLimit=4095)
    assert (shown[RAMP >= 4000] == 0).all()
    assert shown[RAMP == 3999] == 1


@pytest.mark.parametrize(
    ("center", "width"), [(60000, 10), (-5000, 100), (2048, 10_000_000), (2048, 0), (2048, -5)]
)
def test_an_absurd_window_gives_way_to_the_percentiles(center: float, width: float) -> None:
    dataset = make_dataset(RAMP, WindowCenter=center, WindowWidth=width)
    pixels, notes = to_display(RAMP, dataset)
    np.testing.assert_array_equal(pixels, to_display(RAMP, make_dataset(RAMP))[0])
    assert notes == ("the window does not fit the pixels, so it was set from their percentiles",)


def test_signed_values_keep_their_order() -> None:
    stored = (RAMP.astype(np.int32) - 2048).astype(np.int16)
    np.testing.assert_array_equal(
        _shown(stored, WindowCenter=0, WindowWidth=4096),
        _shown(RAMP, WindowCenter=2048, WindowWidth=4096),
    )


def test_outside_a_rectangular_shutter_is_black() -> None:
    stored = np.full((64, 64), 3000, np.uint16)
    stored[::2] = 1000
    shown = _shown(
        stored,
        PhotometricInterpretation="MONOCHROME1",
        ShutterShape="RECTANGULAR",
        ShutterLeftVerticalEdge=11,
        ShutterRightVerticalEdge=50,
        ShutterUpperHorizontalEdge=5,
        ShutterLowerHorizontalEdge=60,
    )
    assert (shown[:4] == 0).all()
    assert (shown[60:] == 0).all()
    assert (shown[:, :10] == 0).all()
    assert (shown[:, 50:] == 0).all()
    assert (shown[4:60:2, 10:50] == 1).all()


def test_circular_and_polygonal_shutters_are_applied() -> None:
    bright = np.tile(np.array([100, 200], np.uint16), (64, 32))
    circle = _shown(
        bright,
        ShutterShape="CIRCULAR",
        CenterOfCircularShutter=[32, 32],
        RadiusOfCircularShutter=20,
    )
    assert circle[31, 31] == 1
    assert (circle[:10] == 0).all()
    polygon = _shown(
        bright,
        ShutterShape="POLYGONAL",
        VerticesOfThePolygonalShutter=[1, 1, 1, 64, 64, 1],
    )
    assert (polygon[50:, 50:] == 0).all()
    assert polygon[5, 5] == 1


def test_collimator_edges_in_other_units_are_ignored() -> None:
    plain = _shown(RAMP)
    # As a Philips console of 2004 wrote them: from the centre, not from the corner.
    shown = _shown(
        RAMP,
        CollimatorShape="RECTANGULAR",
        CollimatorLeftVerticalEdge=-18,
        CollimatorRightVerticalEdge=18,
        CollimatorUpperHorizontalEdge=10,
        CollimatorLowerHorizontalEdge=50,
    )
    np.testing.assert_array_equal(shown, plain)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16])
def test_values_far_from_zero_are_shown_as_those_that_start_there(dtype: type) -> None:
    near = np.arange(100, dtype=dtype).reshape(10, 10)
    far = (near + 27).astype(dtype)
    expected = _shown(near, WindowCenter=50, WindowWidth=60)
    np.testing.assert_array_equal(_shown(far, WindowCenter=77, WindowWidth=60), expected)
