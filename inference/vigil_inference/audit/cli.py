"""``vigil audit``: whether the trail is whole, and the trail as a file."""

import json
import sys
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

audit = typer.Typer(help="Who saw and did what.", no_args_is_help=True, rich_markup_mode=None)

Config = Annotated[
    Path | None, typer.Option(help="Settings as TOML. [default: $VIGIL_CONFIG, if set]")
]
DataDir = Annotated[Path | None, typer.Option(help="Where pictures and records are.")]


@audit.command("verify")
def verify_trail(
    head: Annotated[
        str, typer.Option(help="NUMBER:SEAL as an earlier verification printed it.")
    ] = "",
    config: Config = None,
    data_dir: DataDir = None,
) -> None:
    """Look for events that were changed, removed, moved or cut off. Exit 1 if there are any.

    Keep what it prints outside of this machine: without it, whoever may write the database can
    replace the whole trail by another that is consistent.
    """
    from vigil_inference.audit.chain import verify
    from vigil_inference.delivery.cli import database_settings
    from vigil_inference.store import Store

    noted = _parsed(head) if head else None
    settings = database_settings(config, data_dir)
    with closing(Store(settings.database)) as store, store.reading() as session:
        problems, last_id, sha256 = verify(session, noted)
    for problem in problems:
        typer.echo(problem)
    if problems:
        raise typer.Exit(1)
    typer.echo(f"{last_id} events, each where it was written")
    typer.echo(f"head {last_id}:{sha256}")


@audit.command("export")
def export_trail(config: Config = None, data_dir: DataDir = None) -> None:
    """Print every event as a line of JSON, with its seal."""
    from sqlalchemy import select

    from vigil_inference.audit.api import AuditView
    from vigil_inference.audit.tables import AuditRow
    from vigil_inference.delivery.cli import database_settings
    from vigil_inference.store import Store

    settings = database_settings(config, data_dir)
    with closing(Store(settings.database)) as store, store.reading() as session:
        wanted = select(AuditRow).order_by(AuditRow.id).execution_options(yield_per=1000)
        for row in session.scalars(wanted):
            view = AuditView.model_validate(row).model_dump(mode="json")
            sys.stdout.write(json.dumps(view, ensure_ascii=False) + "\n")


def _parsed(head: str) -> tuple[int, str]:
    number, _, seal = head.partition(":")
    if not number.isdigit() or len(seal) != 64:
        raise typer.BadParameter("expected NUMBER:SEAL, as `vigil audit verify` prints it")
    return int(number), seal
