"""Which installation a data folder and a database belong to: both must say the same.

Result objects' UIDs are made from this identity, and a node that writes into another folder than
the others (a share that is not mounted) would find none of their pictures.
"""

import contextlib
import os
import uuid
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from vigil.errors import StorageError
from vigil_inference.intake import errno_name, sync_folder
from vigil_inference.store import Store
from vigil_inference.tables import Installation

FILE_NAME = "installation-id"


def installation_namespace(data_dir: Path) -> uuid.UUID:
    """Return the installation's own UUID, made at its first use; its results' UIDs come from it.

    Raises
    ------
    StorageError
        If it can be neither read nor written.
    """
    path = data_dir / FILE_NAME
    try:
        if not path.exists():
            _write(path, uuid.uuid4())
        return uuid.UUID(path.read_text(encoding="ascii").strip())
    except (OSError, ValueError) as error:
        what = errno_name(error) if isinstance(error, OSError) else "not a UUID"
        raise StorageError(f"{path}: the installation's identity is unusable ({what})") from error


def check_installation(store: Store, data_dir: Path) -> uuid.UUID:
    """Return the installation's UUID after a look whether folder and database belong together.

    The first node writes it into both. A folder that lost the file gets it back from an embedded
    database, which lies in that folder; of a shared one the folder may be the wrong one.

    Raises
    ------
    StorageError
        If they do not, or one of them cannot be used.
    """
    recorded = _recorded(store)
    path = data_dir / FILE_NAME
    if recorded is not None and not path.exists():
        if store.is_shared:
            raise StorageError(
                f"{path} is missing: expected the folder that all nodes of this database share "
                "(is it mounted?)"
            )
        try:
            _write(path, recorded)
        except OSError as error:
            raise StorageError(f"{path}: cannot be written ({errno_name(error)})") from error
    found = installation_namespace(data_dir)
    if recorded is None:
        with contextlib.suppress(IntegrityError), store.writing() as session:
            session.add(Installation(id=1, identity=str(found)))
        recorded = _recorded(store)
    if recorded != found:
        raise StorageError(
            f"{data_dir}: belongs to another installation than the database ({found}, expected "
            f"{recorded})"
        )
    return found


def _recorded(store: Store) -> uuid.UUID | None:
    with store.reading() as session:
        identity = session.scalar(select(Installation.identity))
    return None if identity is None else uuid.UUID(identity)


def _write(path: Path, identity: uuid.UUID) -> None:
    fresh = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
    with fresh.open("x", encoding="ascii") as file:
        file.write(f"{identity}\n")
        file.flush()
        os.fsync(file.fileno())
    # A link is made whole or not at all, and only the first one is.
    with contextlib.suppress(FileExistsError):
        os.link(fresh, path)
    fresh.unlink()
    sync_folder(path.parent)
