"""``vigil models``: open chest-radiograph models as starting points."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vigil.command_groups import share_group
from vigil.errors import ConfigurationError, VigilError
from vigil_training.open_models.registry import (
    BENCHMARKS,
    LICENCE,
    MODELS,
    PREFIX,
    SOURCE,
    find_model,
)

if TYPE_CHECKING:
    from vigil_training.open_models.registry import OpenModel
    from vigil_training.open_models.store import ModelStore, Record

models = typer.Typer(rich_markup_mode=None)

StoreOption = Annotated[
    Path | None,
    typer.Option(
        "--store",
        help="The folder of models. [default: $VIGIL_HOME/models, else the platform's data folder]",
        file_okay=False,
    ),
]
BundleOption = Annotated[
    Path | None, typer.Option("--bundle", help="Make a bundle in this new folder as well.")
]
ReplaceOption = Annotated[
    bool, typer.Option("--replace", help="Put it in the place of one that is there already.")
]


def register(app: typer.Typer) -> None:
    """Add the open models' commands to the group ``models``."""
    share_group(app, "models", models)


@models.command("list")
def list_models(store: StoreOption = None) -> None:
    """List the open models, what their authors publish of them, and which are here.

    They are starting points: uncalibrated, and not validated with Vigil.
    """
    from rich.console import Console
    from rich.table import Table

    place = _store(store)
    table = Table(
        title="Open chest-radiograph models",
        caption=(
            f"Mean AUROC on NIH ChestX-ray14 and PadChest as {BENCHMARKS} gives them; – where its "
            f"authors publish none. {SOURCE}, {LICENCE}. Store: {place.folder}"
        ),
        caption_justify="left",
    )
    table.add_column("Name", no_wrap=True)
    table.add_column("Trained on", overflow="fold")
    for heading in ("Size", "Labels", "NIH", "Pad"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("Here", no_wrap=True, min_width=4)
    for model in MODELS.values():
        table.add_row(
            model.name,
            model.trained_on,
            str(model.size),
            str(len(model.labels)),
            *(_figure(model, name) for name in ("NIH ChestX-ray14", "PadChest")),
            "yes" if place.holds(model) else "",
        )
    Console().print(table)


def _figure(model: "OpenModel", dataset: str) -> str:
    mean = model.mean_auroc(dataset)
    return "–" if mean is None else f"{mean:.2f}"


@models.command("pull")
def pull_model(
    name: Annotated[str, typer.Argument(help="A name from `vigil models list`.")],
    store: StoreOption = None,
    bundle: BundleOption = None,
    replace: ReplaceOption = False,
) -> None:
    """Fetch a model through the package torchxrayvision (extra `xrv`), and check it.

    Needs a network. Without one, carry the file in and use `vigil models import`.
    """
    from vigil_training.open_models.pull import pull

    model, place = find_model(name), _store(store)
    _tell_kept(model, pull(model, place, replace=replace), place)
    _convert(model, place, bundle)


@models.command("import")
def import_model(
    file: Annotated[Path, typer.Argument(help="The weights' file, as its authors publish it.")],
    name: Annotated[str, typer.Option("--as", help="Which model it is.")],
    store: StoreOption = None,
    bundle: BundleOption = None,
    replace: ReplaceOption = False,
) -> None:
    """Take a weights file that was carried in, and check it; nothing that it holds is run.

    A file that asks for anything but a network's modules and tensors is refused, and so is one of
    another architecture or shape.
    """
    model, place = find_model(name), _store(store)
    _tell_kept(model, place.add(file, model, replace=replace), place)
    _convert(model, place, bundle)


@models.command("convert")
def convert_model(
    name: Annotated[str, typer.Argument(help="A model that is here.")],
    to: Annotated[Path, typer.Argument(help="The bundle's folder, new or empty.")],
    store: StoreOption = None,
) -> None:
    """Make a bundle of a model: every finding experimental, and not calibrated."""
    _convert(find_model(name), _store(store), to)


@models.command("verify")
def verify_models(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="Models or bundles' folders. [default: all that are here]"),
    ] = None,
    store: StoreOption = None,
) -> None:
    """Compare models and bundles with the digests that were recorded when they were made.

    A bundle is also asked about its reference phantoms: this machine must say what the machine
    that made it said. Exits 1 if one of them is not what it was.
    """
    from rich.console import Console
    from rich.table import Table

    table = Table("Name", "SHA-256", "Result")
    failed = 0
    for name in names or [*(model.name for model in _store(store).held()), *_bundles()]:
        try:
            digest, said = _verify(name, store)
            table.add_row(name, f"{digest[:12]}…", said)
        except VigilError as error:
            failed += 1
            table.add_row(name, "", str(error))
    if not table.row_count:
        typer.echo(f"No models are in {_store(store).folder}, and no bundles in models/.")
        return
    Console().print(table)
    if failed:
        raise typer.Exit(1)


def _bundles() -> list[str]:
    return sorted(str(path.parent) for path in Path("models").glob("*/bundle.json"))


def _verify(name: str, store: Path | None) -> tuple[str, str]:
    """Return a model's or a bundle's digest and what was found."""
    if name.removeprefix(PREFIX) not in MODELS and Path(name).is_dir():
        from vigil.processor import NetworkChoice
        from vigil.reference import check_reference_outputs
        from vigil.triager import Triager

        triager = Triager.load(Path(name), threads=1)
        has_int8 = triager.bundle.int8_path is not None
        choices: tuple[NetworkChoice, ...] = ("float", "int8") if has_int8 else ("float",)
        said = ["whole"]
        for choice in choices:
            one = Triager.load(Path(name), threads=1, network=choice)
            difference = check_reference_outputs(one)
            said.append(
                f"{one.network}: it brings no reference outputs"
                if difference is None
                else f"{one.network}: reference outputs hold within {difference:.1e}"
            )
        return triager.bundle.digest, "; ".join([*said, f"{triager.network} answers here"])
    model, place = find_model(name), _store(store)
    place.load(model)
    return place.record(model).sha256, "whole"


@models.command("remove")
def remove_model(
    name: Annotated[str, typer.Argument(help="A model that is here.")],
    store: StoreOption = None,
) -> None:
    """Delete a model from the store; bundles that were made of it stay."""
    model, place = find_model(name), _store(store)
    place.remove(model)
    typer.echo(f"Removed {model.name} from {place.folder}.")


def _store(folder: Path | None) -> "ModelStore":
    try:
        from vigil_training.open_models.store import ModelStore, default_store
    except ImportError as error:
        raise ConfigurationError(
            f"open models need the extra `training` ({error.name} is missing): "
            "pip install 'vigil-cxr[training]'"
        ) from error
    return default_store() if folder is None else ModelStore(folder)


def _tell_kept(model: "OpenModel", record: "Record", store: "ModelStore") -> None:
    typer.echo(
        f"Kept {model.name} in {store.folder_of(model)}.\n"
        f"  {record.source_file}: SHA-256 {record.source_sha256}\n"
        f"  weights.safetensors: SHA-256 {record.sha256}"
    )


def _convert(model: "OpenModel", store: "ModelStore", to: Path | None) -> None:
    if to is None:
        return
    from vigil_training.open_models.convert import convert

    converted = convert(model, store, to)
    typer.echo(
        f"Made {to}: {len(converted.manifest.findings)} findings, all experimental and not "
        f"calibrated; torch and onnxruntime differ by {converted.greatest_difference:.1e}."
    )
    for label, reason in converted.left_out.items():
        typer.echo(f"  left out: {label} ({reason})")
