from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from tests.conftest import PROJECT
from tests.system.pages import chromium

SCREENSHOTS = PROJECT / "var/artefacts/viewers"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    folder = Path(__file__).parent
    for item in items:
        if folder in item.path.parents:
            item.add_marker(pytest.mark.slow)
            item.add_marker(pytest.mark.system)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A fresh one each time: a page's WebGL contexts, of which there are few, end with it."""
    context = browser.new_context(locale="en", viewport={"width": 1600, "height": 1000})
    yield context.new_page()
    context.close()
