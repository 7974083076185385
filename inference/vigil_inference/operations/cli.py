"""``vigil status``, ``backup`` and ``restore``: for whoever runs the service."""

import json
from pathlib import Path
from typing import Annotated

import typer

Config = Annotated[
    Path | None, typer.Option(help="Settings as TOML. [default: $VIGIL_CONFIG, if set]")
]


def register(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.command()(status)


def status(
    config: Config = None,
    url: Annotated[
        str, typer.Option(help="Where the service is. [default: as the settings say]")
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
        found = fetch_status(address, host)
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
