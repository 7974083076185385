"""A backup back into an empty data folder. Nothing is in its place until all of it was checked."""

import hashlib
import os
import shutil
import sqlite3
import tarfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from pydantic import ValidationError

from vigil.errors import ConfigurationError, StorageError, VigilError
from vigil_inference.database import known_revisions
from vigil_inference.intake import errno_name, sync_folder
from vigil_inference.operations.archive import (
    DATABASE,
    FORMAT,
    MANIFEST,
    Manifest,
    Member,
    embedded_database,
    is_member,
)
from vigil_inference.settings import Settings

_STAGING = "restoring"
_CHUNK_BYTES = 1024 * 1024
_LARGEST_MANIFEST_BYTES = 1024**3


class BackupUnusable(VigilError):
    """A file that is no whole backup, or was altered."""

    code = "BACKUP_UNUSABLE"


def read_backup(
    settings: Settings, file: Path, on_file: Callable[[int], None] = lambda done: None
) -> Manifest:
    """Put a backup's content into the settings' data folder, which must be empty.

    Parameters
    ----------
    settings
        Of the service that will use it.
    file
        The backup.
    on_file
        Called with how many files are done.

    Returns
    -------
    Manifest
        What was in it.

    Raises
    ------
    ConfigurationError
        If the folder holds something, or a newer Vigil wrote the backup.
    BackupUnusable
        If it is damaged; nothing of it is left in the folder then.
    StorageError
        If the disk does not take it.
    """
    database, data_dir = embedded_database(settings), settings.data_dir
    if not file.is_file():
        raise ConfigurationError(f"{file}: there is no such backup")
    if data_dir.exists() and (not data_dir.is_dir() or any(data_dir.iterdir())):
        raise ConfigurationError(
            f"{data_dir}: is not empty; a backup is restored into a new folder"
        )
    if database.exists():
        raise ConfigurationError(f"{database}: exists already, expected no database there")
    staging = data_dir / _STAGING
    placed: list[Path] = []
    try:
        staging.mkdir(parents=True)
        found, manifest = _unpack(file, staging, on_file)
        _check(file, found, manifest, staging / DATABASE)
        database.parent.mkdir(parents=True, exist_ok=True)
        for path in sorted(staging.iterdir()):
            if path.name != DATABASE:
                placed.append(data_dir / path.name)
                path.rename(placed[-1])
        os.sync()
        # Last of all: without it the folder is none that a service goes on with.
        placed.append(database)
        shutil.move(staging / DATABASE, database)
        staging.rmdir()
        for folder in {data_dir, database.parent}:
            sync_folder(folder)
    except OSError as error:
        _take_back(placed)
        raise StorageError(f"{data_dir}: nothing was restored ({errno_name(error)})") from error
    except sqlite3.Error as error:
        raise BackupUnusable(f"{file}: its database is damaged") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return manifest


def _take_back(placed: list[Path]) -> None:
    """Remove what was put in its place, the database first: the folder was empty before."""
    for path in reversed(placed):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _unpack(
    file: Path, staging: Path, on_file: Callable[[int], None]
) -> tuple[dict[str, Member], Manifest]:
    found: dict[str, Member] = {}
    manifest: bytes | None = None
    try:
        with tarfile.open(file, "r:") as tar:
            for info in tar:
                content = tar.extractfile(info) if info.isreg() else None
                if content is None or info.name in found or manifest is not None:
                    raise BackupUnusable(f"{file}: holds what no backup of Vigil holds")
                if info.name == MANIFEST:
                    if info.size > _LARGEST_MANIFEST_BYTES:
                        raise BackupUnusable(f"{file}: its manifest is too large to be one")
                    manifest = content.read()
                    continue
                if info.name != DATABASE and not is_member(info.name):
                    raise BackupUnusable(f"{file}: holds what no backup of Vigil holds")
                path = staging / info.name
                path.parent.mkdir(parents=True, exist_ok=True)
                digest, size = hashlib.sha256(), 0
                with path.open("xb") as target:
                    while chunk := content.read(_CHUNK_BYTES):
                        digest.update(chunk)
                        size += target.write(chunk)
                found[info.name] = Member(sha256=digest.hexdigest(), size_bytes=size)
                on_file(len(found))
    except (tarfile.TarError, EOFError) as error:
        raise BackupUnusable(f"{file}: is no whole backup") from error
    if manifest is None:
        raise BackupUnusable(f"{file}: was cut short, or is no backup: its manifest is missing")
    try:
        return found, Manifest.model_validate_json(manifest)
    except ValidationError as error:
        raise BackupUnusable(f"{file}: its manifest cannot be read") from error


def _check(file: Path, found: dict[str, Member], manifest: Manifest, database: Path) -> None:
    if manifest.format != FORMAT or manifest.schema_revision not in known_revisions():
        raise ConfigurationError(
            f"{file}: was written by Vigil {manifest.software_version}, which is newer; restore it "
            "with that version or a later one"
        )
    for name, expected in manifest.members.items():
        if found.get(name) != expected:
            word = "is damaged" if name in found else "is missing"
            raise BackupUnusable(f"{file}: {name} {word}")
    if len(found) != len(manifest.members) or DATABASE not in found:
        raise BackupUnusable(f"{file}: is not what its manifest says")
    with closing(sqlite3.connect(database)) as rows:
        [said] = rows.execute("PRAGMA integrity_check(1)").fetchone()
        if said != "ok":
            raise BackupUnusable(f"{file}: its database is damaged")
        named = [
            path
            for table in ("instances", "result_objects")
            for [path] in rows.execute(
                f"SELECT file_path FROM {table} WHERE removed_at IS NULL"  # noqa: S608
            )
        ]
    known = found.keys() | set(manifest.missing)
    if absent := [path for path in named if path not in known]:
        raise BackupUnusable(f"{file}: {absent[0]} is missing")
