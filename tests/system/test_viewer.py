"""A study's page in a real browser: the film, its tools, and what is said of it."""

import re
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Page, Response, Route, expect

from tests.system.pages import LIST, OpenPage, arrive, screenshot, settle, violations
from tests.system.peers import Vigil, wait_until
from tests.system.test_restart import Sender
from vigil.phantom import make_phantom
from vigil.phantom.dicom import write_dx

pytestmark = pytest.mark.slow

NAME = "Nguyễn^Thị Ánh"
NOW, THEN, OTHER = "20260301", "20251101", "20240101"
ROWS, COLUMNS = 900, 720
SPACING = 0.25


@dataclass(frozen=True)
class Site:
    """A running service and its studies by date."""

    vigil: Vigil
    uids: dict[str, str]

    def url(self, date: str = NOW) -> str:
        return f"{self.vigil.url}/studies/{self.uids[date]}"


def write_films(folder: Path) -> list[Path]:
    """A patient's film, an earlier one by another detector, and another name's."""
    common = {"PatientID": "BN 1", "BodyPartExamined": "CHEST", "age": 61}
    at_detector = [SPACING, SPACING]
    now = write_dx(
        make_phantom(41, "cardiomegaly", (ROWS, COLUMNS)),
        folder / "now.dcm",
        patient_name=NAME,
        StudyDate=NOW,
        ImagerPixelSpacing=at_detector,
        PixelSpacing=None,
        **common,
    )
    then = write_dx(
        make_phantom(42, "normal", (600, 480)),
        folder / "then.dcm",
        patient_name=NAME,
        StudyDate=THEN,
        PixelSpacing=[0.4, 0.4],
        **common,
    )
    other = write_dx(
        make_phantom(43, "effusion", (512, 512)),
        folder / "other.dcm",
        patient_name="Trần^Văn Bình",
        StudyDate=OTHER,
        **common,
    )
    return [now, then, other]


def serve(vigil: Vigil, films: list[Path]) -> Site:
    Sender(vigil.dicom_port, films).wait()
    vigil.wait_for(len(films))
    return Site(vigil, {s["study_date"]: s["study_instance_uid"] for s in vigil.studies()})


@pytest.fixture(scope="module")
def site(stand_in_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("viewer")
    with Vigil(folder, stand_in_bundle).start() as vigil:
        yield serve(vigil, write_films(folder))


def opened(page: Page, site: Site, date: str = NOW, stage: str = "full") -> Page:
    return arrive(page, site.url(date), f".film[data-stage={stage}]")


GREYS = """(canvas) => {
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  const greys = [];
  for (let at = 0; at < data.length; at += 4 * 97) greys.push(data[at], data[at + 2]);
  return greys;
}"""


def greys(page: Page, film: int = 0) -> list[int]:
    """Return red and blue of every 97th of a film's pixels."""
    settle(page)
    return list(page.locator(".film canvas").nth(film).evaluate(GREYS))


def difference(one: list[int], two: list[int]) -> float:
    assert len(one) == len(two)
    return sum(abs(a - b) for a, b in zip(one, two, strict=True)) / len(one)


def corner(page: Page, film: int = 0) -> str:
    settle(page)
    return page.locator(".corner.lower.left").nth(film).inner_text()


def drag(
    page: Page, start: tuple[float, float], end: tuple[float, float], button: str = "left"
) -> None:
    """Drag on the film between places in fractions of it."""
    box = page.locator(".film canvas").first.bounding_box()
    assert box is not None
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in (start, end)]
    page.mouse.move(*places[0])
    page.mouse.down(button=button)
    page.mouse.move(*places[1], steps=4)
    page.mouse.up(button=button)
    settle(page)


def test_a_preview_comes_first_and_full_depth_replaces_it_without_a_jump(
    site: Site, pages: OpenPage
) -> None:
    held: list[Route] = []
    page = pages()

    def hold(route: Route) -> None:
        held.append(route)

    page.route("**/pixels", hold)
    opened(page, site, stage="preview")
    page.wait_for_function("() => document.querySelector('.film .depth').textContent.includes('%')")
    first, said = greys(page), corner(page)
    assert max(first) > 150
    # Window and level are the picture's own already.
    assert re.search(r"W [\d,]+ · L [\d,]+", said)
    held[0].continue_()
    page.wait_for_selector(".film[data-stage=full]")
    assert difference(first, greys(page)) < 4
    assert corner(page) == said
    assert page.inner_text(".film .depth") == "Full depth, 12 bits"


def test_window_and_level_change_the_greys_and_come_back(site: Site, pages: OpenPage) -> None:
    page = opened(pages(), site)
    first, said = greys(page), corner(page)
    drag(page, (0.4, 0.4), (0.3, 0.6))
    assert difference(first, greys(page)) > 10
    assert corner(page) != said
    page.keyboard.press("0")
    assert greys(page) == first
    page.keyboard.press("i")
    inverted = greys(page)
    # Black around the film stays black.
    assert difference(first, inverted) > 20
    page.keyboard.press("i")
    page.select_option(".toolbar select >> nth=0", label="Lung")
    assert difference(first, greys(page)) > 5


def test_zoom_keeps_the_place_under_the_pointer_and_fit_brings_all_back(
    site: Site, pages: OpenPage
) -> None:
    page = opened(pages(), site)
    first = greys(page)
    box = page.locator(".film canvas").bounding_box()
    assert box is not None
    at = (box["x"] + 0.4 * box["width"], box["y"] + 0.5 * box["height"])
    page.mouse.move(*at)
    said = corner(page)
    value = re.search(r"Value ([\d,]+)", said)
    page.mouse.wheel(0, -400)
    wait_until(lambda: corner(page) != said, "the film is zoomed")
    page.mouse.move(at[0], at[1])
    after = re.search(r"Value ([\d,]+)", corner(page))
    assert value is not None
    assert after is not None
    assert value[1] == after[1]
    assert difference(first, greys(page)) > 5
    page.keyboard.press(".")
    page.keyboard.press(",")
    page.keyboard.press("f")
    page.mouse.move(5, 5)
    assert greys(page) == first


def test_one_to_one_shows_each_pixel_once(site: Site, pages: OpenPage) -> None:
    page = opened(pages(), site)
    page.keyboard.press("1")
    assert "100%" in corner(page)


def test_the_heat_map_lies_over_the_film_only_while_it_is_switched_on(
    site: Site, pages: OpenPage
) -> None:
    page = opened(pages(), site)
    plain = greys(page)
    button = page.locator("[data-map]").first
    button.click()
    wait_until(lambda: difference(plain, greys(page)) > 1, "the map has come")
    coloured = greys(page)
    # A film is grey: red and blue differ only where the map is.
    assert max(abs(r - b) for r, b in zip(coloured[::2], coloured[1::2], strict=True)) > 40
    assert button.get_attribute("aria-pressed") == "true"
    page.keyboard.press("[")
    page.keyboard.press("[")
    assert difference(plain, greys(page)) < difference(plain, coloured)
    page.keyboard.press("H")
    assert greys(page) == plain


def test_lungs_heart_and_ratio_are_drawn_and_the_ratio_explains_itself(
    site: Site, pages: OpenPage
) -> None:
    page = opened(pages(), site)
    plain = greys(page)
    page.get_by_label("Lungs and heart").check()
    assert difference(plain, greys(page)) > 0.3
    page.locator(".layers .explained").first.click()
    assert "greatest width" in page.inner_text(".note")
    assert page.locator(".note a[href='/model']").count() == 1


def test_a_ruler_tells_millimetres_where_the_spacing_is_known(site: Site, pages: OpenPage) -> None:
    page = opened(pages(), site)
    box = page.locator(".film canvas").bounding_box()
    assert box is not None
    page.keyboard.press("r")
    drag(page, (0.5, 0.3), (0.5, 0.7))
    zoom = min(box["width"] / COLUMNS, box["height"] / ROWS)
    expected = 0.4 * box["height"] / zoom * SPACING
    said = page.locator(".film [aria-live=polite]").inner_text()
    assert abs(float(said.removesuffix(" mm")) - expected) < 1.0
    assert "at the detector" in corner(page)
    assert "Clear marks" in page.locator("[data-act=clear]").inner_text()
    page.keyboard.press("Delete")
    assert page.locator("[data-act=clear]").is_hidden()


def test_everything_is_done_by_keys_alone(site: Site, pages: OpenPage) -> None:
    page = opened(pages(), site)
    first, said = greys(page), corner(page)
    page.keyboard.press("w")  # the focus goes to the film with its tool
    page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("Shift+ArrowUp")
    assert corner(page) != said
    page.keyboard.press("0")
    page.keyboard.press("a")
    for move in ("ArrowLeft", "ArrowUp", "ArrowRight", "ArrowDown"):
        for _ in range(4):
            page.keyboard.press(move)
        page.keyboard.press("Enter")
    said = page.locator(".film [aria-live=polite]").inner_text()
    assert re.fullmatch(r"[\d.]+°", said)
    page.keyboard.press("Backspace")
    page.keyboard.press("Escape")
    assert page.get_attribute(".film", "data-tool") == "window"
    assert greys(page) == first
    page.keyboard.press("?")
    assert "Measure a length" in page.inner_text("dialog.help")
    assert violations(page) == []
    page.keyboard.press("Escape")
    page.wait_for_selector("dialog", state="detached")
    page.keyboard.press("m")
    page.keyboard.press("ArrowLeft")
    assert difference(first, greys(page)) > 0.5
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    page.wait_for_url(f"{site.vigil.url}/")


def test_the_tags_tell_a_vietnamese_name_and_can_be_searched(site: Site, pages: OpenPage) -> None:
    page = opened(pages(language="vi"), site)
    page.keyboard.press("t")
    page.wait_for_selector("dialog.tags tbody tr")
    row = page.locator("dialog.tags tr", has_text="0010,0010")
    assert "Nguyễn^Thị Ánh" in row.inner_text()
    page.fill("dialog.tags input", "ánh")
    assert page.locator("dialog.tags tbody tr:visible").count() == 1
    assert violations(page) == []


def test_an_earlier_study_is_shown_on_the_same_scale_with_what_changed(
    site: Site, pages: OpenPage
) -> None:
    page = opened(pages(width=1440, height=900), site)
    page.wait_for_selector("select.compare:visible")
    page.select_option("select.compare", index=1)
    page.wait_for_function("() => document.querySelectorAll('.film[data-stage=full]').length === 2")
    page.wait_for_function("() => document.body.innerText.includes('same scale')")
    zooms = [float(re.search(r"(\d+)%", corner(page, film))[1]) for film in (0, 1)]  # type: ignore[index]
    # Millimetre on millimetre: a pixel of 0.4 mm is drawn 1.6 times as large as one of 0.25 mm.
    assert abs(zooms[1] / zooms[0] - 0.4 / SPACING) < 0.05
    page.keyboard.press("+")
    page.keyboard.press("i")
    later = [float(re.search(r"(\d+)%", corner(page, film))[1]) for film in (0, 1)]  # type: ignore[index]
    assert later[0] > zooms[0]
    assert abs(later[1] / later[0] - 0.4 / SPACING) < 0.05
    assert all("inverted" in corner(page, film) for film in (0, 1))
    table = page.inner_text(".changes")
    assert "Cardiomegaly" in table
    assert re.search(r"\+\d+ points", table)
    assert "another patient" not in table
    screenshot(page, "compared")
    assert violations(page) == []
    page.select_option("select.compare", index=2)
    page.wait_for_function("() => document.body.innerText.includes('another patient')")
    assert "Trần Văn Bình" in page.inner_text(".changes")


def test_a_number_says_what_it_is_by_mouse_by_focus_and_by_tap(site: Site, pages: OpenPage) -> None:
    page = opened(pages(), site)
    number = page.locator(".findings .numbers .explained").first
    number.hover()
    assert "calibrated probability" in page.inner_text(".note")
    page.mouse.move(5, 300)
    page.wait_for_selector(".note", state="detached")
    number.click()
    page.mouse.move(5, 300)
    # Longer than a note that is not kept open stays.
    page.evaluate("() => new Promise((done) => setTimeout(done, 300))")
    assert page.locator(".note").count() == 1
    assert number.get_attribute("aria-expanded") == "true"
    assert violations(page) == []
    page.keyboard.press("Escape")
    assert page.locator(".note").count() == 0
    assert "/studies/" in page.url


def test_a_note_stays_open_while_others_mark_the_study(site: Site, pages: OpenPage) -> None:
    page = opened(pages(), site)
    page.locator(".findings .numbers .explained").first.click()
    page.mouse.move(5, 300)  # over it, the mouse would open another at once
    expect(page.locator(".note")).to_be_visible()
    url = f"{site.vigil.url}/api/studies/{site.uids[NOW]}"
    answers: list[Response] = []
    page.on("response", lambda answer: answers.append(answer) if answer.url == url else None)
    mark = {"reader": "another", "take_over": True}
    httpx.put(f"{url}/assignment", json=mark, timeout=60).raise_for_status()

    def has_heard() -> bool:
        settle(page)
        return any(answer.json()["assigned"] for answer in answers)

    wait_until(has_heard, "the page has heard of the mark")
    settle(page)
    expect(page.locator(".note")).to_be_visible()


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_a_study_has_no_serious_barrier(site: Site, pages: OpenPage, theme: str) -> None:
    page = opened(pages(theme=theme, language="fr"), site)
    page.locator(".provenance summary").click()
    page.get_by_label("Poumons et cœur").check()
    assert violations(page) == []
    page.goto(f"{site.vigil.url}/model")
    assert page.url.endswith("/model")


def test_on_a_phone_nothing_is_cut_off_and_two_fingers_zoom(site: Site, pages: OpenPage) -> None:
    page = opened(pages(width=390, height=844, has_touch=True, language="vi"), site)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    said, box = corner(page), page.locator(".film canvas").bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    touch = page.context.new_cdp_session(page)
    for kind, apart in (("touchStart", 30), ("touchMove", 60), ("touchMove", 90), ("touchEnd", 0)):
        points = [{"x": x - apart, "y": y, "id": 0}, {"x": x + apart, "y": y, "id": 1}]
        touch.send(
            "Input.dispatchTouchEvent",
            {"type": kind, "touchPoints": points if apart else []},
        )
    zooms = [int(re.search(r"(\d+)%", text)[1]) for text in (said, corner(page))]  # type: ignore[index]
    assert 2 <= zooms[1] / zooms[0] <= 4
    screenshot(page, "study-phone")
    assert violations(page) == []


def test_a_removed_original_leaves_its_preview_and_says_why(
    stand_in_bundle: Path, start_vigil: Callable[..., Vigil], tmp_path: Path, pages: OpenPage
) -> None:
    vigil = start_vigil(stand_in_bundle)
    site = serve(vigil, write_films(tmp_path)[:1])
    with sqlite3.connect(vigil.folder / "data" / "vigil.sqlite3", timeout=20) as database:
        database.execute(
            "UPDATE instances SET removed_at = '2026-11-20 10:00:00.000000', "
            "removal_reason = '30 days after its results were delivered'"
        )
    page = opened(pages(), site, stage="preview")
    page.wait_for_selector(".film .depth.is-lacking")
    assert "No full depth: the original was removed by rule" in page.inner_text(".film .depth")
    assert "30 days after" in page.inner_text(".warnings")
    page.keyboard.press("i")
    assert max(greys(page)) > 150
    # The header is kept, so millimetres stay.
    assert "at the detector" in corner(page)

    # Without its preview too there is nothing to see, and the page stands.
    for file in (vigil.folder / "data" / "previews").rglob("*.jpg"):
        file.unlink()
    page = pages()
    arrive(page, site.url(), ".film .empty:visible")
    assert "removed by rule" in page.inner_text(".film .empty")
    assert "Cardiomegaly" in page.inner_text(".panel")
    page.keyboard.press("t")
    page.wait_for_selector("dialog.tags tbody tr")


def test_a_picture_that_cannot_be_decoded_breaks_nothing(site: Site, pages: OpenPage) -> None:
    page = pages()
    page.route(
        "**/pixels", lambda route: route.fulfill(body=b"no gzip", content_type="application/gzip")
    )
    opened(page, site, stage="preview")
    page.wait_for_selector(".film .depth.is-lacking")
    page.keyboard.press("i")
    assert max(greys(page)) > 150
    page.unroute("**/pixels")
    page.route("**/image.jpg*", lambda route: route.abort())
    opened(page, site)
    assert max(greys(page)) > 150


def test_in_the_profile_cadt_no_finding_score_region_or_map_is_shown(
    stand_in_bundle: Path, start_vigil: Callable[..., Vigil], tmp_path: Path, pages: OpenPage
) -> None:
    vigil = start_vigil(stand_in_bundle, VIGIL_RESULT_PROFILE="cadt")
    site = serve(vigil, write_films(tmp_path))
    page = opened(pages(width=1440), site)
    plain = greys(page)
    text = page.inner_text("main")
    assert "priority of the study only" in text
    for word in ("Cardiomegaly", "Effusion", "threshold", "CTR", "Map", "Lungs"):
        assert word not in text
    assert not re.search(r"\d+ ?%", page.inner_text(".panel"))
    for key in ("o", "h"):
        page.keyboard.press(key)
    assert greys(page) == plain
    page.wait_for_selector("select.compare:visible")
    page.select_option("select.compare", index=1)
    page.wait_for_selector(".changes section")
    assert "Cardiomegaly" not in page.inner_text("main")
    arrive(page, vigil.url, LIST)
    assert "Cardiomegaly" not in page.inner_text("main")


def test_a_region_is_picked_and_shown_in_fractions_of_the_picture(
    site: Site, pages: OpenPage
) -> None:
    page = opened(pages(), site)
    page.evaluate(
        """async () => {
          const { filmFrame } = await import("/assets/viewer/frame.js");
          const study = location.pathname.split("/").at(-1);
          const told = await (await fetch(`/api/studies/${study}`)).json();
          const { element, viewer } = filmFrame(study, "test");
          element.id = "own";
          Object.assign(element.style, { position: "fixed", inset: "0", zIndex: 99 });
          document.body.append(element);
          viewer.show(told.instances[0]);
          window.own = viewer;
        }"""
    )
    page.wait_for_selector("#own[data-stage=full]")
    page.evaluate("() => { window.picked = window.own.pickRegion(); }")
    corners = page.evaluate(
        """async () => {
          const { toFilm } = await import("/assets/viewer/geometry.js");
          return [[0.25, 0.3], [0.5, 0.6]].map((place) => toFilm(window.own.film.matrix, place));
        }"""
    )
    page.mouse.move(*corners[0])
    page.mouse.down()
    page.mouse.move(*corners[1], steps=3)
    page.mouse.up()
    picked = page.evaluate("() => window.picked")
    assert picked == pytest.approx([0.25, 0.3, 0.5, 0.6], abs=0.005)
    page.evaluate("(box) => window.own.showRegions([{ box, label: 'here' }])", picked)
    settle(page)
    page.evaluate("() => { window.picked = window.own.pickRegion(); }")
    page.keyboard.press("Escape")
    page.evaluate("() => window.own.cancelPicking()")
    assert page.evaluate("() => window.picked") is None
