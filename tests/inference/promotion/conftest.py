"""Two stand-in bundles that differ in a threshold, and services that serve the first."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from tests.inference.conftest import Until
from tests.inference.promotion.bundles import Bundles, write_variant
from vigil_inference.intake import Source
from vigil_inference.promotion.desk import Asked, ModelDesk
from vigil_inference.promotion.record import read_models
from vigil_inference.promotion.tables import ShadowReading
from vigil_inference.service import Service
from vigil_inference.settings import Settings
from vigil_inference.tables import Instance, State


@pytest.fixture(scope="session")
def variants(tmp_path_factory: pytest.TempPathFactory, stand_in_bundle: Path) -> Bundles:
    folder = tmp_path_factory.mktemp("variants")
    return Bundles(
        first=write_variant(stand_in_bundle, folder / "first", "first", 0.5),
        second=write_variant(stand_in_bundle, folder / "second", "second", 0.02),
        third=write_variant(stand_in_bundle, folder / "third", "third", 0.7),
    )


@pytest.fixture
def bundles(variants: Bundles, tmp_path: Path) -> Bundles:
    """Copies that a test may break."""
    folder = tmp_path / "bundles-of-the-test"
    return Bundles(
        *(shutil.copytree(path, folder / path.name) for path in variants)  # type: ignore[arg-type]
    )


class Site:
    """An installation: its settings, its nodes, its desk."""

    def __init__(self, folder: Path, database: str, bundle: Path) -> None:
        self.folder = folder
        self.common: dict[str, Any] = {
            "data_dir": folder / "var",
            "database_url": database if database.startswith("postgresql") else "",
            "dicom_host": "127.0.0.1",
            "dicom_port": 0,
            "storage_reserve_bytes": 0,
            "analysis_workers": 1,
            "bundle": bundle,
            "shadow_least_pictures": 3,
            "model_retry_seconds": 0.2,
            "lease_seconds": 2,
            "accounts": "off",
        }
        self.nodes: list[Service] = []

    def settings(self, **values: Any) -> Settings:
        return Settings(**self.common | values)

    def make(self, *, has_doors: bool = True, **values: Any) -> Service:
        service = Service(self.settings(**values), has_doors=has_doors)
        self.nodes.append(service)
        return service

    def start(self, *, has_doors: bool = True, **values: Any) -> Service:
        service = self.make(has_doors=has_doors, **values)
        service.start()
        return service

    def desk(self, service: Service, **values: Any) -> ModelDesk:
        return ModelDesk(service.store, self.settings(**values))

    def stages(self, service: Service) -> dict[str, str]:
        return {e.bundle_id: e.stage.value for e in read_models(service.store).entries}


def asked(reason: str = "for the test", *, anyway: bool = False) -> Asked:
    return Asked("hanh@station", reason, anyway)


def instances(service: Service) -> list[Instance]:
    with service.store.reading() as session:
        return list(session.scalars(select(Instance).order_by(Instance.id)))


def readings(service: Service) -> list[ShadowReading]:
    with service.store.reading() as session:
        return list(session.scalars(select(ShadowReading).order_by(ShadowReading.id)))


def all_answered(service: Service) -> bool:
    return all(row.state != State.RECEIVED.value for row in instances(service))


@pytest.fixture
def site(
    tmp_path: Path, database: str, bundles: Bundles, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Site]:
    monkeypatch.setattr("vigil_inference.promotion.keeper._LOOK_SECONDS", 0.05)
    monkeypatch.setattr("vigil_inference.promotion.shadow._LOOK_SECONDS", 0.05)
    monkeypatch.setattr("vigil_inference.promotion.shadow._RETRY_SECONDS", 0.2)
    site = Site(tmp_path, database, bundles.first)
    yield site
    for node in site.nodes:
        node.stop()


@pytest.fixture
def serving(site: Site, until: Until) -> Service:
    """A service that serves the first bundle, recorded as live."""
    service = site.start()
    until(lambda: service.analysis.status.available)
    return service


SendFilms = Callable[..., None]


@pytest.fixture
def send_films(phantom_file: Callable[..., Path]) -> SendFilms:
    """Accept phantoms: ``send_films(service, 3, kind="effusion")``."""
    seeds = iter(range(1000))

    def send(service: Service, count: int, kind: str = "normal") -> None:
        for _ in range(count):
            path = phantom_file(next(seeds), kind, size=(256, 256))
            service.intake.accept(path, Source("FOLDER"))

    return send
