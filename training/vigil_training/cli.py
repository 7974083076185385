"""The trainer's commands, added to ``vigil``."""

import os
from pathlib import Path
from typing import Annotated

import typer

from vigil.errors import ConfigurationError
from vigil_training.data_sets.cli import app as data_sets
from vigil_training.report.cli import evaluate
from vigil_training.requirements import require_torch
from vigil_training.simulation.cli import simulate
from vigil_training.site.cli import app as calibration

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
    profile: Annotated[
        bool,
        typer.Option("--profile", help="Take --steps steps, show where their time goes, and end."),
    ] = False,
    find_rate: Annotated[
        bool,
        typer.Option("--find-rate", help="Suggest a learning rate from --steps steps, and end."),
    ] = False,
    steps: Annotated[
        int | None,
        typer.Option(help="For --profile [default: 20] and --find-rate [default: 100].", min=3),
    ] = None,
) -> None:
    """Train a network; its checkpoints and log stay in the run's folder.

    A run that was interrupted goes on with --resume and ends with the same weights.
    """
    from vigil_training.config import load_config
    from vigil_training.process_settings import let_waiting_threads_sleep

    let_waiting_threads_sleep()
    run = load_config(config)
    folder = out or Path("runs") / run.name
    require_torch()
    if profile and find_rate:
        raise ConfigurationError("--profile and --find-rate are two commands: choose one")
    if profile:
        from vigil_training.step_profile import profile as take_profile

        place = folder / "profile"
        found = take_profile(run, _data_folder(data), place, steps or 20, cache)
        typer.echo("\n".join(found.lines()))
        typer.echo(f"{place}/trace.json opens in https://ui.perfetto.dev")
        return
    if find_rate:
        from vigil_training.rate_finder import find_rate as test_rates

        tested = test_rates(run, _data_folder(data), folder, steps or 100, cache)
        typer.echo(
            f"the loss falls most steeply at {tested.suggestion:.1e} (the run says "
            f"{run.optimisation.learning_rate:.1e}); {folder}/learning-rate.png shows it"
        )
        return
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
    require_torch()
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
    require_torch()
    from vigil_training.quantization.search import quantize as add_int8

    for line in add_int8(bundle, folder, to=to, report=typer.echo).card_lines():
        typer.echo(line)


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.0%}"


def _data_folder(data: Path | None) -> Path | None:
    if data is None:
        return _USUAL_DATA if _USUAL_DATA.is_dir() else None
    if not data.is_dir():
        raise ConfigurationError(f"--data: there is no folder {data}")
    return data
