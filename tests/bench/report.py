"""What a measurement says: a table for people and values for programs."""

import os
import platform
import sys
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table

from vigil.classifier import available_cores


class CannotMeasure(Exception):
    """Something that the measurement needs is not here; the message says what."""


@dataclass
class Report:
    """One part's result.

    Attributes
    ----------
    name
        The part's, by which it is chosen and stands in the JSON.
    title
        What was measured, in a line.
    columns, rows
        The table.
    values
        The same figures, and more, for programs.
    caption
        What one must know to read it.
    """

    name: str
    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]] = field(default_factory=list)
    values: dict[str, Any] = field(default_factory=dict)
    caption: str = ""

    def print(self) -> None:
        """Print the table; the first column is text, the others are figures."""
        table = Table(title=self.title, caption=self.caption, title_justify="left")
        for number, column in enumerate(self.columns):
            table.add_column(column, justify="right" if number else "left")
        for row in self.rows:
            table.add_row(*row)
        Console(width=None if sys.stdout.isatty() else 140).print(table)


def machine() -> dict[str, Any]:
    """Return on what, and beside what else, a measurement is made."""
    return {
        "cores": available_cores(),
        "architecture": platform.machine(),
        "python": platform.python_version(),
        "load": [round(value, 2) for value in os.getloadavg()],
    }
