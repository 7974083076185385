import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.uid import SecondaryCaptureImageStorage

from tests.inference.results.studies import make_map, make_picture, make_source, make_study
from vigil.dicom import describe
from vigil.errors import ImageRefused, RefusalCode
from vigil.findings import LABELS
from vigil.gate import check_header
from vigil_inference.results import (
    Language,
    PictureResult,
    Profile,
    StudyResult,
    build_captures,
    draw_capture,
    to_bytes,
)
from vigil_inference.results.language import DISCLAIMER

_AMBER = (255, 193, 60)


def _capture(study: StudyResult) -> Dataset:
    (capture,) = build_captures(study)
    return pydicom.dcmread(DicomBytesIO(to_bytes(capture)))


def _with_pixels(pixels: np.ndarray, **changes: object) -> PictureResult:
    picture = make_picture(**changes)
    object.__setattr__(picture, "pixels", pixels)
    return picture


def test_the_capture_is_a_colour_picture_that_says_what_it_was_made_from():
    study = make_study()
    capture = _capture(study)
    assert capture.SOPClassUID == SecondaryCaptureImageStorage
    assert list(capture.ImageType) == ["DERIVED", "SECONDARY"]
    assert (capture.Modality, capture.ConversionType) == ("OT", "WSD")
    assert capture.BurnedInAnnotation == "YES"
    assert (capture.PhotometricInterpretation, capture.BitsStored) == ("RGB", 8)
    assert capture.ImageComments == DISCLAIMER
    source = capture.SourceImageSequence[0]
    assert source.ReferencedSOPInstanceUID == study.pictures[0].sop_instance_uid
    assert source.PurposeOfReferenceCodeSequence[0].CodeValue == "121322"
    assert "cxr-test-1" in capture.DerivationDescription
    np.testing.assert_array_equal(capture.pixel_array, draw_capture(study, study.pictures[0]))


def test_the_gate_refuses_vigils_own_capture():
    with pytest.raises(ImageRefused) as refusal:
        check_header(describe(_capture(make_study())))
    assert refusal.value.code is RefusalCode.DERIVED


@pytest.mark.parametrize("shape", [(3000, 2500), (300, 250), (200, 2000), (2000, 200), (137, 141)])
@pytest.mark.parametrize("flags", [1, len(LABELS)])
def test_a_capture_is_at_most_1024_pixels_whatever_the_picture(shape, flags):
    pixels = np.full(shape, 128, np.uint8)
    picture = _with_pixels(pixels, probabilities=dict.fromkeys(LABELS[:flags], 0.9))
    drawn = draw_capture(make_study(picture), picture)
    assert drawn.shape[1] == 1024
    assert 200 < drawn.shape[0] <= 1024
    assert drawn.dtype == np.uint8


def test_the_disclaimer_is_visible_in_every_language():
    for language in Language:
        study = make_study(language=language)
        drawn = draw_capture(study, study.pictures[0])
        footer = drawn[-84:]
        assert (np.abs(footer.astype(int) - _AMBER).sum(axis=2) < 30).sum() > 1500


def test_each_language_is_drawn_in_its_own_words():
    drawn = [
        draw_capture(study, study.pictures[0])
        for study in (make_study(language=language) for language in Language)
    ]
    assert not np.array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[1], drawn[2])


def test_the_heat_lies_where_the_map_is_high_and_nowhere_else():
    picture = _with_pixels(
        np.full((600, 500), 90, np.uint8), maps={"Effusion": make_map(0.25, 0.75, 0.05)}
    )
    drawn = draw_capture(make_study(picture), picture).astype(int)
    top, height = 64, round(600 * 494 / 500)
    right = drawn[top : top + height, 518 : 518 + 494]
    coloured = np.ptp(right, axis=2) > 12
    rows, columns = np.nonzero(coloured)
    assert rows.mean() / height == pytest.approx(0.75, abs=0.02)
    assert columns.mean() / 494 == pytest.approx(0.25, abs=0.02)
    assert coloured.mean() < 0.1
    left = drawn[top : top + height, 12 : 12 + 494]
    assert np.ptp(left, axis=2).max() == 0


def test_a_flag_without_a_map_is_in_the_legend_all_the_same():
    picture = make_picture({"Effusion": 0.9, "Mass": 0.8}, maps={"Effusion": make_map()})
    alone = make_picture({"Effusion": 0.9}, maps={"Effusion": make_map()})
    taller = draw_capture(make_study(picture), picture)
    assert taller.shape[0] == draw_capture(make_study(alone), alone).shape[0] + 34


def test_half_precision_maps_and_both_depths_of_pixels_are_drawn_alike():
    single = make_picture()
    half = make_picture(maps={"Effusion": make_map().astype(np.float16)})
    object.__setattr__(half, "pixels", (single.pixels >> 8).astype(np.uint8))
    one, other = (draw_capture(make_study(p), p).astype(int) for p in (single, half))
    # An outline may move by a pixel.
    assert np.abs(one - other).mean() < 0.1
    assert (np.abs(one - other).max(axis=2) > 8).mean() < 0.002


def test_there_is_no_capture_without_flags_without_pixels_or_where_none_is_wanted():
    assert build_captures(make_study(make_picture({"Mass": 0.1}))) == ()
    assert build_captures(make_study(_with_pixels(None))) == ()
    assert build_captures(make_study(captures=False)) == ()
    assert build_captures(make_study(profile=Profile.CADT)) == ()
    picture = _with_pixels(None)
    with pytest.raises(ValueError, match="no pixels"):
        draw_capture(make_study(picture), picture)


def test_a_capture_of_a_lossy_picture_says_so():
    source = make_source(LossyImageCompression="01", LossyImageCompressionRatio="12")
    capture = _capture(make_study(make_picture(source=source)))
    assert (capture.LossyImageCompression, capture.LossyImageCompressionRatio) == ("01", 12)


def test_nobodys_name_is_drawn():
    named, nameless = (
        make_study(make_picture(source=make_source(patient_name=name)))
        for name in ("Nguyễn^Văn An", "")
    )
    np.testing.assert_array_equal(
        draw_capture(named, named.pictures[0]), draw_capture(nameless, nameless.pictures[0])
    )
