"""Vigil's pages in Debian's Chromium, driven by Playwright.

``pages(language="fr", theme="light", width=390)`` opens a page whose complaints are collected: a
test that leaves any of them fails when it ends. ``arrive`` goes to an address and waits until the
page can be used.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.conftest import PROJECT
from tests.system.peers import find_tool

ARTEFACTS = PROJECT / "var" / "artefacts"
_SERIOUS = ("serious", "critical")
# Of a connection that a test cuts itself, and of refusals that it asks for.
_EXPECTED = re.compile(r"Failed to load resource|net::ERR_")
_WAIT_MS = 60_000
"""How long a page is waited for; what is there earlier is seen earlier."""
expect.set_options(timeout=_WAIT_MS)

LIST = ".rows .row-link"
FILM = ".film[data-stage=full]"
READING = ".reading .acts .strong"

OpenPage = Callable[..., Page]


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start a Chromium; it ends with the block."""
    executable = find_tool("chromium", "chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=executable, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def opened_pages(browser: Browser) -> Iterator[OpenPage]:
    """Open pages, each as a reader of their own; close them and say what they complained of."""
    complaints: list[str] = []
    contexts = []

    def open_page(
        *,
        language: str = "en",
        theme: str = "dark",
        width: int = 1366,
        height: int = 768,
        **options: Any,
    ) -> Page:
        context = browser.new_context(
            locale=language,
            viewport={"width": width, "height": height},
            service_workers="block",
            **options,
        )
        context.add_init_script(f"localStorage.setItem('vigil-theme', '{theme}')")
        context.set_default_timeout(_WAIT_MS)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on(
            "console",
            lambda message: (
                complaints.append(message.text)
                if message.type == "error" and not _EXPECTED.search(message.text)
                else None
            ),
        )
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


def arrive(page: Page, url: str, shows: str) -> Page:
    """Go to one of Vigil's pages and wait until it can be used.

    Parameters
    ----------
    page
        The page.
    url
        The address.
    shows
        A selector of what the test uses, such as ``LIST``, ``FILM`` (at full depth) or ``READING``
        (what was said before has come, and keys are taken). It is waited for, and so is the live
        connection, by which the page hears of what others do.
    """
    page.goto(url)
    page.locator(shows).first.wait_for()
    page.locator("#live.is-on").wait_for(state="attached")
    settle(page)
    return page


def settle(page: Page) -> None:
    """Wait until what was asked for is painted."""
    page.evaluate(
        "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
    )


def violations(page: Page) -> list[str]:
    """Return what axe finds wrong with a page as it stands, of what is serious."""
    found = Axe().run(page).response["violations"]
    return [
        f"{rule['id']}: {node['target']} {node.get('failureSummary', '')}"
        for rule in found
        if rule["impact"] in _SERIOUS
        for node in rule["nodes"]
    ]


def screenshot(page: Page, name: str) -> Path:
    """Keep what a reader sees among the artefacts."""
    path = ARTEFACTS / f"{name}.png"
    page.screenshot(path=path)
    return path
