import json
from collections.abc import Callable
from pathlib import Path

import cv2
import imagecodecs
import numpy as np
import pytest
from PIL import Image
from pydicom import uid
from pydicom.encaps import encapsulate

from tests.core.conftest import TINY_ATTRIBUTES, build_bundle, make_dataset
from vigil.bundle import AttributeSpec, Population, UnfamiliaritySpec, write_manifest
from vigil.errors import ImageRefused, RefusalCode
from vigil.gate import ANTEROPOSTERIOR_NOTE, MIRRORED_NOTE, UNFAMILIAR_NOTE
from vigil.preprocess import to_model_input
from vigil.radiograph import LeastSide
from vigil.reading import read_radiograph
from vigil.triage import Priority
from vigil.triager import Triager

Write = Callable[..., Path]


@pytest.fixture
def triager(bundle_folder: Path) -> Triager:
    return Triager.load(bundle_folder, threads=1)


@pytest.fixture
def plain_triager(tmp_path: Path) -> Triager:
    build_bundle(tmp_path / "plain", attributes=False)
    return Triager.load(tmp_path / "plain", threads=1)


@pytest.fixture
def film() -> np.ndarray:
    """(200, 200): brightest in the middle and darker above, so neither inverted nor rotated."""
    rows, columns = np.mgrid[-1:1:200j, -1:1:200j]
    middle = np.exp(-(rows**2 + columns**2) / 0.3)
    return ((0.3 + 0.5 * middle + 0.15 * rows).clip(0, 1) * 4095).astype(np.uint16)


def _sigmoid(x: float) -> float:
    return float(1 / (1 + np.exp(-x)))


def test_the_result_is_the_networks_calibrated_probability(
    triager: Triager, film: np.ndarray, write_dicom: Write
) -> None:
    path = write_dicom(film, BitsStored=12)
    result = triager.triage(path)
    mean = to_model_input(read_radiograph(path).pixels, triager.bundle.preprocessing).mean()
    assert result.status == "analysed"
    assert result.findings["Effusion"] == pytest.approx(_sigmoid(mean), abs=1e-5)
    assert result.findings["Pneumonia"] == pytest.approx(_sigmoid(-mean), abs=1e-5)
    assert result.bundle_digest == triager.bundle.digest
    assert result.milliseconds > 0


def test_monochrome1_and_monochrome2_versions_score_alike(
    triager: Triager, film: np.ndarray, write_dicom: Write
) -> None:
    window = {"BitsStored": 12, "WindowCenter": 2048, "WindowWidth": 4096}
    two = triager.triage(write_dicom(film, "2.dcm", **window))
    inverse = (4095 - film).astype(np.uint16)
    one = triager.triage(
        write_dicom(inverse, "1.dcm", PhotometricInterpretation="MONOCHROME1", **window)
    )
    assert two.status == one.status == "analysed"
    for label, probability in two.findings.items():
        assert one.findings[label] == pytest.approx(probability, abs=1e-3)


def test_a_map_covers_the_picture_and_averages_to_the_findings_logit(
    plain_triager: Triager, film: np.ndarray, write_dicom: Write
) -> None:
    result = plain_triager.triage(write_dicom(film, BitsStored=12))
    heat = result.maps["Effusion"]
    assert heat.shape == (64, 64)
    assert 0 < heat.min() <= heat.max() < 1
    # Effusion is brightness here, so the map is highest in the bright middle.
    assert heat[28:36, 28:36].mean() > heat[:8].mean()
    logits = np.log(heat / (1 - heat))
    logit = np.log(result.findings["Effusion"] / (1 - result.findings["Effusion"]))
    assert logits.mean() == pytest.approx(logit, abs=0.05)


def test_a_map_has_the_pictures_shape_without_the_letterbox(
    plain_triager: Triager, film: np.ndarray, write_dicom: Write
) -> None:
    tall = np.ascontiguousarray(film.repeat(2, axis=0)[:, :200])
    tall[:100, :100] = 4095
    result = plain_triager.triage(write_dicom(tall))
    assert result.maps["Effusion"].shape == (64, 32)


@pytest.mark.parametrize(
    ("age", "reported", "withheld"),
    [
        ("040Y", {"Effusion", "Pneumonia"}, set()),
        ("003Y", {"Pneumonia"}, {"Effusion"}),
    ],
)
def test_a_finding_is_withheld_outside_its_population(
    triager: Triager,
    film: np.ndarray,
    write_dicom: Write,
    age: str,
    reported: set[str],
    withheld: set[str],
) -> None:
    result = triager.triage(write_dicom(film, PatientAge=age))
    assert set(result.findings) == reported
    assert set(result.withheld) == withheld
    assert ("findings not judged" in result.reason) == (bool(withheld) and not result.flags)
    assert all("validated on patients of 15 years and over" in t for t in result.withheld.values())


def test_a_childs_pneumonia_is_the_childrens_finding(
    triager: Triager, film: np.ndarray, write_dicom: Write
) -> None:
    path = write_dicom(film, PatientAge="003Y")
    mean = to_model_input(read_radiograph(path).pixels, triager.bundle.preprocessing).mean()
    result = triager.triage(path)
    assert result.findings["Pneumonia"] == pytest.approx(_sigmoid(2 * mean), abs=1e-5)


def test_an_age_that_no_finding_was_validated_on_is_paediatric(
    triager: Triager, film: np.ndarray, write_dicom: Write
) -> None:
    result = triager.triage(write_dicom(film, PatientAge="010Y"))
    assert result.status == "not_analysed"
    assert result.code is RefusalCode.PAEDIATRIC
    assert result.priority is Priority.NOT_ANALYSED
    assert not result.findings


def test_an_age_given_by_the_caller_wins(
    triager: Triager, film: np.ndarray, write_dicom: Write
) -> None:
    result = triager.triage(write_dicom(film, PatientAge="010Y"), age_years=50)
    assert result.status == "analysed"


def test_an_unknown_age_is_said_to_be_assumed(
    triager: Triager, plain_triager: Triager, film: np.ndarray, write_dicom: Write
) -> None:
    path = write_dicom(film, PatientAge="")
    seen = triager.triage(path)
    assert "an adult was assumed from the picture" in seen.notes[0]
    assert set(seen.findings) == {"Effusion", "Pneumonia"}
    assert plain_triager.triage(path).notes == (
        "the patient's age is unknown; an adult was assumed",
    )


def test_a_finding_for_all_ages_is_said_of_a_child_of_unknown_age(
    tmp_path: Path, film: np.ndarray, write_dicom: Write
) -> None:
    manifest = build_bundle(tmp_path / "all")
    unlimited = manifest.findings[0].model_copy(update={"population": Population()})
    attributes = tuple(
        # The tiny network's child is 0.018: over this threshold every film looks like a child's.
        attribute.model_copy(update={"threshold": 0.01 if attribute.name == "child" else 0.5})
        for attribute in manifest.attributes
    )
    changed = {"findings": (unlimited, *manifest.findings[1:]), "attributes": attributes}
    write_manifest(tmp_path / "all", manifest.model_copy(update=changed))
    result = Triager.load(tmp_path / "all").triage(write_dicom(film, PatientAge=""))
    assert set(result.findings) == {"Effusion", "Pneumonia"}
    assert result.keys == {"Effusion": "Effusion", "Pneumonia": "Pneumonia:child"}
    assert "a child was assumed from the picture" in result.notes[0]


def test_an_inverted_film_is_put_right_and_said_to_be(
    triager: Triager, film: np.ndarray, write_dicom: Write
) -> None:
    right = triager.triage(write_dicom(film, BitsStored=12))
    inverted = (4095 - film).astype(np.uint16)
    result = triager.triage(write_dicom(inverted, "i.dcm", BitsStored=12))
    assert result.status == "analysed"
    assert any("inverted before it was analysed" in note for note in result.notes)
    for label, probability in right.findings.items():
        assert result.findings[label] == pytest.approx(probability, abs=0.01)
    assert result.radiograph is not None
    assert result.radiograph.pixels[100, 100] > result.radiograph.pixels[0, 0]


def test_a_film_on_its_head_is_turned_and_said_to_be(
    triager: Triager, film: np.ndarray, write_dicom: Write
) -> None:
    steep = (film.astype(int) // 2 + np.linspace(0, 2000, 200)[:, None]).astype(np.uint16)
    right = triager.triage(write_dicom(steep, BitsStored=12))
    assert right.notes == ()
    turned = np.ascontiguousarray(steep[::-1, ::-1])
    result = triager.triage(write_dicom(turned, "t.dcm", BitsStored=12))
    assert result.status == "analysed"
    assert result.notes == ("the picture was turned 180° before it was analysed",)
    assert result.findings["Effusion"] == pytest.approx(right.findings["Effusion"], abs=1e-4)


def test_what_is_no_chest_film_however_it_is_turned_is_not_called_rotated(
    tmp_path: Path, film: np.ndarray, write_dicom: Write
) -> None:
    # The tiny network's frontal_chest is always 0.98.
    attributes = tuple(
        AttributeSpec(name=name, threshold=0.99 if name == "frontal_chest" else 0.5)
        for name in TINY_ATTRIBUTES
    )
    manifest = build_bundle(tmp_path / "strict")
    write_manifest(tmp_path / "strict", manifest.model_copy(update={"attributes": attributes}))
    inverted = (4095 - film).astype(np.uint16)
    result = Triager.load(tmp_path / "strict").triage(write_dicom(inverted, BitsStored=12))
    assert result.code is RefusalCode.NOT_CHEST
    assert "however it is turned" in result.reason


def test_a_film_that_looks_mirrored_is_analysed_as_it_is_and_said_to_be(
    triager: Triager, film: np.ndarray, write_dicom: Write
) -> None:
    ramp = np.linspace(0, 2000, 200)
    right = triager.triage(write_dicom((film // 2 + ramp).astype(np.uint16), BitsStored=12))
    mirrored = (film // 2 + ramp[::-1]).astype(np.uint16)
    result = triager.triage(write_dicom(mirrored, "m.dcm", BitsStored=12))
    assert right.notes == ()
    assert result.status == "analysed"
    assert result.notes == (MIRRORED_NOTE,)
    assert result.radiograph is not None
    # The left side is still the bright one: nothing was flipped.
    assert result.radiograph.pixels[100, 20] > result.radiograph.pixels[100, 180]


@pytest.mark.parametrize(("view", "noted"), [("", True), ("PA", False), ("AP", False)])
def test_a_film_without_a_view_that_looks_ap_is_said_to_and_what_the_file_says_stands(
    tmp_path: Path, film: np.ndarray, write_dicom: Write, view: str, noted: bool
) -> None:
    attributes = tuple(
        AttributeSpec(name=name, threshold=0.01 if name == "anteroposterior" else 0.5)
        for name in TINY_ATTRIBUTES
    )
    manifest = build_bundle(tmp_path / "keen")
    write_manifest(tmp_path / "keen", manifest.model_copy(update={"attributes": attributes}))
    path = write_dicom(film, BitsStored=12, ViewPosition=view)
    result = Triager.load(tmp_path / "keen").triage(path)
    assert result.status == "analysed"
    assert (ANTEROPOSTERIOR_NOTE in result.notes) is noted


@pytest.mark.parametrize(
    ("notice", "refuse", "notes"),
    [(50.0, 60.0, ()), (0.1, 60.0, (UNFAMILIAR_NOTE,)), (0.1, 0.2, None)],
)
def test_a_film_unlike_the_training_films_is_noted_and_then_refused(
    tmp_path: Path,
    film: np.ndarray,
    write_dicom: Write,
    notice: float,
    refuse: float,
    notes: tuple[str, ...] | None,
) -> None:
    limits = UnfamiliaritySpec(notice=notice, refuse=refuse)
    build_bundle(tmp_path / "tiny", unfamiliarity=limits)
    path = write_dicom(film, BitsStored=12)
    result = Triager.load(tmp_path / "tiny", threads=1).triage(path)
    if notes is not None:
        assert result.status == "analysed"
        assert result.notes == notes
        return
    assert result.code is RefusalCode.UNFAMILIAR
    assert result.priority is Priority.NOT_ANALYSED
    assert not result.findings
    assert "analysed up to 0.20" in result.reason


def test_a_map_that_shows_no_place_is_not_given(plain_triager: Triager, write_dicom: Write) -> None:
    ramp = np.tile(np.linspace(1000, 3000, 200).astype(np.uint16), (200, 1))
    steep = plain_triager.triage(write_dicom(ramp, BitsStored=12))
    assert set(steep.maps) == {"Effusion", "Pneumonia"}
    # Half black and half white: the median of each map is its top or nearly so.
    speckled = ramp.copy()
    speckled[::2] = 4000 - speckled[::2]
    flat = plain_triager.triage(write_dicom(speckled, "f.dcm", BitsStored=12))
    assert flat.status == "analysed"
    assert flat.findings
    assert not flat.maps


def test_a_file_that_cannot_be_read_gets_an_answer(triager: Triager, tmp_path: Path) -> None:
    result = triager.triage(tmp_path / "missing.dcm")
    assert result.code is RefusalCode.FILE_UNREADABLE
    assert "No such file" in result.reason


def test_an_unforeseen_error_is_an_answer_without_its_message(
    triager: Triager,
    film: np.ndarray,
    write_dicom: Write,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(*_: object) -> None:
        raise KeyError("Nguyễn Văn An")

    monkeypatch.setattr("vigil.gate.check_pixels", fail)
    result = triager.triage(write_dicom(film))
    assert result.code is RefusalCode.INTERNAL_ERROR
    assert result.radiograph is not None
    assert "Nguyễn" not in result.reason + caplog.text
    assert "KeyError" in caplog.text


def test_the_json_has_the_promised_keys(
    triager: Triager, film: np.ndarray, write_dicom: Write, tmp_path: Path
) -> None:
    always = {"path", "status", "priority", "findings", "flags", "bundle", "milliseconds"}
    analysed = triager.triage(write_dicom(film)).to_json("a.dcm")
    assert always <= set(analysed)
    assert analysed["bundle"] == {"id": "tiny", "digest": triager.bundle.digest}
    refused = triager.triage(tmp_path / "none").to_json("b.dcm")
    assert always | {"code", "reason"} <= set(refused)
    json.dumps([analysed, refused])


def test_a_png_and_a_dicom_of_one_picture_score_alike(
    triager: Triager, film: np.ndarray, write_dicom: Write, tmp_path: Path
) -> None:
    Image.fromarray(film.astype(np.uint16) * 16).save(tmp_path / "film.png")
    png = triager.triage(tmp_path / "film.png")
    dicom = triager.triage(write_dicom(film, BitsStored=12, WindowCenter=2048, WindowWidth=4096))
    for label, probability in dicom.findings.items():
        assert png.findings[label] == pytest.approx(probability, abs=2e-3)


def test_a_document_is_no_radiograph(triager: Triager, tmp_path: Path) -> None:
    page = np.where(np.random.default_rng(0).random((400, 300)) < 0.1, 0, 255).astype(np.uint8)
    Image.fromarray(page).save(tmp_path / "page.png")
    assert triager.triage(tmp_path / "page.png").code is RefusalCode.NO_CONTRAST


def test_damaged_files_get_an_answer_that_was_foreseen(
    triager: Triager, film: np.ndarray, write_dicom: Write, tmp_path: Path
) -> None:
    whole = write_dicom(
        film, BitsStored=12, WindowCenter=2048, WindowWidth=4096, ImageType=["ORIGINAL", "PRIMARY"]
    ).read_bytes()
    random = np.random.default_rng(7)
    path = tmp_path / "damaged.dcm"
    codes = set()
    for _ in range(400):
        damaged = bytearray(whole)
        for _ in range(random.choice([1, 3, 20])):
            damaged[random.integers(128, 1000)] = random.integers(256)
        path.write_bytes(
            damaged[: random.integers(200, len(whole))] if random.random() < 0.2 else damaged
        )
        codes.add(triager.triage(path).code)
    assert RefusalCode.INTERNAL_ERROR not in codes
    # The damage reached more than one place.
    assert {None, RefusalCode.FILE_UNREADABLE, RefusalCode.PIXELS_CORRUPT} <= codes


def test_a_picture_for_processing_is_judged_only_where_that_is_wanted(
    bundle_folder: Path, film: np.ndarray, write_dicom: Write
) -> None:
    raw = uid.DigitalXRayImageStorageForProcessing
    path = write_dicom(film, BitsStored=12, SOPClassUID=raw, Modality="DX")
    refused = Triager.load(bundle_folder, threads=1).triage(path)
    judged = Triager.load(bundle_folder, threads=1, for_processing=True).triage(path)
    assert (refused.status, refused.code) == ("not_analysed", RefusalCode.FOR_PROCESSING)
    assert judged.status == "analysed"


def _large_j2k(film: np.ndarray, path: Path) -> Path:
    # 2.5 low-pass pixels to one of 32 input pixels: 640 pixels are halved three times.
    stored = cv2.resize(film.astype(np.uint16), (640, 640), interpolation=cv2.INTER_CUBIC)
    dataset = make_dataset(stored)
    frame = imagecodecs.jpeg2k_encode(stored, codecformat="j2k", reversible=True, level=0)
    dataset.PixelData = encapsulate([frame])
    dataset["PixelData"].VR = "OB"
    dataset.file_meta.TransferSyntaxUID = uid.JPEG2000Lossless
    dataset.save_as(path, enforce_file_format=True)
    return path


def test_what_is_shown_is_larger_than_what_was_judged_and_the_scores_are_the_same(
    bundle_folder: Path, film: np.ndarray, tmp_path: Path
) -> None:
    path = _large_j2k(film, tmp_path / "large.dcm")
    judged = Triager.load(bundle_folder, 1).triage(path)
    shown = Triager.load(bundle_folder, 1, least_shown=LeastSide(300, 300)).triage(path)
    assert judged.radiograph is not None
    assert shown.radiograph is not None
    assert judged.radiograph.pixels.shape == (80, 80)
    assert shown.radiograph.pixels.shape == (320, 320)
    assert shown.findings == judged.findings
    for label, map_ in judged.maps.items():
        np.testing.assert_array_equal(shown.maps[label], map_)


def test_a_picture_whose_details_cannot_be_read_is_not_judged_where_it_is_to_be_shown(
    bundle_folder: Path, film: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _large_j2k(film, tmp_path / "large.dcm")

    def refuse(*_: object) -> None:
        raise ImageRefused(RefusalCode.PIXELS_CORRUPT, "the details are damaged")

    monkeypatch.setattr("vigil.triager.read_again", refuse)
    result = Triager.load(bundle_folder, 1, least_shown=LeastSide(300, 300)).triage(path)
    assert result.code is RefusalCode.PIXELS_CORRUPT
    assert not result.findings


def test_a_reduced_picture_scores_as_the_whole_one(
    bundle_folder: Path, film: np.ndarray, tmp_path: Path
) -> None:
    path = _large_j2k(film, tmp_path / "large.dcm")
    triager = Triager.load(bundle_folder, 1)
    reduced, whole = triager.triage(path), triager.judge(read_radiograph(path))
    assert whole.radiograph is not None
    assert whole.radiograph.sampling is None
    assert reduced.findings == pytest.approx(whole.findings, abs=0.01)
    assert reduced.maps.keys() == whole.maps.keys()
    for label, map_ in whole.maps.items():
        assert reduced.maps[label].shape == map_.shape
