"""A backup of the embedded store, while the service runs.

The database is copied first, in one read transaction, which holds up no writer. After it come the
files that this copy names: each was durable before its row was committed, and is never changed
afterwards. So what was acknowledged before the backup began is in it, and what came meanwhile is
in it whole or not at all.
"""

import io
import os
import sqlite3
import tarfile
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import vigil
from vigil.errors import ConfigurationError, StorageError
from vigil_inference.intake import errno_name, sync_folder
from vigil_inference.operations.archive import (
    BUNDLES,
    DATABASE,
    FORMAT,
    INSTALLATION,
    MANIFEST,
    DigestingReader,
    Manifest,
    Member,
    embedded_database,
    is_member,
)
from vigil_inference.settings import Settings
from vigil_inference.tables import State

_OWNER_ONLY = 0o600


@dataclass(frozen=True)
class _Wanted:
    """A file that the database names: ``table`` and row, and its recorded digest.

    Of an original that was removed by rule the header is left, which the digest does not speak of.
    """

    path: str
    sha256: str
    table: str
    row_id: int
    is_removed: bool

    def is_whole(self, reader: DigestingReader) -> bool:
        """Return whether what was read is what was recorded."""
        found = reader.data_set_sha256 if self.table == "instances" else reader.sha256
        return found == self.sha256


def write_backup(
    settings: Settings, file: Path, on_file: Callable[[int, int], None] = lambda done, total: None
) -> Manifest:
    """Write a backup into a new file, for its owner's eyes only.

    Parameters
    ----------
    settings
        Of the service.
    file
        Where it goes. It appears under this name only when it is whole.
    on_file
        Called with how many files are done, of how many.

    Raises
    ------
    ConfigurationError
        If there is nothing to back up, or the file exists already.
    StorageError
        If something cannot be read or written.
    """
    database = embedded_database(settings)
    if not database.is_file():
        raise ConfigurationError(f"{database}: there is no database; is data_dir right?")
    if file.exists():
        raise ConfigurationError(f"{file}: exists already, expected a new file")
    part, copy = file.with_name(f"{file.name}.part"), file.with_name(f"{file.name}.db.part")
    began_at = datetime.now(UTC)
    try:
        _copy_database(database, copy)
        manifest = _write(settings.data_dir, database, copy, part, began_at, on_file)
        part.replace(file)
        sync_folder(file.parent)
    except OSError as error:
        raise StorageError(f"{file}: the backup was not written ({errno_name(error)})") from error
    except sqlite3.Error as error:
        raise StorageError(f"{database}: cannot be copied ({error})") from error
    finally:
        for left in (part, copy):
            left.unlink(missing_ok=True)
    return manifest


def _copy_database(database: Path, copy: Path) -> None:
    """Copy the database as it stands now, and check the copy.

    Raises
    ------
    sqlite3.Error
        If it cannot be read, or the copy is damaged.
    """
    os.close(os.open(copy, os.O_CREAT | os.O_EXCL | os.O_WRONLY, _OWNER_ONLY))
    with (
        closing(sqlite3.connect(database, timeout=30)) as source,
        closing(sqlite3.connect(copy)) as target,
    ):
        source.backup(target)  # in one step, so that no writer makes it begin again
        target.execute("PRAGMA journal_mode=DELETE")
        [said] = target.execute("PRAGMA quick_check(1)").fetchone()
    if said != "ok":
        raise sqlite3.DatabaseError("the database is damaged")


def _write(
    data_dir: Path,
    database: Path,
    copy: Path,
    part: Path,
    began_at: datetime,
    on_file: Callable[[int, int], None],
) -> Manifest:
    with closing(sqlite3.connect(copy)) as rows:
        wanted = list(_wanted(rows))
        [schema] = rows.execute("SELECT version_num FROM alembic_version").fetchone()
        counts = {
            "studies": _one(rows, "SELECT count(*) FROM studies"),
            "pictures": _one(rows, "SELECT count(*) FROM instances"),
            "waiting": _one(
                rows, "SELECT count(*) FROM instances WHERE state = ?", State.RECEIVED.value
            ),
            "results": _one(rows, "SELECT count(*) FROM result_objects"),
        }
    previews = sorted(
        path.relative_to(data_dir).as_posix()
        for path in (data_dir / "previews").glob("??/*")
        if path.suffix != ".part"
    )
    # Copies that are still being made, or belong to nobody, have names that no backup takes.
    kept = sorted(
        name
        for path in (data_dir / BUNDLES).rglob("*")
        if path.is_file() and is_member(name := path.relative_to(data_dir).as_posix())
    )
    members: dict[str, Member] = {}
    missing: list[str] = []
    beside = [*previews, *kept]
    total = len(wanted) + len(beside)
    with part.open("xb") as raw:
        os.fchmod(raw.fileno(), _OWNER_ONLY)
        with tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as tar:
            if (data_dir / INSTALLATION).is_file():
                _add(tar, data_dir / INSTALLATION, INSTALLATION, members)
            for number, item in enumerate(wanted):
                reader = _add(tar, data_dir / item.path, item.path, members)
                is_whole = reader is not None and item.is_whole(reader)
                if not (is_whole or item.is_removed or _was_removed_by_rule(database, copy, item)):
                    missing.append(item.path)
                on_file(number + 1, total)
            for number, name in enumerate(beside, len(wanted)):
                _add(tar, data_dir / name, name, members)  # one that went meanwhile is no loss
                on_file(number + 1, total)
            _add(tar, copy, DATABASE, members)
            manifest = Manifest(
                format=FORMAT,
                software_version=vigil.__version__,
                schema_revision=str(schema),
                began_at=began_at,
                missing=tuple(missing),
                members=members,
                **counts,
            )
            content = manifest.model_dump_json().encode()
            info = tarfile.TarInfo(MANIFEST)
            info.size, info.mode = len(content), _OWNER_ONLY
            tar.addfile(info, io.BytesIO(content))
        raw.flush()
        os.fsync(raw.fileno())
    return manifest


def _wanted(rows: sqlite3.Connection) -> Iterator[_Wanted]:
    for table, condition in (("instances", "1"), ("result_objects", "removed_at IS NULL")):
        columns = "id, file_path, sha256, removed_at IS NOT NULL"
        statement = f"SELECT {columns} FROM {table} WHERE {condition} ORDER BY id"  # noqa: S608
        for row_id, path, sha256, is_removed in rows.execute(statement):
            yield _Wanted(path, sha256, table, row_id, bool(is_removed))


def _one(rows: sqlite3.Connection, statement: str, *values: object) -> int:
    [found] = rows.execute(statement, values).fetchone()
    return int(found)


def _add(
    tar: tarfile.TarFile, path: Path, name: str, members: dict[str, Member]
) -> DigestingReader | None:
    """Add a file; None where it is not there (any more)."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return None
    with file:
        info = tarfile.TarInfo(name)
        status = os.fstat(file.fileno())
        info.size, info.mtime, info.mode = status.st_size, int(status.st_mtime), _OWNER_ONLY
        reader = DigestingReader(file)
        tar.addfile(info, reader)
    members[name] = Member(sha256=reader.sha256, size_bytes=reader.size)
    return reader


def _was_removed_by_rule(database: Path, copy: Path, item: _Wanted) -> bool:
    """Return whether a file went by a rule while the backup ran, and write that into the copy."""
    statement = f"SELECT removed_at, removal_reason FROM {item.table} WHERE id = ?"  # noqa: S608
    with closing(sqlite3.connect(database, timeout=30)) as now:
        row = now.execute(statement, (item.row_id,)).fetchone()
    if row is None or row[0] is None:
        return False
    with closing(sqlite3.connect(copy)) as rows, rows:
        rows.execute(
            f"UPDATE {item.table} SET removed_at = ?, removal_reason = ? WHERE id = ?",  # noqa: S608
            (*row, item.row_id),
        )
    return True
