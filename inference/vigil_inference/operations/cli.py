"""``vigil status``, ``backup`` and ``restore``: for whoever runs the service."""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from vigil_inference.operations.archive import Manifest

Config = Annotated[
    Path | None, typer.Option(help="Settings as TOML. [default: $VIGIL_CONFIG, if set]")
]

DataDir = Annotated[Path | None, typer.Option(help="Where pictures and records are.")]


def register(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.command()(status)
    app.command()(backup)
    app.command()(restore)


def status(
    config: Config = None,
    url: Annotated[
        str, typer.Option(help="Where the service is. [default: as the settings say]")
    ] = "",
    token: Annotated[
        str, typer.Option(envvar="VIGIL_TOKEN", help="For a service on another machine.")
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    waiting_limit: Annotated[
        float, typer.Option(help="Seconds that a picture may wait before it is a warning.", min=0)
    ] = 300.0,
    delivery_limit: Annotated[
        float, typer.Option(help="Seconds that a delivery may take before it is one.", min=0)
    ] = 3600.0,
) -> None:
    """Say how a running service stands: no study and no patient is named.

    Exit 0 all is well, 1 something needs a person, 2 not ready or nothing answers, 3 what answers
    is no Vigil: what Nagios and its kind expect.
    """
    from vigil.errors import VigilError
    from vigil_inference.operations.judgement import Level, Limits, judge_status
    from vigil_inference.operations.terminal import (
        NothingAnswers,
        address_of,
        fetch_status,
        print_status,
    )
    from vigil_inference.settings import load_settings

    try:
        address, host = (url, "") if url else address_of(load_settings(config))
        found = fetch_status(address, host, token)
    except VigilError as error:
        level = Level.CRITICAL if isinstance(error, NothingAnswers) else Level.UNKNOWN
        if as_json:
            typer.echo(json.dumps({"level": level.name, "problems": [str(error)], "status": None}))
        else:
            typer.echo(f"{level.name}  {error}")
        raise typer.Exit(level) from error
    judgement = judge_status(found, Limits(waiting_limit, delivery_limit))
    if as_json:
        document = {
            "level": judgement.level.name,
            "problems": judgement.sentences,
            "status": found.model_dump(mode="json"),
        }
        typer.echo(json.dumps(document, ensure_ascii=False))
    else:
        print_status(found, judgement)
    raise typer.Exit(judgement.level)


def backup(
    file: Annotated[Path, typer.Argument(help="A new file, such as vigil-2026-11-25.tar.")],
    config: Config = None,
    data_dir: DataDir = None,
) -> None:
    """Write the embedded store into one file; the service may run meanwhile.

    What was acknowledged before it began is in it. Exit 1 if a file of the store is missing or
    damaged: the backup is made all the same, and names it.
    """
    from vigil_inference.operations.backup import write_backup
    from vigil_inference.settings import load_settings

    settings = load_settings(config, data_dir=data_dir)
    manifest = write_backup(settings, file)
    size = sum(member.size_bytes for member in manifest.members.values())
    typer.echo(f"{file}: {_said(manifest)}, {size / 1e6:.1f} MB")
    for path in manifest.missing:
        typer.echo(f"missing or damaged in {settings.data_dir}: {path}", err=True)
    if manifest.missing:
        raise typer.Exit(1)


def restore(
    file: Annotated[Path, typer.Argument(help="What `vigil backup` wrote.")],
    config: Config = None,
    data_dir: DataDir = None,
) -> None:
    """Put a backup into an empty data folder, after every digest was checked.

    Exit 1 if the backup lacked a file of its store when it was made.
    """
    from vigil_inference.operations.restore import read_backup
    from vigil_inference.settings import load_settings

    # Pictures and the database are patient data: for this user's eyes only.
    os.umask(0o077)
    settings = load_settings(config, data_dir=data_dir)
    manifest = read_backup(settings, file)
    typer.echo(
        f"{settings.data_dir}: {_said(manifest)}, as of {manifest.began_at:%Y-%m-%d %H:%M} UTC"
    )
    typer.echo("`vigil serve` goes on with it.")
    for path in manifest.missing:
        typer.echo(f"missing or damaged when the backup was made: {path}", err=True)
    if manifest.missing:
        raise typer.Exit(1)


def _said(manifest: "Manifest") -> str:
    return (
        f"{manifest.studies} studies, {manifest.pictures} pictures ({manifest.waiting} wait for "
        f"their analysis), {manifest.results} results"
    )
