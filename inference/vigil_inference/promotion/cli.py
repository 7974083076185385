"""``vigil models stage|shadow|promote|rollback|withdraw|compare``: which bundle serves here.

They work on the database and the kept bundles, so they answer while the service is down too, and
running nodes notice a change within seconds. Run them on a machine of the installation, with the
service's own settings.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vigil.command_groups import share_group

if TYPE_CHECKING:
    from vigil_inference.promotion.desk import Asked, ModelDesk
    from vigil_inference.promotion.record import Change, SiteModels
    from vigil_inference.settings import Settings
    from vigil_inference.store import Store

models = typer.Typer(rich_markup_mode=None)

Config = Annotated[
    Path | None, typer.Option(help="Settings as TOML. [default: $VIGIL_CONFIG, if set]")
]
DataDir = Annotated[Path | None, typer.Option(help="Where pictures and records are.")]
Reason = Annotated[str, typer.Option(help="Why, for those who read the record later.")]
Anyway = Annotated[
    bool,
    typer.Option("--anyway", help="Set aside what speaks against it; the record keeps what."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def register(app: typer.Typer) -> None:
    """Add these commands to the group ``models``."""
    share_group(app, "models", models)


@models.command("stage")
def show_stages(config: Config = None, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Show which bundle is at which stage, since when, by whom and why."""
    from vigil_inference.promotion.record import read_models
    from vigil_inference.promotion.views import record_view

    settings = _settings(config, data_dir)
    with _store(settings) as store:
        found = read_models(store)
    if as_json:
        typer.echo(json.dumps(record_view(found).model_dump(mode="json"), ensure_ascii=False))
    else:
        _print_record(found)


@models.command("shadow")
def shadow_bundle(
    bundle: Annotated[
        Path, typer.Argument(help="The candidate's folder.", exists=True, file_okay=False)
    ],
    reason: Reason,
    site_calibration: Annotated[
        Path | None,
        typer.Option(help="The candidate's own site calibration, from `vigil calibrate`."),
    ] = None,
    anyway: Anyway = False,
    config: Config = None,
    data_dir: DataDir = None,
) -> None:
    """Let a bundle read silently what the serving one reads; nobody is shown what it says.

    It is verified and copied to where it stays, as the serving one is.
    """
    with _desk(_settings(config, data_dir)) as desk:
        change = desk.shadow(bundle, _asked(reason, anyway), site_calibration)
    _say(change, "`vigil models compare --shadow` says what it would have changed.")


@models.command("promote")
def promote_bundle(
    bundle: Annotated[
        str, typer.Argument(help="Its folder, its name, or the beginning of its digest.")
    ],
    reason: Reason,
    anyway: Anyway = False,
    config: Config = None,
    data_dir: DataDir = None,
) -> None:
    """Move a bundle one stage on: from shadow to supervised, from supervised to live.

    Refused if its outputs here are not those that were measured, if the site calibration was made
    for another bundle, or if too few pictures were read by both. Running nodes load it within
    seconds; no study's priority is lowered by it.
    """
    with _desk(_settings(config, data_dir)) as desk:
        change = desk.promote(bundle, _asked(reason, anyway))
    _say(change, "`vigil models rollback` goes back. `vigil status` says what each node serves.")


@models.command("rollback")
def rollback_bundle(reason: Reason, config: Config = None, data_dir: DataDir = None) -> None:
    """Go back to the former live bundle at once, while the service runs."""
    with _desk(_settings(config, data_dir)) as desk:
        change = desk.rollback(_asked(reason))
    _say(change, "`vigil status` says what each node serves.")


@models.command("withdraw")
def withdraw_bundle(reason: Reason, config: Config = None, data_dir: DataDir = None) -> None:
    """Take the candidate out of shadow."""
    with _desk(_settings(config, data_dir)) as desk:
        change = desk.withdraw(_asked(reason))
    _say(change, "What it read is kept.")


@models.command("compare")
def compare_models(
    shadow: Annotated[
        bool, typer.Option("--shadow", help="On the pictures that were read in shadow.")
    ] = True,
    html: Annotated[Path | None, typer.Option(help="Write a page into this file too.")] = None,
    as_json: AsJson = False,
    config: Config = None,
    data_dir: DataDir = None,
) -> None:
    """Say how the two bundles differ on the pictures that both read.

    On labelled films there is `vigil calibrate compare`.
    """
    from vigil.errors import ConfigurationError
    from vigil_inference.promotion.comparison import read_comparison
    from vigil_inference.promotion.page import comparison_page, comparison_text

    with _store(_settings(config, data_dir)) as store:
        found = read_comparison(store)
    if html is not None:
        try:
            html.write_text(comparison_page(found), encoding="utf-8")
        except OSError as error:
            raise ConfigurationError(f"{html}: cannot be written ({error.strerror})") from error
    if as_json:
        typer.echo(found.model_dump_json())
    else:
        typer.echo(comparison_text(found))


def _say(change: "Change", advice: str) -> None:
    for move in change.moves:
        before = f" (was {move.from_stage})" if move.from_stage else ""
        typer.echo(f"{move.bundle_id} {move.digest[:12]}: {move.to_stage.value}{before}")
    if change.set_aside:
        typer.echo(f"set aside: {change.set_aside}", err=True)
    typer.echo(advice)


def _print_record(found: "SiteModels") -> None:
    from rich.console import Console
    from rich.table import Table

    from vigil import RESEARCH_USE

    if not found.entries:
        typer.echo("The record is empty: the first start of the service writes its bundle down.")
        return
    console = Console(highlight=False)
    table = Table(title="Bundles of this site", title_justify="left", caption=f"{RESEARCH_USE}.")
    for heading in ("Bundle", "Digest", "Stage", "Since (UTC)", "Site calibration"):
        table.add_column(heading, overflow="fold")
    for entry in found.entries:
        table.add_row(
            entry.bundle_id,
            entry.digest[:12],
            entry.stage.value,
            f"{entry.since:%Y-%m-%d %H:%M}",
            entry.calibration_name or "none",
        )
    console.print(table)
    if not found.is_decided:
        console.print("Nobody has decided yet: nodes serve what their settings name.")
    console.print()
    for change in found.changes:
        steps = ", ".join(
            f"{move.bundle_id} {move.digest[:12]} {move.from_stage or 'new'} to {move.to_stage}"
            for move in change.moves
        )
        console.print(
            f"{change.number:>3}  {change.made_at:%Y-%m-%d %H:%M:%S}  {change.made_by}  "
            f"{change.action.value}: {steps or change.calibration_name}. {change.reason}",
            markup=False,
            soft_wrap=True,
        )
        if change.set_aside:
            console.print(f"     set aside: {change.set_aside}", markup=False, soft_wrap=True)


def _asked(reason: str, anyway: bool = False) -> "Asked":
    from vigil_inference.promotion.desk import Asked
    from vigil_inference.promotion.record import operating_system_user

    return Asked(operating_system_user(), reason, anyway)


@contextmanager
def _desk(settings: "Settings") -> "Iterator[ModelDesk]":
    from vigil_inference.promotion.desk import ModelDesk

    with _store(settings) as store:
        yield ModelDesk(store, settings, lambda sentence: typer.echo(sentence, err=True))


@contextmanager
def _store(settings: "Settings") -> "Iterator[Store]":
    """Open the database of an installation that is there already."""
    from sqlalchemy.exc import SQLAlchemyError

    from vigil.errors import ConfigurationError, StorageError
    from vigil_inference.database import is_sqlite
    from vigil_inference.store import Store

    if is_sqlite(settings.database) and not settings.data_dir.is_dir():
        raise ConfigurationError(f"{settings.data_dir}: there is no such folder (data_dir)")
    try:
        store = Store(settings.database)
        try:
            yield store
        finally:
            store.close()
    except SQLAlchemyError as error:
        raise StorageError(f"the database cannot be used ({type(error).__name__})") from error


def _settings(config: Path | None, data_dir: Path | None) -> "Settings":
    from vigil_inference.settings import load_settings

    return load_settings(config, data_dir=data_dir)
