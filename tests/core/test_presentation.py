from pathlib import Path

import numpy as np
import pytest

from tests.core.conftest import make_dataset
from vigil.dicom import describe, open_dicom, read_dicom
from vigil.display import to_display
from vigil.errors import ImageRefused, RefusalCode
from vigil.pixels import read_stored_values
from vigil.presentation import FullDepth, ViewKind, read_full_depth, to_full_depth

RAMP = np.arange(4096, dtype=np.uint16).reshape(64, 64)
# From uncompressed to JPEG 2000; MONOCHROME1, a VOI LUT and a Modality LUT among them.
SAMPLES = (
    "CR-MONO1-10-chest.dcm",
    "RG1_J2KI.dcm",
    "RG2_JPLL.dcm",
    "RG3_JLSN.dcm",
    "RG3_JPLL.dcm",
    "RG3_JPLY.dcm",
    "RG3_RLE.dcm",
    "GH133.dcm",
    "mlut_18.dcm",
    "rsna_c64d5667.dcm",
    "siim_6904_fake_mono1.dcm",
    "vlut_04.dcm",
)


def shown(picture: FullDepth, view: int = 0) -> np.ndarray:
    """Return 16-bit greys as a viewer makes them of what it is given."""
    greys = picture.views[view].greys(picture.slope * picture.codes + picture.intercept)
    if picture.is_inverted:
        greys = 1 - greys
    greys[(picture.codes == 0) & picture.has_mask] = 0
    return np.rint(greys * 65535)


@pytest.mark.parametrize("name", SAMPLES)
def test_the_first_view_of_a_real_film_is_what_was_analysed(dicom_samples: Path, name: str) -> None:
    picture = read_full_depth(dicom_samples / name)
    analysed = read_dicom(dicom_samples / name).pixels
    # A level of the 256 that a screen shows is 257 of these.
    assert np.abs(shown(picture) - analysed).max() <= 32


@pytest.mark.parametrize("name", [name for name in SAMPLES if name != "mlut_18.dcm"])
def test_no_value_of_a_real_film_is_lost(dicom_samples: Path, name: str) -> None:
    picture = read_full_depth(dicom_samples / name)
    dataset = open_dicom(dicom_samples / name)
    stored = read_stored_values(dataset, describe(dataset), dicom_samples / name).values
    values = stored * float(dataset.get("RescaleSlope", 1)) + float(
        dataset.get("RescaleIntercept", 0)
    )
    kept = picture.codes > 0 if picture.has_mask else np.ones_like(picture.codes, bool)
    assert kept.mean() > 0.3  # one film is mostly padding
    np.testing.assert_allclose(
        (picture.slope * picture.codes + picture.intercept)[kept], values[kept], atol=1e-6
    )


def test_a_turned_and_inverted_film_is_shown_as_it_was_analysed(dicom_samples: Path) -> None:
    path = dicom_samples / "CR-MONO1-10-chest.dcm"
    corrected = read_dicom(path).corrected(1, invert=True, note="").pixels
    picture = read_full_depth(path, quarter_turns=1, inverted=True)
    assert np.abs(shown(picture) - corrected).max() <= 32


def test_padding_and_what_lies_outside_the_shutter_stay_black_in_every_view() -> None:
    stored = RAMP.copy()
    stored[:8] = 4095
    dataset = make_dataset(
        stored,
        BitsStored=12,
        PixelPaddingValue=4095,
        PhotometricInterpretation="MONOCHROME1",
        ShutterShape="RECTANGULAR",
        ShutterLeftVerticalEdge=5,
        ShutterRightVerticalEdge=64,
        ShutterUpperHorizontalEdge=1,
        ShutterLowerHorizontalEdge=64,
    )
    picture = to_full_depth(stored, dataset)
    assert picture.has_mask
    for view in range(len(picture.views)):
        greys = shown(picture, view)
        assert greys[:8].max() == 0
        assert greys[:, :4].max() == 0
        assert greys[8:, 4:].max() > 32768
    analysed, _ = to_display(stored, dataset)
    assert np.abs(shown(picture) - analysed).max() <= 32


def test_all_windows_of_the_header_are_offered_with_their_names() -> None:
    dataset = make_dataset(
        RAMP,
        BitsStored=12,
        WindowCenter=[2048, 1000],
        WindowWidth=[4096, 500],
        WindowCenterWidthExplanation=["NORMAL", "HARDER"],
    )
    views = to_full_depth(RAMP, dataset).views
    assert [(v.kind, v.name) for v in views[:2]] == [
        (ViewKind.HEADER_WINDOW, "NORMAL"),
        (ViewKind.HEADER_WINDOW, "HARDER"),
    ]
    assert (views[1].low, views[1].high) == (750.0, 1249.0)
    assert [v.kind for v in views[2:]] == [ViewKind.WHOLE, ViewKind.LUNG, ViewKind.BONE]


def test_an_absurd_window_is_offered_but_not_taken() -> None:
    dataset = make_dataset(RAMP, BitsStored=12, WindowCenter=60000, WindowWidth=10)
    views = to_full_depth(RAMP, dataset).views
    assert (views[0].kind, views[-1].kind) == (ViewKind.WHOLE, ViewKind.HEADER_WINDOW)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_the_view_for_the_lung_spreads_the_dark_greys(photometric: str) -> None:
    dataset = make_dataset(RAMP, BitsStored=12, PhotometricInterpretation=photometric)
    picture = to_full_depth(RAMP, dataset)
    kinds = [view.kind for view in picture.views]
    whole, lung, bone = (
        shown(picture, kinds.index(kind)) for kind in (ViewKind.WHOLE, ViewKind.LUNG, ViewKind.BONE)
    )
    dark, bright = whole < 0.3 * 65535, whole > 0.7 * 65535
    assert np.ptp(lung[dark]) > 1.3 * np.ptp(whole[dark])
    assert np.ptp(bone[bright]) > 1.3 * np.ptp(whole[bright])


def test_a_picture_of_more_pixels_than_any_radiograph_is_refused(
    dicom_samples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vigil.presentation.MOST_PIXELS", 1000)
    with pytest.raises(ImageRefused) as refusal:
        read_full_depth(dicom_samples / "CR-MONO1-10-chest.dcm")
    assert refusal.value.code is RefusalCode.TOO_LARGE
