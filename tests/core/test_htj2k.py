import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from pydicom import Dataset, dcmread, uid
from pydicom.encaps import encapsulate, generate_frames

from vigil.codestream import has_end
from vigil.dicom import read_dicom
from vigil.errors import ImageRefused, RefusalCode
from vigil.htj2k import PictureIncomplete, decode_htj2k
from vigil.phantom import make_phantom

PIXELS = make_phantom(1, "normal", (320, 288)).pixels
ENCODERS: dict[str, Callable[[], Any]] = {
    uid.JPEGBaseline8Bit: lambda: imagecodecs.jpeg_encode((PIXELS >> 4).astype(np.uint8)),
    uid.JPEGLosslessSV1: lambda: imagecodecs.jpeg_encode(PIXELS, lossless=True, bitspersample=12),
    uid.JPEGLSLossless: lambda: imagecodecs.jpegls_encode(PIXELS),
    uid.JPEG2000Lossless: lambda: imagecodecs.jpeg2k_encode(PIXELS, level=0, codecformat="j2k"),
    uid.HTJ2KLossless: lambda: imagecodecs.htj2k_encode(PIXELS),
}


def with_codestream(path: Path, syntax: str, codestream: bytes) -> Path:
    dataset: Dataset = dcmread(path)
    dataset.file_meta.TransferSyntaxUID = syntax
    if syntax == uid.JPEGBaseline8Bit:
        dataset.BitsAllocated = dataset.BitsStored = 8
        dataset.HighBit = 7
    dataset.PixelData = encapsulate([codestream])
    dataset["PixelData"].is_undefined_length = True
    dataset["PixelData"].VR = "OB"
    dataset.save_as(path)
    return path


@pytest.mark.parametrize("syntax", ENCODERS, ids=lambda syntax: uid.UID(syntax).name)
@pytest.mark.parametrize("share", [0.99, 0.9, 0.5])
def test_half_a_picture_is_refused_in_every_compression(
    phantom_file: Callable[..., Path], syntax: str, share: float
) -> None:
    whole = bytes(ENCODERS[syntax]())
    path = phantom_file(1, size=(320, 288))
    read_dicom(with_codestream(path, syntax, whole))
    with pytest.raises(ImageRefused) as caught:
        read_dicom(with_codestream(path, syntax, whole[: int(share * len(whole))]))
    assert caught.value.code is RefusalCode.PIXELS_CORRUPT


def test_padding_behind_the_end_is_no_harm() -> None:
    assert has_end(uid.JPEGBaseline8Bit, b"\xff\xd8 \xff\xd9" + bytes(1000))
    assert not has_end(uid.JPEGBaseline8Bit, b"\xff\xd8 \xff\xd9" + bytes(1100))
    assert has_end(uid.RLELossless, b"")


def test_an_error_in_the_middle_of_a_picture_is_not_lost() -> None:
    whole = bytes(ENCODERS[uid.HTJ2KLossless]())
    assert np.array_equal(decode_htj2k(whole), PIXELS)
    chance = random.Random(1)
    noticed = 0
    for _ in range(40):
        damaged = bytearray(whole)
        for _ in range(4):
            damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
        try:
            decode_htj2k(bytes(damaged))
        except PictureIncomplete:
            noticed += 1
        except imagecodecs.Htj2kError:
            continue
    assert noticed > 5
    assert np.array_equal(decode_htj2k(whole), PIXELS)


def test_what_others_lose_is_still_told_to_whoever_listened(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    heard: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", heard.append)
    decode_htj2k(bytes(ENCODERS[uid.HTJ2KLossless]()))

    class Loses:
        def __del__(self) -> None:
            raise RuntimeError("lost")

    Loses()
    assert [str(unraisable.exc_value) for unraisable in heard] == ["lost"]


@pytest.mark.data
def test_the_real_compressed_files_have_their_end(dicom_samples: Path) -> None:
    looked = 0
    for path in sorted(dicom_samples.glob("*.dcm")):
        dataset = dcmread(path, force=True)
        syntax = dataset.file_meta.get("TransferSyntaxUID", uid.ImplicitVRLittleEndian)
        if syntax.is_encapsulated and dataset.get("NumberOfFrames", 1) == 1:
            frame = next(generate_frames(dataset.PixelData, number_of_frames=1))
            assert has_end(syntax, frame), path.name
            looked += 1
    assert looked >= 12
