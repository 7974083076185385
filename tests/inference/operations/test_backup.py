"""A backup under load, restored elsewhere: all that was acknowledged is there, and work goes on."""

import io
import json
import shutil
import sqlite3
import tarfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from typer.testing import CliRunner

from tests.inference.conftest import FakeModel, MakeFile, Until
from vigil.cli import app
from vigil.errors import ConfigurationError, StorageError
from vigil_inference.cli import register
from vigil_inference.headers import digest_of
from vigil_inference.intake import Source
from vigil_inference.operations.backup import write_backup
from vigil_inference.operations.restore import BackupUnusable, read_backup
from vigil_inference.service import Service
from vigil_inference.settings import Settings
from vigil_inference.tables import Instance, State


@pytest.fixture(scope="module", autouse=True)
def commands() -> None:
    if "backup" not in {command.callback.__name__ for command in app.registered_commands}:
        register(app)


@pytest.fixture
def filled(settings: Settings, service: Service, make_file: MakeFile, until: Until) -> Settings:
    """The settings of a store with four answered pictures, whose service has stopped."""
    service.start()
    for wish in ("0.95", "0.1", "NOT_FRONTAL", "CRASH"):
        service.intake.accept(make_file(wish), Source("C-STORE"))
    until(lambda: service.analysis.backlog == 0)
    service.stop()
    return settings


def elsewhere(settings: Settings, folder: Path) -> Settings:
    return settings.model_copy(update={"data_dir": folder})


def rewrite(backup: Path, change: Callable[[str, bytes], bytes | None]) -> Path:
    """Copy a backup with changed members; None leaves one out."""
    altered = backup.with_name("altered.tar")
    with tarfile.open(backup) as source, tarfile.open(altered, "w") as target:
        for info in source:
            content = change(info.name, source.extractfile(info).read())
            if content is not None:
                info.size = len(content)
                target.addfile(info, io.BytesIO(content))
    return altered


def test_a_backup_under_load_holds_all_that_was_acknowledged_and_work_goes_on(
    settings: Settings, model: FakeModel, make_file: MakeFile, until: Until, tmp_path: Path
) -> None:
    files = [make_file("0.95" if n % 2 else "0.1") for n in range(60)]
    model.pause_seconds = 0.02  # so that pictures wait while the backup is made
    service = Service(settings, model)
    service.start()
    acknowledged: list[str] = []
    enough, stop = threading.Event(), threading.Event()

    def send() -> None:
        for path in files:
            if stop.is_set():
                return
            acknowledged.append(service.intake.accept(path, Source("C-STORE")).sop_instance_uid)
            if len(acknowledged) == 10:
                enough.set()

    sender = threading.Thread(target=send)
    sender.start()
    assert enough.wait(60)
    before = list(acknowledged)
    backup = tmp_path / "vigil.tar"
    manifest = write_backup(settings, backup)
    stop.set()
    sender.join()
    service.stop()
    assert manifest.missing == ()
    assert backup.stat().st_mode & 0o077 == 0
    assert sorted(path.name for path in tmp_path.glob("vigil.tar*")) == ["vigil.tar"]

    there = elsewhere(settings, tmp_path / "restored")
    assert read_backup(there, backup) == manifest
    again_model = FakeModel()
    again = Service(there, again_model)
    with again.store.reading() as session:
        rows = session.scalars(select(Instance)).all()
        waiting = {row.sop_instance_uid for row in rows if row.state == State.RECEIVED.value}
    assert set(before) <= {row.sop_instance_uid for row in rows} <= set(acknowledged)
    assert len(rows) == manifest.pictures
    assert len(waiting) == manifest.waiting
    for row in rows:
        assert digest_of(there.data_dir / row.file_path) == row.sha256
    again.start()
    until(lambda: again.analysis.backlog == 0)
    # What waited is analysed now, and what was analysed is not analysed again.
    assert set(again_model.seen) == waiting
    fresh = again.intake.accept(make_file("0.1"), Source("C-STORE"))
    until(lambda: fresh.sop_instance_uid in again_model.seen)
    again.stop()


def test_results_previews_and_the_identity_come_back_byte_for_byte(
    filled: Settings, tmp_path: Path
) -> None:
    backup = tmp_path / "vigil.tar"
    write_backup(filled, backup)
    there = elsewhere(filled, tmp_path / "restored")
    read_backup(there, backup)
    kept = ("instances", "previews", "results", "installation-id")

    def content(folder: Path) -> dict[str, bytes]:
        return {
            path.relative_to(folder).as_posix(): path.read_bytes()
            for path in folder.rglob("*")
            if path.is_file() and path.relative_to(folder).parts[0] in kept
        }

    found = content(there.data_dir)
    assert found == content(filled.data_dir)
    assert len([name for name in found if name.startswith("instances/")]) == 4
    assert any(name.startswith("previews/") for name in found)
    assert "installation-id" in found


def test_both_commands_say_what_they_did(filled: Settings, tmp_path: Path) -> None:
    backup = tmp_path / "vigil.tar"
    result = CliRunner().invoke(app, ["backup", str(backup), "--data-dir", str(filled.data_dir)])
    assert result.exit_code == 0, result.output
    assert "4 studies, 4 pictures (0 wait for their analysis), 0 results" in result.output
    target = tmp_path / "restored"
    result = CliRunner().invoke(app, ["restore", str(backup), "--data-dir", str(target)])
    assert result.exit_code == 0, result.output
    assert "4 studies, 4 pictures" in result.output
    assert (target.stat().st_mode & 0o077) == 0


def test_a_restore_goes_into_an_empty_folder_only(filled: Settings, tmp_path: Path) -> None:
    backup = tmp_path / "vigil.tar"
    write_backup(filled, backup)
    with pytest.raises(ConfigurationError, match="is not empty"):
        read_backup(filled, backup)
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    read_backup(elsewhere(filled, mounted), backup)
    assert (mounted / "vigil.sqlite3").is_file()


def test_a_backup_never_replaces_a_file(filled: Settings, tmp_path: Path) -> None:
    backup = tmp_path / "vigil.tar"
    backup.write_text("the last good one")
    with pytest.raises(ConfigurationError, match="exists already"):
        write_backup(filled, backup)
    assert backup.read_text() == "the last good one"


def test_where_there_is_no_store_no_backup_is_made(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="there is no database"):
        write_backup(settings, tmp_path / "vigil.tar")
    assert not (settings.data_dir / "vigil.sqlite3").exists()


@pytest.mark.parametrize("command", ["backup", "restore"])
def test_postgresql_is_told_what_to_use_instead(tmp_path: Path, command: str) -> None:
    config = tmp_path / "vigil.toml"
    config.write_text('database_url = "postgresql://vigil@127.0.0.1/vigil"\n', encoding="utf-8")
    result = CliRunner().invoke(app, [command, str(tmp_path / "x.tar"), "--config", str(config)])
    assert isinstance(result.exception, ConfigurationError)
    assert "pg_dump" in str(result.exception)
    assert "pg_restore" in str(result.exception)


def test_a_lost_original_is_named_and_does_not_cost_the_rest(
    filled: Settings, tmp_path: Path
) -> None:
    lost, altered, *_ = sorted((filled.data_dir / "instances").rglob("*.dcm"))
    lost.unlink()
    with altered.open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\xff")
    backup = tmp_path / "vigil.tar"
    options = ["--data-dir", str(filled.data_dir)]
    result = CliRunner().invoke(app, ["backup", str(backup), *options])
    assert result.exit_code == 1
    for path in (lost, altered):
        assert path.relative_to(filled.data_dir).as_posix() in result.output
    there = elsewhere(filled, tmp_path / "restored")
    manifest = read_backup(there, backup)
    assert len(manifest.missing) == 2
    assert len(list((there.data_dir / "instances").rglob("*.dcm"))) == 3


def test_what_a_rule_removes_meanwhile_is_neither_missing_nor_expected(
    filled: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vigil_inference.operations import backup as module

    copied = module._copy_database

    def copy_then_remove(database: Path, copy: Path) -> None:
        copied(database, copy)
        with sqlite3.connect(database) as live:
            [path] = live.execute("SELECT file_path FROM instances WHERE id = 1").fetchone()
            live.execute(
                "UPDATE instances SET removed_at = '2026-11-25', removal_reason = 'days' "
                "WHERE id = 1"
            )
        live.close()
        (filled.data_dir / path).unlink()

    monkeypatch.setattr(module, "_copy_database", copy_then_remove)
    backup = tmp_path / "vigil.tar"
    assert write_backup(filled, backup).missing == ()
    there = elsewhere(filled, tmp_path / "restored")
    read_backup(there, backup)
    with sqlite3.connect(there.data_dir / "vigil.sqlite3") as rows:
        found = rows.execute("SELECT removal_reason FROM instances ORDER BY id").fetchall()
    rows.close()
    assert found == [("days",), ("",), ("",), ("",)]


def test_of_an_original_that_a_rule_removed_the_header_is_kept(
    filled: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vigil_inference.operations import backup as module
    from vigil_inference.retention import header_of

    def remove(number: int) -> Path:
        with sqlite3.connect(filled.data_dir / "vigil.sqlite3") as live:
            statement = "SELECT file_path FROM instances WHERE id = ?"
            [path] = live.execute(statement, (number,)).fetchone()
            live.execute(
                "UPDATE instances SET removed_at = '2026-11-25', removal_reason = 'days' "
                "WHERE id = ?",
                (number,),
            )
        live.close()
        (filled.data_dir / path).write_bytes(header_of(filled.data_dir / path))
        return Path(path)

    copied = module._copy_database

    def copy_then_remove(database: Path, copy: Path) -> None:
        copied(database, copy)
        headers.append(remove(2))

    headers = [remove(1)]  # one before the backup, one while it runs
    monkeypatch.setattr(module, "_copy_database", copy_then_remove)
    backup = tmp_path / "vigil.tar"
    assert write_backup(filled, backup).missing == ()
    there = elsewhere(filled, tmp_path / "restored")
    read_backup(there, backup)
    for path in headers:
        assert (there.data_dir / path).read_bytes() == (filled.data_dir / path).read_bytes()
    assert len(list((there.data_dir / "instances").rglob("*.dcm"))) == 4


Change = Callable[[str, bytes], bytes | None]


def flip(name: str, content: bytes) -> bytes:
    return content[:-1] + b"\xfe" if name.startswith("instances/") else content


def drop(name: str, content: bytes) -> bytes | None:
    return None if name.startswith("instances/") else content


def drop_manifest(name: str, content: bytes) -> bytes | None:
    return None if name == "manifest.json" else content


def drop_from_both(name: str, content: bytes) -> bytes | None:
    """Leave an original out of the manifest too: the database still names it."""
    if name.startswith("instances/"):
        return None
    if name != "manifest.json":
        return content
    manifest = json.loads(content)
    manifest["members"] = {
        member: value
        for member, value in manifest["members"].items()
        if not member.startswith("instances/")
    }
    return json.dumps(manifest).encode()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (flip, "is damaged"),
        (drop, "is missing"),
        (drop_manifest, "its manifest is missing"),
        (drop_from_both, "is missing"),
    ],
)
def test_an_altered_backup_leaves_nothing_behind(
    filled: Settings, tmp_path: Path, change: Change, sentence: str
) -> None:
    backup = tmp_path / "vigil.tar"
    write_backup(filled, backup)
    there = elsewhere(filled, tmp_path / "restored")
    with pytest.raises(BackupUnusable, match=sentence):
        read_backup(there, rewrite(backup, change))
    assert list(there.data_dir.iterdir()) == []
    read_backup(there, backup)


@pytest.mark.parametrize("step", ["move", "sync_folder"])
def test_a_disk_that_fails_at_the_last_step_leaves_nothing_behind(
    filled: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def fail(*_args: Any) -> None:
        raise OSError(28, "no space")

    backup = tmp_path / "vigil.tar"
    write_backup(filled, backup)
    there = elsewhere(filled, tmp_path / "restored")
    place = "vigil_inference.operations.restore"
    with monkeypatch.context() as full:
        full.setattr(f"{place}.shutil.move" if step == "move" else f"{place}.sync_folder", fail)
        with pytest.raises(StorageError, match=r"nothing was restored \(ENOSPC\)"):
            read_backup(there, backup)
    assert list(there.data_dir.iterdir()) == []
    read_backup(there, backup)


def test_a_backup_that_was_cut_short_is_none(filled: Settings, tmp_path: Path) -> None:
    backup = tmp_path / "vigil.tar"
    write_backup(filled, backup)
    content = backup.read_bytes()
    for length in (0, 100, 1024, len(content) // 2):
        backup.write_bytes(content[:length])
        with pytest.raises(BackupUnusable):
            read_backup(elsewhere(filled, tmp_path / "restored"), backup)
    shutil.rmtree(tmp_path / "restored")


def test_one_of_a_newer_version_is_refused_with_its_version(
    filled: Settings, tmp_path: Path
) -> None:
    def newer(name: str, content: bytes) -> bytes:
        if name != "manifest.json":
            return content
        return json.dumps(
            json.loads(content) | {"schema_revision": "9999", "software_version": "7.0"}
        ).encode()

    backup = tmp_path / "vigil.tar"
    write_backup(filled, backup)
    with pytest.raises(ConfigurationError, match=r"written by Vigil 7\.0, which is newer"):
        read_backup(elsewhere(filled, tmp_path / "restored"), rewrite(backup, newer))


@pytest.mark.parametrize(
    "name",
    ["../evil", "/etc/evil", "instances/../evil", "instances/aa/../../evil", "lock", "x/aa/b"],
)
def test_no_member_gets_out_of_the_folder(filled: Settings, tmp_path: Path, name: str) -> None:
    backup = tmp_path / "evil.tar"
    with tarfile.open(backup, "w") as tar:
        info = tarfile.TarInfo(name)
        info.size = 4
        tar.addfile(info, io.BytesIO(b"evil"))
    with pytest.raises(BackupUnusable, match="holds what no backup of Vigil holds"):
        read_backup(elsewhere(filled, tmp_path / "deep" / "restored"), backup)
    assert not any("evil" in path.name for path in tmp_path.rglob("*") if path != backup)


def test_a_link_in_a_backup_is_refused(filled: Settings, tmp_path: Path) -> None:
    backup = tmp_path / "evil.tar"
    with tarfile.open(backup, "w") as tar:
        info = tarfile.TarInfo("instances/aa/link")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(info)
    with pytest.raises(BackupUnusable, match="holds what no backup"):
        read_backup(elsewhere(filled, tmp_path / "restored"), backup)


def test_a_full_disk_leaves_no_half_backup(
    filled: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_args: Any, **_named: Any) -> None:
        raise OSError(28, "no space")

    monkeypatch.setattr(tarfile.TarFile, "addfile", fail)
    result = CliRunner().invoke(
        app, ["backup", str(tmp_path / "x.tar"), "--data-dir", str(filled.data_dir)]
    )
    assert "ENOSPC" in str(result.exception)
    assert list(tmp_path.glob("x.tar*")) == []
