"""Signing in, in a real browser: the first start, the one-time password, what a role is shown."""

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import PROJECT
from tests.system.browser import Browser
from tests.system.peers import Vigil, wait_until
from tests.system.test_restart import Sender
from vigil_inference.access.desk import AccessDesk
from vigil_inference.access.roles import Role
from vigil_inference.settings import Settings
from vigil_inference.store import Store

ARTEFACTS = PROJECT / "var" / "artefacts"
PASSWORD = "con mèo trên mái nhà"


def fill(browser: Browser, **values: str) -> None:
    """Type into the fields of the form that is shown, in order, and send it."""
    typed = json.dumps(list(values.values()))
    browser.evaluate(
        f"""(() => {{
          const form = [...document.querySelectorAll("form.credentials")].pop();
          const fields = [...form.querySelectorAll("input:not(.unseen)")];
          {typed}.forEach((value, at) => {{ fields[at].value = value; }});
          form.requestSubmit();
        }})()"""
    )


def shows(browser: Browser, text: str) -> None:
    wait_until(lambda: text in browser.text(), f"the page shows {text}", 30)


def press(browser: Browser, text: str) -> None:
    browser.evaluate(
        f"[...document.querySelectorAll('button')].find(b => b.textContent === {text!r}).click()"
    )


@pytest.mark.slow
def test_from_the_first_start_to_signing_out(
    start_vigil: Callable[..., Vigil],
    stand_in_bundle: Path,
    phantom_file: Callable[..., Path],
    tmp_path: Path,
) -> None:
    vigil = start_vigil(stand_in_bundle, VIGIL_ACCOUNTS="required", VIGIL_SITE="Trạm y tế")
    data = vigil.folder / "data"
    first = data / "first-password"
    once = wait_until(lambda: first.is_file() and first.read_text(encoding="utf-8").strip(), "told")
    assert isinstance(once, str)
    assert first.stat().st_mode & 0o777 == 0o600
    assert once not in vigil.program.log.read_text(encoding="utf-8")  # type: ignore[union-attr]
    Sender(vigil.dicom_port, [phantom_file(31, "effusion")]).wait()

    with Browser(tmp_path / "profile", language="en") as browser:
        browser.open(vigil.url)
        shows(browser, "Sign in")
        assert "Research use only, not a medical device" in browser.text()
        assert "Trạm y tế" in browser.text()
        browser.screenshot(ARTEFACTS / "sign-in.png")
        fill(browser, name="admin", password="not the password")
        shows(browser, "Name and password do not match.")
        fill(browser, name="admin", password=once)
        shows(browser, "This password works only once.")
        fill(browser, new="admin admin admin", again="admin admin admin")
        shows(browser, "The password must not be your name.")
        fill(browser, new=PASSWORD, again="something else")
        shows(browser, "are not the same")
        fill(browser, new=PASSWORD, again=PASSWORD)
        shows(browser, "Live")
        shows(browser, "admin")
        # An administrator sees the list, not the pictures.
        shows(browser, "URGENT".title())
        assert browser.evaluate("fetch('/api/me').then(r => r.json()).then(m => m.roles[0])") == (
            "administrator"
        )
        press(browser, "Sign out")
        shows(browser, "Password")
        assert browser.evaluate("fetch('/api/worklist').then(r => r.status)") == 401
        assert [line for line in browser.console if "Content Security Policy" in line] == []


@pytest.mark.slow
def test_a_page_whose_session_ends_takes_the_patients_off_the_screen(
    start_vigil: Callable[..., Vigil],
    stand_in_bundle: Path,
    phantom_file: Callable[..., Path],
    tmp_path: Path,
) -> None:
    vigil = start_vigil(stand_in_bundle, VIGIL_ACCOUNTS="required")
    database = vigil.folder / "data" / "vigil.sqlite3"
    desk = AccessDesk(Store(f"sqlite:///{database}"), Settings())
    desk.accounts.add("hanh", "BS. Trần Thị Hạnh", {Role.RADIOLOGIST}, PASSWORD)
    Sender(vigil.dicom_port, [phantom_file(31, "effusion", patient_name="Lê^Bình")]).wait()

    with Browser(tmp_path / "profile", language="vi") as browser:
        browser.open(vigil.url)
        shows(browser, "Đăng nhập")
        fill(browser, name="hanh", password=PASSWORD)
        shows(browser, "Lê Bình")
        shows(browser, "BS. Trần Thị Hạnh")
        browser.screenshot(ARTEFACTS / "signed-in.png")
        desk.accounts.set_disabled("hanh", True)
        shows(browser, "Phiên làm việc đã kết thúc")
        assert "Lê Bình" not in browser.text()
        browser.screenshot(ARTEFACTS / "session-ended.png")
    with sqlite3.connect(database) as rows:
        [[ended]] = rows.execute("SELECT count(*) FROM sessions WHERE ended_at IS NOT NULL")
    assert ended == 1
