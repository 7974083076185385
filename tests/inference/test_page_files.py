"""The page's scripts, joined for the line."""

import gzip
import json
import os
import re
from pathlib import Path

import httpx
import pytest

from vigil_inference import page_files
from vigil_inference.page_files import JOINED, MAIN, SHEETS, WEB, in_order, joined, page

VIEWS = ("study.js", "reading/agreement.js", "access/accounts.js", "access/audit.js")
_IMPORT = re.compile(r'^import \{([^}]*)\} from "(\.[^"]+)"', re.MULTILINE)
_FIRST_ROW_BYTES = 40_000
"""At 2 Mbit/s it takes 0.16 s."""


@pytest.mark.parametrize("name", [MAIN, *VIEWS])
def test_a_script_stands_after_all_that_it_needs(name: str) -> None:
    order = in_order(name)
    assert order[-1] == name
    assert len(set(order)) == len(order)
    for at, module in enumerate(order):
        path = WEB / module
        for _, target in _IMPORT.findall(path.read_text(encoding="utf-8")):
            assert (path.parent / target).resolve().relative_to(WEB).as_posix() in order[:at]


def test_what_a_script_takes_from_another_is_given_there() -> None:
    for path in sorted(WEB.rglob("*.js")):
        for names, target in _IMPORT.findall(path.read_text(encoding="utf-8")):
            source = (path.parent / target).resolve().read_text(encoding="utf-8")
            given = set(
                re.findall(r"^export (?:(?:async )?function|const|class) (\w+)", source, re.M)
            )
            taken = {name.split(" as ")[0].strip() for name in names.split(",") if name.strip()}
            assert taken <= given, f"{path.name} takes {taken - given} from {target}"


def test_a_view_brings_what_the_page_lacks_and_nothing_twice() -> None:
    main = set(re.findall(r"^modules\.(\w+) ", joined(MAIN), re.M))
    assert {"dom", "account", "worklist", "worklist_row", "main"} <= main
    for view in VIEWS:
        text = joined(view)
        assert text.startswith("import { modules }")
        assert not main & set(re.findall(r"^modules\.(\w+) ", text, re.M))
    assert "export const { studyView } = modules.study;" in joined("study.js")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(page_files, "WEB", tmp_path)
    return tmp_path


def test_scripts_that_need_each_other_are_refused(folder: Path) -> None:
    (folder / "a.js").write_text('import { b } from "./b.js";\nexport const a = 1;\n')
    (folder / "b.js").write_text('import { a } from "./a.js";\nexport const b = 1;\n')
    with pytest.raises(ValueError, match=r"each other: a\.js b\.js a\.js"):
        in_order("a.js")


def test_a_source_that_was_edited_is_joined_anew(folder: Path) -> None:
    (folder / "main.js").write_text("const old = 1;\n")
    os.utime(folder / "main.js", (1, 1))
    assert "const old" in joined(MAIN)
    (folder / "main.js").write_text("const fresh = 1;\n")
    assert "const fresh" in joined(MAIN)


@pytest.mark.parametrize("line", ["export default 1;", 'import * as x from "./x.js";'])
def test_a_form_that_cannot_be_joined_is_refused(folder: Path, line: str) -> None:
    (folder / "main.js").write_text(f"{line}\n")
    with pytest.raises(ValueError, match="cannot join"):
        joined(MAIN)


def test_the_first_row_needs_few_files_and_few_bytes(client: httpx.Client) -> None:
    shell = client.get("/").text
    named = re.findall(r'(?:src|href)="(/assets/[^"]+)"', shell)
    needed = [name for name in named if not name.endswith(".svg")]
    assert needed == [f"/assets/{JOINED}{SHEETS[0]}", f"/assets/{JOINED}{MAIN}"]
    texts = [shell, *(client.get(name).text for name in needed)]
    texts.append(client.get("/assets/i18n/vi.json").text)
    compressed = [len(gzip.compress(text.encode(), 6)) for text in texts]
    assert sum(compressed) < _FIRST_ROW_BYTES, compressed


def test_joined_files_come_compressed_and_are_asked_for_again(client: httpx.Client) -> None:
    for name, kind in ((MAIN, "javascript"), ("study.js", "javascript"), (SHEETS[0], "css")):
        path = f"/assets/{JOINED}{name}"
        answer = client.get(path, headers={"Accept-Encoding": "gzip"})
        assert kind in answer.headers["content-type"]
        assert answer.headers["cache-control"] == "no-cache"
        assert answer.headers["content-encoding"] == "gzip"
        again = client.get(path, headers={"If-None-Match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
    assert client.get(f"/assets/{JOINED}../settings.py").status_code == 404
    assert client.get(f"/assets/{JOINED}nothing.js").status_code == 404


def test_a_studys_page_names_the_viewer_and_the_list_does_not() -> None:
    assert page().count("modulepreload") == 0
    assert f'rel="modulepreload" href="/assets/{JOINED}study.js"' in page("study.js")
    dictionary = json.loads((WEB / "i18n" / "en.json").read_text(encoding="utf-8"))
    assert dictionary["notice"] in page()
