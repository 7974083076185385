"""Scripts without a network, for MkDocs (a hook; see ``mkdocs.yml``).

The theme would fetch two scripts from elsewhere: Mermaid on a page with a drawing, and a shim for
the search where the site is opened from a folder. The site brings its own copies, which
``.ci/install-site-scripts`` gets. Without them a drawing's text is shown, and the search needs a
web server.
"""

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from mkdocs.utils import get_relative_url

_FOLDER = Path(__file__).parents[2] / "var/peers/site"
_MERMAID, _SHIM = "assets/mermaid.js", "assets/iframe-worker.js"
_FETCHED_SHIM = re.compile(r'<script src="?https://unpkg\.com/iframe-worker/shim"?></script>')


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the scripts that are there."""
    for address in (_MERMAID, _SHIM):
        if (script := _script(address)).is_file():
            files.append(File.generated(config, address, abs_src_path=str(script)))
    return files


def on_page_markdown(markdown: str, **_: object) -> str:
    """Show a drawing's text where there is nothing to draw it with."""
    there = _script(_MERMAID).is_file()
    return markdown if there else markdown.replace("```mermaid", "```text")


def on_post_page(output: str, page: Page, **_: object) -> str:
    """Load our copies: Mermaid before the theme looks for it, the shim in its place."""
    if 'class="mermaid"' in output:
        output = output.replace("</head>", f"{_tag(_MERMAID, page.url)}\n</head>", 1)
    return _FETCHED_SHIM.sub(_tag(_SHIM, page.url), output)


def on_post_template(output_content: str, **_: object) -> str:
    """Leave nothing that is fetched in a page of the theme's own, such as that for errors."""
    return _FETCHED_SHIM.sub("", output_content)


def _script(address: str) -> Path:
    return _FOLDER / Path(address).name


def _tag(address: str, url: str) -> str:
    if not _script(address).is_file():
        return ""
    return f'<script src="{get_relative_url(address, url)}"></script>'
