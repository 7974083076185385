from typing import Any

import numpy as np
import pytest
from pydicom import uid

from vigil.bundle import UnfamiliaritySpec
from vigil.errors import ImageRefused, RefusalCode
from vigil.gate import UNFAMILIAR_NOTE, appearance, check_familiar, check_header, check_pixels
from vigil.radiograph import ImageDescription, View

FILM: dict[str, Any] = {
    "file_format": "DICOM",
    "rows": 2000,
    "columns": 1800,
    "sop_class_uid": uid.DigitalXRayImageStorageForPresentation,
    "modality": "DX",
    "body_part_examined": "CHEST",
    "view": View.PA,
}
CAPTURE = {"sop_class_uid": uid.SecondaryCaptureImageStorage}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"modality": "CR", "sop_class_uid": uid.ComputedRadiographyImageStorage},
        {"body_part_examined": "", "view": View.UNKNOWN},
        {"body_part_examined": "LUNG", "view": View.AP},
        # The body part is wrong in about 15 % of images; a text that says chest is doubt enough.
        {"body_part_examined": "HAND", "descriptions": ("Thorax pa",)},
        {"body_part_examined": "", "descriptions": ("X-quang ngực thẳng",)},
        {"body_part_examined": "", "view": View.UNKNOWN, "descriptions": ("CHEST PA/LATERAL",)},
        {**CAPTURE, "modality": "CR"},
        {**CAPTURE, "modality": "OT", "body_part_examined": "THORAX"},
        {"image_type": ("DERIVED", "PRIMARY")},
        {"file_format": "PNG", "sop_class_uid": "", "modality": ""},
    ],
)
def test_what_may_be_a_frontal_chest_film_is_let_in(changes: dict[str, Any]) -> None:
    check_header(ImageDescription(**(FILM | changes)))


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"sop_class_uid": uid.CTImageStorage, "modality": "CT"}, RefusalCode.NOT_RADIOGRAPH),
        ({"modality": "MG"}, RefusalCode.NOT_RADIOGRAPH),
        ({**CAPTURE, "modality": "OT", "body_part_examined": ""}, RefusalCode.NOT_RADIOGRAPH),
        (
            {"sop_class_uid": uid.DigitalXRayImageStorageForProcessing},
            RefusalCode.FOR_PROCESSING,
        ),
        ({**CAPTURE, "manufacturer": "Vigil"}, RefusalCode.DERIVED),
        ({"body_part_examined": "HAND"}, RefusalCode.NOT_CHEST),
        ({"body_part_examined": "C_SPINE"}, RefusalCode.NOT_CHEST),
        ({"body_part_examined": "", "descriptions": ("Left Knee 2 views",)}, RefusalCode.NOT_CHEST),
        ({"view": View.LATERAL}, RefusalCode.NOT_FRONTAL),
        ({"view": View.UNKNOWN, "descriptions": ("Chest lat.",)}, RefusalCode.NOT_FRONTAL),
        ({"rows": 32, "columns": 32}, RefusalCode.TOO_SMALL),
        ({"rows": 0}, RefusalCode.NO_PIXELS),
    ],
)
def test_what_is_no_frontal_chest_film_is_refused_with_its_code(
    changes: dict[str, Any], code: RefusalCode
) -> None:
    with pytest.raises(ImageRefused) as refused:
        check_header(ImageDescription(**(FILM | changes)))
    assert refused.value.code is code
    assert len(refused.value.reason) > 10


@pytest.mark.parametrize(
    "pixels",
    [
        np.full((300, 300), 30000, np.uint16),
        np.random.default_rng(0).integers(30000, 30200, (300, 300)).astype(np.uint16),
        np.where(np.random.default_rng(0).random((300, 300)) < 0.1, 0, 65535).astype(np.uint16),
    ],
    ids=["one grey", "almost one grey", "a page of text"],
)
def test_a_picture_that_shows_nothing_is_refused(pixels: np.ndarray) -> None:
    with pytest.raises(ImageRefused) as refused:
        check_pixels(pixels)
    assert refused.value.code is RefusalCode.NO_CONTRAST


def test_a_smooth_picture_passes() -> None:
    ramp = np.linspace(0, 65535, 300 * 300).reshape(300, 300).astype(np.uint16)
    check_pixels(ramp)


def test_an_attribute_that_the_bundle_lacks_speaks_against_nothing() -> None:
    looks = appearance({}, {})
    assert looks.frontal_chest
    assert not looks.inverted
    assert not looks.rotated
    assert not looks.mirrored
    assert not looks.anteroposterior
    assert looks.child is None


def test_attributes_are_compared_with_the_bundles_thresholds() -> None:
    looks = appearance(
        {"frontal_chest": 0.29, "inverted": 0.8, "rotated": 0.2, "child": 0.5},
        {"frontal_chest": 0.3, "inverted": 0.8, "rotated": 0.9, "child": 0.5},
    )
    assert not looks.frontal_chest
    assert looks.inverted
    assert not looks.rotated
    assert looks.child is True


@pytest.mark.parametrize(
    ("distance", "note"), [(1.0, None), (1.01, UNFAMILIAR_NOTE), (2.0, UNFAMILIAR_NOTE)]
)
def test_a_distance_over_the_notice_is_said_and_one_at_it_is_not(
    distance: float, note: str | None
) -> None:
    assert check_familiar(distance, UnfamiliaritySpec(notice=1, refuse=2)) == note


@pytest.mark.parametrize("distance", [2.01, float("inf"), float("nan")])
def test_a_distance_over_the_limit_and_one_that_is_no_number_are_refused(distance: float) -> None:
    with pytest.raises(ImageRefused) as refused:
        check_familiar(distance, UnfamiliaritySpec(notice=1, refuse=2))
    assert refused.value.code is RefusalCode.UNFAMILIAR


def test_without_limits_nothing_is_said_of_a_distance() -> None:
    assert check_familiar(1e9, None) is None
    assert check_familiar(None, UnfamiliaritySpec(notice=1, refuse=2)) is None
