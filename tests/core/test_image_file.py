from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vigil.errors import ImageRefused, RefusalCode
from vigil.image_file import image_format, read_image

RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16).repeat(10, 0).repeat(10, 1)


def _save(tmp_path: Path, array: np.ndarray, name: str, **options: object) -> Path:
    path = tmp_path / name
    Image.fromarray(array).save(path, **options)
    return path


def test_eight_bits_fill_the_range(tmp_path: Path) -> None:
    radiograph = read_image(_save(tmp_path, RAMP, "a.png"), "PNG")
    np.testing.assert_array_equal(radiograph.pixels, RAMP.astype(np.uint16) * 257)
    assert radiograph.description.rows == 160
    assert radiograph.description.file_format == "PNG"


def test_sixteen_bits_are_kept(tmp_path: Path) -> None:
    wide = RAMP.astype(np.uint16) * 200 + 7
    np.testing.assert_array_equal(read_image(_save(tmp_path, wide, "a.png"), "PNG").pixels, wide)


def test_a_grey_jpeg_in_colour_channels_is_grey(tmp_path: Path) -> None:
    path = _save(tmp_path, np.repeat(RAMP[..., np.newaxis], 3, 2), "a.jpg", quality=90)
    pixels = read_image(path, "JPEG").pixels
    assert np.abs(pixels / 257 - RAMP).max() < 12


def test_a_colour_photograph_is_refused(tmp_path: Path) -> None:
    photo = np.stack([RAMP, RAMP[::-1], RAMP[:, ::-1]], axis=-1)
    path = _save(tmp_path, photo, "a.jpg")
    with pytest.raises(ImageRefused) as refused:
        read_image(path, "JPEG")
    assert refused.value.code is RefusalCode.COLOUR


def test_a_file_cut_short_is_corrupt(tmp_path: Path) -> None:
    path = _save(tmp_path, RAMP, "a.png")
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(ImageRefused) as refused:
        read_image(path, "PNG")
    assert refused.value.code is RefusalCode.PIXELS_CORRUPT


def test_an_animation_is_refused(tmp_path: Path) -> None:
    frames = [Image.fromarray(RAMP), Image.fromarray(255 - RAMP)]
    path = tmp_path / "a.png"
    frames[0].save(path, save_all=True, append_images=frames[1:])
    with pytest.raises(ImageRefused) as refused:
        read_image(path, "PNG")
    assert refused.value.code is RefusalCode.MULTI_FRAME


def test_the_format_is_read_from_the_content_not_the_name(tmp_path: Path) -> None:
    path = _save(tmp_path, RAMP, "a.png").rename(tmp_path / "IM000001")
    assert image_format(path) == "PNG"
    (tmp_path / "b.png").write_text("no picture")
    assert image_format(tmp_path / "b.png") is None
