"""An administrator's pages: accounts, tokens, the audit trail; and keys switched off."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.system.pages import OpenPage, violations
from tests.system.peers import Vigil
from tests.system.test_restart import Sender
from vigil_inference.access.desk import AccessDesk
from vigil_inference.access.roles import Role
from vigil_inference.settings import Settings
from vigil_inference.store import Store

PASSWORD = "con mèo trên mái nhà"

pytestmark = pytest.mark.slow


@pytest.fixture
def vigil(start_vigil: Callable[..., Vigil], stand_in_bundle: Path) -> Vigil:
    """A service with an administrator, a radiologist and a token."""
    running = start_vigil(stand_in_bundle, VIGIL_ACCOUNTS="required")
    settings = Settings(data_dir=running.folder / "data")
    with closing(Store(settings.database)) as store:
        desk = AccessDesk(store, settings)
        desk.accounts.add("trang", "Nguyễn Thị Trang", {Role.ADMINISTRATOR}, PASSWORD)
        desk.accounts.add("hanh", "BS. Trần Thị Hạnh", {Role.RADIOLOGIST}, PASSWORD)
        desk.tokens.create("pacs", {Role.SERVICE}, None)
    return running


def sign_in(page: Page, vigil: Vigil, name: str, password: str = PASSWORD) -> None:
    page.goto(vigil.url)
    page.fill("input[name=name]", name)
    page.fill("input[name=password]", password)
    page.keyboard.press("Enter")


def test_an_administrator_makes_changes_and_closes_an_account(
    vigil: Vigil, pages: OpenPage
) -> None:
    page = pages()
    sign_in(page, vigil, "trang")
    page.click("details.account summary")
    page.click(".account-menu a[href='/accounts']")
    expect(page.locator("h1")).to_have_text("Accounts")
    page.click("text=Add an account")
    page.fill("dialog input >> nth=0", "Minh")
    page.fill("dialog input >> nth=1", "BS. Lê Minh")
    assert violations(page) == []
    page.click("dialog button[type=submit]")
    once = page.inner_text("dialog .secret")
    page.click("text=I have noted it")
    row = page.locator("tr", has=page.locator("th", has_text="minh"))
    expect(row).to_contain_text("Radiologist")
    expect(row).to_contain_text("one-time password")
    assert violations(page) == []

    reader = pages()
    sign_in(reader, vigil, "minh", once)
    expect(reader.locator("h1")).to_have_text("Change password")

    row.get_by_text("Roles").click()
    page.get_by_label("Researcher").check()
    page.get_by_label("Radiologist").uncheck()
    page.click("dialog button[type=submit]")
    expect(row).to_contain_text("Researcher")
    expect(row).not_to_contain_text("Radiologist")
    row.get_by_text("Close").click()
    page.click("dialog button[type=submit]")
    expect(row).to_contain_text("closed")
    expect(page.locator("tr", has_text="trang").locator("button")).to_have_count(0)

    page.get_by_label("Revoke: pacs").click()
    page.click("dialog button[type=submit]")
    expect(page.locator("tr", has_text="pacs")).to_contain_text("revoked")


@pytest.mark.parametrize("language", ["vi", "fr"])
def test_the_pages_are_in_the_readers_language_and_axe_finds_nothing(
    vigil: Vigil, pages: OpenPage, language: str
) -> None:
    page = pages(language=language, theme="light", width=390, height=844)
    sign_in(page, vigil, "trang")
    page.wait_for_selector(".worklist-bar")
    heads = {"vi": ("Tài khoản", "Nhật ký truy cập"), "fr": ("Comptes", "Journal d’audit")}
    for path, head in zip(("/accounts", "/audit"), heads[language], strict=True):
        page.goto(f"{vigil.url}{path}")
        page.wait_for_selector(".managing table")
        expect(page.locator("h1")).to_have_text(head)
        assert violations(page) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_the_trail_is_shown_narrowed_and_checked(vigil: Vigil, pages: OpenPage) -> None:
    reader = pages()
    sign_in(reader, vigil, "hanh")
    reader.wait_for_selector(".worklist-bar")
    reader.goto(f"{vigil.url}/audit")
    expect(reader.locator("[role=alert]:visible")).to_have_text("Your role does not allow this.")
    page = pages()
    sign_in(page, vigil, "trang")
    page.wait_for_selector(".worklist-bar")
    page.goto(f"{vigil.url}/audit")
    refused = page.locator("tr[data-refused]")
    expect(refused).to_contain_text("read the audit trail")
    expect(refused).to_contain_text("refused (403)")
    page.locator("button.link", has_text="hanh").first.click()
    expect(page.locator("tbody")).not_to_contain_text("trang")
    page.click("text=Check that it is whole")
    expect(page.locator(".whole")).to_contain_text("events are where they were written")


def test_keys_of_one_character_can_be_switched_off(
    vigil: Vigil, pages: OpenPage, phantom_file: Callable[..., Path]
) -> None:
    Sender(vigil.dicom_port, [phantom_file(60, "effusion")]).wait()
    page = pages()
    sign_in(page, vigil, "hanh")
    page.wait_for_selector(".row")
    page.keyboard.press("j")
    expect(page.locator(".row-link")).to_be_focused()
    page.keyboard.press("?")
    box = page.get_by_label("Keys of a single letter")
    box.uncheck()
    page.keyboard.press("Escape")
    page.reload()
    page.wait_for_selector(".row")
    page.keyboard.press("j")
    page.keyboard.press("?")
    page.keyboard.press("/")
    expect(page.locator("dialog")).to_have_count(0)
    expect(page.locator(".row-link")).not_to_be_focused()
    expect(page.locator("#search")).not_to_be_focused()
    page.click("button[aria-label=Keys]")
    expect(box).not_to_be_checked()
    box.check()
    page.keyboard.press("Escape")
    page.keyboard.press("j")
    expect(page.locator(".row-link")).to_be_focused()
