import errno
import io
import os
from pathlib import Path
from typing import Any, NoReturn

import pytest
from pydicom import dcmread
from sqlalchemy import select, update
from sqlalchemy.exc import OperationalError

from tests.inference.conftest import MakeFile, cut_inside_a_sequence
from vigil.errors import StorageError
from vigil_inference import intake as intake_module
from vigil_inference.arrivals import Outcome
from vigil_inference.headers import ObjectUnreadable, read_intake_header
from vigil_inference.intake import IdentityConflict, Intake, ObjectMismatch, Source
from vigil_inference.store import Store, Task
from vigil_inference.tables import Instance, Study

SOURCE = Source("C-STORE", calling_ae_title="PACS")


@pytest.fixture
def accepted() -> list[Task]:
    return []


@pytest.fixture
def intake(tmp_path: Path, store: Store, accepted: list[Task]) -> Intake:
    return Intake(store, tmp_path / "var", on_accepted=accepted.append)


def rows(store: Store) -> list[Instance]:
    with store.reading() as session:
        return list(session.scalars(select(Instance)))


def kept_files(tmp_path: Path) -> list[Path]:
    return [p for p in (tmp_path / "var" / "instances").rglob("*") if p.is_file()]


def spooled(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "var" / "spool").iterdir())


def test_an_object_is_kept_byte_by_byte_and_recorded(
    intake: Intake, store: Store, accepted: list[Task], make_file: MakeFile, tmp_path: Path
) -> None:
    path = make_file()
    receipt = intake.accept(path, SOURCE)
    [row] = rows(store)
    assert receipt.outcome is Outcome.NEW
    assert (tmp_path / "var" / row.file_path).read_bytes() == path.read_bytes()
    assert row.size_bytes == path.stat().st_size
    assert (row.door, row.calling_ae_title, row.state) == ("C-STORE", "PACS", "received")
    assert [task.instance_id for task in accepted] == [row.id]
    assert spooled(tmp_path) == []
    assert path.exists()


def test_a_stream_is_taken_like_a_file(intake: Intake, store: Store, make_file: MakeFile) -> None:
    path = make_file()
    receipt = intake.accept(io.BytesIO(path.read_bytes()), SOURCE)
    assert receipt.sop_instance_uid == dcmread(path).SOPInstanceUID
    assert len(rows(store)) == 1


def test_the_order_is_rename_fsync_fsync_of_the_folder_commit_and_only_then_the_answer(
    intake: Intake,
    store: Store,
    make_file: MakeFile,
    monkeypatch: pytest.MonkeyPatch,
    accepted: list[Task],
) -> None:
    steps: list[str] = []
    real_fsync, real_rename, real_add = os.fsync, Path.rename, store.add

    def fsync(descriptor: int) -> None:
        steps.append("fsync folder" if Path(f"/proc/self/fd/{descriptor}").is_dir() else "fsync")
        real_fsync(descriptor)

    def rename(self: Path, target: Path) -> Path:
        steps.append("rename")
        return real_rename(self, target)

    def add(arrival: Any) -> Any:
        steps.append("commit")
        assert accepted == []
        return real_add(arrival)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "rename", rename)
    monkeypatch.setattr(store, "add", add)
    intake.accept(make_file(), SOURCE)
    assert steps == ["rename", "fsync", "fsync folder", "commit"]
    assert len(accepted) == 1


@pytest.mark.parametrize("step", ["link", "fsync", "rename"])
def test_a_full_disk_at_any_step_is_told_and_leaves_no_row_and_no_file(
    intake: Intake,
    store: Store,
    accepted: list[Task],
    make_file: MakeFile,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    step: str,
) -> None:
    def full(*_: object, **__: object) -> NoReturn:
        raise OSError(errno.ENOSPC, "No space left on device", "/secret/path")

    path = make_file()
    owner = Path if step == "rename" else os
    monkeypatch.setattr(owner, step, full)
    with pytest.raises(StorageError, match="ENOSPC") as caught:
        intake.accept(path, SOURCE)
    monkeypatch.undo()
    assert caught.value.dimse_status == 0xA700
    assert caught.value.http_status == 507
    assert "secret" not in str(caught.value)
    assert (rows(store), kept_files(tmp_path), spooled(tmp_path), accepted) == ([], [], [], [])
    assert intake.accept(path, SOURCE).outcome is Outcome.NEW


def test_a_commit_that_fails_is_told_and_leaves_no_row_and_no_file(
    intake: Intake,
    store: Store,
    accepted: list[Task],
    make_file: MakeFile,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    def locked(_: object) -> NoReturn:
        raise OperationalError("INSERT", {}, Exception("database is locked"))

    path = make_file()
    monkeypatch.setattr(store, "add", locked)
    with pytest.raises(StorageError):
        intake.accept(path, SOURCE)
    monkeypatch.undo()
    assert (rows(store), kept_files(tmp_path), spooled(tmp_path), accepted) == ([], [], [], [])


def test_bytes_that_come_again_after_their_removal_leave_no_file_where_the_commit_fails(
    intake: Intake,
    store: Store,
    make_file: MakeFile,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    def locked(*_: object) -> NoReturn:
        raise OperationalError("UPDATE", {}, Exception("database is locked"))

    path = make_file()
    intake.accept(path, SOURCE)
    before = kept_files(tmp_path)
    with store.writing() as session:
        session.execute(update(Instance).values(removed_at=store.now()))
    monkeypatch.setattr(store, "restore", locked)
    with pytest.raises(StorageError):
        intake.accept(path, SOURCE)
    monkeypatch.undo()
    assert (kept_files(tmp_path), spooled(tmp_path)) == (before, [])
    assert intake.accept(path, SOURCE).outcome is Outcome.REPEATED


def test_nothing_is_taken_when_the_disk_is_full_up_to_its_reserve(
    tmp_path: Path, store: Store, make_file: MakeFile
) -> None:
    intake = Intake(store, tmp_path / "var", reserve_bytes=1 << 60)
    with pytest.raises(StorageError, match="reserve"):
        intake.accept(make_file(), SOURCE)
    assert "reserve" in intake.check()
    assert rows(store) == []


def test_the_same_bytes_again_give_the_same_answer_and_no_work(
    intake: Intake, store: Store, accepted: list[Task], make_file: MakeFile, tmp_path: Path
) -> None:
    path = make_file()
    first, second = intake.accept(path, SOURCE), intake.accept(path, SOURCE)
    assert (second.outcome, second.instance_id) == (Outcome.REPEATED, first.instance_id)
    assert (len(rows(store)), len(kept_files(tmp_path)), len(accepted)) == (1, 1, 1)


def test_file_meta_information_of_another_sender_does_not_make_other_bytes(
    intake: Intake, make_file: MakeFile
) -> None:
    path = make_file()
    intake.accept(path, SOURCE)
    dataset = dcmread(path)
    dataset.file_meta.SourceApplicationEntityTitle = "ELSEWHERE"
    again = path.with_name("again.dcm")
    dataset.save_as(again)
    assert again.read_bytes() != path.read_bytes()
    assert intake.accept(again, SOURCE).outcome is Outcome.REPEATED


def test_other_bytes_under_the_same_uid_are_not_kept_and_it_is_said(
    intake: Intake, store: Store, accepted: list[Task], make_file: MakeFile, tmp_path: Path
) -> None:
    path = make_file()
    intake.accept(path, SOURCE)
    dataset = dcmread(path)
    dataset.PatientName = "Somebody^Else"
    changed = path.with_name("changed.dcm")
    dataset.save_as(changed)
    receipt = intake.accept(changed, SOURCE)
    [row] = rows(store)
    assert receipt.outcome is Outcome.DIFFERS
    assert "first are kept" in receipt.message
    assert (tmp_path / "var" / row.file_path).read_bytes() == path.read_bytes()
    assert (row.conflicts, len(kept_files(tmp_path)), len(accepted)) == (1, 1, 1)


def test_a_uid_that_another_study_holds_is_refused_and_stays_where_it_was(
    intake: Intake, store: Store, make_file: MakeFile
) -> None:
    path = make_file()
    intake.accept(path, SOURCE)
    thief = make_file(SOPInstanceUID=dcmread(path).SOPInstanceUID, PatientID="P2")
    with pytest.raises(IdentityConflict):
        intake.accept(thief, SOURCE)
    with store.reading() as session:
        [study] = session.scalars(select(Study))
    assert study.patient_id == "P1"
    assert rows(store)[0].conflicts == 1


@pytest.mark.parametrize("harm", ["lost", "cut"])
def test_an_original_that_was_lost_or_cut_on_the_disk_is_put_back_by_a_repeat(
    intake: Intake, store: Store, make_file: MakeFile, tmp_path: Path, harm: str
) -> None:
    path = make_file()
    intake.accept(path, SOURCE)
    original = tmp_path / "var" / rows(store)[0].file_path
    original.unlink()
    if harm == "cut":
        original.write_bytes(path.read_bytes()[:400])
    assert intake.accept(path, SOURCE).outcome is Outcome.REPEATED
    assert original.read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    "content",
    [b"", b"no DICOM at all", b"\0" * 128 + b"DICM", b"\0" * 128 + b"DICM" + b"\xff" * 500],
    ids=["empty", "text", "only a preamble", "noise"],
)
def test_what_is_no_dicom_object_is_refused(
    intake: Intake, store: Store, content: bytes, tmp_path: Path
) -> None:
    with pytest.raises(ObjectUnreadable) as caught:
        intake.accept(io.BytesIO(content), SOURCE)
    assert (caught.value.dimse_status, caught.value.http_status) == (0xC000, 400)
    assert (rows(store), spooled(tmp_path), kept_files(tmp_path)) == ([], [], [])


@pytest.mark.parametrize("keyword", ["SOPInstanceUID", "SOPClassUID", "StudyInstanceUID"])
def test_an_object_without_an_identity_is_refused_and_the_error_says_what_is_missing(
    intake: Intake, make_file: MakeFile, keyword: str
) -> None:
    path = make_file()
    dataset = dcmread(path)
    delattr(dataset, keyword)
    dataset.save_as(path)
    with pytest.raises(ObjectUnreadable, match=keyword):
        intake.accept(path, SOURCE)


@pytest.mark.parametrize("field", ["sop_class_uid", "sop_instance_uid", "study_instance_uid"])
def test_an_object_other_than_the_announced_one_is_refused(
    intake: Intake, store: Store, make_file: MakeFile, field: str
) -> None:
    with pytest.raises(ObjectMismatch) as caught:
        intake.accept(make_file(), Source("C-STORE", **{field: "1.2.3"}))
    assert caught.value.dimse_status == 0xA900
    assert rows(store) == []


def test_the_spool_is_swept_of_what_interrupted_senders_left(
    intake: Intake, tmp_path: Path
) -> None:
    old, new = intake.spool / "old.dcm", intake.spool / "new.dcm"
    old.write_bytes(b"half")
    new.write_bytes(b"half")
    os.utime(old, (1, 1))
    assert intake.sweep_spool() == 1
    assert spooled(tmp_path) == [new]


@pytest.mark.parametrize(
    "name", ["Nguyễn^Thị Ánh", "Đặng^Thùy Trâm=鄧^垂簪", "Yamada^Tarou=山田^太郎=やまだ^たろう"]
)
def test_a_name_in_unicode_survives_with_all_its_groups(make_file: MakeFile, name: str) -> None:
    assert read_intake_header(make_file(PatientName=name)).patient_name == name


def test_a_name_in_an_older_character_set_is_decoded(make_file: MakeFile) -> None:
    path = make_file(
        SpecificCharacterSet="ISO_IR 100", PatientName="Müller^Jörg", StudyDescription="Thorax"
    )
    assert read_intake_header(path).patient_name == "Müller^Jörg"


def test_utf8_that_was_not_declared_is_still_read_as_utf8(make_file: MakeFile) -> None:
    path = make_file(PatientName="Vũ^Đức", StudyDescription="Phổi thẳng")
    path.write_bytes(path.read_bytes().replace(b"ISO_IR 192", b" " * 10))
    header = read_intake_header(path)
    assert (header.patient_name, header.study_description) == ("Vũ^Đức", "Phổi thẳng")


def test_an_operating_system_error_is_named_without_its_path() -> None:
    assert intake_module.errno_name(OSError(errno.EROFS, "x", "/secret")) == "EROFS"


def test_a_disk_that_only_can_be_read_is_not_ready(
    intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert intake.check() == "ok"

    def read_only(*_: object, **__: object) -> NoReturn:
        raise OSError(errno.EROFS, "Read-only file system", "/secret/path")

    monkeypatch.setattr(Path, "touch", read_only)
    assert intake.check() == "EROFS"
    monkeypatch.undo()
    assert intake.check() == "ok"
    assert list(intake.spool.iterdir()) == []


def test_an_object_cut_inside_a_sequence_is_refused_for_good_and_not_put_off(
    intake: Intake, tmp_path: Path
) -> None:
    # pydicom raises OSError for it, as the disk does.
    with pytest.raises(ObjectUnreadable) as caught:
        intake.accept(cut_inside_a_sequence(tmp_path), SOURCE)
    assert caught.value.dimse_status == 0xC000


def test_a_disk_that_fails_inside_a_sequence_is_no_fault_of_the_object(
    intake: Intake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> NoReturn:
        try:
            raise OSError(errno.EIO, "Input/output error")
        except OSError:
            raise OSError("No tag to read at file position 21E")  # noqa: B904 - as pydicom does

    monkeypatch.setattr("vigil_inference.headers.pydicom.dcmread", fail)
    with pytest.raises(StorageError):
        intake.accept(cut_inside_a_sequence(tmp_path), SOURCE)
