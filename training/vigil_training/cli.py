"""The trainer's commands, added to ``vigil``."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vigil.errors import ConfigurationError
from vigil_training.data_sets.cli import app as data_sets
from vigil_training.progress import progress as _progress
from vigil_training.simulation.cli import simulate
from vigil_training.site.cli import app as calibration

if TYPE_CHECKING:
    from rich.console import Console

    from vigil_training.figures import Evaluation, Split
    from vigil_training.gate_check import GateFigures

_MANY = 0.25
"""Of films that nobody looked at for a label, so many flags are worth a line."""
_USUAL_DATA = Path("../shared/data/cxr-train")
_DATA_HELP = "Folder that the manifests' paths are relative to. [default: ../shared/data/cxr-train]"


def register(app: typer.Typer) -> None:
    """Add this room's commands to the command line."""
    from vigil_training.open_models.cli import register as register_models

    register_models(app)
    app.command()(train)
    app.command()(export)
    app.command()(quantize)
    app.command()(evaluate)
    app.command()(simulate)
    app.add_typer(calibration, name="calibrate")
    app.add_typer(data_sets, name="data")


def train(
    config: Annotated[Path, typer.Argument(help="The run's TOML file, see training/configs/.")],
    data: Annotated[Path | None, typer.Option(help=_DATA_HELP)] = None,
    out: Annotated[
        Path | None, typer.Option(help="The run's folder. [default: runs/<name of the run>]")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on after the last whole epoch of the run.")
    ] = False,
    devices: Annotated[
        int | None,
        typer.Option(
            help="How many GPUs, or processes where there is no GPU. [default: 1, or torchrun's]",
            min=1,
        ),
    ] = None,
    cache: Annotated[
        Path | None,
        typer.Option(
            help="Keep decoded pictures in this folder, for later runs and for sets larger than "
            "the memory. [default: in memory]"
        ),
    ] = None,
    mlflow: Annotated[
        str | None,
        typer.Option(
            help="Also tell an MLflow address, such as sqlite:///mlflow.db (extra [mlflow])."
        ),
    ] = None,
) -> None:
    """Train a network; its checkpoints and log stay in the run's folder.

    A run that was interrupted goes on with --resume and ends with the same weights.
    """
    from vigil_training.config import load_config

    run = load_config(config)
    folder = out or Path("runs") / run.name
    _require_torch()
    from vigil_training.train import train as run_training

    kept = run_training(
        config, _data_folder(data), folder, resume, devices=devices, cache=cache, mlflow=mlflow
    )
    if int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0"))):
        return  # the first process speaks for all
    typer.echo(f"mean validation AUROC {kept:.4f}; next: vigil export {folder} --to models/ID")


def export(
    run: Annotated[Path, typer.Argument(help="A run's folder, as `vigil train` left it.")],
    to: Annotated[Path, typer.Option(help="The bundle's folder; its name is the bundle's id.")],
    data: Annotated[Path | None, typer.Option(help=_DATA_HELP)] = None,
) -> None:
    """Make a bundle of a run's best weights.

    The run's validation patients calibrate the probabilities and set the thresholds; torch and
    onnxruntime must agree within 0.0001, or nothing is written.
    """
    _require_torch()
    from vigil_training.export import export as make_bundle

    made = make_bundle(run, _data_folder(data), to)
    for finding, operation in zip(made.manifest.findings, made.operations, strict=True):
        area = "–" if operation.auroc is None else f"{operation.auroc:.3f}"
        mark = " experimental" if finding.experimental else ""
        typer.echo(
            f"{finding.key:20} AUROC {area}, threshold {finding.flag.threshold:.3f}: "
            f"sensitivity {_percent(finding.flag.sensitivity)}, "
            f"specificity {_percent(finding.flag.specificity)}{mark}"
        )
    for point in made.attributes:
        typer.echo(
            f"{point.name:20} threshold {point.threshold:.3f}: false alarms "
            f"{point.false_alarms:.2%} of {point.without}, caught {point.caught:.2%} "
            f"of {point.with_attribute}"
        )
    typer.echo(
        f"{made.folder}: bundle {made.manifest.id}, digest {made.manifest.digest[:12]}; "
        f"torch and onnxruntime agree within {made.greatest_difference:.1e}"
    )


def quantize(
    bundle: Annotated[Path, typer.Argument(help="The bundle's folder.")],
    data: Annotated[Path | None, typer.Option(help=_DATA_HELP)] = None,
    to: Annotated[
        Path | None,
        typer.Option(
            help="Copy the bundle to this new folder first. [default: change it in place]"
        ),
    ] = None,
) -> None:
    """Add a network in 8-bit integers to a bundle, if its patients are judged as before.

    Training pictures calibrate it and validation pictures accept it; what they refuse is said and
    the bundle keeps its one network. Run it after `vigil evaluate --card`: the card tells of it.
    """
    folder = _data_folder(data)
    if folder is None:
        raise ConfigurationError("quantisation needs labelled pictures: name their folder, --data")
    _require_torch()
    from vigil_training.quantize import quantize as add_int8

    for line in add_int8(bundle, folder, to=to, report=typer.echo).card_lines():
        typer.echo(line)


def evaluate(
    manifest: Annotated[Path, typer.Option(help="CSV file of labelled pictures.")],
    bundle: Annotated[
        Path | None, typer.Option(help="The bundle's folder. [default: the one in models/]")
    ] = None,
    json_out: Annotated[
        Path | None, typer.Option("--json", help="Write all figures to this file.")
    ] = None,
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
    from vigil_training.evaluate import judge, measure
    from vigil_training.model_card import METRICS_NAME, write_card, write_metrics

    if split not in ("all", "train", "val", "test"):
        raise ConfigurationError(f"--split is {split}, expected all, train, val or test")
    side: Split = split  # type: ignore[assignment]  # typer reads no Literal of another module
    folder = bundle or default_bundle()
    with _progress("judging pictures") as show:
        judged = judge(folder, manifest, split=side, limit=limit, progress=show)
    with _progress("comparing labels") as show:
        found = measure(judged, samples, progress=show)
    checked = _check_gate(folder, manifest, gate, side) if gate is not None else ()
    _print(found, checked)
    if json_out is not None:
        write_metrics(json_out, found, checked)
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
    _require_torch()
    from vigil.localisation import HEAT_MAPS
    from vigil_training.heat_maps import measure_heat_maps
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
    from rich.console import Console
    from rich.table import Table

    console = Console()
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
    console.print("ECE: ten bins; chance: what perfect probabilities give on as many films")
    _print_sources(console, found)
    for outline in found.outlines:
        console.print(
            f"{outline.structure}, {outline.source}: Dice {outline.mean:.3f} on average, "
            f"{outline.lowest_tenth:.3f} in the lowest tenth of {outline.pictures}"
        )
    for ratio in found.ratios:
        console.print(
            f"cardiothoracic ratio, {ratio.source}: {ratio.measured} measured; mean absolute error "
            f"{_decimal(ratio.mean_absolute_error)} over {ratio.known}; AUROC for cardiomegaly "
            f"{_decimal(ratio.auroc)} over {ratio.judged}"
        )
    for note in found.notes:
        console.print(note)
    for shown in gate:
        refused = ", ".join(f"{count} {code}" for code, count in shown.refused.items()) or "none"
        console.print(
            f"{shown.group}, {shown.kind}: {shown.pictures} pictures, {shown.passed} passed as "
            f"they are, {shown.put_right} put right, refused: {refused}"
        )


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
        console.print(line)
    asking = {row.label for row in found.results if row.flagged}
    for row in found.background:
        if row.flagged > _MANY and row.label in asking:
            console.print(
                f"{row.label} is flagged on {row.flagged:.0%} of {row.films} films of "
                f"{row.source}, where nobody looked for it"
            )


def _decimal(value: float | None, places: int = 3) -> str:
    return "–" if value is None else f"{value:.{places}f}"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.0%}"


def _data_folder(data: Path | None) -> Path | None:
    if data is None:
        return _USUAL_DATA if _USUAL_DATA.is_dir() else None
    if not data.is_dir():
        raise ConfigurationError(f"--data: there is no folder {data}")
    return data


def _require_torch() -> None:
    from importlib.util import find_spec

    if any(find_spec(name) is None for name in ("torch", "monai", "onnx", "lightning_fabric")):
        raise ConfigurationError(
            "training needs torch, Lightning Fabric, MONAI and onnx: install the package with its "
            "extra, vigil-cxr[training]"
        )
