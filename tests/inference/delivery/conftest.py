"""What the tests of delivery share: a service that delivers quickly, and peers of all kinds."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.inference.conftest import FakeModel, MakeFile, Until
from tests.inference.delivery.archive import Archive
from vigil_inference.delivery.desk import DeliveryRow, Selection
from vigil_inference.intake import Source
from vigil_inference.service import Service
from vigil_inference.settings import Settings

QUICK: dict[str, Any] = {
    "result_quiet_seconds": 0,
    "delivery_retry_seconds": 0.3,
    "delivery_retry_most_seconds": 0.5,
    "dicom_host": "127.0.0.1",
    "dicom_port": 0,
    "storage_reserve_bytes": 0,
    "analysis_workers": 1,
    "accounts": "off",
}


class Site:
    """A running service and its deliveries."""

    def __init__(self, service: Service, make_file: MakeFile, until: Until) -> None:
        self.service = service
        self._make_file = make_file
        self._until = until

    def receive(self, wish: str = "0.95", *, source: str = "XR1", **tags: Any) -> str:
        """Take a picture in and return its study's UID."""
        path = self._make_file(wish, **tags)
        receipt = self.service.intake.accept(path, Source("C-STORE", calling_ae_title=source))
        return receipt.study_instance_uid

    def deliveries(self, study: str = "") -> list[DeliveryRow]:
        """Return the deliveries, the oldest first."""
        desk = self.service.delivery.desk
        return desk.rows(Selection(study_instance_uid=study), limit=500)[::-1]

    def wait_for(self, *states: str, study: str = "", seconds: float = 60.0) -> list[DeliveryRow]:
        """Wait until the deliveries have exactly these states, in their order."""

        def reached() -> list[DeliveryRow] | None:
            rows = self.deliveries(study)
            return rows if [row.state for row in rows] == list(states) else None

        try:
            return self._until(reached, seconds)
        except AssertionError:
            found = [(row.kind, row.state, row.code, row.reason) for row in self.deliveries(study)]
            pytest.fail(f"expected {states}, found {found}")

    def wait_until(self, condition: Callable[[], Any], seconds: float = 60.0) -> Any:
        """Wait for anything else."""
        return self._until(condition, seconds)


@pytest.fixture
def start_site(tmp_path: Path, make_file: MakeFile, until: Until) -> Iterator[Callable[..., Site]]:
    """Start a service: ``start_site({destination}, …, setting=…)``; again on the same folder."""
    started: list[Service] = []

    def start(*destinations: dict[str, Any], **settings: Any) -> Site:
        values = QUICK | {"data_dir": tmp_path / "var", "destinations": destinations} | settings
        service = Service(Settings(**values), FakeModel())
        service.start()
        started.append(service)
        return Site(service, make_file, until)

    yield start
    for service in started:
        service.stop()


@pytest.fixture
def start_archive(tmp_path: Path) -> Iterator[Callable[..., Archive]]:
    """Start an Orthanc as a destination."""
    started: list[Archive] = []

    def start(*, running: bool = True, **options: Any) -> Archive:
        archive = Archive(tmp_path / f"archive-{len(started)}", **options)
        started.append(archive)
        return archive.start() if running else archive

    yield start
    for archive in started:
        archive.stop()
