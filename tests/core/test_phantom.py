import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pydicom
import pytest
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from vigil.findings import LABELS
from vigil.phantom import MAX_STORED_VALUE, PhantomKind, make_phantom
from vigil.phantom.dicom import write_dx, write_png

SMALL = (300, 260)


def test_the_same_seed_draws_the_same_pixels() -> None:
    first, second = make_phantom(7, "opacity", SMALL), make_phantom(7, "opacity", SMALL)
    assert np.array_equal(first.pixels, second.pixels)
    assert not np.array_equal(first.pixels, make_phantom(8, "opacity", SMALL).pixels)


@pytest.mark.parametrize("kind", list(PhantomKind))
@pytest.mark.parametrize("size", [(300, 260), (200, 256), (700, 900)])
def test_every_kind_fills_its_size_with_12_bit_values(
    kind: PhantomKind, size: tuple[int, int]
) -> None:
    phantom = make_phantom(3, kind, size)
    assert phantom.pixels.shape == phantom.lung_mask.shape == phantom.heart_mask.shape == size
    assert phantom.pixels.dtype == np.uint16
    assert phantom.pixels.max() <= MAX_STORED_VALUE
    assert phantom.pixels.std() > 400
    assert set(phantom.labels) <= set(LABELS)


@pytest.mark.parametrize("seed", range(6))
def test_lungs_are_dark_and_the_heart_is_bright(seed: int) -> None:
    phantom = make_phantom(seed, size=SMALL)
    lungs = phantom.pixels[phantom.lung_mask].mean()
    assert lungs < 0.6 * phantom.pixels[phantom.heart_mask].mean()
    assert 0.2 < phantom.lung_mask.mean() < 0.5


@pytest.mark.parametrize("seed", range(6))
def test_a_large_heart_is_wider_than_half_the_chest_and_a_normal_one_is_not(seed: int) -> None:
    ratio = {}
    for kind in ("normal", "cardiomegaly"):
        phantom = make_phantom(seed, kind, SMALL)
        heart, lungs = (
            np.ptp(np.flatnonzero(mask.any(axis=0)))
            for mask in (phantom.heart_mask, phantom.lung_mask)
        )
        ratio[kind] = heart / lungs
    assert ratio["normal"] < 0.5 < ratio["cardiomegaly"]


@pytest.mark.parametrize("seed", range(6))
def test_the_heart_points_to_the_patients_left(seed: int) -> None:
    phantom = make_phantom(seed, size=SMALL)
    columns = np.flatnonzero(phantom.heart_mask.any(axis=0))
    middle = np.flatnonzero(phantom.lung_mask.any(axis=0))[[0, -1]].mean()
    assert columns[-1] - middle > 1.3 * (middle - columns[0])


@pytest.mark.parametrize("kind", ["effusion", "opacity"])
def test_a_lesion_brightens_the_lung_of_the_same_person(kind: str) -> None:
    normal, ill = make_phantom(4, size=SMALL), make_phantom(4, kind, SMALL)
    lungs = normal.lung_mask
    assert np.array_equal(lungs, ill.lung_mask)
    assert ill.pixels[lungs].mean() > normal.pixels[lungs].mean() + 40
    changed = np.abs(ill.pixels.astype(int) - normal.pixels.astype(int)) > 200
    assert 0.005 < changed.mean() < 0.25


def test_an_inverted_phantom_is_the_negative_of_the_normal_one() -> None:
    normal, inverted = make_phantom(2, size=SMALL), make_phantom(2, "inverted", SMALL)
    assert np.array_equal(inverted.pixels, MAX_STORED_VALUE - normal.pixels)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize(
    "transfer_syntax",
    [
        ExplicitVRLittleEndian,
        ImplicitVRLittleEndian,
        DeflatedExplicitVRLittleEndian,
        RLELossless,
        JPEGLSLossless,
        JPEG2000Lossless,
        HTJ2KLossless,
    ],
)
def test_a_dicom_file_gives_the_stored_values_back(
    tmp_path: Path, transfer_syntax: str, photometric: str
) -> None:
    phantom = make_phantom(5, size=SMALL)
    path = write_dx(
        phantom, tmp_path / "a.dcm", photometric=photometric, transfer_syntax=transfer_syntax
    )
    ds = pydicom.dcmread(path)
    expected = phantom.pixels
    if photometric == "MONOCHROME1":
        expected = MAX_STORED_VALUE - expected
    assert ds.file_meta.TransferSyntaxUID == transfer_syntax
    assert np.array_equal(ds.pixel_array, expected)
    assert str(ds.PatientName) == "Võ^Thị Hạnh"


def test_a_file_is_the_same_at_every_writing_and_its_uids_follow_its_content(
    tmp_path: Path,
) -> None:
    phantom = make_phantom(5, size=SMALL)
    first = write_dx(phantom, tmp_path / "1.dcm")
    assert first.read_bytes() == write_dx(phantom, tmp_path / "2.dcm").read_bytes()
    one, other = (
        pydicom.dcmread(write_dx(phantom, tmp_path / f"{name}.dcm", photometric=name))
        for name in ("MONOCHROME1", "MONOCHROME2")
    )
    assert one.SOPInstanceUID != other.SOPInstanceUID
    assert one.StudyInstanceUID == other.StudyInstanceUID


def test_tags_can_be_set_and_left_out(tmp_path: Path) -> None:
    phantom = make_phantom(1, "lateral", SMALL)
    path = write_dx(phantom, tmp_path / "a.dcm", age=1.5, BodyPartExamined="HAND", KVP=None)
    ds = pydicom.dcmread(path)
    assert (ds.PatientAge, ds.BodyPartExamined, ds.ViewPosition) == ("018M", "HAND", "LL")
    assert "KVP" not in ds


def test_an_unknown_view_or_polarity_is_refused(tmp_path: Path) -> None:
    phantom = make_phantom(1, size=SMALL)
    with pytest.raises(ValueError, match="view is XX, expected one of PA, AP, LL"):
        write_dx(phantom, tmp_path / "a.dcm", view="XX")
    with pytest.raises(ValueError, match="photometric is RGB"):
        write_dx(phantom, tmp_path / "a.dcm", photometric="RGB")


@pytest.mark.parametrize("kind", list(PhantomKind))
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_dciodvfy_finds_no_fault(tmp_path: Path, kind: PhantomKind, photometric: str) -> None:
    validator = shutil.which("dciodvfy")
    if validator is None:
        pytest.skip("dciodvfy (package dicom3tools) is not installed")
    path = write_dx(make_phantom(6, kind, SMALL), tmp_path / "a.dcm", photometric=photometric)
    report = subprocess.run([validator, str(path)], capture_output=True, text=True, check=False)
    assert report.stdout + report.stderr == "DXImageForPresentation\n"


def test_a_png_holds_the_picture_in_16_bits(tmp_path: Path) -> None:
    phantom = make_phantom(1, size=SMALL)
    image = cv2.imread(str(write_png(phantom, tmp_path / "a.png")), cv2.IMREAD_UNCHANGED)
    assert image.dtype == np.uint16
    assert np.array_equal(np.rint(image / 65535 * MAX_STORED_VALUE), phantom.pixels)
