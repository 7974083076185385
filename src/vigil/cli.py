"""The ``vigil`` command: the core's own commands, and those that the other rooms add."""

import json
import sys
from collections.abc import Iterable
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vigil import RESEARCH_USE, __version__
from vigil.errors import VigilError
from vigil.folder import pictures_in

if TYPE_CHECKING:
    from vigil.triager import TriageResult

app = typer.Typer(
    name="vigil",
    help=f"Chest X-ray triage: DICOM in, a prioritised worklist out. {RESEARCH_USE}.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"vigil {__version__}. {RESEARCH_USE}.")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    pass


@app.command()
def triage(
    paths: Annotated[
        list[Path], typer.Argument(help="DICOM, PNG or JPEG files, or folders of them.")
    ],
    bundle: Annotated[
        Path | None,
        typer.Option(help="The model bundle's folder. [default: the one in models/]"),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object a line, in the files' order.")
    ] = False,
    age: Annotated[
        float | None,
        typer.Option(help="The patients' age in years, where the files lack it.", min=0, max=120),
    ] = None,
    site_calibration: Annotated[
        Path | None,
        typer.Option(help="The site's own calibration and thresholds, from `vigil calibrate`."),
    ] = None,
) -> None:
    """Judge radiographs and print them in the order in which they should be read.

    Every file gets an answer: a priority with its findings, or a code and a sentence that say why
    it was not analysed. In a folder, notes and tables (.md, .csv, …) are passed over. Exit 1 if
    there is no picture.
    """
    from vigil.bundle import default_bundle
    from vigil.triager import Triager

    for path in paths:
        if not path.exists():
            raise typer.BadParameter(f"{path} does not exist")
    files = pictures_in(paths)
    if not files:
        typer.echo(f"no picture in {', '.join(map(str, paths))}", err=True)
        raise typer.Exit(1)
    triager = Triager.load(bundle or default_bundle(), site_calibration=site_calibration)
    results = ((path, triager.triage(path, age_years=age)) for path in files)
    if as_json:
        for path, result in results:
            typer.echo(json.dumps(result.to_json(path), ensure_ascii=False))
    else:
        _print_table(results, len(files))


def _print_table(results: "Iterable[tuple[Path, TriageResult]]", total: int) -> None:
    from rich.console import Console
    from rich.progress import track
    from rich.table import Table

    console = Console()
    progress = Console(stderr=True)
    judged = list(track(results, "Reading", total, console=progress, transient=True))
    judged.sort(key=lambda item: item[1].priority.reading_order)
    table = Table(title="Reading order", caption=f"{RESEARCH_USE}.", caption_justify="left")
    table.add_column("Priority", no_wrap=True)
    table.add_column("File", overflow="fold")
    table.add_column("Why", overflow="fold")
    table.add_column("ms", justify="right")
    for path, result in judged:
        why = result.reason if result.code is None else f"{result.code}: {result.reason}"
        table.add_row(
            str(result.priority).replace("_", " "), path.name, why, f"{result.milliseconds:.0f}"
        )
    console.print(table)


def main() -> None:
    """Run the command line; an error that Vigil foresaw becomes one sentence and exit code 2."""
    for entry in entry_points(group="vigil.commands"):
        entry.load()(app)
    try:
        app()
    except VigilError as error:
        typer.echo(f"vigil: {error}", err=True)
        sys.exit(2)
