"""The worklist's page in a real browser."""

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page

from tests.system.pages import LIST, OpenPage, arrive, screenshot
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

    page = arrive(pages(language="vi", width=1440, height=900), vigil.url, LIST)
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


_COUNT_BEFORE_THE_FIRST_ROW = """
window.askedBefore = 0;
const ask = window.fetch;
window.fetch = (url, ...options) => {
  if (String(url).startsWith("/api/worklist?") && !document.querySelector(".row")) askedBefore += 1;
  return ask(url, ...options);
};
"""


@pytest.mark.slow
def test_the_list_is_asked_for_once_before_its_first_row(
    start_vigil: Callable[..., Vigil],
    stand_in_bundle: Path,
    phantom_file: Callable[..., Path],
    pages: OpenPage,
) -> None:
    vigil = start_vigil(stand_in_bundle)
    Sender(vigil.dicom_port, [phantom_file(50, "effusion")]).wait()
    vigil.wait_for(1)
    page = pages()
    page.add_init_script(_COUNT_BEFORE_THE_FIRST_ROW)
    line = page.context.new_cdp_session(page)
    line.send("Network.enable")
    slow = {"latency": 200, "downloadThroughput": 250_000, "uploadThroughput": 250_000}
    line.send("Network.emulateNetworkConditions", {"offline": False, **slow})
    asked: list[str] = []
    page.on("request", lambda one: asked.append(one.url))
    page.goto(vigil.url)
    page.wait_for_selector(".row")
    # The live connection was there before the answer, and did not make the page ask anew.
    assert page.evaluate("window.askedBefore") == 1
    assert any("/api/events" in url for url in asked)


_SAID = """async ([language, key, values]) => {
  const { t, useLanguage } = await import("/assets/i18n.js");
  await useLanguage(language);
  return t(key, values);
}"""


@pytest.mark.slow
def test_one_of_something_is_said_as_the_language_says_it(
    start_vigil: Callable[..., Vigil], stand_in_bundle: Path, pages: OpenPage
) -> None:
    page = arrive(pages(), start_vigil(stand_in_bundle).url, ".rows + .empty")

    def said(language: str, key: str, **values: object) -> str:
        return str(page.evaluate(_SAID, [language, key, values]))

    assert "the one other finding of" in said("en", "reading.rest", n=1)
    assert "the other 2 findings of" in said("en", "reading.rest", n=2)
    assert "le seul autre signe" in said("fr", "reading.rest", n=1)
    assert "les 2 autres signes" in said("fr", "reading.rest", n=2)
    assert "tìm 1 dấu hiệu còn lại" in said("vi", "reading.rest", n=1)
    assert [said("en", "age_M", n=n) for n in (1, 2)] == ["1 month", "2 months"]
    assert [said("fr", "age_Y", n=n) for n in (0, 1, 2)] == ["0 an", "1 an", "2 ans"]
