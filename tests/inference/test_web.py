import gzip
import json
import re
from pathlib import Path

import httpx
import pytest

from tests.inference.conftest import FakeModel, serving
from vigil.errors import RefusalCode
from vigil.findings import LABELS
from vigil.triage import Priority
from vigil_inference.app import WEB
from vigil_inference.service import Service
from vigil_inference.settings import Settings
from vigil_inference.views import ResultView

LANGUAGES = ("en", "vi", "fr")
SCRIPTS = sorted(WEB.rglob("*.js"))
SHEETS = sorted(WEB.glob("*.css"))
_MOST_COMPRESSED_BYTES = 150_000


def words(language: str) -> dict[str, str]:
    return json.loads((WEB / "i18n" / f"{language}.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_finding_priority_and_refusal_has_a_word(language: str) -> None:
    wanted = [f"finding.{label}" for label in LABELS]
    wanted += [f"priority.{priority}" for priority in (*Priority, "WAITING")]
    wanted += [f"code.{code}" for code in RefusalCode]
    wanted.append("advice")
    advice = {key.removeprefix("advice.") for key in words(language) if key.startswith("advice.")}
    assert advice <= {code.value for code in RefusalCode}
    assert [key for key in wanted if not words(language).get(key)] == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_dictionaries_hold_the_same_words_with_the_same_places_to_fill(language: str) -> None:
    english = words("en")
    assert list(words(language)) == list(english)
    for key, text in words(language).items():
        assert set(re.findall(r"\{\w+\}", text)) == set(re.findall(r"\{\w+\}", english[key])), key


def test_every_word_that_the_page_asks_for_is_there() -> None:
    english = words("en")
    asked = set()
    for path in SCRIPTS:
        asked |= set(re.findall(r'\bt\("([\w.]+)"', path.read_text(encoding="utf-8")))
    page = (WEB / "index.html").read_text(encoding="utf-8")
    asked |= set(re.findall(r'data-text="(\w+)"', page))
    assert len(asked) > 50
    assert sorted(asked - set(english)) == []


def test_that_it_is_for_research_only_is_said_in_every_language() -> None:
    notices = [words(language)["notice"] for language in LANGUAGES]
    assert notices[0] == "Research use only, not a medical device"
    assert len(set(notices)) == 3
    assert notices[0] in (WEB / "index.html").read_text(encoding="utf-8")


def test_text_only_ever_goes_in_as_text() -> None:
    for path in SCRIPTS:
        source = path.read_text(encoding="utf-8")
        for way in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
            assert way not in source, f"{path.name} uses {way}"


def test_the_page_holds_no_inline_script_or_style_and_asks_nobody_else() -> None:
    page = (WEB / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=", page)
    for path in [*SCRIPTS, *SHEETS, WEB / "index.html"]:
        found = set(re.findall(r"https?://[\w.-]+", path.read_text(encoding="utf-8")))
        # The name of a namespace, which nobody asks for.
        assert found <= {"http://www.w3.org"}, path.name


def test_the_page_and_its_files_are_served(client: httpx.Client) -> None:
    for path in ("/", "/studies/1.2.3"):
        answer = client.get(path)
        assert answer.headers["content-type"].startswith("text/html")
    page = client.get("/").text
    for asset in re.findall(r'(?:src|href)="(/assets/[^"]+)"', page):
        assert client.get(asset).status_code == 200
    for path in SCRIPTS:
        answer = client.get(f"/assets/{path.relative_to(WEB).as_posix()}")
        assert "javascript" in answer.headers["content-type"]
        assert answer.headers["cache-control"] == "no-cache"
    assert client.get("/assets/i18n/vi.json").json()["notice"].startswith("Chỉ dùng")


def test_the_pages_own_code_is_small_enough_for_a_slow_line() -> None:
    files = [path for path in WEB.rglob("*") if path.is_file()]
    compressed = {path.name: len(gzip.compress(path.read_bytes(), 6)) for path in files}
    assert 20_000 < sum(compressed.values()) < _MOST_COMPRESSED_BYTES


def test_the_pages_sources_come_compressed(client: httpx.Client) -> None:
    for name in ("study.js", "style.css", "i18n/vi.json"):
        answer = client.get(f"/assets/{name}", headers={"Accept-Encoding": "gzip"})
        assert answer.headers["content-encoding"] == "gzip"
        assert "Accept-Encoding" in answer.headers["vary"]
        assert answer.text == (WEB / name).read_text(encoding="utf-8")
    plain = client.get("/assets/study.js", headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers


def test_the_served_bundles_card_is_a_page_that_runs_nothing(
    settings: Settings, model: FakeModel, tmp_path: Path
) -> None:
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    card = "# The <model>\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n<script>alert(1)</script>\n"
    (bundle / "MODEL_CARD.md").write_text(card, encoding="utf-8")
    with_bundle = settings.model_copy(update={"bundle": bundle})
    with serving(with_bundle, Service(with_bundle, model)) as client:
        page = client.get("/model")
        assert page.headers["content-type"].startswith("text/html")
        assert "<td>1</td>" in page.text
        assert "<title>The &lt;model&gt; · Vigil</title>" in page.text
        assert "<script>" not in page.text
        assert "not a medical device" in page.text
        assert client.get("/api/model/card").text == card
        (bundle / "MODEL_CARD.md").unlink()
        answer = client.get("/model")
        assert (answer.status_code, answer.json()["code"]) == (404, "NO_MODEL_CARD")


def test_the_links_to_a_studys_results_are_made_of_what_the_service_answers() -> None:
    source = (WEB / "study.js").read_text(encoding="utf-8")
    downloads = source[source.index("function downloads") : source.index("function provenance")]
    asked = set(re.findall(r"\bone\.(\w+)", downloads))
    assert asked == {"url", "sop_class"} & set(ResultView.model_fields)


def luminance(colour: str) -> float:
    if len(colour) == 4:
        colour = "#" + "".join(2 * c for c in colour[1:])
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, two: str) -> float:
    lighter, darker = sorted((luminance(one), luminance(two)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_text_stands_out_as_wcag_aa_asks(theme: str) -> None:
    sheet = Path(WEB / "style.css").read_text(encoding="utf-8")
    blocks = re.findall(r":root(\[data-theme=\"light\"\])?\s*\{([^}]*)\}", sheet)
    colours: dict[str, str] = {}
    for selector, block in blocks[:2]:
        if theme == "light" or not selector:
            colours |= dict(re.findall(r"--([\w-]+):\s*(#[0-9a-f]{3,6})", block))
    texts = ("text", "quiet", "critical-text", "urgent-text", "routine-text", "unknown-text", "bad")
    pairs = [(name, ground) for name in texts for ground in ("bg", "surface", "raised")]
    pairs += [("on-critical", "critical"), ("on-urgent", "urgent"), ("on-alert", "alert")]
    pairs += [("bg", "accent"), ("accent", "surface")]
    weak = {
        pair: round(contrast(colours[pair[0]], colours[pair[1]]), 2)
        for pair in pairs
        if contrast(colours[pair[0]], colours[pair[1]]) < 4.5
    }
    assert weak == {}
