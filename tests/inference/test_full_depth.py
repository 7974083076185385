import threading
import zlib
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from vigil.dicom import describe, open_dicom
from vigil.errors import ImageRefused
from vigil.pixels import read_stored_values
from vigil_inference import full_depth
from vigil_inference.full_depth import FullDepthPictures, TooManyPictures, deflate


def inflate(content: bytes, rows: int, columns: int) -> NDArray[np.uint16]:
    """Undo :func:`deflate` value by value, as the page's script does."""
    planes = np.frombuffer(zlib.decompress(content, 31), np.uint8).reshape(2, rows, columns)
    folded = (planes[0].astype(np.int64) << 8) | planes[1]
    residuals = (folded >> 1) ^ -(folded & 1)
    codes = np.zeros((rows, columns), np.uint16)
    for row in range(rows):
        above = codes[row - 1].tolist() if row else []
        left = corner = above[0] if row else 0
        line = []
        for column, residual in enumerate(residuals[row].tolist()):
            up = above[column] if row else left
            low, high = min(left, up), max(left, up)
            predicted = low if corner >= high else high if corner <= low else left + up - corner
            left = (predicted + residual) & 0xFFFF
            corner = up
            line.append(left)
        codes[row] = line
    return codes


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (300, 7), (513, 20)])
@pytest.mark.parametrize("kind", ["noise", "black", "black and white"])
def test_what_was_coded_comes_back(shape: tuple[int, int], kind: str) -> None:
    random = np.random.default_rng(7)
    codes = random.integers(0, 65536, shape).astype(np.uint16)
    if kind != "noise":
        codes = ((codes & 1) * (65535 if kind == "black and white" else 0)).astype(np.uint16)
    np.testing.assert_array_equal(inflate(deflate(codes), *shape), codes)


def test_a_real_film_is_coded_in_a_third_less_than_its_png(dicom_samples: Path) -> None:
    path = dicom_samples / "RG3_JPLL.dcm"
    dataset = open_dicom(path)
    stored = read_stored_values(dataset, describe(dataset), path).values.astype(np.uint16)
    content = deflate(stored)
    np.testing.assert_array_equal(inflate(content, *stored.shape), stored)
    # As 16-bit PNG at level 6 it has 1.27 MB, as JPEG-LS 0.87 MB.
    assert len(content) < 0.95e6


def test_readers_of_the_same_picture_wait_for_one_decoding(dicom_samples: Path) -> None:
    pictures = FullDepthPictures()
    path = dicom_samples / "CR-MONO1-10-chest.dcm"
    asked = [pictures.ask(path, "a", quarter_turns=0, inverted=False) for _ in range(20)]
    assert len({id(future.result(60)) for future in asked}) == 1
    again = pictures.ask(path, "a", quarter_turns=0, inverted=False)
    assert (again.result(60).rows, pictures.decoded) == (440, 1)
    pictures.close()


def test_the_oldest_picture_is_let_go_when_there_is_no_room(dicom_samples: Path) -> None:
    pictures = FullDepthPictures(cache_bytes=250_000)
    path = dicom_samples / "CR-MONO1-10-chest.dcm"
    for key in ("a", "b", "c", "b", "a"):
        pictures.ask(path, key, quarter_turns=0, inverted=False).result(60)
    assert pictures.decoded == 4  # two fit: "b" was kept, "a" was not
    pictures.close()


def test_a_file_that_cannot_be_read_is_refused_each_time_anew(tmp_path: Path) -> None:
    pictures = FullDepthPictures()
    (tmp_path / "broken.dcm").write_bytes(b"no DICOM")
    for _ in range(2):
        future = pictures.ask(tmp_path / "broken.dcm", "a", quarter_turns=0, inverted=False)
        with pytest.raises(ImageRefused):
            future.result(60)
    assert pictures.decoded == 0
    pictures.close()


def test_more_pictures_than_will_soon_be_served_are_turned_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = threading.Event()

    def hold(*_path: object, **_correction: object) -> None:
        release.wait(60)

    monkeypatch.setattr(full_depth, "code", hold)
    monkeypatch.setattr(full_depth, "_MOST_WAITING", 2)
    pictures = FullDepthPictures()
    for key in ("a", "b"):
        pictures.ask(tmp_path, key, quarter_turns=0, inverted=False)
    with pytest.raises(TooManyPictures):
        pictures.ask(tmp_path, "c", quarter_turns=0, inverted=False)
    pictures.ask(tmp_path, "a", quarter_turns=0, inverted=False)
    release.set()
    pictures.close()
