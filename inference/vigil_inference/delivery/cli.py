"""``vigil deliveries`` and ``vigil rules``: what is on its way, and what would go where.

They work on the database, so they answer while the service is down, and a running service hears
of a change within a second.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vigil.triage import Priority
from vigil_inference.delivery.states import DeliveryState

if TYPE_CHECKING:
    from vigil_inference.delivery.desk import Desk, Selection
    from vigil_inference.delivery.rules import StudyFacts
    from vigil_inference.settings import Settings

deliveries = typer.Typer(help="Where results are on their way.", no_args_is_help=True)
rules = typer.Typer(help="Which results go where.", no_args_is_help=True)

Config = Annotated[
    Path | None, typer.Option(help="Settings as TOML. [default: $VIGIL_CONFIG, if set]")
]
DataDir = Annotated[Path | None, typer.Option(help="Where pictures and records are.")]
Ids = Annotated[list[int] | None, typer.Argument(help="Numbers, as `list` shows them.")]
Destination = Annotated[str, typer.Option("--to", help="Only those to this destination.")]
StudyUid = Annotated[str, typer.Option("--study", help="Only those of this study.")]


@deliveries.command("list")
def list_deliveries(
    config: Config = None,
    data_dir: DataDir = None,
    state: Annotated[
        list[DeliveryState] | None, typer.Option(help="Only those in this state; may be repeated.")
    ] = None,
    destination: Destination = "",
    study: StudyUid = "",
    limit: Annotated[int, typer.Option(help="How many, the newest first.", min=1)] = 50,
) -> None:
    """List deliveries: SENT was acknowledged, DELIVERED is proved. Exit 1 if one has failed."""
    from rich.console import Console

    from vigil_inference.delivery.desk import Selection

    settings = database_settings(config, data_dir)
    desk = _desk(settings)
    selection = Selection(
        states=tuple(state or ()), destination=destination, study_instance_uid=study
    )
    console = Console(highlight=False, soft_wrap=True)
    for row in desk.rows(selection, limit=limit):
        when = row.delivered_at or row.sent_at or row.due_at or row.created_at
        console.print(
            f"{row.id:>6}  {row.state.value:<9}  {row.destination:<16}  {row.kind:<11}  "
            f"{when:%Y-%m-%d %H:%M:%S}  attempts {row.attempts}  {row.study_instance_uid}  "
            f"{row.code} {row.reason}".rstrip(),
            markup=False,
        )
    counts = desk.counts(selection)
    said = ", ".join(f"{counts[s]} {s.value}" for s in DeliveryState if s in counts)
    typer.echo(said or "no deliveries", err=True)
    unreleased = desk.unreleased()
    for uid, problem in unreleased:
        typer.echo(f"no results of study {uid}: {problem}", err=True)
    if counts.get(DeliveryState.FAILED) or unreleased:
        raise typer.Exit(1)


@deliveries.command("retry")
def retry_deliveries(
    ids: Ids = None,
    config: Config = None,
    data_dir: DataDir = None,
    destination: Destination = "",
    study: StudyUid = "",
    everything: Annotated[bool, typer.Option("--all", help="All that failed.")] = False,
) -> None:
    """Send again what failed or was cancelled; by its number also what waits or arrived.

    With --study, its results are built again too where they could not be built.
    """
    selection = _selection(ids, destination, study, everything)
    desk = _desk(database_settings(config, data_dir))
    changed = desk.retry(selection)
    released = [] if selection.ids or selection.destination else desk.release_again(study)
    for uid in released:
        typer.echo(f"results of study {uid} are built again")
    _say(changed, selection, "to be sent again", also=len(released))


@deliveries.command("cancel")
def cancel_deliveries(
    ids: Ids = None,
    config: Config = None,
    data_dir: DataDir = None,
    destination: Destination = "",
    study: StudyUid = "",
) -> None:
    """Send no more of what waits or has failed."""
    selection = _selection(ids, destination, study, everything=False)
    _say(_desk(database_settings(config, data_dir)).cancel(selection), selection, "cancelled")


@rules.command("test")
def try_rules(
    file: Annotated[Path, typer.Argument(help="A DICOM file.", exists=True, dir_okay=False)],
    config: Config = None,
    source: Annotated[
        str, typer.Option(help="The AE title that would send it. [default: as the file says]")
    ] = "",
    priority: Annotated[
        Priority | None, typer.Option(help="Suppose this priority and do not analyse.")
    ] = None,
    finding: Annotated[
        list[str] | None, typer.Option(help="With --priority: suppose a flag of this finding.")
    ] = None,
) -> None:
    """Say which delivery rules a file's study would meet, and why; nothing is sent.

    The file is analysed with the settings' bundle, unless a priority is supposed.
    Exit 1 if it would go nowhere.
    """
    from vigil_inference.delivery.rules import destinations_of, judge
    from vigil_inference.settings import load_settings

    settings = load_settings(config)
    facts = _facts(file, settings, source, priority, tuple(finding or ()))
    typer.echo(f"source {', '.join(sorted(facts.sources))}")
    typer.echo(f"institution {facts.institution or '(empty)'}")
    typer.echo(f"priority {facts.priority}, findings {', '.join(sorted(facts.findings)) or 'none'}")
    for number, rule in enumerate(settings.delivery_rules, 1):
        judgement = judge(rule, facts)
        word = "met" if judgement.is_met else "not met"
        typer.echo(f"rule {number} → {', '.join(rule.to)}: {word}")
        for condition in judgement.conditions:
            typer.echo(f"    {'✓' if condition.holds else '✗'} {condition.sentence}")
        if not judgement.conditions:
            typer.echo("    ✓ it has no conditions")
    if settings.destinations and not settings.delivery_rules:
        typer.echo("there are no rules: every result goes to every destination")
    names = destinations_of(settings.destinations, settings.delivery_rules, facts)
    for destination in settings.destinations:
        if destination.name in names:
            what = ", ".join(destination.objects) or "message"
            typer.echo(f"goes to {destination.name} ({destination.kind}): {what}")
    if not names:
        typer.echo("goes nowhere" if settings.destinations else "no destination is set")
        raise typer.Exit(1)


def database_settings(config: Path | None, data_dir: Path | None) -> "Settings":
    """Return the settings of an installation whose database is there."""
    from vigil.errors import ConfigurationError
    from vigil_inference.settings import load_settings

    settings = load_settings(config, data_dir=data_dir)
    path = Path(settings.database.removeprefix("sqlite:///"))
    if settings.database.startswith("sqlite:///") and not path.is_file():
        raise ConfigurationError(f"{path}: there is no database; is data_dir right?")
    return settings


def _desk(settings: "Settings") -> "Desk":
    from vigil_inference.delivery.desk import Desk
    from vigil_inference.store import Store

    return Desk(Store(settings.database))


def _selection(
    ids: list[int] | None, destination: str, study: str, everything: bool
) -> "Selection":
    from vigil_inference.delivery.desk import Selection

    if not (ids or destination or study or everything):
        raise typer.BadParameter("expected numbers, --to, --study or --all; see `--help`")
    return Selection(ids=tuple(ids or ()), destination=destination, study_instance_uid=study)


def _say(changed: list[int], selection: "Selection", what: str, also: int = 0) -> None:
    typer.echo(f"{len(changed)} {what}")
    left = [str(number) for number in selection.ids if number not in changed]
    if left:
        typer.echo(
            f"left as they are: {', '.join(left)} (unknown, ended, being sent, or removed)",
            err=True,
        )
    if left or not (changed or also):
        raise typer.Exit(1)


def _facts(
    file: Path,
    settings: "Settings",
    source: str,
    priority: Priority | None,
    findings: tuple[str, ...],
) -> "StudyFacts":
    from vigil.bundle import default_bundle
    from vigil.triager import Triager
    from vigil_inference.delivery.rules import StudyFacts
    from vigil_inference.headers import read_intake_header

    header = read_intake_header(file)
    if findings and priority is None:
        raise typer.BadParameter("expected --priority beside --finding")
    if priority is None:
        folder = settings.bundle or default_bundle()
        triager = Triager.load(
            folder, settings.analysis_threads, site_calibration=settings.site_calibration
        )
        result = triager.triage(file)
        priority = result.priority
        findings = tuple(flag.label for flag in result.flags)
    return StudyFacts(
        sources=frozenset({source or _sender_in(file) or "FOLDER"}),
        institution=header.institution_name,
        findings=frozenset(findings),
        priority=priority,
    )


def _sender_in(file: Path) -> str:
    """Return the AE title that the file says it came from, or ""."""
    from pydicom import dcmread

    meta = dcmread(file, stop_before_pixels=True, force=True).file_meta
    return str(meta.get("SourceApplicationEntityTitle", "")).strip()
