"""The worklist's page in a real browser."""

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page

from tests.system.pages import OpenPage, screenshot
from tests.system.peers import Vigil, wait_until
from tests.system.test_restart import Sender


@pytest.mark.slow
def test_the_page_shows_every_study_in_reading_order_and_new_ones_by_themselves(
    start_vigil: Callable[..., Vigil],
    stand_in_bundle: Path,
    phantom_file: Callable[..., Path],
    pages: OpenPage,
) -> None:
    vigil = start_vigil(stand_in_bundle)
    kinds = ["normal", "effusion", "cardiomegaly", "lateral", "opacity"]
    paths = [phantom_file(30 + n, kind) for n, kind in enumerate(kinds)]
    assert len(Sender(vigil.dicom_port, paths[:-1]).wait()) == len(paths) - 1
    vigil.wait_for(len(paths) - 1)

    page = pages(language="vi", width=1440, height=900)
    page.goto(vigil.url)
    wait_until(lambda: _shows_all(page, vigil), "the page shows the worklist")
    assert "NOT_FRONTAL" in page.inner_text("main")
    # One more comes while the page is open; nobody touches it.
    Sender(vigil.dicom_port, paths[-1:]).wait()
    vigil.wait_for(len(paths))
    assert len(vigil.studies()) == len(paths)
    wait_until(lambda: _shows_all(page, vigil), "the page shows the new study")
    assert screenshot(page, "worklist").stat().st_size > 20_000


def _shows_all(page: Page, vigil: Vigil) -> bool:
    """Whether every study is on the page, in the worklist's order."""
    text = page.inner_text("main")
    names = [study["patient"]["display_name"] for study in vigil.studies()]
    assert len(set(names)) == len(names)
    positions = [text.find(name) for name in names]
    return -1 not in positions and positions == sorted(positions)
