"""Which files of a folder are meant as pictures."""

from collections.abc import Sequence
from pathlib import Path

# What lies beside pictures in an exported folder and is never meant as one.
_NOT_PICTURES = {
    ".csv", ".htm", ".html", ".inf", ".ini", ".json", ".log", ".md", ".pdf", ".py", ".toml", ".txt",
    ".xml", ".yaml", ".yml", ".zip",
}  # fmt: skip


def pictures_in(paths: Sequence[Path]) -> list[Path]:
    """Return the files named, and those below the folders named, sorted, without notes and tables.

    A file that is named is always taken: whoever names it wants an answer for it.
    """
    found: list[Path] = []
    for path in paths:
        if not path.is_dir():
            found.append(path)
            continue
        found += sorted(
            file
            for file in path.rglob("*")
            if file.is_file()
            and not file.name.startswith(".")
            and file.suffix.lower() not in _NOT_PICTURES
        )
    return found
