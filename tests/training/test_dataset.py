from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from vigil.errors import ConfigurationError, ManifestError
from vigil.preprocess import PreprocessingSpec, to_model_input
from vigil_training.config import load_config
from vigil_training.dataset import (
    PictureCache,
    epoch_order,
    pictures_per_source,
    read_pixels,
    validation_subset,
)
from vigil_training.targets import Example

CONFIGS = Path(__file__).parents[2] / "training" / "configs"
NOTHING = np.zeros(1, np.float32)


def _example(path: Path, source: str = "nih") -> Example:
    return Example(path, source, "p", True, NOTHING, NOTHING)


def test_an_epoch_holds_each_source_by_its_share_however_many_films_it_has() -> None:
    config = load_config(CONFIGS / "lite0-256.toml")
    counts = pictures_per_source(config)
    assert sum(counts.values()) == pytest.approx(config.optimisation.pictures_per_epoch, abs=3)
    sources = ["kermany"] * 3300 + ["nih"] * 1100 + ["shenzhen"] * 400 + ["montgomery"] * 74
    sources += ["wingspan"] * 160 + ["gate"] * 1200
    order = epoch_order(sources, counts, seed=1, epoch=0)
    assert Counter(sources[i] for i in order) == counts
    assert counts["kermany"] < 0.2 * sum(counts.values())


def test_no_film_is_seen_twice_before_all_of_its_source_were_seen() -> None:
    sources, counts = ["a"] * 10 + ["b"] * 3, {"a": 4, "b": 6}
    seen = np.concatenate([epoch_order(sources, counts, 0, epoch) for epoch in range(5)])
    times = Counter(seen.tolist())
    assert {times[i] for i in range(10)} == {2}
    assert {times[i] for i in range(10, 13)} == {10}
    first = epoch_order(sources, counts, 0, 0)
    assert {Counter(first.tolist())[i] for i in range(10, 13)} == {2}


def test_an_epoch_depends_on_seed_and_number_alone() -> None:
    sources, counts = ["a"] * 50, {"a": 50}
    first = epoch_order(sources, counts, 1, 0)
    np.testing.assert_array_equal(first, epoch_order(sources, counts, 1, 0))
    assert not np.array_equal(first, epoch_order(sources, counts, 1, 1))
    assert not np.array_equal(first, epoch_order(sources, counts, 2, 0))


def test_a_source_without_training_pictures_is_named() -> None:
    with pytest.raises(ConfigurationError, match="the source b has no picture"):
        epoch_order(["a"], {"a": 1, "b": 1}, 0, 0)


def test_the_cache_holds_what_the_service_would_make_of_the_file(tmp_path: Path) -> None:
    grey = np.random.default_rng(0).integers(0, 255, (150, 90)).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "film.png"), grey)
    cache = PictureCache([_example(tmp_path / "film.png")], 64)
    expected = to_model_input(grey.astype(np.uint16) * 257, PreprocessingSpec(size=64))[0, 0]
    assert cache.pictures.dtype == np.float16
    np.testing.assert_allclose(cache.pictures[0].astype(np.float32), expected, atol=2e-3)


def test_a_file_that_is_no_picture_is_named(tmp_path: Path) -> None:
    path = tmp_path / "notes.jpg"
    path.write_text("not a picture")
    with pytest.raises(ManifestError, match=r"notes\.jpg: is neither a PNG nor a JPEG"):
        read_pixels(path)
    path.write_bytes(b"\xff\xd8\xff\xe0broken")
    with pytest.raises(ManifestError, match=r"notes\.jpg: .*damaged"):
        read_pixels(path)


def test_the_pictures_scored_after_an_epoch_are_limited_by_source(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "film.png"), np.eye(40, dtype=np.uint8) * 255)
    film = tmp_path / "film.png"
    cache = PictureCache([_example(film, "a")] * 9 + [_example(film, "b")] * 2, 32)
    assert validation_subset(cache, 0).size == 11
    assert validation_subset(cache, 3).tolist() == [0, 4, 8, 9, 10]
