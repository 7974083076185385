from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.system.pages import OpenPage, chromium, opened_pages
from tests.system.peers import Orthanc, Vigil


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    folder = Path(__file__).parent
    for item in items:
        if folder in item.path.parents:
            item.add_marker(pytest.mark.system)


@pytest.fixture
def start_vigil(tmp_path: Path) -> Iterator[Callable[..., Vigil]]:
    """Start ``vigil serve`` with a bundle; whatever was started is stopped at the end."""
    started: list[Vigil] = []

    def start(bundle: Path, **environment: str) -> Vigil:
        folder = tmp_path / f"vigil-{len(started)}"
        folder.mkdir()
        started.append(Vigil(folder, bundle))
        return started[-1].start(**environment)

    yield start
    for vigil in started:
        vigil.stop()


@pytest.fixture
def start_orthanc(tmp_path: Path) -> Iterator[Callable[[int], Orthanc]]:
    """Start an Orthanc that forwards to a DICOM port."""
    started: list[Orthanc] = []

    def start(vigil_port: int) -> Orthanc:
        folder = tmp_path / "orthanc"
        folder.mkdir()
        started.append(Orthanc(folder, vigil_port))
        return started[-1].start()

    yield start
    for orthanc in started:
        orthanc.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium; each page of ``pages`` is a reader of its own in it.

    It ends with the module: Playwright's event loop would be in the way of other tests' own.
    """
    with chromium() as started:
        yield started


@pytest.fixture
def pages(browser: Browser) -> Iterator[OpenPage]:
    """Open pages: ``pages(language="vi", theme="light", width=390, height=844)``."""
    with opened_pages(browser) as open_page:
        yield open_page
