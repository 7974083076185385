"""Pages that come from outside ``docs``, for MkDocs (a hook; see ``mkdocs.yml``).

Model cards, the changelog and the record of experiments stay where the repository keeps them and
are shown from there; notebooks are shown as ``make docs`` ran them, and the command line's
reference is asked of the program itself. A link that is right in the repository is right on the
site: where it leaves ``docs`` it is turned to the page here, or left out if there is none.
"""

import posixpath
import re
from importlib.metadata import entry_points
from pathlib import Path

import nbformat
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from nbconvert import MarkdownExporter

ROOT = Path(__file__).parents[2]
EXECUTED = ROOT / "var/notebooks"
RESEARCH_USE = "Research use only, not a medical device."

# Path in the repository -> page of the site.
PAGES = {
    "CHANGELOG.md": "changelog.md",
    "training/EXPERIMENTS.md": "experiments.md",
    "README.md": "README.md",
    **{
        str(path.relative_to(ROOT)): f"models/{path.parent.name}.md"
        for path in sorted(ROOT.glob("models/*/MODEL_CARD.md"))
    },
    **{
        str(path.relative_to(ROOT)): f"notebooks/{path.stem}.md"
        for path in sorted(ROOT.glob("notebooks/*.ipynb"))
    },
}
# The front page of the repository is not that of the site: only links to it are turned.
SHOWN = {page: source for source, page in PAGES.items() if source != "README.md"}
# A fence or a span of code, which holds no link, or a link's text and target.
_LINK = re.compile(
    r"```.*?```|`[^`\n]*`(?!\])|\[((?:[^\[\]`]|`[^`\n]*`)*)\]\(([^()\s]+)\)", re.DOTALL
)
_ROLE = re.compile(r":(?:attr|class|data|func|meth|mod):<code>")
_COMMANDS = "<!-- the program's own words -->"
_ELSEWHERE = re.compile(r"[a-z]+:|#|/")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Fill the sections that are listed from folders, and leave no page without a place."""
    docs = Path(config.docs_dir)
    sections = {name: entry for item in config.nav for name, entry in _named(item)}
    sections["Notebooks"] += [p for p in SHOWN if p.startswith("notebooks/")]
    sections["Models"] += [p for p in SHOWN if p.startswith("models/")]
    decisions = sorted(docs.glob("decisions/*.md"))
    sections["Decisions"] += ["decisions/README.md"]
    sections["Decisions"] += [_uri(p, docs) for p in decisions if p.name != "README.md"]
    named = set(_entries(config.nav))
    rest = [_uri(path, docs) for path in sorted(docs.rglob("*.md"))]
    rest = [uri for uri in rest if uri not in named and not uri.startswith("site/")]
    if rest:
        config.nav.insert(4, {"More how-tos": rest})
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what lies outside ``docs``."""
    for page, source in SHOWN.items():
        path = ROOT / source
        if path.suffix == ".ipynb":
            _add_notebook(path, page, files, config)
        else:
            files.append(File.generated(config, page, content=path.read_text("utf-8")))
    icon = ROOT / "inference/vigil_inference/web/icon.svg"
    files.append(File.generated(config, "images/icon.svg", abs_src_path=str(icon)))
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Turn links that leave ``docs`` to the pages that show their targets."""
    uri = page.file.src_uri
    if _COMMANDS in markdown:
        markdown = markdown.replace(_COMMANDS, _command_line())
    source = SHOWN.get(uri, f"docs/{uri}")

    def turned(found: re.Match[str]) -> str:
        text, link = found.groups()
        if link is None or _ELSEWHERE.match(link):
            return found.group()
        path, hash_, anchor = link.partition("#")
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
        if source.startswith("docs/") and target.startswith("docs/"):
            return found.group()
        if target.startswith("docs/"):
            to = target.removeprefix("docs/")
        elif target in PAGES:
            to = PAGES[target]
        elif (ROOT / target).exists():
            return text
        elif "-pictures/" in path:  # a notebook's, added beside its page
            return found.group()
        else:
            raise PluginError(f"{source}: the link to {link} leads nowhere")
        return f"[{text}]({posixpath.relpath(to, posixpath.dirname(uri))}{hash_}{anchor})"

    return _LINK.sub(turned, markdown)


def on_page_content(html: str, **_: object) -> str:
    """Show a docstring's `:class:` and the like as code: they are for other tools."""
    return _ROLE.sub("<code>", html)


def _named(item: object) -> list[tuple[str, list[object]]]:
    return (
        [(k, v) for k, v in item.items() if isinstance(v, list)] if isinstance(item, dict) else []
    )


def _entries(nav: object) -> list[str]:
    if isinstance(nav, str):
        return [nav]
    parts = nav.values() if isinstance(nav, dict) else nav
    return [entry for part in parts for entry in _entries(part)]


def _uri(path: Path, docs: Path) -> str:
    return path.relative_to(docs).as_posix()


def _add_notebook(path: Path, page: str, files: Files, config: MkDocsConfig) -> None:
    executed = EXECUTED / path.name
    notebook = nbformat.read(executed if executed.is_file() else path, as_version=4)
    for cell in notebook.cells:  # what libraries warn of says nothing to a reader
        told = cell.get("outputs", [])
        cell["outputs"] = [output for output in told if output.get("name") != "stderr"]
    folder = f"{path.stem}-pictures"
    exporter = MarkdownExporter()
    body, resources = exporter.from_notebook_node(
        notebook, resources={"output_files_dir": folder, "unique_key": "picture"}
    )
    how = "as it ran on generated pictures" if executed.is_file() else "which did not run here"
    note = f"*`notebooks/{path.name}`, {how}. {RESEARCH_USE}*\n"
    title, _, rest = body.strip().partition("\n")
    files.append(File.generated(config, page, content=f"{title}\n\n{note}{rest}\n"))
    for name, content in resources["outputs"].items():
        picture = posixpath.join(posixpath.dirname(page), name)
        files.append(File.generated(config, picture, content=content))


def _command_line() -> str:
    from typer import Context
    from typer.cli import get_docs_for_click
    from typer.main import get_command

    from vigil.cli import app

    for entry in entry_points(group="vigil.commands"):
        entry.load()(app)
    command = get_command(app)
    context = Context(command, info_name="vigil")
    text = get_docs_for_click(obj=command, ctx=context, name="vigil", title="vigil")
    text = text.partition("\n")[2]  # the page has its own title
    # What stands in angle brackets is a place-holder, not a mark.
    return re.sub(r"<(?=[A-Za-z])", "&lt;", text)
