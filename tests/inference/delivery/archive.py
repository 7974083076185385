"""An Orthanc as a destination: C-STORE, C-FIND, storage commitment and DICOMweb."""

import json
import signal
from pathlib import Path
from typing import Any, Self

import httpx
import pytest

from tests.system.peers import HOST, Program, find_tool, free_port, wait_until

_DICOMWEB = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")


class Archive:
    """An Orthanc that can be stopped, started and frozen, and says what it holds."""

    def __init__(self, folder: Path, *, commitment_port: int = 104, dicomweb: bool = False) -> None:
        if dicomweb and not _DICOMWEB.exists():
            pytest.skip(
                "Orthanc's DICOMweb plug-in (apt package orthanc-dicomweb) is not installed"
            )
        self.folder = folder
        folder.mkdir()
        self.dicom_port, http_port = free_port(), free_port()
        self.url = f"http://{HOST}:{http_port}"
        configuration = {
            "StorageDirectory": str(folder / "storage"),
            "IndexDirectory": str(folder / "storage"),
            "Plugins": [str(_DICOMWEB)] if dicomweb else [],
            "HttpPort": http_port,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "DicomAet": "ARCHIVE",
            "DicomPort": self.dicom_port,
            "DicomAlwaysAllowFind": True,
            "DicomModalities": {"vigil": ["VIGIL", HOST, commitment_port]},
            "OverwriteInstances": False,
            "DicomScuTimeout": 10,
            "DicomScpTimeout": 10,
        }
        self._configuration = folder / "orthanc.json"
        self._configuration.write_text(json.dumps(configuration), encoding="utf-8")
        self.program: Program | None = None

    def start(self) -> Self:
        """Start it and wait until it answers."""
        program = Program(
            [find_tool("Orthanc", "orthanc"), str(self._configuration)], self.folder / "log"
        )
        self.program = program
        wait_until(lambda: program.answers(f"{self.url}/system"), "Orthanc answers")
        return self

    def stop(self) -> None:
        """Stop it, frozen or not."""
        if self.program is not None:
            self.signal(signal.SIGCONT)
            self.program.stop()
            self.program = None

    def signal(self, number: int) -> None:
        """Freeze it (SIGSTOP) or let it go on (SIGCONT)."""
        assert self.program is not None
        if self.program.process.poll() is None:
            self.program.process.send_signal(number)

    def destination(self, **fields: Any) -> dict[str, Any]:
        """Return the settings that lead to it."""
        return {
            "name": "archive",
            "kind": "c-store",
            "host": HOST,
            "port": self.dicom_port,
            "ae_title": "ARCHIVE",
            "timeout_seconds": 5,
        } | fields

    def get(self, path: str) -> Any:
        """Return a JSON answer of its own interface."""
        return httpx.get(f"{self.url}{path}", timeout=30).raise_for_status().json()

    def held(self) -> dict[str, bytes]:
        """Return every object's bytes by its SOP Instance UID."""
        return {
            instance["MainDicomTags"]["SOPInstanceUID"]: httpx.get(
                f"{self.url}/instances/{instance['ID']}/file", timeout=30
            ).content
            for instance in self.get("/instances?expand")
        }

    def arrivals(self) -> int:
        """Return how often an object became one that it holds."""
        changes = self.get("/changes?limit=1000")["Changes"]
        return sum(change["ChangeType"] == "NewInstance" for change in changes)

    def delete_all(self) -> None:
        """Lose everything."""
        for identifier in self.get("/instances"):
            httpx.delete(f"{self.url}/instances/{identifier}", timeout=30).raise_for_status()
