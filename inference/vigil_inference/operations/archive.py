"""The form of a backup: one tar file, whose last member says what the others must be.

::

    installation-id
    instances/…, results/…, previews/…      files as they lie in the data folder
    bundles/…                               kept bundles, so that what is live can be loaded
    vigil.sqlite3                           the database as it stood before any of them was read
    manifest.json                           digests and sizes of all of them

A file that was cut short has no manifest, and is no backup.
"""

import hashlib
import re
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from pydantic import BaseModel, ConfigDict, Field

from vigil.errors import ConfigurationError
from vigil_inference.database import is_sqlite
from vigil_inference.headers import data_set_offset
from vigil_inference.settings import Settings

FORMAT = 1
DATABASE = "vigil.sqlite3"
MANIFEST = "manifest.json"
INSTALLATION = "installation-id"
_FOLDERS = ("instances", "results", "previews")
BUNDLES = "bundles"
_NAME = re.compile(
    rf"^(?:{INSTALLATION}|(?:{'|'.join(_FOLDERS)})/[0-9a-f]{{2}}/[0-9A-Za-z._-]+"
    rf"|{BUNDLES}/(?:[0-9a-f]{{64}}/[0-9A-Za-z_][0-9A-Za-z._-]*|site-calibration-[0-9a-f]{{64}}\.json))$"
)
_HEAD_BYTES = 144


class Member(BaseModel):
    """What a file of a backup must be."""

    model_config = ConfigDict(frozen=True)

    sha256: str
    size_bytes: int


class Manifest(BaseModel):
    """What a backup holds."""

    model_config = ConfigDict(frozen=True)

    format: int
    software_version: str
    schema_revision: str
    began_at: datetime = Field(description="All that was acknowledged before is in it.")
    studies: int
    pictures: int
    waiting: int = Field(description="Pictures whose analysis is still to come.")
    results: int
    missing: tuple[str, ...] = Field(
        (), description="Files that the database names and that were not there, or not as recorded."
    )
    members: dict[str, Member]


class DigestingReader:
    """Reads a file and takes its digests on the way.

    Parameters
    ----------
    file
        The file, at its start.
    """

    def __init__(self, file: BinaryIO) -> None:
        head = file.read(_HEAD_BYTES)
        file.seek(0)
        self._file = file
        self._whole = hashlib.sha256()
        self._data_set = hashlib.sha256()
        self._skip = data_set_offset(head)
        self.size = 0

    def read(self, length: int = -1) -> bytes:
        """Return the next bytes."""
        chunk = self._file.read(length)
        self._whole.update(chunk)
        self._data_set.update(chunk[max(0, self._skip - self.size) :])
        self.size += len(chunk)
        return chunk

    @property
    def sha256(self) -> str:
        """Of all that was read."""
        return self._whole.hexdigest()

    @property
    def data_set_sha256(self) -> str:
        """Of the same without preamble and file meta information, as the intake records it."""
        return self._data_set.hexdigest()


def is_member(name: str) -> bool:
    """Return whether a backup may hold a file of this name, beside database and manifest."""
    return _NAME.fullmatch(name) is not None and "/.." not in name


def embedded_database(settings: Settings) -> Path:
    """Return the file of the embedded database.

    Raises
    ------
    ConfigurationError
        If the settings name another database; the message says what to use there.
    """
    if not is_sqlite(settings.database):
        raise ConfigurationError(
            "database_url names PostgreSQL, and this command is for the embedded database. There, "
            "take `pg_dump --format=custom` first and then copy instances/, results/, previews/ "
            "and installation-id of the data folder, so that every row has its file; to restore, "
            "put the files back and then use `pg_restore`"
        )
    return Path(settings.database.partition("sqlite:///")[2].partition("?")[0])
