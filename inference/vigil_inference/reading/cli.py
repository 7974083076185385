"""``vigil readings``: agreement statistics, and signed readings as training data.

They work on the database, so they answer while the service is down too.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vigil_inference.reading.pictures import Pictures

if TYPE_CHECKING:
    from vigil_inference.reading.statistics import Agreement, Figure, ReadingStatistics
    from vigil_inference.settings import Settings
    from vigil_inference.store import Store

readings = typer.Typer(help="What readers said, counted and exported.", no_args_is_help=True)

Config = Annotated[
    Path | None, typer.Option(help="Settings as TOML. [default: $VIGIL_CONFIG, if set]")
]
DataDir = Annotated[Path | None, typer.Option(help="Where pictures and records are.")]


@readings.command()
def statistics(
    config: Config = None,
    data_dir: DataDir = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Say how far signed readings agree with the model and with each other, with intervals."""
    from vigil_inference.reading.statistics import read_statistics

    _, store = _open(config, data_dir)
    try:
        found = read_statistics(store)
    finally:
        store.close()
    if as_json:
        typer.echo(found.model_dump_json())
    else:
        _print(found)


@readings.command()
def export(
    to: Annotated[Path, typer.Option(help="A new or empty folder.")],
    pictures: Annotated[
        Pictures, typer.Option(help="Which pictures go with the manifest.")
    ] = Pictures.NONE,
    source: Annotated[
        str, typer.Option(help="What the manifest calls this site. [default: the setting `site`]")
    ] = "",
    config: Config = None,
    data_dir: DataDir = None,
) -> None:
    """Write signed readings as a manifest that training reads, under pseudonyms."""
    import os

    from vigil.errors import ConfigurationError, StorageError
    from vigil_inference.intake import errno_name
    from vigil_inference.reading.export import Export, source_of

    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise ConfigurationError(f"{to}: exists already, expected a new or an empty folder")
    # Radiographs and what was found in them, whoever's they are: for this user's eyes only.
    os.umask(0o077)
    settings, store = _open(config, data_dir)
    name = source or source_of(settings.site)
    try:
        run = Export(store, settings.data_dir, source=name, pictures=pictures)
        for file in run.files():
            path = to / file.name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(file.content)
    except OSError as error:
        raise StorageError(f"{to}: the export was not written ({errno_name(error)})") from error
    finally:
        store.close()
    done = run.exported
    typer.echo(f"{to}: {done.pictures} pictures of {done.patients} patients")
    for why, count in sorted(done.left_out.items()):
        typer.echo(f"left out: {count}, {why}", err=True)


def _open(config: Path | None, data_dir: Path | None) -> "tuple[Settings, Store]":
    from vigil.errors import ConfigurationError
    from vigil_inference.database import is_sqlite
    from vigil_inference.settings import load_settings
    from vigil_inference.store import Store

    settings = load_settings(config, data_dir=data_dir)
    url = settings.database
    if is_sqlite(url) and not Path(url.removeprefix("sqlite:///")).is_file():
        raise ConfigurationError(f"{url.removeprefix('sqlite:///')}: there is no database")
    return settings, Store(url)


def _print(found: "ReadingStatistics") -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    console.print(
        f"{found.signed_studies} of {found.studies} studies signed, "
        f"{found.twice_signed_studies} of them twice, by {found.readers} readers"
    )
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("finding", no_wrap=True)
    for name in ("bundle", "films", "patients"):
        table.add_column(name, justify="right")
    for name in ("agree", "positive", "negative", "kappa", "sensitivity", "specificity"):
        table.add_column(name, justify="right")
    for one in found.findings:
        table.add_row(
            one.finding_key, f"{one.bundle_id} {one.bundle_digest[:8]}", str(one.pictures),
            str(one.patients), *_figures(one), _said(one.sensitivity), _said(one.specificity),
        )  # fmt: skip
    for between in found.between_readers:
        table.add_row(
            between.label, "two readers", str(between.pictures), str(between.patients),
            *_figures(between), "", "",
        )  # fmt: skip
    console.print(table)
    for caveat in found.caveats:
        console.print(f"[bold]{caveat.code}[/bold] {caveat.sentence}")
    console.print(found.notice)


def _figures(one: "Agreement") -> tuple[str, ...]:
    return tuple(_said(figure) for figure in (one.overall, one.positive, one.negative, one.kappa))


def _said(figure: "Figure | None") -> str:
    if figure is None:
        return "–"
    return f"{figure.value:.2f} ({figure.low:.2f}–{figure.high:.2f})"
