"""The worklist's page in a real browser."""

import html
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import PROJECT
from tests.system.peers import Vigil, find_tool
from tests.system.test_restart import Sender

ARTEFACTS = PROJECT / "var" / "artefacts"


def browse(url: str, folder: Path, *options: str) -> str:
    """Open a page in headless Chromium and return what that printed."""
    command = [
        find_tool("chromium", "chromium"), "--headless=new", "--no-sandbox", "--disable-gpu",
        "--disable-dev-shm-usage", f"--user-data-dir={folder}", "--window-size=1440,900",
        "--lang=vi", "--virtual-time-budget=8000", *options, url,
    ]  # fmt: skip
    answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    return answer.stdout


@pytest.mark.slow
def test_the_page_shows_every_study_in_reading_order(
    start_vigil: Callable[..., Vigil],
    stand_in_bundle: Path,
    phantom_file: Callable[..., Path],
    tmp_path: Path,
) -> None:
    find_tool("chromium", "chromium")
    vigil = start_vigil(stand_in_bundle)
    kinds = ["normal", "effusion", "cardiomegaly", "lateral", "opacity"]
    paths = [phantom_file(30 + n, kind) for n, kind in enumerate(kinds)]
    assert len(Sender(vigil.dicom_port, paths).wait()) == len(paths)
    vigil.wait_for(len(paths))
    studies = vigil.studies()
    names = [study["patient"]["display_name"] for study in studies]
    assert len(set(names)) == len(kinds)

    page = html.unescape(browse(vigil.url, tmp_path / "profile", "--dump-dom"))
    text = re.sub(r"<[^>]+>", " ", page)
    positions = [text.find(name) for name in names]
    assert -1 not in positions, text
    assert positions == sorted(positions)
    assert "NOT_FRONTAL" in page

    ARTEFACTS.mkdir(parents=True, exist_ok=True)
    picture = ARTEFACTS / "worklist.png"
    picture.unlink(missing_ok=True)
    browse(vigil.url, tmp_path / "profile", f"--screenshot={picture}")
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size > 20_000
