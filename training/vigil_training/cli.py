"""The trainer's commands, added to ``vigil``."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vigil.errors import ConfigurationError

if TYPE_CHECKING:
    from vigil_training.evaluate import Evaluation, Split
    from vigil_training.gate_check import GateFigures

_USUAL_DATA = Path("../shared/data/cxr-train")
_DATA_HELP = "Folder that the manifests' paths are relative to. [default: ../shared/data/cxr-train]"


def register(app: typer.Typer) -> None:
    """Add this room's commands to the command line."""
    from vigil_training.open_models.cli import register as register_models

    register_models(app)
    app.command()(train)
    app.command()(export)
    app.command()(evaluate)


def train(
    config: Annotated[Path, typer.Argument(help="The run's TOML file, see training/configs/.")],
    data: Annotated[Path | None, typer.Option(help=_DATA_HELP)] = None,
    out: Annotated[
        Path | None, typer.Option(help="The run's folder. [default: runs/<name of the run>]")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on after the last whole epoch of the run.")
    ] = False,
) -> None:
    """Train a network; its checkpoints and log stay in the run's folder.

    A run that was interrupted goes on with --resume and ends with the same weights.
    """
    from vigil_training.config import load_config

    run = load_config(config)
    folder = out or Path("runs") / run.name
    _require_torch()
    from vigil_training.train import train as run_training

    best = run_training(config, _data_folder(data), folder, resume)
    typer.echo(f"best mean validation AUROC {best:.4f}; next: vigil export {folder} --to models/ID")


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
            help="Which patients: all, val (held out by the bundle's split), train, test."
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
) -> None:
    """Measure a bundle on labelled pictures through the code that serves it.

    Figures are per label and per source, over rows that have the label in scope, with 95 %
    bootstrap intervals over patients. Refused pictures are counted and left out of the rest.
    """
    from vigil.bundle import default_bundle
    from vigil_training.evaluate import evaluate as measure

    if split not in ("all", "train", "val", "test"):
        raise ConfigurationError(f"--split is {split}, expected all, train, val or test")
    side: Split = split  # type: ignore[assignment]  # typer reads no Literal of another module
    folder = bundle or default_bundle()
    with _progress("judging pictures") as show:
        found = measure(folder, manifest, split=side, limit=limit, samples=samples, progress=show)
    checked = _check_gate(folder, manifest, gate, side) if gate is not None else ()
    _print(found, checked)
    if json_out is not None:
        _write(json_out, found, checked)
    if card:
        from vigil_training.model_card import write_card

        _write(folder / "metrics.json", found, checked)
        write_card(folder)


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


def _write(path: Path, found: "Evaluation", gate: "tuple[GateFigures, ...]") -> None:
    import json

    content = found.model_dump(mode="json") | {"gate": [g.model_dump(mode="json") for g in gate]}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be written ({error.strerror})") from error


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
    for name in ("label", "source"):
        table.add_column(name, no_wrap=True)
    for name in ("n", "pos.", "AUROC", "95 %", "sens.", "spec.", "ECE", "Brier"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in found.results:
        low, high = row.auroc_low, row.auroc_high
        interval = "–" if low is None or high is None else f"{low:.2f}–{high:.2f}"
        table.add_row(
            row.label, row.source, str(row.n), str(row.positives), _decimal(row.auroc), interval,
            _decimal(row.sensitivity, 2), _decimal(row.specificity, 2),
            _decimal(row.expected_calibration_error), _decimal(row.brier),
        )  # fmt: skip
    console.print(table)
    for source in found.sources:
        refused = ", ".join(f"{count} {code}" for code, count in source.refused.items()) or "none"
        mean = "" if source.mean_auroc is None else (
            f"; mean AUROC {source.mean_auroc:.3f} over {source.labels_in_mean} labels"
        )  # fmt: skip
        console.print(
            f"{source.source}: {source.analysed} of {source.pictures} analysed, "
            f"refused: {refused}{mean}"
        )
    for note in found.notes:
        console.print(note)
    for shown in gate:
        refused = ", ".join(f"{count} {code}" for code, count in shown.refused.items()) or "none"
        console.print(
            f"{shown.group}, {shown.kind}: {shown.pictures} pictures, {shown.passed} passed as "
            f"they are, {shown.put_right} put right, refused: {refused}"
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

    if any(find_spec(name) is None for name in ("torch", "monai", "onnx")):
        raise ConfigurationError(
            "training needs torch, MONAI and onnx: install the package with its extra, "
            "vigil-cxr[training]"
        )


@contextmanager
def _progress(what: str) -> "Iterator[Callable[[int, int], None]]":
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
