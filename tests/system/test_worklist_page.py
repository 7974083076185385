"""The worklist as readers use it: search, arrivals, two at once, a lost connection, bad input."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.system.pages import LIST, OpenPage, arrive, screenshot, violations
from tests.system.peers import Vigil, wait_until
from tests.system.test_restart import Sender
from vigil.phantom import make_phantom
from vigil.phantom.dicom import write_dx

pytestmark = pytest.mark.slow

# Two signs of equality and no more: each begins another of a name's three component groups.
SCRIPT = '<img src=x onerror="document.body.remove()">'
FILMS = (
    ("effusion", "Nguyễn^Văn Ân", {"InstitutionName": "Bệnh viện huyện Mai Châu"}),
    ("normal", "Trần^Thị Bình", {"InstitutionName": "Trạm y tế xã Pù Bin"}),
    ("cardiomegaly", "Lê^Hoàng Đức", {"InstitutionName": "Bệnh viện huyện Mai Châu"}),
    ("lateral", "Phạm^Minh Châu", {"InstitutionName": "Trạm y tế xã Pù Bin"}),
    ("rotated", "Vũ^Thị Ước", {"InstitutionName": "Trạm y tế xã Vân Hồ"}),
    ("normal", f"{SCRIPT}^'; DROP TABLE", {"InstitutionName": '"&lt;b>'}),
    ("opacity", "Đặng^Thu Hà", {"InstitutionName": "Trạm y tế xã Vân Hồ"}),
)


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("films")
    return [
        write_dx(
            make_phantom(60 + number, kind, (512, 512)), folder / f"{number}.dcm",
            patient_name=name, PatientID=f"MC{number:04d}", AccessionNumber=f"2026-{number}",
            StudyDescription="X-quang ngực thẳng", StudyDate="20261125", **tags,
        )
        for number, (kind, name, tags) in enumerate(FILMS)
    ]  # fmt: skip


def send_all(vigil: Vigil, films: list[Path]) -> Vigil:
    Sender(vigil.dicom_port, films).wait()
    vigil.wait_for(len(films))
    return vigil


@pytest.fixture
def vigil(start_vigil: Callable[..., Vigil], stand_in_bundle: Path, films: list[Path]) -> Vigil:
    """A service with the films, for a test that changes what it holds."""
    return send_all(start_vigil(stand_in_bundle), films)


@pytest.fixture(scope="module")
def kept(
    tmp_path_factory: pytest.TempPathFactory, stand_in_bundle: Path, films: list[Path]
) -> Iterator[Vigil]:
    """A service with the films, for all tests that only look."""
    with Vigil(tmp_path_factory.mktemp("kept"), stand_in_bundle).start() as vigil:
        yield send_all(vigil, films)


def names(page: Page) -> list[str]:
    return page.locator(".rows .row-link").all_inner_texts()


def listed(vigil: Vigil, query: str = "") -> list[str]:
    studies = vigil.get(f"/api/worklist?limit=500{query}")["studies"]
    return [study["patient"]["display_name"] for study in studies]


def open_list(page: Page, vigil: Vigil, query: str = "") -> Page:
    return arrive(page, f"{vigil.url}/{query}", LIST)


def test_the_list_is_searched_and_filtered_by_keys_and_the_address_keeps_it(
    kept: Vigil, pages: OpenPage
) -> None:
    page = open_list(pages(), kept)
    assert names(page) == listed(kept)
    assert page.locator("body").count() == 1
    assert any("<img" in name for name in names(page))
    page.keyboard.press("/")
    expect(page.locator("#search")).to_be_focused()
    page.keyboard.type("an nguyen")
    expect(page.locator(".rows .row-link")).to_have_text(["Nguyễn Văn Ân"])
    expect(page.locator(".shown")).to_contain_text("Studies: 1 of 7. The filters hide 6.")
    assert "text=an+nguyen" in page.url
    for text, expected in {
        "dang": ["Đặng Thu Hà"],
        "MC0002": ["Lê Hoàng Đức"],
        "2026-3": ["Phạm Minh Châu"],
        "\"'; DROP TABLE studies; --%_\\": [],
        "uoc": ["Vũ Thị Ước"],
    }.items():
        page.fill("#search", text)
        expect(page.locator(".rows .row-link")).to_have_text(expected)
    page.reload()
    expect(page.locator(".rows .row-link")).to_have_text(["Vũ Thị Ước"])
    page.get_by_role("button", name="Show all").click()
    expect(page.locator(".rows .row-link")).to_have_count(7)
    page.locator("[data-value=refused]").click()
    expect(page.locator(".rows code").first).to_have_text("NOT_FRONTAL")
    page.locator("[data-value=unread]").click()
    page.get_by_role("button", name="Filters").click()
    page.get_by_label("Site").select_option("Trạm y tế xã Pù Bin")
    expect(page.locator(".rows .row-link")).to_have_count(2)
    page.get_by_role("button", name="By arrival").click()
    expect(page.locator(".rows .row-link")).to_have_text(["Trần Thị Bình", "Phạm Minh Châu"])


def test_rows_are_walked_by_keys_and_opened(kept: Vigil, pages: OpenPage) -> None:
    page = open_list(pages(), kept)
    first, second = names(page)[:2]
    page.keyboard.press("j")
    expect(page.locator(".row-link:focus")).to_have_text(first)
    page.keyboard.press("j")
    expect(page.locator(".row-link:focus")).to_have_text(second)
    page.keyboard.press("ArrowUp")
    expect(page.locator(".row-link:focus")).to_have_text(first)
    page.keyboard.press("?")
    expect(page.locator("dialog.help")).to_contain_text("Next study")
    page.keyboard.press("Escape")
    expect(page.locator("dialog.help")).to_have_count(0)
    expect(page.locator(".row-link:focus")).to_have_text(first)
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text(first)
    page.keyboard.press("Escape")
    page.locator(LIST).first.wait_for()


def test_a_new_study_waits_until_the_reader_wants_it_and_nothing_moves(
    vigil: Vigil, pages: OpenPage, phantom_file: Callable[..., Path]
) -> None:
    page = open_list(pages(), vigil)
    before = names(page)
    page.keyboard.press("j")
    page.keyboard.press("j")
    focused = page.locator(".row-link:focus")
    place = focused.bounding_box()
    Sender(vigil.dicom_port, [phantom_file(90, "effusion", patient_name="Hồ^Mới")]).wait()
    vigil.wait_for(len(FILMS) + 1)
    expect(page.locator(".news")).to_have_text("New studies: 1")
    expect(page.locator("[aria-live=polite]").first).to_have_text("New studies: 1")
    assert names(page) == before
    expect(focused).to_have_text(before[1])
    assert focused.bounding_box() == place
    wait_until(
        lambda: page.locator("[data-value=unread] b").inner_text() == "8", "the count follows"
    )
    page.keyboard.press("n")
    wait_until(lambda: names(page) == listed(vigil), "the new study stands in its place")
    assert "Hồ Mới" in names(page)


def test_two_readers_see_who_has_a_study_and_one_takes_it_over_explicitly(
    vigil: Vigil, pages: OpenPage
) -> None:
    hanh, minh = open_list(pages(), vigil), open_list(pages(language="vi"), vigil)
    name = names(hanh)[0]
    hanh.keyboard.press("j")
    hanh.keyboard.press("t")
    expect(hanh.locator(".rows li").first).to_contain_text("Taken by you")
    expect(minh.locator(".rows li").first).to_contain_text("người đọc khác đã nhận")
    hanh.keyboard.press("Enter")
    expect(hanh.locator("h1")).to_have_text(name)
    expect(minh.locator(".rows li").first).to_contain_text("người đọc khác đang đọc")
    minh.locator(".rows .row-link").first.click()
    expect(minh.locator(".being-read")).to_contain_text("đang được người đọc khác mở")
    minh.locator(".being-read button").click()
    expect(minh.locator(".being-read")).to_be_hidden()
    study = vigil.studies()[0]
    assert study["being_read"]["account"] != study["assigned"]["account"]
    minh.go_back()
    expect(minh.locator(".rows li").first).not_to_contain_text("đang đọc")
    expect(minh.locator(".rows li").first).to_contain_text("Nhận thay")


def test_a_lost_connection_is_said_and_what_was_missed_is_caught_up(
    vigil: Vigil, pages: OpenPage, phantom_file: Callable[..., Path]
) -> None:
    page = open_list(pages(), vigil)
    vigil.stop()
    expect(page.locator("#lost")).to_be_visible()
    assert len(names(page)) == len(FILMS)
    vigil.start()
    Sender(vigil.dicom_port, [phantom_file(91, "normal", patient_name="Hồ^Sau")]).wait()
    expect(page.locator("#lost")).to_be_hidden()
    wait_until(lambda: "Hồ Sau" in names(page), "what came meanwhile is there")


@pytest.mark.parametrize("language", ["vi", "en", "fr"])
@pytest.mark.parametrize("theme", ["dark", "light"])
def test_the_list_is_accessible_in_every_language_theme_and_size(
    kept: Vigil, pages: OpenPage, language: str, theme: str
) -> None:
    for width, height in ((1366, 768), (390, 844)):
        page = open_list(pages(language=language, theme=theme, width=width, height=height), kept)
        page.locator(".row img").first.wait_for()
        screenshot(page, f"worklist-{language}-{theme}-{width}")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        page.locator("[aria-controls=filters]").click()
        page.locator("#filters").wait_for()
        assert violations(page) == []
        screenshot(page, f"worklist-filters-{language}-{theme}-{width}")
