import os
import shutil
import time
from pathlib import Path
from typing import Any, NoReturn

import pytest
from pydicom import dcmread
from pydicom.uid import RLELossless
from sqlalchemy import select
from structlog.testing import capture_logs

from tests.inference.conftest import FakeModel, MakeFile, Until, cut_inside_a_sequence, make_dataset
from vigil.errors import StorageError
from vigil_inference.service import Service
from vigil_inference.settings import Settings
from vigil_inference.tables import Instance
from vigil_inference.watched_folder import WatchedFolder, is_cut_short


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "inbox"
    folder.mkdir()
    return folder


@pytest.fixture
def watched(folder: Path, service: Service) -> WatchedFolder:
    return WatchedFolder(folder, service.intake, settle_seconds=0.0)


def put(path: Path, folder: Path, name: str = "") -> Path:
    return Path(shutil.copyfile(path, folder / (name or path.name)))


def held(service: Service) -> list[str]:
    with service.store.reading() as session:
        return list(session.scalars(select(Instance.sop_instance_uid)))


def refused(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "refused").iterdir())


def test_a_file_is_taken_recorded_and_removed(
    watched: WatchedFolder, folder: Path, service: Service, make_file: MakeFile
) -> None:
    (folder / "ward 3").mkdir()
    path = put(make_file(), folder / "ward 3")
    uid = dcmread(path).SOPInstanceUID
    assert watched.look() == 1
    assert held(service) == [uid]
    assert not path.exists()
    with service.store.reading() as session:
        row = session.scalars(select(Instance)).one()
    assert row.door == "FOLDER"
    assert (service.settings.data_dir / row.file_path).stat().st_nlink == 1


def test_a_file_that_still_grows_is_left_alone(
    folder: Path, service: Service, make_file: MakeFile
) -> None:
    watched = WatchedFolder(folder, service.intake, settle_seconds=0.3)
    content = make_file().read_bytes()
    path = folder / "growing.dcm"
    for end in (300, 600, len(content)):
        path.write_bytes(content[:end])
        assert watched.look() == 0
        time.sleep(0.15)
    time.sleep(0.35)
    assert watched.look() == 1
    assert len(held(service)) == 1


@pytest.mark.parametrize("compressed", [False, True])
def test_a_file_that_was_cut_short_waits_and_is_then_refused(
    folder: Path,
    service: Service,
    tmp_path: Path,
    compressed: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dataset = make_dataset()
    if compressed:
        dataset.compress(RLELossless)
    whole = tmp_path / "whole.dcm"
    dataset.save_as(whole, enforce_file_format=True)
    assert not is_cut_short(whole)
    path = folder / "short.dcm"
    path.write_bytes(whole.read_bytes()[:-40])
    assert is_cut_short(path)
    watched = WatchedFolder(folder, service.intake, settle_seconds=0.05)
    watched.look()
    time.sleep(0.1)
    monkeypatch.setattr("vigil_inference.watched_folder._CUT_SHORT_PATIENCE", 10_000)
    assert watched.look() == 0
    assert path.exists()
    monkeypatch.setattr("vigil_inference.watched_folder._CUT_SHORT_PATIENCE", 2)
    assert watched.look() == 0
    assert refused(folder) == ["short.dcm", "short.dcm.txt"]
    assert held(service) == []


def test_what_cannot_be_read_goes_beside_a_note_that_says_why(
    watched: WatchedFolder, folder: Path, service: Service
) -> None:
    for _ in range(2):
        (folder / "letter.doc").write_bytes(b"no DICOM")
        assert watched.look() == 0
    names = ["1-letter.doc", "1-letter.doc.txt", "letter.doc", "letter.doc.txt"]
    assert refused(folder) == names
    assert "OBJECT_UNREADABLE" in (folder / "refused" / "letter.doc.txt").read_text()
    assert (folder / "refused" / "letter.doc").read_bytes() == b"no DICOM"
    assert watched.look() == 0
    assert refused(folder) == names


def test_other_bytes_under_a_known_uid_are_not_deleted(
    watched: WatchedFolder, folder: Path, service: Service, make_file: MakeFile
) -> None:
    path = make_file()
    put(path, folder)
    watched.look()
    dataset = dcmread(path)
    dataset.PatientID = "P2"
    dataset.save_as(folder / "other.dcm")
    assert watched.look() == 0
    assert refused(folder) == ["other.dcm", "other.dcm.txt"]


def test_a_file_that_was_taken_before_a_crash_is_only_removed(
    watched: WatchedFolder, folder: Path, service: Service, make_file: MakeFile
) -> None:
    path = make_file()
    for _ in range(2):
        put(path, folder)
        assert watched.look() == 1
    assert len(held(service)) == 1
    assert list(folder.iterdir()) == []


def test_a_full_disk_leaves_all_files_for_the_next_look(
    watched: WatchedFolder,
    folder: Path,
    service: Service,
    make_file: MakeFile,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full() -> NoReturn:
        raise StorageError("the disk is full")

    for _ in range(2):
        put(make_file(), folder)
    monkeypatch.setattr(service.intake, "check_space", full)
    assert watched.look() == 0
    assert len(list(folder.iterdir())) == 2
    monkeypatch.undo()
    assert watched.look() == 2


def test_a_file_that_cannot_be_removed_is_taken_once(
    watched: WatchedFolder,
    folder: Path,
    service: Service,
    make_file: MakeFile,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = put(make_file(), folder)
    unlink = Path.unlink

    def read_only(self: Path, missing_ok: bool = False) -> None:
        if self == path:
            raise PermissionError(1, "read only")
        unlink(self, missing_ok)

    monkeypatch.setattr(Path, "unlink", read_only)
    assert [watched.look(), watched.look()] == [1, 0]
    assert path.exists()


def test_hidden_files_links_and_unfinished_names_are_left_alone(
    watched: WatchedFolder, folder: Path, make_file: MakeFile
) -> None:
    path = make_file()
    put(path, folder, ".hidden.dcm")
    put(path, folder, "upload.part")
    (folder / "link.dcm").symlink_to(path)
    assert watched.look() == 0
    assert len(list(folder.iterdir())) == 3


def test_a_running_service_watches_its_folder(
    settings: Settings, model: FakeModel, folder: Path, make_file: MakeFile, until: Until
) -> None:
    changes = {"watch_folder": folder, "watch_settle_seconds": 0.1, "watch_poll_seconds": 0.1}
    service = Service(settings.model_copy(update=changes), model)
    service.start()
    try:
        put(make_file("0.95"), folder)
        until(lambda: model.seen == held(service) != [])
        until(lambda: list(folder.iterdir()) == [])
    finally:
        service.stop()


def test_a_file_cut_inside_a_sequence_is_refused_and_not_tried_for_ever(
    watched: WatchedFolder, folder: Path, tmp_path: Path
) -> None:
    cut_inside_a_sequence(tmp_path).rename(folder / "cut.dcm")
    watched.look()
    assert refused(folder) == ["cut.dcm", "cut.dcm.txt"]


def test_a_file_whose_name_is_no_utf8_is_refused_and_does_not_hold_up_the_others(
    watched: WatchedFolder, folder: Path, service: Service, make_file: MakeFile
) -> None:
    odd = Path(os.fsdecode(os.fsencode(folder) + b"/M\xfcller.txt"))  # Latin-1, of an old share
    odd.write_bytes(b"no DICOM object")
    path = put(make_file(), folder, "z.dcm")
    uid = dcmread(path).SOPInstanceUID
    assert watched.look() == 1
    assert held(service) == [uid]
    assert not odd.exists()
    note = folder / "refused" / f"{odd.name}.txt"
    assert r"M\udcfcller.txt" in note.read_text(encoding="utf-8")


def test_a_note_replaces_no_file_that_was_refused_before(
    watched: WatchedFolder, folder: Path
) -> None:
    (folder / "scan.txt").write_bytes(b"a report that somebody wrote")
    watched.look()
    (folder / "scan").write_bytes(b"no DICOM object either")
    watched.look()
    kept = [path.read_bytes() for path in (folder / "refused").iterdir()]
    assert b"a report that somebody wrote" in kept
    assert b"no DICOM object either" in kept


def test_a_file_with_the_longest_name_is_refused_too(watched: WatchedFolder, folder: Path) -> None:
    path = folder / ("x" * 255)
    path.write_bytes(b"no DICOM object")
    watched.look()
    assert not path.exists()
    assert len(refused(folder)) == 2


def test_a_subfolder_that_cannot_be_listed_is_said_once_and_keeps_no_other_waiting(
    watched: WatchedFolder, folder: Path, make_file: MakeFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = folder / "closed"
    closed.mkdir()
    inside = put(make_file(), closed)
    put(make_file(), folder, "b.dcm")
    list_folder = os.scandir

    def refuse(path: str) -> Any:
        if Path(path) == closed:
            raise PermissionError(13, "no", str(path))
        return list_folder(path)

    with monkeypatch.context() as patch, capture_logs() as logs:
        patch.setattr(os, "scandir", refuse)
        assert watched.look() == 1
        watched.look()
    said = [entry for entry in logs if entry["event"] == "folder_part_not_read"]
    assert [entry["error"] for entry in said] == ["EACCES"]
    assert inside.exists()
    assert watched.look() == 1  # it can be listed again


def test_a_file_whose_disk_cannot_read_it_keeps_no_other_waiting(
    watched: WatchedFolder,
    folder: Path,
    service: Service,
    make_file: MakeFile,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bad, good = put(make_file(), folder, "a.dcm"), put(make_file(), folder, "b.dcm")
    uid = dcmread(good).SOPInstanceUID
    accept = service.intake.accept

    def read_error(file, source):  # as a share whose disk fails, in the middle of a file
        if file.name == str(bad):
            raise StorageError("the object could not be written (EIO)")
        return accept(file, source)

    monkeypatch.setattr(service.intake, "accept", read_error)
    assert watched.look() == 1
    assert held(service) == [uid]
    assert bad.exists()
    monkeypatch.setattr(service.intake, "check", lambda: "the disk is full")
    third = put(make_file(), folder, "c.dcm")
    assert watched.look() == 0
    assert third.exists()
