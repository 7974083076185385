"""The page's own files, which a browser asks for all at once."""

import re
from functools import cache
from pathlib import Path

from fastapi import Response
from fastapi.staticfiles import StaticFiles

WEB = Path(__file__).resolve().parent / "web"

_ENTRY = '<script type="module" src="/assets/main.js"></script>'
_IMPORT = re.compile(r'\bfrom "(\.[^"]+)"')


class Assets(StaticFiles):
    """The page's own files; a browser asks each time whether they are current."""

    def file_response(self, *args: object, **kwargs: object) -> Response:
        """Return a file, to be asked for again each time."""
        response = super().file_response(*args, **kwargs)  # type: ignore[arg-type]
        response.headers["Cache-Control"] = "no-cache"
        return response


@cache
def page(*entries: str) -> str:
    """Return the page, which names the scripts that it needs: a browser need not find them in turn.

    ``entries`` are scripts that are needed besides the application's own, ``study.js`` for a study.
    """
    text = (WEB / "index.html").read_text(encoding="utf-8")
    scripts = sorted(_imported({"main.js", *entries}) - {"main.js"})
    links = "\n  ".join(f'<link rel="modulepreload" href="/assets/{name}">' for name in scripts)
    return text.replace(_ENTRY, f"{links}\n  {_ENTRY}")


def _imported(names: set[str]) -> set[str]:
    """Return scripts with all that they import before they run, by their paths under ``web``."""
    found: set[str] = set()
    while names - found:
        name = min(names - found)
        found.add(name)
        path = WEB / name
        for target in _IMPORT.findall(path.read_text(encoding="utf-8")):
            names = names | {(path.parent / target).resolve().relative_to(WEB).as_posix()}
    return found
