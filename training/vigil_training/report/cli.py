"""``vigil evaluate``: figures, the report, the model card."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vigil.errors import ConfigurationError
from vigil_training.progress import plain_console, say
from vigil_training.progress import progress as _progress
from vigil_training.requirements import require_torch

if TYPE_CHECKING:
    from rich.console import Console

    from vigil_training.evaluate import Judged
    from vigil_training.figures import Evaluation, Split
    from vigil_training.gate_check import GateFigures
    from vigil_training.report.build import Made

_MANY = 0.25
"""Of films that nobody looked at for a label, so many flags are worth a line."""


def evaluate(
    manifest: Annotated[Path, typer.Option(help="CSV file of labelled pictures.")],
    bundle: Annotated[
        Path | None, typer.Option(help="The bundle's folder. [default: the one in models/]")
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(help="Write the whole evaluation to this file: one HTML page, no network."),
    ] = None,
    json_out: Annotated[
        Path | None, typer.Option("--json", help="Write the same figures to this file.")
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(help="Another bundle's folder: compares AUROCs on the same films (DeLong)."),
    ] = None,
    drift_from: Annotated[
        Path | None,
        typer.Option(help="Another manifest: says how the evaluated films differ from its films."),
    ] = None,
    scores: Annotated[
        Path | None,
        typer.Option(
            help="CSV file of the answers: read in place of the pictures if it is there, else "
            "written."
        ),
    ] = None,
    against_scores: Annotated[
        Path | None, typer.Option(help="The same for the bundle of --against.")
    ] = None,
    no_pictures: Annotated[
        bool,
        typer.Option("--no-pictures", help="Leave the pictures of failures out of the report."),
    ] = False,
    split: Annotated[
        str,
        typer.Option(
            help="Which patients: all, val (held out by the bundle's split, and whole sources "
            "that it was not trained on), train, test."
        ),
    ] = "all",
    limit: Annotated[
        int | None, typer.Option(help="Judge at most so many pictures, spread evenly.", min=1)
    ] = None,
    samples: Annotated[
        int, typer.Option(help="Bootstrap samples of patients; 0 for no intervals.", min=0)
    ] = 1000,
    gate: Annotated[
        Path | None,
        typer.Option(help="CSV file of pictures that are no chest film: also measures the gate."),
    ] = None,
    card: Annotated[
        bool,
        typer.Option("--card", help="Also write metrics.json and MODEL_CARD.md to the bundle."),
    ] = False,
    heat_maps: Annotated[
        bool,
        typer.Option(
            "--heat-maps",
            help="Also measure the heat maps against masks, boxes and shuffled weights; with "
            "--card the result stands in the bundle's metrics and card.",
        ),
    ] = False,
    without: Annotated[
        list[Path] | None,
        typer.Option(
            help="A bundle of the same recipe that left a source out: also measures it there "
            "(cross-site); with --card the result stands in the bundle's metrics and card. May be "
            "given several times.",
        ),
    ] = None,
    plots: Annotated[
        Path | None,
        typer.Option(help="Draw ROC curves and reliability diagrams into this folder, as PNG."),
    ] = None,
) -> None:
    """Measure a bundle on labelled pictures through the code that serves it.

    Figures are per label and per source, over rows that have the label in scope, with 95 %
    bootstrap intervals over patients. Refused pictures are counted and left out of the rest.
    """
    from vigil.bundle import default_bundle
    from vigil_training.evaluate import judge, judge_rows, measure
    from vigil_training.model_card import METRICS_NAME, write_card, write_metrics
    from vigil_training.report.build import Seconds, build_report

    if split not in ("all", "train", "val", "test"):
        raise ConfigurationError(f"--split is {split}, expected all, train, val or test")
    side: Split = split  # type: ignore[assignment]  # typer reads no Literal of another module
    folder, seconds = bundle or default_bundle(), Seconds()
    with seconds.of("judging"), _progress("judging pictures") as show:
        judged = judge(folder, manifest, split=side, limit=limit, scores=scores, progress=show)
    with seconds.of("comparing labels"), _progress("comparing labels") as show:
        found = measure(judged, samples, progress=show)
    checked = _check_gate(folder, manifest, gate, side) if gate is not None else ()
    _print(found, checked)
    _print_cautions(judged)
    if report is not None or json_out is not None:
        other = None
        if against is not None:
            with seconds.of("judging with the other bundle"), _progress("the other bundle") as show:
                other = judge_rows(against, judged, manifest, scores=against_scores, progress=show)
        made = build_report(
            folder, judged, found, checked, manifest=manifest,
            command=_command(folder, manifest, split, samples, limit=limit, gate=gate,
                             against=against, drift_from=drift_from),
            progress=_progress, seconds=seconds, against=other, drift_from=drift_from,
            pictures=report is not None and not no_pictures,
        )  # fmt: skip
        _write_report(made, report, json_out)
    elif against is not None or drift_from is not None:
        raise ConfigurationError(
            "--against and --drift-from are told in the report only: name it, --report page.html"
        )
    if card:
        write_metrics(folder / METRICS_NAME, found, checked)
        write_card(folder)
        if gate is not None:
            _add_unfamiliarity(folder, manifest, gate, side)
    if heat_maps:
        _measure_heat_maps(folder, manifest, side, samples, card=card)
    if without:
        _measure_cross_site(folder, without, manifest, samples, card=card)
    if plots is not None:
        from vigil_training.plots import draw

        typer.echo(f"{plots}: {len(draw(judged, found, plots))} pictures")


def _measure_cross_site(
    bundle: Path, others: list[Path], manifest: Path, samples: int, *, card: bool
) -> None:
    from vigil.bundle import load_bundle
    from vigil_training.cross_site import SECTION, cross_site
    from vigil_training.model_card import write_section

    with _progress("judging films of sources that were left out") as show:
        found = cross_site(load_bundle(bundle).manifest, others, manifest, samples, show)
    typer.echo("\n".join(found.card_lines()))
    if card:
        write_section(bundle, SECTION, "Trained on one source, tested on another", found)


def _measure_heat_maps(
    bundle: Path, manifest: Path, split: "Split", samples: int, *, card: bool
) -> None:
    require_torch()
    from vigil.localisation import HEAT_MAPS
    from vigil_training.heat_maps.measure import measure_heat_maps
    from vigil_training.manifest import read_manifest
    from vigil_training.model_card import write_section

    side = None if split == "all" else split
    with _progress("measuring heat maps") as show:
        found = measure_heat_maps(
            bundle, read_manifest(manifest), split=side, samples=samples, progress=show
        )
    for line in found.card_lines():
        typer.echo(line)
    if card:
        write_section(bundle, HEAT_MAPS, "Heat maps", found)


def _add_unfamiliarity(bundle: Path, manifest: Path, gate: Path, split: "Split") -> None:
    """Measure how well the bundle's distance tells unfamiliar pictures, where it has one."""
    from vigil.bundle import load_bundle

    if load_bundle(bundle).manifest.unfamiliarity is None:
        return
    from vigil_training.manifest import read_gate_manifest, read_manifest
    from vigil_training.model_card import write_section
    from vigil_training.unfamiliarity import measure_unfamiliarity

    side = None if split == "all" else split
    films, others = read_manifest(manifest), read_gate_manifest(gate)
    with _progress("measuring unfamiliarity") as show:
        found = measure_unfamiliarity(bundle, films, others, split=side, progress=show)
    write_section(bundle, "unfamiliarity", "Unfamiliar pictures", found)


def _check_gate(
    bundle: Path, manifest: Path, gate: Path, split: "Split"
) -> "tuple[GateFigures, ...]":
    from vigil_training.gate_check import check_gate
    from vigil_training.manifest import read_gate_manifest, read_manifest

    side = None if split == "all" else split
    with _progress("checking the gate") as show:
        return check_gate(
            bundle, read_manifest(manifest), read_gate_manifest(gate), split=side, progress=show
        )


def _print(found: "Evaluation", gate: "tuple[GateFigures, ...]") -> None:
    from rich.table import Table

    console = plain_console()
    table = Table(
        title=f"{found.bundle} {found.digest[:12]} on {found.manifest}, split {found.split}",
        caption=f"{found.notice}.",
        box=None,  # so that a row fits into 80 columns
        padding=(0, 1, 0, 0),
    )
    table.add_column("label", no_wrap=True, max_width=14)
    table.add_column("source", no_wrap=True, max_width=10)
    for name in ("pos./n", "AUROC", "95 %", "sens", "spec", "flag", "ECE", "chance"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in found.results:
        interval = row.intervals.get("auroc")
        chance = row.reliability.by_chance if row.reliability else None
        table.add_row(
            row.label, row.source, f"{row.positives}/{row.n}", _decimal(row.auroc),
            "–" if interval is None else f"{interval[0]:.2f}–{interval[1]:.2f}",
            _decimal(row.sensitivity, 2), _decimal(row.specificity, 2), _decimal(row.flagged, 2),
            _decimal(row.expected_calibration_error), _decimal(chance),
        )  # fmt: skip
    console.print(table)
    say(console, "ECE: ten bins; chance: what perfect probabilities give on as many films")
    _print_sources(console, found)
    for outline in found.outlines:
        say(
            console,
            f"{outline.structure}, {outline.source}: Dice {outline.mean:.3f} on average, "
            f"{outline.lowest_tenth:.3f} in the lowest tenth of {outline.pictures}",
        )
    for ratio in found.ratios:
        say(
            console,
            f"cardiothoracic ratio, {ratio.source}: {ratio.measured} measured; mean absolute error "
            f"{_decimal(ratio.mean_absolute_error)} over {ratio.known}; AUROC for cardiomegaly "
            f"{_decimal(ratio.auroc)} over {ratio.judged}",
        )
    for note in found.notes:
        say(console, note)
    for shown in gate:
        refused = ", ".join(f"{count} {code}" for code, count in shown.refused.items()) or "none"
        say(
            console,
            f"{shown.group}, {shown.kind}: {shown.pictures} pictures, {shown.passed} passed as "
            f"they are, {shown.put_right} put right, refused: {refused}",
        )


def _print_cautions(judged: "Judged") -> None:
    """Say what must be known before a figure is believed; the report says it too."""
    from vigil_training.report.cautions import cautions_of

    console = plain_console()
    for one in cautions_of(judged, ()):
        rows = ", ".join(one.rows)
        more = (
            f" and {one.count - len(one.rows)} more" if rows and one.count > len(one.rows) else ""
        )
        where = f" ({rows}{more})" if rows else ""
        say(console, f"caution: {one.what}{where}; {one.advice}", "yellow")


def _print_sources(console: "Console", found: "Evaluation") -> None:
    for source in found.sources:
        refused = ", ".join(f"{count} {code}" for code, count in source.refused.items()) or "none"
        line = f"{source.source}: {source.analysed} of {source.pictures} analysed"
        line += f", refused: {refused}"
        if source.trained_on is False:
            line += "; not trained on"
        if source.flagged is not None:
            line += f"; any flag {source.flagged:.0%}"
        if source.mean_auroc is not None:
            line += f"; mean AUROC {source.mean_auroc:.3f} over {source.labels_in_mean} labels"
        say(console, line)
    asking = {row.label for row in found.results if row.flagged}
    for row in found.background:
        if row.flagged > _MANY and row.label in asking:
            say(
                console,
                f"{row.label} is flagged on {row.flagged:.0%} of {row.films} films of "
                f"{row.source}, where nobody looked for it",
            )


def _write_report(made: "Made", report: Path | None, json_out: Path | None) -> None:
    from vigil_training.drawing import write_page_text

    if report is not None:
        from vigil_training.report.page import render

        write_page_text(report, render(made))
        size = report.stat().st_size / 1e6
        typer.echo(f"{report}: {size:.1f} MB, {len(made.shown)} failures with pictures")
    if json_out is not None:
        write_page_text(json_out, made.report.model_dump_json(indent=1) + "\n")
    spent = made.report.seconds_by_part
    parts = ", ".join(f"{part} {seconds:.1f} s" for part, seconds in spent.items())
    typer.echo(f"{sum(spent.values()):.1f} s: {parts}")


def _command(
    bundle: Path, manifest: Path, split: str, samples: int, **others: Path | int | None
) -> str:
    """Return what was typed, with names of files and no folders of this machine."""
    said = f"vigil evaluate --bundle {bundle.name} --manifest {manifest.name} --split {split}"
    for name, value in others.items():
        if value is not None:
            shown = value.name if isinstance(value, Path) else value
            said += f" --{name.replace('_', '-')} {shown}"
    return f"{said} --samples {samples}"


def _decimal(value: float | None, places: int = 3) -> str:
    return "–" if value is None else f"{value:.{places}f}"
