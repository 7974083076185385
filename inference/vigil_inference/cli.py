"""The service's commands, added to ``vigil``."""

import typer


def register(app: typer.Typer) -> None:
    """Add this room's commands to the command line."""
