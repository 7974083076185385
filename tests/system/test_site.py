"""The documentation site is built strictly, its links are followed, and its commands are run.

Named so that it comes after the notebooks, whose executed copies it shows.
"""

import contextlib
import os
import re
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from html.parser import HTMLParser
from importlib.metadata import entry_points
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat
import pytest
from sybil import Example, Region, Sybil
from sybil.document import Document
from sybil.evaluators.python import PythonEvaluator
from sybil.region import Lexeme
from typer import Context
from typer.main import get_command

from tests.conftest import PROJECT
from tests.system.peers import free_port, wait_until
from vigil.cli import app

DOCS = PROJECT / "docs"
TUTORIALS = sorted((DOCS / "tutorials").glob("*.md"))
# A block is run where the comment `<!-- run -->` stands before it, which no reader sees; a service
# that goes on is marked `<!-- serve -->`.
_MARKED = re.compile(
    r"<!-- (?P<how>run|serve) -->\n```(?P<language>sh|python)\n(?P<code>.*?)^```$", re.DOTALL | re.M
)
_BLOCK = re.compile(r"^```(?:sh|bash|console|text)?\n(.*?)^```$|`([^`\n]+)`", re.DOTALL | re.M)
_FETCHED = re.compile(r"(?:url\(|@import )[\"']?(?:https?:)?//[^)\"']+")
_ELSEWHERE = re.compile(r"^(?:https?:)?//(?!www\.w3\.org)")


class _Page(HTMLParser):
    """What a page links to, loads from and can be linked to."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = dict(attrs)
        self.anchors |= {value for name in ("id", "name") if (value := told.get(name))}
        if tag == "a" and told.get("href"):
            self.links.append(str(told["href"]))
        if tag in ("img", "script", "iframe") and told.get("src"):
            self.loaded.append(str(told["src"]))
        if tag == "link" and told.get("rel") in ("stylesheet", "icon", "preload", "preconnect"):
            self.loaded.append(str(told["href"]))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, _Page]:
    """Every page of the site, built as ``make docs`` builds it."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet"]
    run = subprocess.run(
        [*command, "--site-dir", str(folder)],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
        timeout=560,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return {path: _Page(path) for path in folder.rglob("*.html") if path.name != "404.html"}


def test_every_link_of_the_site_leads_to_a_page_and_its_place(site: dict[Path, _Page]) -> None:
    followed = 0
    for path, page in site.items():
        for link in [*page.links, *page.loaded]:
            address = urlsplit(link)
            if address.scheme or address.netloc:
                continue
            target = path
            if address.path:
                target = (path.parent / unquote(address.path)).resolve()
            assert target.is_file(), f"{path.name}: {link}"
            if address.fragment and target in site:
                anchor = unquote(address.fragment)
                assert anchor in site[target].anchors, f"{path.name}: {link}"
            followed += 1
    assert followed > 1000


def test_the_site_loads_nothing_from_elsewhere(site: dict[Path, _Page]) -> None:
    for path, page in site.items():
        assert not [link for link in page.loaded if _ELSEWHERE.match(link)], path.name
    styles = next(iter(site)).parents
    folder = next(parent for parent in styles if (parent / "assets").is_dir())
    for style in folder.rglob("*.css"):
        found = re.findall(
            r"(?:url\(|@import )[\"']?(?:https?:)?//[^)\"']+", style.read_text("utf-8")
        )
        assert not found, style.name


def test_what_the_site_shows_comes_from_the_repository(site: dict[Path, _Page]) -> None:
    shown = {path.parent.name + "/" + path.name for path in site}
    for card in PROJECT.glob("models/*/MODEL_CARD.md"):
        assert f"models/{card.parent.name}.html" in shown
    for notebook in PROJECT.glob("notebooks/*.ipynb"):
        assert f"notebooks/{notebook.stem}.html" in shown
    for decision in (DOCS / "decisions").glob("[a-z]*.md"):
        assert f"decisions/{decision.stem}.html" in shown
    reference = next(path for path in site if path.name == "core.html").read_text("utf-8")
    assert "What Vigil says of one picture. Research use, not a medical device." in reference
    commands = next(path for path in site if path.name == "command-line.html").read_text("utf-8")
    assert "vigil calibrate compare" in commands


def test_a_notebook_is_shown_as_it_ran(site: dict[Path, _Page]) -> None:
    for executed in (PROJECT / "var/notebooks").glob("*.ipynb"):
        outputs = [o for c in nbformat.read(executed, 4).cells for o in c.get("outputs", [])]
        pictures = sum("image/png" in output.get("data", {}) for output in outputs)
        page = next(path for path in site if path.name == f"{executed.stem}.html")
        shown = [link for link in site[page].loaded if f"{executed.stem}-pictures/" in link]
        assert len(shown) == pictures > 0, executed.stem


@pytest.mark.parametrize("path", sorted(DOCS.rglob("*.md")), ids=lambda p: p.stem)
def test_a_link_is_right_in_the_repository_too(path: Path) -> None:
    text = re.sub(r"```.*?```|`[^`\n]*`", "", path.read_text("utf-8"), flags=re.DOTALL)
    for link in re.findall(r"\]\(([^()\s]+)\)", text):
        address = urlsplit(link)
        if address.path and not address.scheme:
            assert (path.parent / unquote(address.path)).exists(), link


def _commands(command: object, context: Context, name: str) -> dict[str, set[str]]:
    options = {o for p in command.get_params(context) for o in (*p.opts, *p.secondary_opts)}
    found = {name: {option for option in options if option.startswith("-")}}
    for word, part in getattr(command, "commands", {}).items():
        found |= _commands(part, Context(part, info_name=word, parent=context), f"{name} {word}")
    return found


@pytest.fixture(scope="module")
def commands() -> dict[str, set[str]]:
    """Each command's full name and its options, as the program has them."""
    if not {command.name for command in app.registered_commands} - {"triage", None}:
        for entry in entry_points(group="vigil.commands"):
            entry.load()(app)
    root = get_command(app)
    return _commands(root, Context(root, info_name="vigil"), "vigil")


@pytest.mark.parametrize(
    "path", [PROJECT / "README.md", *sorted(DOCS.rglob("*.md"))], ids=lambda p: p.stem
)
def test_every_command_that_is_named_exists_with_its_options(
    path: Path, commands: dict[str, set[str]]
) -> None:
    text = path.read_text("utf-8")
    for block, span in _BLOCK.findall(text):
        for line in (block or span).replace("\\\n", " ").splitlines():
            for said in re.split(r"&&|;|\||#", line):
                found = re.match(r"\s*(?:\$ )?(?:\S*/)?vigil((?: [a-z][a-z0-9-]*)+)(.*)", said)
                if found is None:
                    continue
                words, rest = found.group(1).split(), found.group(2)
                name = "vigil"
                while words and f"{name} {words[0]}" in commands:
                    name = f"{name} {words.pop(0)}"
                assert name != "vigil", f"{path.name}: {said.strip()}"
                for option in re.findall(r"(?<![\w-])--[a-z][a-z-]*", rest):
                    assert option in commands[name] | {"--help"}, f"{path.name}: {said.strip()}"


class _Shell:
    """Runs a tutorial's blocks one after another in a folder of its own."""

    def __init__(self, folder: Path, ports: tuple[int, int], bundle: Path) -> None:
        self.folder = folder
        self.http_port, self.dicom_port = ports
        self.printed = ""
        self.serving: subprocess.Popen[bytes] | None = None
        self._environment = os.environ | {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "VIGIL_BUNDLE": str(bundle.resolve()),
            "VIGIL_HTTP_PORT": str(self.http_port),
            "VIGIL_DICOM_PORT": str(self.dicom_port),
        }

    def run(self, code: str) -> None:
        """Run a block; each of its lines must succeed."""
        code = code.replace("127.0.0.1:11112", f"127.0.0.1:{self.dicom_port}")
        code = code.replace("127.0.0.1:8080", f"127.0.0.1:{self.http_port}")
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", code],
            cwd=self.folder,
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=560,
        )
        self.printed += done.stdout
        assert done.returncode == 0, f"{code}\n{done.stdout}{done.stderr}"

    def serve(self, code: str) -> None:
        """Start a service and wait until it is ready."""
        with (self.folder / "service.log").open("wb") as log:
            self.serving = subprocess.Popen(
                ["bash", "-c", f"exec {code}"],
                cwd=self.folder,
                env=self._environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        wait_until(self._is_ready, "the service is ready")

    def _is_ready(self) -> bool:
        assert self.serving is not None
        assert self.serving.poll() is None, (self.folder / "service.log").read_text("utf-8")
        with contextlib.suppress(OSError):
            urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}/ready", timeout=5).close()
            return True
        return False


@contextlib.contextmanager
def _shell(folder: Path, bundle: Path) -> Iterator[_Shell]:
    shell = _Shell(folder, (free_port(), free_port()), bundle)
    try:
        yield shell
    finally:
        if shell.serving is not None:
            shell.serving.terminate()
            shell.serving.wait(60)


def _marked_blocks(document: Document, shell: _Shell) -> Iterator[Region]:
    python = PythonEvaluator()

    def evaluate(example: Example) -> None:
        how, language, code = example.parsed
        if how == "serve":
            shell.serve(code)
        elif language == "sh":
            shell.run(code)
        else:
            # The line that a traceback names is that of the page.
            example.parsed = Lexeme(code, offset=0, line_offset=2)
            python(example)

    for found in _MARKED.finditer(document.text):
        yield Region(*found.span(), found.group("how", "language", "code"), evaluate)


@pytest.mark.slow
@pytest.mark.system
@pytest.mark.parametrize("path", TUTORIALS, ids=lambda p: p.stem)
def test_a_tutorial_does_what_it_says(
    path: Path, shipped_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(PROJECT / "training/configs", tmp_path / "training/configs")
    monkeypatch.chdir(tmp_path)
    with _shell(tmp_path, shipped_bundle) as shell:
        sybil = Sybil([lambda document: _marked_blocks(document, shell)], path=str(path.parent))
        for example in sybil.parse(path):
            example.evaluate()
        if path.stem == "pacs-administrator":
            assert shell.printed.count("0x0000 Success") == 3
            assert "NOT_FRONTAL" in shell.printed
            assert "DELIVERED" in shell.printed
            assert re.search(r"^results/.*\.dcm$", shell.printed, re.M)
        if path.stem == "researcher":
            assert "mean validation AUROC" in shell.printed
            assert (tmp_path / "runs/smoke-bundle/model.onnx").is_file()
