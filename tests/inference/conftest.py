"""What the service's tests share: a stand-in model, small DICOM files, a running service."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import pytest
import uvicorn
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian, generate_uid

from tests.postgresql import new_database
from vigil.bundle import (
    BundleManifest,
    Calibration,
    FindingSpec,
    ModelFile,
    OperatingPoint,
    Preprocessing,
)
from vigil.dicom import describe
from vigil.errors import RefusalCode
from vigil.radiograph import Radiograph
from vigil.triage import Priority, assign_priority
from vigil.triager import TriageResult
from vigil_inference.app import create_app
from vigil_inference.operations.opening import Opening
from vigil_inference.service import Service
from vigil_inference.settings import Settings
from vigil_inference.store import Store

THRESHOLD, CRITICAL = 0.5, 0.9


def make_manifest() -> BundleManifest:
    finding = {"calibration": Calibration(method="none")}
    flag = OperatingPoint(threshold=THRESHOLD, sensitivity=0.9, specificity=0.7)
    return BundleManifest(
        id="fake",
        created="2026-11-21",
        description="for tests",
        architecture="none",
        model=ModelFile(file="model.onnx", sha256="0" * 64),
        preprocessing=Preprocessing(version=1, size=32),
        findings=(
            FindingSpec(
                key="Effusion",
                label="Effusion",
                flag=flag,
                critical=OperatingPoint(threshold=CRITICAL),
                **finding,
            ),
            FindingSpec(key="Mass", label="Mass", flag=flag, experimental=True, **finding),
        ),
        notice="Research use only, not a medical device",
        digest="d" * 64,
    )


class _Panic(BaseException):
    """What native code may raise: no Exception, so that it passes every usual handler."""


class FakeModel:
    """Says what a file's Image Comments ask for: a probability, a refusal's code, or a crash."""

    def __init__(self) -> None:
        self.manifest = make_manifest()
        self.bundle: Any = SimpleNamespace(
            id="fake", digest="d" * 64, manifest=self.manifest, folder=Path("no bundle here")
        )
        self.seen: list[str] = []
        self.pause_seconds = 0.0
        self.may_go_on = threading.Event()
        """Cleared, it keeps each picture in work until it is set again."""
        self.may_go_on.set()

    def triage(self, path: Path) -> TriageResult:
        dataset = dcmread(path)
        self.seen.append(str(dataset.SOPInstanceUID))
        time.sleep(self.pause_seconds)
        assert self.may_go_on.wait(120), "it was never let go on"
        wish = str(dataset.get("ImageComments", "0.1"))
        common: dict[str, Any] = {
            "bundle_id": "fake",
            "bundle_digest": "d" * 64,
            "milliseconds": 1.5,
        }
        if wish == "PANIC":
            raise _Panic("native code")
        if wish == "CRASH":
            raise RuntimeError(f"a bug that quotes {dataset.PatientName}")
        if wish in RefusalCode.__members__:
            return TriageResult(
                status="not_analysed",
                priority=Priority.NOT_ANALYSED,
                code=RefusalCode(wish),
                reason=f"refused as {wish}",
                **common,
            )
        probability = float(wish)
        decision = assign_priority({"Effusion": probability}, self.manifest.findings)
        pixels = np.tile(np.linspace(0, 65535, 48).astype(np.uint16), (64, 1))
        return TriageResult(
            status="analysed",
            priority=decision.priority,
            reason=decision.reason,
            findings={"Effusion": probability},
            flags=decision.flags,
            withheld={"Mass": "validated on patients of 15 years and over only"},
            notes=("the picture was inverted before it was analysed",),
            description=describe(dataset),
            radiograph=Radiograph(pixels, describe(dataset)),
            maps={"Effusion": np.tile(np.linspace(0.05, 0.95, 6, dtype=np.float32), (8, 1))},
            **common,
        )


def make_dataset(**tags: Any) -> Dataset:
    """Return a CR object of 8 × 8 pixels; tags set or, if None, leave out."""
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.SOPClassUID = ComputedRadiographyImageStorage
    dataset.SOPInstanceUID = generate_uid()
    dataset.StudyInstanceUID = generate_uid()
    dataset.SeriesInstanceUID = generate_uid()
    dataset.PatientName = "Nguyễn^Văn An"
    dataset.PatientID = "P1"
    dataset.PatientSex = "M"
    dataset.PatientAge = "045Y"
    dataset.StudyDate = "20261121"
    dataset.StudyDescription = "X-quang ngực thẳng"
    dataset.Modality = "CR"
    dataset.Rows = dataset.Columns = 8
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.PixelRepresentation = 0
    dataset.PixelData = bytes(range(128))
    for keyword, value in tags.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.get("SOPClassUID")
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.get("SOPInstanceUID")
    return dataset


def cut_inside_a_sequence(folder: Path) -> Path:
    """Write a file that ends where the item of a sequence should begin."""
    dataset = make_dataset()
    item = Dataset()
    item.CodeValue = "1"
    dataset.ProcedureCodeSequence = [item]
    dataset["ProcedureCodeSequence"].is_undefined_length = True
    path = folder / "cut.dcm"
    dataset.save_as(path, enforce_file_format=True)
    content = path.read_bytes()
    path.write_bytes(content[: content.index(b"\x08\x00\x32\x10SQ") + 15])
    return path


MakeFile = Callable[..., Path]
Until = Callable[[Callable[[], Any]], Any]


@pytest.fixture
def make_file(tmp_path: Path) -> MakeFile:
    """Write such an object and return its path: ``make_file(wish="0.95", PatientID="P2")``."""
    folder = tmp_path / "sent"
    folder.mkdir()

    def write(wish: str = "0.1", **tags: Any) -> Path:
        path = folder / f"{len(list(folder.iterdir())):03d}.dcm"
        dataset = make_dataset(ImageComments=wish, **tags)
        dataset.save_as(path, enforce_file_format=True)
        return path

    return write


@pytest.fixture
def until() -> Until:
    """Wait for something to become true, and return it."""

    def wait(condition: Callable[[], Any], seconds: float = 60.0) -> Any:
        deadline = time.monotonic() + seconds
        while not (found := condition()):
            assert time.monotonic() < deadline, "it did not happen in time"
            time.sleep(0.01)
        return found

    return wait


@pytest.fixture
def postgresql() -> Iterator[str]:
    """The URL of an empty PostgreSQL database, dropped at the end."""
    with new_database() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database: each test that asks for it runs on both kinds."""
    if request.param == "postgresql":
        url: str = request.getfixturevalue("postgresql")
        return url
    folder = tmp_path / "var"
    folder.mkdir(exist_ok=True)
    return f"sqlite:///{folder / 'vigil.sqlite3'}"


@pytest.fixture
def store(database: str) -> Iterator[Store]:
    store = Store(database)
    yield store
    store.close()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        data_dir=tmp_path / "var",
        dicom_host="127.0.0.1",
        dicom_port=0,
        storage_reserve_bytes=0,
        analysis_workers=1,
        dicom_timeout_seconds=10,
        accounts="off",
    )


@pytest.fixture
def model() -> FakeModel:
    return FakeModel()


@pytest.fixture
def service(settings: Settings, model: FakeModel) -> Service:
    """A service that is not started."""
    return Service(settings, model)


@contextmanager
def serving(settings: Settings, service: Service | Opening) -> Iterator[httpx.Client]:
    """Run a service behind a real web server, and yield a client of it."""
    config = uvicorn.Config(
        create_app(settings, service), log_level="critical", timeout_graceful_shutdown=2
    )
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            while not server.started:
                assert thread.is_alive(), "the web server did not start"
                time.sleep(0.01)
            url = f"http://127.0.0.1:{listening.getsockname()[1]}"
            with httpx.Client(base_url=url, timeout=60, trust_env=False) as client:
                yield client
        finally:
            opened = service.service if isinstance(service, Opening) else service
            if opened is not None:
                opened.hub.close()
            server.should_exit = True
            thread.join(20)


@pytest.fixture
def client(settings: Settings, service: Service) -> Iterator[httpx.Client]:
    """A client of a running service."""
    with serving(settings, service) as client:
        yield client


@pytest.fixture
def stow() -> Callable[..., httpx.Response]:
    """Send files by STOW-RS: ``stow(client, path, …, study="")``."""

    def send(client: httpx.Client, *paths: Path, study: str = "") -> httpx.Response:
        body = b"".join(
            b"--BOUND\r\nContent-Type: application/dicom\r\n\r\n" + path.read_bytes() + b"\r\n"
            for path in paths
        )
        return client.post(
            f"/dicomweb/studies/{study}".rstrip("/"),
            content=body + b"--BOUND--\r\n",
            headers={"Content-Type": 'multipart/related; type="application/dicom"; boundary=BOUND'},
        )

    return send
