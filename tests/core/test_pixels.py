"""Reduced reading against whole reading: the same picture, whatever the transfer syntax."""

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import imagecodecs
import numpy as np
import pytest
from pydicom import dcmread, uid
from pydicom.encaps import encapsulate
from rle.rle import decode_frame as decode_rle

from tests.core.conftest import make_dataset
from vigil.dicom import describe, open_dicom, read_dicom
from vigil.errors import ImageRefused, RefusalCode
from vigil.phantom import make_phantom
from vigil.pixels import read_stored_values
from vigil.preprocess import PreprocessingSpec, least_side_of, to_model_input
from vigil.radiograph import LeastSide, Radiograph, Sampling
from vigil.reading import read_again
from vigil.reduction import average_blocks

SPEC = PreprocessingSpec(size=32)
LEAST = least_side_of(SPEC)
# Odd on purpose: no side is a multiple of a block.
FILM = make_phantom(3, "effusion", (667, 551)).pixels
WINDOW = {"WindowCenter": 2048, "WindowWidth": 4096}

FRAMES: dict[str, Callable[[np.ndarray], bytes]] = {
    uid.JPEGLosslessSV1: lambda a: imagecodecs.jpeg_encode(
        a, lossless=True, predictor=1, bitspersample=12
    ),
    uid.JPEGExtended12Bit: lambda a: imagecodecs.jpeg_encode(a, level=95, bitspersample=12),
    uid.JPEGLSLossless: imagecodecs.jpegls_encode,
    uid.JPEGLSNearLossless: lambda a: imagecodecs.jpegls_encode(a, level=2),
    uid.JPEG2000Lossless: lambda a: imagecodecs.jpeg2k_encode(
        a, codecformat="j2k", reversible=True, bitspersample=12
    ),
    uid.JPEG2000: lambda a: imagecodecs.jpeg2k_encode(
        a, codecformat="j2k", reversible=False, level=60, bitspersample=12
    ),
    uid.HTJ2KLossless: lambda a: imagecodecs.htj2k_encode(a, reversible=True),
    uid.HTJ2K: lambda a: imagecodecs.htj2k_encode(a, reversible=False, level=1e-4),
}
LOW_PASS = (uid.JPEG2000Lossless, uid.JPEG2000, uid.HTJ2KLossless, uid.HTJ2K)
NATIVE = (
    uid.ExplicitVRLittleEndian,
    uid.ImplicitVRLittleEndian,
    uid.DeflatedExplicitVRLittleEndian,
    uid.ExplicitVRBigEndian,
    uid.RLELossless,
)
Save = Callable[..., Path]


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """Write a picture in a transfer syntax; ``frame`` replaces the codestream."""

    def write(
        stored: np.ndarray,
        syntax: str = uid.ExplicitVRLittleEndian,
        *,
        frame: bytes | None = None,
        **attributes: Any,
    ) -> Path:
        tags = {"BitsStored": 12, "HighBit": 11, **WINDOW, **attributes}
        dataset = make_dataset(stored, **{k: v for k, v in tags.items() if v is not None})
        if syntax == uid.RLELossless and frame is None:
            dataset.compress(syntax, generate_instance_uid=False)
        elif syntax in FRAMES or frame is not None:
            dataset.PixelData = encapsulate([FRAMES[syntax](stored) if frame is None else frame])
            dataset["PixelData"].VR = "OB"
        elif syntax == uid.ExplicitVRBigEndian:
            dataset.PixelData = stored.byteswap().tobytes()
            dataset["PixelData"].VR = "OW"
        dataset.file_meta.TransferSyntaxUID = syntax
        path = tmp_path / "picture.dcm"
        dataset.save_as(path, enforce_file_format=True)
        return path

    return write


def seen(radiograph: Radiograph) -> np.ndarray:
    return to_model_input(radiograph.pixels, SPEC, radiograph.shape)


def assert_same_input(path: Path, *, clips: bool = False) -> Radiograph:
    """Check that the network would see the same: the input spans 4.

    The phantom has hard edges, which a window that ``clips`` takes before or after the mean, and
    an input pixel is 5 pixels of the averaged picture wide and 2.5 of the low-pass one. Left
    where the codec or the blocks put them, the same pixels differ by 0.047 and 0.009.
    """
    whole, reduced = read_dicom(path), read_dicom(path, LEAST)
    difference = np.abs(seen(reduced) - seen(whole))
    low_pass = reduced.sampling is not None and reduced.sampling.low_pass
    assert difference.mean() < (0.022 if low_pass else 0.012 if clips else 0.006)
    assert np.quantile(difference, 0.99) < 0.2
    return reduced


@pytest.mark.parametrize("syntax", [*NATIVE, *FRAMES], ids=lambda s: uid.UID(s).name)
def test_the_network_sees_the_same_of_a_reduced_picture(syntax: str, save: Save) -> None:
    reduced = assert_same_input(save(FILM, syntax))
    step = 8 if syntax in LOW_PASS else 4
    assert reduced.sampling == Sampling(667, 551, step, low_pass=syntax in LOW_PASS)
    assert reduced.pixels.shape == (-(-667 // step), -(-551 // step))
    assert reduced.shape == (667, 551)


@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.JPEG2000Lossless])
@pytest.mark.parametrize(
    "attributes",
    [
        {"PhotometricInterpretation": "MONOCHROME1"},
        {"WindowCenter": None, "WindowWidth": None},
        {"WindowCenter": 1800, "WindowWidth": 900},
        {"VOILUTFunction": "SIGMOID"},
        {"RescaleSlope": 2, "RescaleIntercept": -1000, "WindowCenter": 3000, "WindowWidth": 7000},
        {
            "ShutterShape": "RECTANGULAR",
            "ShutterLeftVerticalEdge": 75,
            "ShutterRightVerticalEdge": 502,
            "ShutterUpperHorizontalEdge": 51,
            "ShutterLowerHorizontalEdge": 600,
        },
    ],
    ids=["inverse", "no window", "narrow window", "sigmoid", "rescaled", "shutter"],
)
def test_the_display_pipeline_means_the_same_on_a_reduced_picture(
    attributes: dict[str, Any], syntax: str, save: Save
) -> None:
    reduced = assert_same_input(save(FILM, syntax, **attributes), clips=True)
    assert reduced.sampling is not None


def _with_margin(value: int) -> np.ndarray:
    film = FILM.clip(1, 4094).astype(np.uint16)
    film[:, :101] = value
    return film


@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.JPEG2000Lossless])
def test_padding_that_would_be_bright_is_masked_pixel_by_pixel(syntax: str, save: Save) -> None:
    reduced = assert_same_input(save(_with_margin(4095), syntax, PixelPaddingValue=4095))
    assert reduced.sampling is None, "no reduced picture tells padding from tissue at its border"
    assert not reduced.pixels[:, :101].any()


@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.JPEG2000Lossless])
def test_padding_that_is_black_anyway_does_not_cost_a_whole_decode(syntax: str, save: Save) -> None:
    reduced = assert_same_input(save(_with_margin(0), syntax, PixelPaddingValue=0))
    assert reduced.sampling is not None


@pytest.mark.parametrize("least", [None, LEAST])
def test_run_lengths_that_go_beyond_the_picture_are_refused(
    save: Save, least: LeastSide | None
) -> None:
    """The decoder panics on them, which as it comes is no Exception and ends its thread."""
    count = FILM.size // 128
    segments = [bytes([129, 7]) * (count + 1), bytes([129, 7]) * (count + 4)]
    starts = [64, 64 + len(segments[0]), *[0] * 13]
    frame = struct.pack("<16L", 2, *starts) + b"".join(segments)
    with pytest.raises(BaseException, match="index out of bounds") as panic:
        decode_rle(frame, FILM.size, 16, "<")
    assert not isinstance(panic.value, Exception)
    with pytest.raises(ImageRefused) as refused:
        read_dicom(save(FILM, uid.RLELossless, frame=frame), least)
    assert refused.value.code is RefusalCode.PIXELS_CORRUPT


@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.RLELossless])
def test_bits_above_the_stored_ones_are_cleared_before_anything_is_averaged(
    syntax: str, save: Save
) -> None:
    dirty = FILM | (np.arange(FILM.size).reshape(FILM.shape) % 3 == 0).astype(np.uint16) << 15
    clean, expected = read_dicom(save(dirty, syntax), LEAST), read_dicom(save(FILM), LEAST)
    np.testing.assert_array_equal(clean.pixels, expected.pixels)


@pytest.mark.parametrize("bits", [12, 14, 16])
@pytest.mark.parametrize("syntax", LOW_PASS, ids=lambda s: s.name)
def test_hard_edges_do_not_wrap_from_black_to_white(syntax: uid.UID, bits: int, save: Save) -> None:
    # A wavelet overshoots at edges, beyond the values that there are.
    top = (1 << bits) - 1
    edges = np.kron(np.random.default_rng(1).random((45, 55)) > 0.5, np.ones((15, 10))) * top
    stored = edges.astype(np.uint16)
    frame = None
    if bits > 12:
        frame = (
            imagecodecs.htj2k_encode(stored, reversible=syntax == uid.HTJ2KLossless)
            if "HTJ2K" in syntax.name or "High-Throughput" in syntax.name
            else imagecodecs.jpeg2k_encode(
                stored, codecformat="j2k", reversible=syntax == uid.JPEG2000Lossless, level=0
            )
        )
    window = {"WindowCenter": (top + 1) / 2, "WindowWidth": top + 1}
    path = save(stored, syntax, frame=frame, BitsStored=bits, HighBit=bits - 1, **window)
    reduced = read_dicom(path, LEAST)
    step = 1 if reduced.sampling is None else reduced.sampling.step
    means = cv2.resize(
        stored.astype(np.float32), reduced.pixels.shape[::-1], interpolation=cv2.INTER_AREA
    )
    assert step > 1
    assert np.abs(reduced.pixels / 65535 - means / top).max() < 0.6
    assert np.corrcoef(reduced.pixels.ravel(), means.ravel())[0, 1] > 0.9


@pytest.mark.parametrize("syntax", LOW_PASS, ids=lambda s: s.name)
def test_a_codestream_that_was_cut_off_is_refused_though_its_lower_resolutions_are_there(
    syntax: uid.UID, save: Save
) -> None:
    whole = bytes(FRAMES[syntax](FILM))
    for part in (0.5, 0.9, 0.99):
        path = save(FILM, syntax, frame=whole[: int(len(whole) * part)])
        for least in (None, LEAST):
            with pytest.raises(ImageRefused) as refused:
                read_dicom(path, least)
            assert refused.value.code is RefusalCode.PIXELS_CORRUPT


@pytest.mark.parametrize("syntax", [*FRAMES, uid.RLELossless], ids=lambda s: uid.UID(s).name)
def test_a_codestream_of_noise_is_corrupt_when_read_reduced(syntax: str, save: Save) -> None:
    path = save(FILM, syntax)
    dataset = dcmread(path)
    dataset.PixelData = encapsulate([np.random.default_rng(3).bytes(5000)])
    dataset.save_as(path)
    with pytest.raises(ImageRefused) as refused:
        read_dicom(path, LEAST)
    assert refused.value.code is RefusalCode.PIXELS_CORRUPT


@pytest.mark.parametrize("syntax", [*FRAMES], ids=lambda s: uid.UID(s).name)
def test_a_codestream_larger_than_its_header_is_refused_before_it_is_decoded(
    syntax: str, save: Save, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(FILM[:200, :200].copy(), syntax, frame=FRAMES[syntax](FILM))

    def explode(*_: object, **__: object) -> None:
        raise AssertionError("the codestream was decoded")

    for name in ("decode_plain", "decode_low_pass", "decoder_for"):
        monkeypatch.setattr(f"vigil.pixels.{name}", explode)
    with pytest.raises(ImageRefused, match="551 × 667") as refused:
        read_dicom(path)
    assert refused.value.code is RefusalCode.PIXELS_CORRUPT


def test_a_deflated_file_that_unpacks_to_more_than_a_radiograph_is_refused(
    save: Save, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(FILM, uid.DeflatedExplicitVRLittleEndian)
    content = path.read_bytes()
    start = 144 + struct.unpack_from("<I", content, 140)[0]
    bomb = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    zeros = bytes(1 << 20)
    body = b"".join([*(bomb.compress(zeros) for _ in range(9)), bomb.flush()])
    monkeypatch.setattr("vigil.dicom._MOST_INFLATED_BYTES", 8 << 20)
    path.write_bytes(content[:start] + body)
    assert path.stat().st_size < 20_000
    with pytest.raises(ImageRefused) as refused:
        read_dicom(path)
    assert refused.value.code is RefusalCode.TOO_LARGE


def test_a_deflated_file_cut_short_is_unreadable(save: Save) -> None:
    path = save(FILM, uid.DeflatedExplicitVRLittleEndian)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(ImageRefused) as refused:
        read_dicom(path)
    assert refused.value.code is RefusalCode.FILE_UNREADABLE


@pytest.mark.parametrize("least", [None, LEAST], ids=["whole", "reduced"])
def test_uncompressed_pixels_cut_short_are_corrupt(least: LeastSide | None, save: Save) -> None:
    path = save(FILM)
    path.write_bytes(path.read_bytes()[:-3000])
    with pytest.raises(ImageRefused) as refused:
        read_dicom(path, least)
    assert refused.value.code in {RefusalCode.PIXELS_CORRUPT, RefusalCode.FILE_UNREADABLE}


@pytest.mark.parametrize("least", [None, LEAST], ids=["whole", "reduced"])
def test_pixels_that_are_too_few_are_not_made_up_from_the_element_behind_them(
    least: LeastSide | None, save: Save
) -> None:
    path = save(FILM, BitsStored=16, HighBit=15)
    dataset = dcmread(path)
    dataset.PixelData = dataset.PixelData[: FILM.nbytes // 2]
    dataset.add_new(0xFFFCFFFC, "OB", bytes(FILM.nbytes))
    dataset.save_as(path)
    with pytest.raises(ImageRefused) as refused:
        read_dicom(path, least)
    assert refused.value.code is RefusalCode.PIXELS_CORRUPT


def test_a_codestream_of_seven_bits_is_as_dark_reduced_as_it_is_whole(save: Save) -> None:
    dark = (FILM >> 5).astype(np.uint8)
    frame = imagecodecs.jpeg2k_encode(dark, codecformat="j2k", reversible=True, bitspersample=7)
    depth = {"BitsStored": 8, "HighBit": 7, "WindowCenter": 128, "WindowWidth": 256}
    path = save(dark, uid.JPEG2000Lossless, frame=frame, **depth)
    means = [read_dicom(path, least).pixels.mean() for least in (LEAST, None)]
    assert means[0] == pytest.approx(means[1], rel=0.03)


@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian])
@pytest.mark.parametrize("bits", [8, 12, 16])
def test_uncompressed_pixels_read_from_their_place_are_those_that_pydicom_decodes(
    bits: int, syntax: str, save: Save, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = (FILM >> 4).astype(np.uint8) if bits == 8 else FILM
    path = save(stored, syntax, BitsStored=bits, HighBit=bits - 1)
    monkeypatch.setattr("vigil.pixels._decode", None)
    dataset = open_dicom(path)
    read = read_stored_values(dataset, describe(dataset), path)
    assert read.sampling is None
    np.testing.assert_array_equal(read.values, dcmread(path).pixel_array)


def test_bits_above_the_stored_ones_are_cleared_where_pixels_are_read_from_their_place(
    save: Save,
) -> None:
    path = save(FILM | 0x8000)
    dataset = open_dicom(path)
    read = read_stored_values(dataset, describe(dataset), path)
    np.testing.assert_array_equal(read.values, FILM)


@pytest.mark.parametrize("least", [None, LEAST], ids=["whole", "reduced"])
def test_more_bits_stored_than_there_is_room_for_are_corrupt(
    save: Save, least: LeastSide | None
) -> None:
    """Half of the bytes would be taken for a picture of their own."""
    path = save(FILM, BitsAllocated=8)
    with pytest.raises(ImageRefused) as refused:
        read_dicom(path, least)
    assert refused.value.code is RefusalCode.PIXELS_CORRUPT


def test_a_small_picture_is_read_whole(save: Save) -> None:
    assert read_dicom(save(FILM[:150, :140].copy()), LEAST).sampling is None


def test_blocks_are_averaged_and_left_over_rows_and_columns_are_kept() -> None:
    values = np.arange(6 * 10, dtype=np.uint16).reshape(6, 10) * 16
    small = average_blocks(values, 4)
    assert small.shape == (2, 3)
    assert small[0, 0] == values[:4, :4].mean()
    assert small[1, 2] > small[0, 1]


@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.JPEG2000Lossless])
def test_a_picture_is_read_again_larger_as_it_was_turned(syntax: str, save: Save) -> None:
    path = save(FILM, syntax)
    turned = read_dicom(path, LEAST).corrected(1, invert=True, note="turned")
    assert turned.shape == (551, 667)
    larger = read_again(path, turned, LeastSide(300, 300))
    assert max(larger.pixels.shape) == 334
    whole = read_again(path, turned)
    expected = 65535 - np.rot90(read_dicom(path).pixels, -1)
    np.testing.assert_array_equal(whole.pixels, expected)
    assert whole.shape == (551, 667)
    for radiograph in (turned, larger):
        small = cv2.resize(whole.pixels, (67, 55), interpolation=cv2.INTER_AREA).astype(float)
        same = cv2.resize(radiograph.pixels, (67, 55), interpolation=cv2.INTER_AREA)
        assert np.abs(same - small).mean() < 0.008 * 65535


def test_a_picture_that_is_large_enough_is_not_read_again(save: Save) -> None:
    path = save(FILM)
    reduced = read_dicom(path, LEAST)
    path.unlink()
    assert read_again(path, reduced, LEAST) is reduced
