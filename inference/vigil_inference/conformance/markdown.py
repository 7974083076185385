"""Texts and tables in Markdown."""

import re
from collections.abc import Iterable, Sequence
from importlib import resources

from pydicom.uid import UID
from pynetdicom import sop_class


def template(name: str) -> str:
    """Return a section's text, in which braces stand for what the code fills in."""
    file = resources.files("vigil_inference.conformance") / f"{name}.md"
    return file.read_text(encoding="utf-8")


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table; a bar in a cell is kept from ending it."""
    lines = [_line(head), _line(["---"] * len(head)), *(_line(row) for row in rows)]
    return "\n".join(lines)


def named(uid: str) -> tuple[str, str]:
    """Return a UID's name in the standard, and the UID as code."""
    name = UID(uid).name
    if name == uid:  # newer than pydicom's dictionary; pynetdicom calls it `SomeNewStorage`
        keyword = next(word for word, value in vars(sop_class).items() if value == uid)
        name = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", keyword)
    return name, f"`{uid}`"


def status(code: int) -> str:
    """Return a DIMSE status as the standard writes it."""
    return f"`{code:04X}`"


def _line(cells: Sequence[object]) -> str:
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"
