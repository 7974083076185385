"""``vigil data``: published sets into one manifest, what is in it, and what would leak."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vigil.errors import ConfigurationError
from vigil_training.progress import plain_console, progress, say

if TYPE_CHECKING:
    from vigil_training.data_sets.check import Checked
    from vigil_training.data_sets.inspection import Inspection
    from vigil_training.data_sets.sets import Imported
    from vigil_training.figures import Figures

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
    help="Read published sets into one manifest, and look at what is in it.",
)
_SHOWN = 3
_Json = Annotated[Path | None, typer.Option("--json", help="Write all figures to this file.")]
_Seed = Annotated[int, typer.Option(help="The run's seed for drawing validation patients.", min=0)]
_Fraction = Annotated[
    float, typer.Option(help="The part of patients that the run draws.", min=0, max=1)
]
_Pictures = Annotated[bool, typer.Option(help="Read the pictures too, for copies and lettering.")]


@app.command("import")
def import_set(
    name: Annotated[
        str,
        typer.Argument(
            metavar="SET",
            help="nih, chexpert, mimic-cxr, vindr-cxr, vindr-pcxr, padchest, rsna, siim, tbx11k, "
            "shenzhen, montgomery, open-i, dicom or reading-room.",
        ),
    ],
    folder: Annotated[Path, typer.Argument(help="Where the set lies, as it was published.")],
    to: Annotated[Path, typer.Option(help="The manifest to write.")],
    table: Annotated[
        Path | None,
        typer.Option(help="A table of labels (TOML) in place of the package's own."),
    ] = None,
    own_split: Annotated[
        bool,
        typer.Option(
            "--own-split",
            help="Leave an official split out; the source's name then says so.",
        ),
    ] = False,
) -> None:
    """Read a published set into a manifest, with its official split and its labels in our words.

    A label that a set leaves open is uncertain: in a column of its own, and in no scope. Films
    whose picture is missing are counted and left out; words that the table does not know are
    named.
    """
    from vigil_training.data_sets.film import write_films
    from vigil_training.data_sets.sets import import_set as read

    with progress(f"reading {name}") as show:
        found = read(name, folder, table=table, own_split=own_split, progress=show)
    write_films(found.films, to)
    _print_import(found)
    typer.echo(f"{to}: {len(found.films)} films; next: vigil data check {to}")


@app.command()
def inspect(
    manifest: Annotated[Path, typer.Argument(help="The manifest.")],
    to: Annotated[
        Path | None, typer.Option(help="Write a page with pictures here, as HTML.")
    ] = None,
    split_seed: _Seed = 0,
    validation_fraction: _Fraction = 0.2,
    pictures: _Pictures = True,
    json_out: _Json = None,
) -> None:
    """Say what is in a manifest: sources, ages, views, labels, examples, copies, lettering."""
    from vigil_training.data_sets.inspection import inspect as look
    from vigil_training.data_sets.inspection import write_page
    from vigil_training.manifest import read_manifest

    rows = read_manifest(manifest)
    with progress("reading pictures") as show:
        found = look(
            manifest, rows, split_seed=split_seed, validation_fraction=validation_fraction,
            pictures=pictures, progress=show,
        )  # fmt: skip
    _print_inspection(found.figures)
    if json_out is not None:
        _write(json_out, found.figures)
    if to is not None:
        with progress("drawing"):
            write_page(found, to)
        typer.echo(f"{to}: written")


@app.command()
def check(
    manifests: Annotated[list[Path], typer.Argument(help="One manifest, or several to compare.")],
    split_seed: _Seed = 0,
    validation_fraction: _Fraction = 0.2,
    pictures: _Pictures = True,
    json_out: _Json = None,
) -> None:
    """Refuse what would leak between training and judging; exit 1 if there is a leak.

    A patient or a film on two sides, an official split mixed with a drawn one, and sources that
    share films. Pictures are compared by their fine detail, so that a copy that was encoded or
    resized anew is found.
    """
    from vigil_training.data_sets.check import check as look
    from vigil_training.manifest import read_manifest

    read = [(path, read_manifest(path)) for path in manifests]
    with progress("reading pictures") as show:
        found = look(
            read, split_seed=split_seed, validation_fraction=validation_fraction,
            pictures=pictures, progress=show,
        )  # fmt: skip
    _print_check(found)
    if json_out is not None:
        _write(json_out, found)
    if found.leaks:
        raise typer.Exit(1)


def _write(path: Path, figures: "Figures") -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(figures.model_dump_json(indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be written ({error.strerror})") from error


def _print_import(found: "Imported") -> None:
    from collections import Counter

    from vigil_training.data_sets.film import Film

    films: tuple[Film, ...] = found.films
    typer.echo(f"{found.table.title}: {found.table.terms}")
    splits = Counter(film.split or "open" for film in films)
    views = Counter(film.view for film in films)
    typer.echo(f"splits: {_counted(splits)}; views: {_counted(views)}")
    labels = sorted({label for film in films for label in film.marks.scope | film.marks.uncertain})
    for label in labels:
        positive = sum(label in film.marks.labels for film in films)
        known = sum(label in film.marks.scope for film in films)
        uncertain = sum(label in film.marks.uncertain for film in films)
        typer.echo(
            f"  {label:20} positive {positive:6}, negative {known - positive:6}, uncertain "
            f"{uncertain:6}, unknown {len(films) - known - uncertain:6}"
        )
    for reason, where in found.passed.films.items():
        typer.echo(f"left out: {len(where)}, {reason} ({_places(where)})", err=True)
    for word, where in found.passed.words.items():
        typer.echo(
            f"warning: the table does not know {word!r} ({len(where)} times: {_places(where)}); "
            "add it to a table of your own with --table",
            err=True,
        )


def _counted(counts: "dict[str, int]") -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))


def _places(where: list[str]) -> str:
    more = f" and {len(where) - _SHOWN} more" if len(where) > _SHOWN else ""
    return "; ".join(where[:_SHOWN]) + more


def _print_inspection(found: "Inspection") -> None:
    from rich.table import Table

    console = plain_console()
    console.print(f"{found.manifest}: {found.films} films of {found.patients} patients")
    table = Table(box=None, padding=(0, 1, 0, 0))
    table.add_column("source", no_wrap=True)
    for name in ("films", "patients", "median\nage", "age\nunknown", "lettered"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in ("views", "splits"):
        table.add_column(name, overflow="fold")
    for one in found.sources:
        table.add_row(
            one.source, str(one.films), str(one.patients),
            "–" if one.median_age is None else f"{one.median_age:.0f}", str(one.unknown_age),
            "–" if one.lettered is None else str(one.lettered), _counted(one.views),
            _counted(one.splits),
        )  # fmt: skip
    console.print(table)
    table = Table(box=None, padding=(0, 1, 0, 0))
    for name in ("label", "source"):
        table.add_column(name, no_wrap=True)
    for name in ("positive", "negative", "unknown", "patients\nwith it"):
        table.add_column(name, justify="right", no_wrap=True)
    for label in found.labels:
        numbers = (label.positive, label.negative, label.unknown, label.positive_patients)
        table.add_row(label.label, label.source, *map(str, numbers))
    console.print(table)
    if found.copies is not None:
        console.print(f"pairs of pictures that are the same film: {found.copies}")
    if found.broken:
        console.print(f"pictures that cannot be read: {found.broken}")
    _print_check(found.checked)


def _print_check(found: "Checked") -> None:
    console = plain_console()
    console.print(f"{found.rows} rows; sides: {_counted(found.sides)}")
    for finding in found.findings:
        kind = "LEAK" if finding.leak else "warning"
        more = finding.count - len(finding.rows)
        where = "; ".join(finding.rows) + (f" and {more} more" if more else "")
        say(console, f"{kind}: {finding.what} ({where}); {finding.advice}")
    if not found.leaks:
        console.print("no leak was found")
