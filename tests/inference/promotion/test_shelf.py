"""Bundles on disk: whole or not at all, read-only, and never another than the record says."""

import errno
import os
import shutil
import stat
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

import pytest

from tests.inference.promotion.bundles import Bundles
from vigil.bundle import load_bundle
from vigil.errors import BundleError, StorageError
from vigil_inference.promotion import shelf as shelf_module
from vigil_inference.promotion.record import Entry
from vigil_inference.promotion.shelf import Shelf
from vigil_inference.promotion.stages import Stage
from vigil_inference.settings import Settings


def entry_of(folder: Path) -> Entry:
    bundle = load_bundle(folder)
    return Entry(
        bundle.digest, bundle.id, Stage.SHADOW, datetime.now(UTC), source=str(folder.absolute())
    )


@pytest.fixture
def shelf(settings: Settings) -> Shelf:
    return Shelf(settings)


def test_a_copy_is_read_only_named_by_its_digest_and_outlives_its_source(
    shelf: Shelf, bundles: Bundles
) -> None:
    entry = entry_of(bundles.first)
    place = shelf.keep(load_bundle(bundles.first))
    assert place.name == entry.digest
    assert {path.name for path in place.iterdir()} == {
        "bundle.json", "model.onnx", "reference_outputs.json",
    }  # fmt: skip
    assert {stat.S_IMODE(path.stat().st_mode) for path in place.iterdir()} == {0o444}
    assert stat.S_IMODE(place.stat().st_mode) == 0o555
    shutil.rmtree(bundles.first)
    verified = shelf.load(entry)
    assert verified.triager.bundle.digest == entry.digest
    assert verified.difference is not None
    assert verified.difference < 1e-5


def test_a_second_copy_of_the_same_bundle_changes_nothing(shelf: Shelf, bundles: Bundles) -> None:
    place = shelf.keep(load_bundle(bundles.first))
    before = place.stat().st_mtime_ns
    assert shelf.keep(load_bundle(bundles.first)) == place
    assert place.stat().st_mtime_ns == before
    assert [path.name for path in shelf.folder.iterdir()] == [place.name]


def test_a_full_disk_leaves_nothing_of_a_copy(
    shelf: Shelf, bundles: Bundles, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_half(source: IO[bytes], target: IO[bytes]) -> None:
        target.write(source.read(1000))
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shelf_module.shutil, "copyfileobj", write_half)
    with pytest.raises(StorageError, match="the bundle was not copied \\(ENOSPC\\)"):
        shelf.keep(load_bundle(bundles.first))
    assert list(shelf.folder.iterdir()) == []


def test_a_copy_never_takes_the_room_that_is_kept_for_pictures(
    settings: Settings, bundles: Bundles
) -> None:
    reserve = shutil.disk_usage(settings.data_dir.parent).free - 1000
    shelf = Shelf(settings.model_copy(update={"storage_reserve_bytes": reserve}))
    with pytest.raises(StorageError, match="kept for pictures \\(storage_reserve_bytes\\)"):
        shelf.keep(load_bundle(bundles.first))
    assert list(shelf.folder.iterdir()) == []


def _cut(folder: Path) -> None:
    (folder / "model.onnx").chmod(0o644)
    (folder / "model.onnx").write_bytes((folder / "model.onnx").read_bytes()[:-1])


@pytest.mark.parametrize(
    ("harm", "said"),
    [(_cut, "the network was altered"), (shutil.rmtree, "no bundle can be read there")],
)
def test_a_damaged_or_missing_copy_is_refused_and_says_so(
    shelf: Shelf, bundles: Bundles, harm: Callable[[Path], None], said: str
) -> None:
    entry = entry_of(bundles.first)
    place = shelf.keep(load_bundle(bundles.first))
    shutil.rmtree(bundles.first)
    harm(place)
    with pytest.raises(BundleError, match=said):
        shelf.load(entry)


def test_a_source_that_holds_another_bundle_since_is_refused(
    shelf: Shelf, bundles: Bundles
) -> None:
    entry = entry_of(bundles.first)
    shutil.rmtree(bundles.first)
    shutil.copytree(bundles.second, bundles.first)
    with pytest.raises(BundleError, match=f"expected bundle {entry.digest[:12]}"):
        shelf.load(entry)
