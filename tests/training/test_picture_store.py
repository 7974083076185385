import pickle
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from vigil.errors import StorageError
from vigil_training import picture_store
from vigil_training.dataset import PictureCache
from vigil_training.targets import Example

NOTHING = np.zeros(1, np.float32)


@pytest.fixture
def films(tmp_path: Path) -> list[Example]:
    """Six films of six shapes, the third with an outline of the lungs."""
    random = np.random.default_rng(0)
    found = []
    for number in range(6):
        path = tmp_path / f"{number}.png"
        cv2.imwrite(str(path), random.integers(0, 255, (60 + 9 * number, 70)).astype(np.uint8))
        found.append(Example(path, "nih", f"p{number}", True, NOTHING, NOTHING))
    lungs = np.zeros((78, 70), np.bool_)
    lungs[20:50, 10:60] = True
    found[2] = replace(found[2], outlines=(lungs, None))
    return found


def _same(one: PictureCache, other: PictureCache) -> None:
    np.testing.assert_array_equal(one.pictures[:], other.pictures[:])
    assert one.boxes == other.boxes
    assert sorted(one.outlines) == sorted(other.outlines)
    for index in one.outlines:
        np.testing.assert_array_equal(one.outlines[index], other.outlines[index])


def _count_reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    from vigil_training import dataset

    read, reads = dataset.read_pixels, []

    def count(path: Path) -> np.ndarray:
        reads.append(path)
        return read(path)

    monkeypatch.setattr(dataset, "read_pixels", count)
    return reads


def test_pictures_from_the_disk_are_those_from_memory(films: list[Example], tmp_path: Path) -> None:
    memory, disk = PictureCache(films, 32), PictureCache(films, 32, folder=tmp_path / "cache")
    _same(disk, memory)
    assert sorted(disk.outlines) == [2]
    assert len(disk.pictures) == 6
    np.testing.assert_array_equal(disk.pictures[[4, 1]], memory.pictures[[4, 1]])
    _same(pickle.loads(pickle.dumps(disk)), memory)
    assert len(pickle.dumps(disk.pictures)) < 1500  # a worker is sent the name, not the pictures


def test_a_second_run_reads_no_picture_and_a_moved_file_is_known_by_its_content(
    films: list[Example], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "cache"
    first = PictureCache(films, 32, folder=folder)
    reads = _count_reads(monkeypatch)
    _same(PictureCache(films, 32, folder=folder), first)
    moved = tmp_path / "moved.png"
    assert films[0].path is not None
    shutil.copy(films[0].path, moved)
    _same(PictureCache([replace(films[0], path=moved), *films[1:]], 32, folder=folder), first)
    assert reads == []


def test_an_edited_file_and_another_size_are_read_anew(
    films: list[Example], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "cache"
    PictureCache(films, 32, folder=folder)
    reads = _count_reads(monkeypatch)
    path = films[5].path
    assert path is not None
    cv2.imwrite(str(path), np.eye(50, dtype=np.uint8) * 200)
    edited = PictureCache(films, 32, folder=folder)
    assert reads == [path]
    _same(edited, PictureCache(films, 32))
    _same(PictureCache(films, 64, folder=folder), PictureCache(films, 64))


def test_what_a_killed_process_left_behind_is_overwritten(
    films: list[Example], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "cache"
    monkeypatch.setattr(picture_store, "_PART", 2)
    done = []

    def pull(count: int) -> None:
        done.append(count)
        if len(done) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        PictureCache(films, 32, pull, folder)
    pictures = next(folder.glob("*/pictures.f16"))
    assert pictures.stat().st_size == 4 * 32 * 32 * 2
    with pictures.open("ab") as file:
        file.write(b"half a picture")
    _same(PictureCache(films, 32, folder=folder), PictureCache(films, 32))


def test_two_processes_fill_one_folder_at_once(films: list[Example], tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; import numpy as np;"
        "from vigil_training import picture_store; picture_store._PART = 1;"
        "from vigil_training.dataset import PictureCache;"
        "from vigil_training.targets import Example; nothing = np.zeros(1, np.float32);"
        "films = [Example(Path(p), 'nih', 'p', True, nothing, nothing) for p in sys.argv[2:]];"
        "cache = PictureCache(films, 32, folder=Path(sys.argv[1]));"
        "print(cache.pictures[:].astype(float).sum())"
    )
    folder = tmp_path / "cache"
    paths = [str(film.path) for film in films]
    running = [
        subprocess.Popen([sys.executable, "-c", code, str(folder), *order], stdout=subprocess.PIPE)
        for order in (paths, paths[::-1])
    ]
    said = [process.communicate(timeout=120)[0].decode() for process in running]
    assert [process.returncode for process in running] == [0, 0]
    expected = PictureCache(films, 32).pictures[:].astype(float).sum()
    assert [float(line) for line in said] == pytest.approx([expected, expected])
    assert next(folder.glob("*/pictures.f16")).stat().st_size == 6 * 32 * 32 * 2


def test_a_full_disk_and_a_cut_file_are_one_sentence(films: list[Example], tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    PictureCache(films[:1], 64, folder=folder)
    small = PictureCache(films, 32, folder=folder)
    pictures = next(folder.glob("*-32/pictures.f16"))
    assert len(small) == 6
    pictures.write_bytes(pictures.read_bytes()[:-100])
    with pytest.raises(StorageError, match=r"was cut off; remove its folder"):
        PictureCache(films, 32, folder=folder)
    large = next(folder.glob("*-64/pictures.f16"))
    large.unlink()
    large.symlink_to("/dev/full")
    with pytest.raises(StorageError, match=r"No space left on device.*6 pictures take 0 MB"):
        PictureCache(films, 64, folder=folder)
