"""A PostgreSQL for the tests: the server that the environment names, or one on this machine.

``VIGIL_POSTGRESQL`` is the URL of a database of a user who may make others; each test makes its own
and drops it. Without it the usual port and the usual socket of this machine are tried.
"""

import contextlib
import os
import uuid
from collections.abc import Iterator
from functools import cache

import psycopg
import pytest
from psycopg import sql

_USUAL = ("postgresql://postgres@127.0.0.1:5432/postgres", "postgresql:///postgres")


@contextlib.contextmanager
def new_database() -> Iterator[str]:
    """Make an empty database and drop it at the end; skip where there is no server."""
    server = server_url()
    if server is None:
        pytest.skip("there is no PostgreSQL (apt package postgresql, or VIGIL_POSTGRESQL)")
    name = f"vigil_test_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    try:
        yield server.rpartition("/")[0] + f"/{name}"
    finally:
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(
                sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name))
            )


@contextlib.contextmanager
def unreachable(url: str) -> Iterator[None]:
    """Cut all connections to a database and let nobody in, as while its server is restarted."""
    server = server_url()
    assert server is not None
    name = url.rpartition("/")[2]
    allow = sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}")
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(allow.format(sql.Identifier(name), sql.SQL("false")))
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name]
        )
        try:
            yield
        finally:
            connection.execute(allow.format(sql.Identifier(name), sql.SQL("true")))


@cache
def server_url() -> str | None:
    """Return the URL of a server's own database, None if there is no server."""
    named = os.environ.get("VIGIL_POSTGRESQL")
    for url in (named,) if named else _USUAL:
        with contextlib.suppress(psycopg.OperationalError):
            psycopg.connect(url, connect_timeout=3).close()
            return url
    return None
