"""A PostgreSQL of a proof's own, which it may stop, crash and start."""

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.peers import HOST, free_port

_USER = "postgres"


class Cluster:
    """A database cluster in a temporary folder.

    ``initdb`` refuses root, so as root it belongs to the system's user ``postgres``.
    """

    def __init__(self, programs: Path, folder: Path) -> None:
        self._programs = programs
        self._data = folder / "data"
        self._log = folder / "log"
        self._sockets = folder
        self._port = free_port()
        self._run("initdb", "-D", str(self._data), "-A", "trust", "-U", _USER, "-E", "UTF8")

    @property
    def url(self) -> str:
        """Of its usual database."""
        return f"postgresql://{_USER}@{HOST}:{self._port}/postgres"

    def start(self) -> None:
        """Start it and wait until it answers."""
        options = f"-p {self._port} -k {self._sockets} -c listen_addresses={HOST}"
        self._run("pg_ctl", "-D", str(self._data), "-l", str(self._log), "-w", "-t", "120",
                  "-o", options, "start")  # fmt: skip

    def stop(self, how: str = "fast") -> None:
        """Stop it: ``fast`` ends its connections, ``immediate`` is a crash."""
        self._run("pg_ctl", "-D", str(self._data), "-m", how, "-w", "-t", "120", "stop")

    def check(self) -> str:
        """Return what pg_amcheck finds wrong with tables and indexes, "" for nothing."""
        if not (self._programs / "pg_amcheck").exists():
            return ""
        where = ("-h", HOST, "-p", str(self._port), "-U", _USER, "-d", _USER)
        done = self._run("pg_amcheck", "--install-missing", *where, check=False)
        return "" if done.returncode == 0 else f"{done.stdout}{done.stderr}"[:500]

    def _run(
        self, program: str, *arguments: str, check: bool = True
    ) -> "subprocess.CompletedProcess[str]":
        command = [str(self._programs / program), *arguments]
        if os.geteuid() == 0:
            command = ["runuser", "-u", _USER, "--", *command]
        # To a file: a server that was started keeps a pipe open.
        with tempfile.TemporaryFile("w+") as output:
            done = subprocess.run(
                command, check=False, stdout=output, stderr=output, cwd="/", timeout=180
            )
            output.seek(0)
            told = output.read()
        assert not check or done.returncode == 0, f"{program}: {told[-2000:]}"
        return subprocess.CompletedProcess(command, done.returncode, told, "")


@contextlib.contextmanager
def new_cluster() -> Iterator[Cluster]:
    """Make and start a cluster, and remove it at the end; skip where there is no PostgreSQL."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    usual = shutil.which("initdb")
    programs = found[-1].parent if found else Path(usual).parent if usual else None
    if programs is None:
        pytest.skip("there is no PostgreSQL server here (apt package postgresql)")
    folder = Path(tempfile.mkdtemp(prefix="vigil-postgresql-"))
    try:
        if os.geteuid() == 0:
            owner = pwd.getpwnam(_USER)
            os.chown(folder, owner.pw_uid, owner.pw_gid)
        cluster = Cluster(programs, folder)
        cluster.start()
        try:
            yield cluster
        finally:
            with contextlib.suppress(AssertionError):
                cluster.stop("immediate")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
