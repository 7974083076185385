"""A radiologist reads in a browser: by keys alone, beside a colleague, on a line that breaks."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, Route, expect

from tests.system.pages import FILM, READING, OpenPage, arrive, screenshot, violations
from tests.system.peers import Vigil, wait_until
from tests.system.test_restart import Sender

pytestmark = pytest.mark.slow


@pytest.fixture
def ward(
    start_vigil: Callable[..., Vigil], stand_in_bundle: Path, phantom_file: Callable[..., Path]
) -> Iterator[Callable[[int], Vigil]]:
    """Start a service with so many analysed studies, flagged and not."""

    def start(count: int) -> Vigil:
        vigil = start_vigil(stand_in_bundle)
        kinds = ["effusion", "cardiomegaly", "normal"]
        paths = [phantom_file(60 + n, kinds[n % 3]) for n in range(count)]
        assert len(Sender(vigil.dicom_port, paths).wait()) == count
        vigil.wait_for(count)
        return vigil

    return start


def readings(vigil: Vigil, study: dict[str, Any]) -> dict[str, Any]:
    return dict(vigil.get(f"/api/studies/{study['study_instance_uid']}/readings"))


def standing(page: Page) -> Any:
    return page.locator("section.reading")


def open_study(page: Page, vigil: Vigil, study: dict[str, Any]) -> None:
    arrive(page, f"{vigil.url}/studies/{study['study_instance_uid']}", READING)
    expect(standing(page)).to_have_attribute("data-standing", "empty")


def test_ten_studies_are_read_by_keys_alone_in_the_order_of_their_urgency(
    ward: Callable[[int], Vigil], pages: OpenPage
) -> None:
    vigil = ward(10)
    order = vigil.studies()
    page = pages(language="vi")
    # The page goes on to the next study within five seconds of the signature; here it does on a
    # machine that needs longer to save it, too.
    page.clock.set_fixed_time(datetime.now(UTC))
    page.goto(f"{vigil.url}/studies/{order[0]['study_instance_uid']}")
    for number, study in enumerate(order):
        uid = study["study_instance_uid"]
        page.wait_for_url(f"**/studies/{uid}")
        expect(standing(page)).to_have_attribute("data-standing", "empty")
        rows = page.locator(".says li")
        expect(rows).to_have_count(len(study["flags"]))
        expect(page.locator(READING)).to_be_visible()
        for _ in study["flags"]:
            page.keyboard.press("y" if number % 2 else "x")
        if number == 0:
            # A few letters of another language's word, and it is among the findings.
            page.keyboard.press("e")
            page.keyboard.type("tran khi mang")
            page.keyboard.press("Enter")
            expect(page.locator(".says li[data-label='Pneumothorax']")).to_have_attribute(
                "data-said", "present"
            )
            page.keyboard.press("q")
            page.keyboard.type("so với phim cũ: tăng")
            page.keyboard.press("Escape")
        page.keyboard.press("l")
        page.keyboard.press("s")
    expect(page.locator(".reading .alerts")).to_contain_text("Không còn ca nào chưa đọc")
    for number, study in enumerate(order):
        mine = readings(vigil, study)["mine"]
        assert mine["standing"] == "signed"
        flagged = {flag["label"]: number % 2 == 1 for flag in study["flags"]}
        said = {one["label"]: one["present"] for one in mine["findings"]}
        assert said == flagged | ({"Pneumothorax": True} if number == 0 else {})
        assert mine["editions"][0]["confirmed"] == 2 - len(flagged)
    assert readings(vigil, order[0])["mine"]["note"] == "so với phim cũ: tăng"


def test_undo_by_keys_goes_back_to_nothing_and_makes_the_study_unread(
    ward: Callable[[int], Vigil], pages: OpenPage
) -> None:
    vigil = ward(1)
    [study] = vigil.studies()
    page = pages()
    open_study(page, vigil, study)
    page.keyboard.press("y")
    page.keyboard.press("s")
    expect(standing(page)).to_have_attribute("data-standing", "signed")
    page.keyboard.press("u")
    expect(standing(page)).to_have_attribute("data-standing", "draft")
    page.keyboard.press("u")
    expect(standing(page)).to_have_attribute("data-standing", "empty")
    wait_until(lambda: len(readings(vigil, study)["mine"]["statements"]) == 4, "all is saved")
    assert readings(vigil, study)["mine"]["standing"] == "empty"


def test_two_pages_on_one_study_are_told_of_each_other(
    ward: Callable[[int], Vigil], pages: OpenPage
) -> None:
    vigil = ward(1)
    [study] = vigil.studies()
    one, other = pages(), pages(language="fr")
    for page in (one, other):
        open_study(page, vigil, study)
    label = study["flags"][0]["label"]
    one.keyboard.press("y")
    # The other hears of it without being touched.
    expect(other.locator(f".says li[data-label='{label}']")).to_have_attribute(
        "data-said", "present"
    )
    # Now it hears of nothing, and says the opposite of what is said meanwhile.
    other.context.set_offline(True)
    other.keyboard.press("x")
    one.keyboard.press("q")
    one.keyboard.type("first")
    one.keyboard.press("Escape")
    wait_until(lambda: readings(vigil, study)["mine"]["note"] == "first", "the note is saved")
    other.context.set_offline(False)
    # A note and a finding are not the same thing: nobody is asked.
    wait_until(
        lambda: [f["present"] for f in readings(vigil, study)["mine"]["findings"]] == [False],
        "the finding is saved",
    )
    other.context.set_offline(True)
    other.keyboard.press("y")
    expect(one.locator(f".says li[data-label='{label}']")).to_have_attribute("data-said", "absent")
    one.keyboard.press("s")
    expect(standing(one)).to_have_attribute("data-standing", "signed")
    other.context.set_offline(False)
    expect(other.locator(".reading [role=alert]")).to_contain_text("modifiée ailleurs")
    assert [f["present"] for f in readings(vigil, study)["mine"]["findings"]] == [False]
    other.get_by_role("button", name="L’enregistrer quand même").click()
    wait_until(
        lambda: [f["present"] for f in readings(vigil, study)["mine"]["findings"]] == [True],
        "it is said anyway",
    )
    assert readings(vigil, study)["mine"]["standing"] == "amending"


def test_a_line_that_breaks_while_signing_loses_nothing_and_signs_once(
    ward: Callable[[int], Vigil], pages: OpenPage
) -> None:
    vigil = ward(1)
    [study] = vigil.studies()
    page = pages()
    open_study(page, vigil, study)
    lost = 0

    def answer_is_lost(route: Route) -> None:
        """The service takes the statement, and its answer never arrives."""
        nonlocal lost
        lost += 1
        if lost <= 2:
            httpx.post(
                route.request.url, content=route.request.post_data or "", timeout=30,
                headers={"Content-Type": "application/json"},
            )  # fmt: skip
            route.abort("connectionreset")
        elif lost <= 4:
            route.abort("internetdisconnected")
        else:
            route.continue_()

    page.route("**/readings/statements", answer_is_lost)
    page.keyboard.press("y")
    page.keyboard.press("q")
    page.keyboard.type("typed on a bad line")
    page.keyboard.press("Escape")
    page.keyboard.press("s")
    expect(page.locator(".reading .standing")).to_contain_text("not saved yet")
    screenshot(page, "reading-not-saved")
    # Not even a reload loses it.
    page.reload()
    expect(standing(page)).to_have_attribute("data-standing", "signed")
    # Only while the page is asked are its requests answered by the line above.
    for _ in range(300):
        if page.evaluate("localStorage.getItem('vigil-unsaved')") is None:
            break
        page.wait_for_timeout(200)
    wait_until(lambda: readings(vigil, study)["mine"]["standing"] == "signed", "it is signed", 60)
    mine = readings(vigil, study)["mine"]
    assert [one["act"] for one in mine["statements"]] == ["agree", "note", "sign_off"]
    assert mine["note"] == "typed on a bad line"
    assert lost > 4
    assert page.evaluate("localStorage.getItem('vigil-unsaved')") is None


def test_a_region_is_marked_on_the_film_and_kept_where_it_was_drawn(
    ward: Callable[[int], Vigil], pages: OpenPage
) -> None:
    vigil = ward(1)
    [study] = vigil.studies()
    page = pages()
    open_study(page, vigil, study)
    page.locator(FILM).wait_for()
    page.keyboard.press("b")
    canvas = page.locator(".stage canvas").first
    box = canvas.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] * 0.4, box["y"] + box["height"] * 0.4)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.6, box["y"] + box["height"] * 0.6, steps=5)
    page.mouse.up()
    [region] = wait_until(
        lambda: [r for f in readings(vigil, study)["mine"]["findings"] for r in f["regions"]],
        "the region is saved",
    )
    # The film is centred in the canvas: what was drawn around its middle lies around its middle.
    assert region["x"] + region["width"] / 2 == pytest.approx(0.5, abs=0.02)
    assert region["y"] + region["height"] / 2 == pytest.approx(0.5, abs=0.02)
    screenshot(page, "reading-region")


def test_a_priority_is_raised_with_a_reason_that_everybody_sees(
    ward: Callable[[int], Vigil], pages: OpenPage
) -> None:
    vigil = ward(3)
    study = next(one for one in vigil.studies() if one["priority"] == "ROUTINE")
    page = pages(language="vi")
    open_study(page, vigil, study)
    page.keyboard.press("!")
    page.keyboard.type("khó thở nặng lên")
    page.get_by_role("dialog").get_by_role("button", name="Nâng mức ưu tiên").click()
    expect(page.locator(".raised q")).to_have_text("khó thở nặng lên")
    uid = study["study_instance_uid"]
    priorities = [one["priority"] for one in vigil.studies()]
    [place] = [n for n, one in enumerate(vigil.studies()) if one["study_instance_uid"] == uid]
    assert set(priorities[: place + 1]) == {"CRITICAL"}


@pytest.mark.parametrize(
    ("language", "theme", "width"),
    [("vi", "dark", 1366), ("en", "light", 1366), ("fr", "dark", 390)],
)
def test_the_reading_can_be_used_by_everybody(
    ward: Callable[[int], Vigil], pages: OpenPage, language: str, theme: str, width: int
) -> None:
    vigil = ward(2)
    study = vigil.studies()[0]
    page = pages(language=language, theme=theme, width=width)
    open_study(page, vigil, study)
    page.keyboard.press("y")
    page.keyboard.press("e")
    page.keyboard.press("Enter")
    expect(page.locator(".says li")).not_to_have_count(len(study["flags"]))
    standing(page).scroll_into_view_if_needed()
    screenshot(page, f"reading-{language}-{width}")
    assert [one for one in violations(page) if ".reading" in one] == []
    page.keyboard.press("e")
    assert [one for one in violations(page) if ".finding-search" in one] == []
    screenshot(page, f"reading-search-{language}-{width}")
    page.keyboard.press("Escape")
    page.keyboard.press("s")
    wait_until(lambda: readings(vigil, study)["mine"]["standing"] == "signed", "it is signed")
    arrive(page, f"{vigil.url}/agreement", ".agreement table")
    assert violations(page) == []
    screenshot(page, f"agreement-{language}-{width}")
