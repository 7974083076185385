"""Signing in, in a real browser: the first start, the one-time password, what a role is shown."""

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.system.pages import OpenPage, screenshot
from tests.system.peers import Vigil, wait_until
from tests.system.test_restart import Sender
from vigil_inference.access.desk import AccessDesk
from vigil_inference.access.roles import Role
from vigil_inference.settings import Settings
from vigil_inference.store import Store

PASSWORD = "con mèo trên mái nhà"


def fill(page: Page, *values: str) -> None:
    """Type into the fields of the form that is shown, in order, and send it."""
    form = page.locator("form.credentials").last
    fields = form.locator("input:not(.unseen)")
    expect(fields).to_have_count(len(values))
    for at, value in enumerate(values):
        fields.nth(at).fill(value)
    form.locator("[type=submit], button:not([type])").first.click()


def shows(page: Page, text: str) -> None:
    expect(page.locator("body")).to_contain_text(text, use_inner_text=True)


@pytest.mark.slow
def test_from_the_first_start_to_signing_out(
    start_vigil: Callable[..., Vigil],
    stand_in_bundle: Path,
    phantom_file: Callable[..., Path],
    pages: OpenPage,
) -> None:
    vigil = start_vigil(stand_in_bundle, VIGIL_ACCOUNTS="required", VIGIL_SITE="Trạm y tế")
    data = vigil.folder / "data"
    first = data / "first-password"
    once = wait_until(lambda: first.is_file() and first.read_text(encoding="utf-8").strip(), "told")
    assert isinstance(once, str)
    assert first.stat().st_mode & 0o777 == 0o600
    assert once not in vigil.program.log.read_text(encoding="utf-8")  # type: ignore[union-attr]
    Sender(vigil.dicom_port, [phantom_file(31, "effusion")]).wait()

    page = pages()
    page.goto(vigil.url)
    shows(page, "Sign in")
    shows(page, "Research use only, not a medical device")
    shows(page, "Trạm y tế")
    screenshot(page, "sign-in")
    fill(page, "admin", "not the password")
    shows(page, "Name and password do not match.")
    fill(page, "admin", once)
    shows(page, "This password works only once.")
    fill(page, "admin admin admin", "admin admin admin")
    shows(page, "The password must not be your name.")
    fill(page, PASSWORD, "something else")
    shows(page, "are not the same")
    fill(page, PASSWORD, PASSWORD)
    shows(page, "Live")
    shows(page, "admin")
    # An administrator sees the list, not the pictures.
    shows(page, "URGENT".title())
    assert page.evaluate("fetch('/api/me').then(r => r.json()).then(m => m.roles[0])") == (
        "administrator"
    )
    page.locator("details.account summary").click()
    page.get_by_role("button", name="Sign out").click()
    shows(page, "Password")
    assert page.evaluate("fetch('/api/worklist').then(r => r.status)") == 401


@pytest.mark.slow
def test_a_page_whose_session_ends_takes_the_patients_off_the_screen(
    start_vigil: Callable[..., Vigil],
    stand_in_bundle: Path,
    phantom_file: Callable[..., Path],
    pages: OpenPage,
) -> None:
    vigil = start_vigil(stand_in_bundle, VIGIL_ACCOUNTS="required")
    database = vigil.folder / "data" / "vigil.sqlite3"
    desk = AccessDesk(Store(f"sqlite:///{database}"), Settings())
    desk.accounts.add("hanh", "BS. Trần Thị Hạnh", {Role.RADIOLOGIST}, PASSWORD)
    Sender(vigil.dicom_port, [phantom_file(31, "effusion", patient_name="Lê^Bình")]).wait()

    page = pages(language="vi")
    page.goto(vigil.url)
    shows(page, "Đăng nhập")
    fill(page, "hanh", PASSWORD)
    shows(page, "Lê Bình")
    shows(page, "BS. Trần Thị Hạnh")
    screenshot(page, "signed-in")
    desk.accounts.set_disabled("hanh", True)
    shows(page, "Phiên làm việc đã kết thúc")
    expect(page.locator("body")).not_to_contain_text("Lê Bình")
    screenshot(page, "session-ended")
    with sqlite3.connect(database) as rows:
        [[ended]] = rows.execute("SELECT count(*) FROM sessions WHERE ended_at IS NOT NULL")
    assert ended == 1
