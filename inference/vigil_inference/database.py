"""The database under the store: SQLite for one node, PostgreSQL for several, by the URL.

On SQLite writing transactions come one after the other (``BEGIN IMMEDIATE``), and
``synchronous=FULL`` makes a commit survive a power cut; a claim, which is made anew after one, does
not wait for the disk. On PostgreSQL a node that vanishes in the
middle of a transaction keeps its locks no longer than the database is told to wait for it.
"""

import time
from datetime import UTC, datetime, timedelta
from importlib import resources
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, event, make_url, text

WRITING = "vigil_writing"
"""The execution option that marks an engine whose transactions write."""
QUICK = "vigil_quick"
"""Marks one whose commits outlive the process, and a power cut once a later commit does."""
BUSY_TIMEOUT_SECONDS = 30.0
POSTGRESQL = "postgresql"
_LEVEL = "vigil_synchronous"
_MIGRATION_LOCK = 0x76696769_6C637872
"""Of PostgreSQL's advisory locks: one node at a time brings the schema up to date."""

# A server or a network that dies without a word is noticed within half a minute.
_CONNECT = {
    "application_name": "vigil",
    "connect_timeout": "5",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "20000",
}
_SESSION = (
    # A node that lost its power within a transaction must not hold rows for hours.
    "SET idle_in_transaction_session_timeout = '20s'",
    f"SET lock_timeout = '{BUSY_TIMEOUT_SECONDS:g}s'",
    # What was acknowledged must survive a power cut, whatever this server's default says.
    "SELECT set_config('synchronous_commit', 'on', false)"
    " WHERE current_setting('synchronous_commit') IN ('off', 'local')",
)


def normal_url(url: str) -> str:
    """Return a database's URL with the driver that Vigil brings.

    Raises
    ------
    ValueError
        If it names neither SQLite nor PostgreSQL.
    """
    scheme, separator, rest = url.partition("://")
    if separator and scheme in ("postgres", POSTGRESQL, "postgresql+psycopg"):
        return f"postgresql+psycopg://{rest}"
    if separator and scheme.partition("+")[0] == "sqlite":
        return url
    raise ValueError(
        "expected sqlite:///FILE or postgresql://USER@HOST/DATABASE (an SQLAlchemy URL)"
    )


def is_sqlite(url: str) -> bool:
    """Return whether a URL names the embedded database, which one process has to itself."""
    return url.startswith("sqlite")


def create_store_engine(url: str) -> Engine:
    """Return an engine whose commits are durable."""
    url = normal_url(url)
    return _sqlite_engine(url) if is_sqlite(url) else _postgresql_engine(url)


def _sqlite_engine(url: str) -> Engine:
    engine = create_engine(
        url,
        connect_args={"timeout": BUSY_TIMEOUT_SECONDS, "check_same_thread": False},
        pool_size=16,
        max_overflow=48,
    )

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: object) -> None:
        # The driver must not open transactions on its own: _begin does.
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        options = connection.get_execution_options()
        # In WAL mode NORMAL leaves the sync to the next commit with FULL, and damages nothing.
        level = "NORMAL" if options.get(QUICK, False) else "FULL"
        if connection.info.get(_LEVEL, "FULL") != level:
            connection.exec_driver_sql(f"PRAGMA synchronous={level}")
            connection.info[_LEVEL] = level
        writing = options.get(WRITING, False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")

    return engine


def _postgresql_engine(url: str) -> Engine:
    given = make_url(url).query
    engine = create_engine(
        url,
        connect_args={name: value for name, value in _CONNECT.items() if name not in given},
        pool_pre_ping=True,
        # A server takes a hundred connections unless it was told otherwise.
        pool_size=8,
        max_overflow=16,
    )

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: object) -> None:
        connection.autocommit = True
        for statement in _SESSION:
            connection.execute(statement)
        connection.autocommit = False

    return engine


def migrate(engine: Engine) -> None:
    """Bring the schema up to date, from nothing if need be."""
    config = _migrations()
    with engine.execution_options(**{WRITING: True}).begin() as connection:
        if connection.dialect.name == POSTGRESQL:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def known_revisions() -> frozenset[str]:
    """Return the schemas that this version can bring up to date, its own among them."""
    script = ScriptDirectory.from_config(_migrations())
    return frozenset(step.revision for step in script.walk_revisions())


def _migrations() -> Config:
    config = Config()
    config.set_main_option(
        "script_location", str(resources.files("vigil_inference") / "migrations")
    )
    config.set_main_option("path_separator", "os")
    return config


class Clock:
    """The time by which nodes agree who is late: the database's, where there may be several.

    Between two looks at the database it runs by the monotonic clock, so that a machine whose date
    is wrong, or is set right in the middle, neither loses its leases nor takes others'.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._is_shared = engine.dialect.name == POSTGRESQL
        self._anchor: tuple[datetime, float] | None = None
        self.set()

    def set(self) -> None:
        """Ask the database what time it is."""
        if not self._is_shared:
            return
        with self._engine.connect() as connection:
            before = time.monotonic()
            found: datetime = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
            after = time.monotonic()
        self._anchor = (found.astimezone(UTC), (before + after) / 2)

    def now(self) -> datetime:
        """Return the time, in UTC."""
        if self._anchor is None:
            return datetime.now(UTC)
        moment, since = self._anchor
        return moment + timedelta(seconds=time.monotonic() - since)
