"""The page's own files. Its many scripts go over the line as one: each request costs its latency.

The sources stay as they are, and are served beside what is made of them.
"""

import hashlib
import re
from functools import cache, lru_cache
from pathlib import Path

from fastapi import Response
from fastapi.staticfiles import StaticFiles
from starlette.types import Scope

WEB = Path(__file__).resolve().parent / "web"
JOINED = "joined/"
"""Under ``/assets``: where a script stands together with all that it imports."""
MAIN = "main.js"
SHEETS = ("style.css", "viewer.css", "reading.css", "access.css")

_TYPES = {".js": "text/javascript", ".css": "text/css"}
_IMPORT = re.compile(r'^import \{([^}]*)\} from "(\.[^"]+)";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:async )?function |const |class )", re.MULTILINE)
_EXPORTED = re.compile(r"^export (?:(?:async )?function|const|class) (\w+)", re.MULTILINE)
_LEFT = re.compile(r"^(?:import|export)\b.*", re.MULTILINE)


class Assets(StaticFiles):
    """The page's own files; a browser asks each time whether they are current."""

    def file_response(self, *args: object, **kwargs: object) -> Response:
        """Return a file, to be asked for again each time."""
        response = super().file_response(*args, **kwargs)  # type: ignore[arg-type]
        response.headers["Cache-Control"] = "no-cache"
        return response

    async def get_response(self, path: str, scope: Scope) -> Response:
        """Return a file, or what was joined of several."""
        name = Path(path).as_posix()
        is_joined = name.startswith(JOINED) and _is_source(name.removeprefix(JOINED))
        if not is_joined or scope["method"] not in ("GET", "HEAD"):
            return await super().get_response(path, scope)
        text = joined(name.removeprefix(JOINED))
        tag = f'"{hashlib.sha256(text.encode()).hexdigest()[:32]}"'
        headers = {"Cache-Control": "no-cache", "ETag": tag}
        given = dict(scope["headers"]).get(b"if-none-match", b"").decode("latin-1")
        if tag in given:
            return Response(status_code=304, headers=headers)
        return Response(text, media_type=_TYPES[Path(name).suffix], headers=headers)


def _is_source(name: str) -> bool:
    path = (WEB / name).resolve()
    is_script = path.suffix == ".js" and path.is_relative_to(WEB) and path.is_file()
    return is_script or name == SHEETS[0]


@cache
def page(*views: str) -> str:
    """Return the page, which names the scripts that it needs: a browser need not find them in turn.

    ``views`` are scripts that are needed besides the application's own, ``study.js`` for a study.
    """
    text = (WEB / "index.html").read_text(encoding="utf-8")
    links = "".join(
        f'<link rel="modulepreload" href="/assets/{JOINED}{view}">\n  ' for view in views
    )
    return text.replace('<script type="module"', f'{links}<script type="module"')


def joined(name: str) -> str:
    """Return a script with all that it imports, or all style sheets, as one text.

    The application's own modules are in ``main.js`` alone; what else a view needs is added to
    them, so that there is one of each however a page was come by.
    """
    return _joined(name, max(path.stat().st_mtime_ns for path in WEB.rglob("*.*s")))


@lru_cache(maxsize=32)
def _joined(name: str, _changed_at: int) -> str:
    if name == SHEETS[0]:
        return "".join((WEB / sheet).read_text(encoding="utf-8") for sheet in SHEETS)
    of_main = in_order(MAIN)
    if name == MAIN:
        return "export const modules = {};\n" + "".join(map(_wrapped, of_main))
    added = [module for module in in_order(name) if module not in of_main]
    up = "../" * name.count("/") or "./"
    return (
        f'import {{ modules }} from "{up}{MAIN}";\n'
        + "".join(map(_wrapped, added))
        + f"export const {{ {', '.join(_exports(_source(name)))} }} = modules.{_key(name)};\n"
    )


def in_order(name: str, above: tuple[str, ...] = ()) -> list[str]:
    """Return a script and all that it imports, each after what it needs.

    Raises
    ------
    ValueError
        If scripts need each other in a circle.
    """
    if name in above:
        raise ValueError(f"these scripts import each other: {' '.join([*above, name])}")
    found: list[str] = []
    for _, target in _IMPORT.findall(_source(name)):
        for module in in_order(_resolved(name, target), (*above, name)):
            if module not in found:
                found.append(module)
    return [*found, name]


def _wrapped(name: str) -> str:
    """Return a module as a function that runs once and gives what the module exports.

    Raises
    ------
    ValueError
        If the module imports or exports in another form than our scripts do.
    """
    source = _source(name)

    def taken(match: re.Match[str]) -> str:
        names = match[1].replace(" as ", ": ")
        return f"const {{{names}}} = modules.{_key(_resolved(name, match[2]))};\n"

    body = _EXPORT.sub("", _IMPORT.sub(taken, source))
    if (left := _LEFT.search(body)) is not None:
        raise ValueError(f"{name}: cannot join {left[0]!r}")
    given = f"return {{ {', '.join(_exports(source))} }};\n"
    return f"// {name}\nmodules.{_key(name)} ??= (() => {{\n{body}{given}}})();\n"


def _exports(source: str) -> list[str]:
    return _EXPORTED.findall(source)


def _key(name: str) -> str:
    return re.sub(r"\W", "_", name.removesuffix(".js"))


def _source(name: str) -> str:
    return (WEB / name).read_text(encoding="utf-8")


def _resolved(name: str, target: str) -> str:
    return ((WEB / name).parent / target).resolve().relative_to(WEB).as_posix()
