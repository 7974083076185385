"""The programs that the system tests start: Vigil as its users do, Orthanc, and dcmtk's tools."""

import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self, TypeVar

import httpx
import pytest

from vigil.phantom.dicom import make_uid

HOST = "127.0.0.1"
T = TypeVar("T")
VIGIL = Path(sys.executable).parent / "vigil"


def free_port() -> int:
    """Return a port that nobody listens on now.

    It is none of those that the system gives to whoever connects (32768 and up on Linux): one of
    them can be in use again before the program that was told of it listens there.
    """
    while True:
        port = random.randrange(10_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((HOST, port))
            return port


def find_tool(name: str, package: str) -> str:
    """Return a system program's path, or skip: pynetdicom puts its own `storescu` beside ours."""
    folders = [*os.environ.get("PATH", "").split(os.pathsep), "/usr/bin", "/usr/sbin", "/sbin"]
    for folder in folders:
        found = shutil.which(name, path=folder) if folder else None
        # An active environment's own `storescu` is in PATH too; it is a script, dcmtk's is not.
        if found is not None and b"python" not in Path(found).read_bytes()[:128]:
            return found
    pytest.skip(f"{name} (apt package {package}) is not installed")


def wait_until(question: Callable[[], T | None], what: str, timeout_seconds: float = 120.0) -> T:
    """Ask until the answer is true, and return it."""
    deadline = time.monotonic() + timeout_seconds
    while not (answer := question()):
        if time.monotonic() > deadline:
            pytest.fail(f"waited {timeout_seconds:g} s in vain: {what}")
        time.sleep(0.1)
    return answer


def with_other_identity(path: Path, folder: Path) -> Path:
    """Copy a file under other SOP instance and study UIDs, changing no other byte.

    Two pairs of the real samples share their UIDs, and a receiver keeps what came first.
    """
    import pydicom

    content = path.read_bytes()
    header = pydicom.dcmread(path, stop_before_pixels=True, force=True)
    for uid in (header.SOPInstanceUID, header.StudyInstanceUID):
        fresh = make_uid(path.name, uid)[: len(uid)].rstrip(".").ljust(len(uid), "1")
        content = content.replace(uid.encode(), fresh.encode())
    copy = folder / path.name
    copy.write_bytes(content)
    return copy


class Program:
    """A child process with its output in a file."""

    def __init__(self, command: list[str], log: Path, **environment: str) -> None:
        self.log = log
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("VIGIL_")}
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                command, stdout=output, stderr=subprocess.STDOUT, env=inherited | environment
            )

    def stop(self, number: int = signal.SIGTERM, timeout_seconds: float = 40.0) -> int:
        """Send a signal, wait for the end, and return the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()

    def answers(self, url: str) -> bool:
        """Return whether the URL answers with success; fail if the program has ended."""
        if self.process.poll() is not None:
            text = self.log.read_text(encoding="utf-8", errors="replace")[-4000:]
            pytest.fail(f"{self.process.args[0]} ended with {self.process.returncode}:\n{text}")
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(url, timeout=5).is_success
        return False


class Vigil:
    """A running ``vigil serve`` in a data folder of its own; it can be killed and started again."""

    def __init__(self, folder: Path, bundle: Path) -> None:
        self.folder = folder
        self.bundle = bundle
        self.dicom_port, self.http_port = free_port(), free_port()
        self.url = f"http://{HOST}:{self.http_port}"
        self.program: Program | None = None

    def start(self, *, wait: bool = True, **environment: str) -> Self:
        """Start the service and wait until it is ready."""
        command = [
            str(VIGIL), "serve",
            "--data-dir", str(self.folder / "data"), "--dicom-port", str(self.dicom_port),
            "--http-port", str(self.http_port),
        ]  # fmt: skip
        # By the environment: a bundle named there may come later, one on the command line must not.
        environment = {"VIGIL_BUNDLE": str(self.bundle), "VIGIL_ACCOUNTS": "off"} | environment
        program = Program(command, self.folder / "service.log", **environment)
        self.program = program
        if wait:
            try:
                wait_until(lambda: program.answers(f"{self.url}/ready"), "the service is ready")
            except BaseException:
                program.stop(signal.SIGKILL)
                raise
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.stop()

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Stop the service and return its exit code."""
        assert self.program is not None
        return self.program.stop(number)

    def get(self, path: str) -> Any:
        """Return a JSON answer."""
        return httpx.get(f"{self.url}{path}", timeout=30).raise_for_status().json()

    def studies(self) -> list[dict[str, Any]]:
        """Return the whole worklist."""
        page = self.get("/api/worklist?limit=500")
        assert page["total"] == len(page["studies"])
        return list(page["studies"])

    def instances(self) -> dict[str, dict[str, Any]]:
        """Return every picture by its SOP instance UID."""
        return {
            instance["sop_instance_uid"]: instance
            for study in self.studies()
            for instance in self.get(f"/api/studies/{study['study_instance_uid']}")["instances"]
        }

    def wait_for(self, count: int, timeout_seconds: float = 200.0) -> dict[str, dict[str, Any]]:
        """Wait until so many pictures are answered and return all by their SOP instance UIDs."""

        def answered() -> dict[str, dict[str, Any]] | None:
            studies = self.studies()
            done = sum(study["pictures"] - study["pending"] for study in studies)
            waits = sum(study["pending"] for study in studies)
            return self.instances() if done >= count and not waits else None

        return wait_until(answered, f"{count} pictures are answered", timeout_seconds)


class Orthanc:
    """A running Orthanc that forwards all it receives to Vigil."""

    def __init__(self, folder: Path, vigil_port: int) -> None:
        self.folder = folder
        self.url = f"http://{HOST}:{(http_port := free_port())}"
        self.dicom_port = free_port()
        (folder / "forward.lua").write_text(
            "function OnStoredInstance(instanceId, tags, metadata, origin)\n"
            "  SendToModality(instanceId, 'vigil')\n"
            "end\n",
            encoding="utf-8",
        )
        configuration = {
            "Name": "PACS of the tests",
            "StorageDirectory": str(folder / "storage"),
            "IndexDirectory": str(folder / "storage"),
            "Plugins": [],
            "LuaScripts": [str(folder / "forward.lua")],
            "HttpPort": http_port,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "DicomAet": "ORTHANC",
            "DicomPort": self.dicom_port,
            "DicomCheckCalledAet": False,
            "DicomModalities": {"vigil": ["VIGIL", HOST, vigil_port]},
            "DicomScuTimeout": 30,
            "OverwriteInstances": False,
        }
        self._configuration = folder / "orthanc.json"
        self._configuration.write_text(json.dumps(configuration), encoding="utf-8")
        self.program: Program | None = None

    def start(self) -> Self:
        """Start Orthanc and wait until it answers."""
        program = Program(
            [find_tool("Orthanc", "orthanc"), str(self._configuration)], self.folder / "orthanc.log"
        )
        self.program = program
        wait_until(lambda: program.answers(f"{self.url}/system"), "Orthanc answers")
        return self

    def stop(self) -> None:
        """Stop Orthanc."""
        if self.program is not None:
            self.program.stop()

    def upload(self, path: Path) -> bool:
        """Give Orthanc a file; return whether it took it."""
        return httpx.post(f"{self.url}/instances", content=path.read_bytes(), timeout=30).is_success

    def failed_jobs(self) -> list[dict[str, Any]]:
        """Return the forwardings that failed."""
        jobs = httpx.get(f"{self.url}/jobs?expand", timeout=30).raise_for_status().json()
        return [job for job in jobs if job["State"] == "Failure"]
