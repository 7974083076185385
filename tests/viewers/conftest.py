from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import PROJECT
from tests.system.browser import Browser

SCREENSHOTS = PROJECT / "var/artefacts/viewers"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    folder = Path(__file__).parent
    for item in items:
        if folder in item.path.parents:
            item.add_marker(pytest.mark.slow)
            item.add_marker(pytest.mark.system)


@pytest.fixture(scope="session")
def profile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("browser")


@pytest.fixture
def browser(profile: Path) -> Iterator[Browser]:
    """A fresh one each time: a page's WebGL contexts, of which there are few, outlive it."""
    with Browser(profile, 1600, 1000, "en") as browser:
        yield browser
