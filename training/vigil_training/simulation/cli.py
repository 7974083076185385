"""``vigil simulate``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vigil.errors import ConfigurationError
from vigil_training.progress import plain_console, progress, say

if TYPE_CHECKING:
    from vigil.bundle import Bundle
    from vigil_training.simulation.operation import AnsweredOperation
    from vigil_training.simulation.outcome import Estimate, SimulationReport, VariantOutcome
    from vigil_training.simulation.scenario import Scenario


def simulate(
    scenario: Annotated[
        Path | None,
        typer.Argument(help="The reading room as TOML. [default: a provincial one, see --example]"),
    ] = None,
    bundle: Annotated[
        Path | None, typer.Option(help="The bundle's folder. [default: the one in models/]")
    ] = None,
    manifest: Annotated[
        Path | None,
        typer.Option(
            help="CSV file of labelled films: Vigil's answers on them take the place of its "
            "operating points."
        ),
    ] = None,
    split: Annotated[
        str, typer.Option(help="Which of the manifest's patients, as in `vigil evaluate`.")
    ] = "val",
    days: Annotated[int | None, typer.Option(help="Days to simulate.", min=1)] = None,
    replications: Annotated[
        int | None, typer.Option(help="Independent repetitions, for the intervals.", min=1)
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of all draws.", min=0)] = None,
    jobs: Annotated[
        int | None, typer.Option(help="Replications at the same time. [default: all cores]", min=1)
    ] = None,
    json_out: Annotated[
        Path | None, typer.Option("--json", help="Write all figures to this file.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw the waiting times, as PNG.")] = None,
    example: Annotated[
        bool, typer.Option("--example", help="Print the default reading room as TOML and stop.")
    ] = False,
) -> None:
    """Simulate a reading room: how much sooner would the sick have been read?

    The same films are read first come first served, in Vigil's order and in a perfect one.
    A reading room is described by its arrivals by hour, its shifts of readers, its conditions with
    their prevalence, and variants of it: start from --example. Times are minutes until the
    reading begins; intervals are 95 % over replications, and hold what the bundle's operating
    points leave open.
    """
    from vigil.bundle import default_bundle, load_bundle
    from vigil.classifier import available_cores
    from vigil_training.simulation.run import simulate as run
    from vigil_training.simulation.scenario import DEFAULT_SCENARIO, load_scenario

    if example:
        typer.echo(DEFAULT_SCENARIO.read_text(encoding="utf-8"), nl=False)
        return
    room = load_scenario(scenario, days=days, replications=replications, seed=seed)
    loaded = load_bundle(bundle or default_bundle())
    operation = None if manifest is None else _judged(loaded, manifest, split, room)
    with progress("simulating") as show:
        report = run(
            room, loaded.manifest, operation, jobs=jobs or available_cores(), progress=show
        )
    _print(report)
    if json_out is not None:
        _write(json_out, report)
    if plot is not None:
        from vigil_training.simulation.drawing import draw

        typer.echo(f"{draw(report, plot)}: drawn")


def _judged(bundle: "Bundle", manifest: Path, split: str, room: "Scenario") -> "AnsweredOperation":
    from vigil_training.evaluate import judge
    from vigil_training.simulation.operation import answered_operation

    if split not in ("all", "train", "val", "test"):
        raise ConfigurationError(f"--split is {split}, expected all, train, val or test")
    with progress("judging pictures") as show:
        judged = judge(bundle.folder, manifest, split=split, progress=show)  # type: ignore[arg-type]
    source = f"answers of {bundle.id} on {manifest.name}, split {split}"
    return answered_operation(judged.answers, room, source)


def _write(path: Path, report: "SimulationReport") -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(report.model_dump_json(indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be written ({error.strerror})") from error


def _print(report: "SimulationReport") -> None:
    console = plain_console()
    scenario = report.scenario
    say(
        console,
        f"{scenario.name}: {scenario.days} days, {scenario.arrivals.films_a_day * 365:,.0f} films "
        f"a year, {scenario.replications} replications. {report.notice}.",
    )
    for variant in report.variants:
        _print_variant(variant, report)
    say(
        console,
        "Minutes until the reading begins: mean in order of arrival (FIFO), in Vigil's and in a "
        "perfect order, and where 95 % have been read (p95) by arrival and in Vigil's. sooner: "
        "than by arrival, in the mean (95 %); below 0 is later. raised: part that Vigil puts "
        "before the routine films. late: part over the condition's target, by arrival and in "
        "Vigil's order.",
    )


def _print_variant(variant: "VariantOutcome", report: "SimulationReport") -> None:
    from rich.table import Table

    from vigil_training.simulation.outcome import ALL_CONDITIONS, ANY_TIME, Order
    from vigil_training.simulation.scenario import THE_REST

    table = Table(
        title=f"{variant.name}: load {variant.load:.0%}, raised {variant.raised.mean:.0%} of all",
        box=None,
        padding=(0, 1, 0, 0),
        title_justify="left",
    )
    table.add_column("films", no_wrap=True, max_width=17)
    for name in ("FIFO", "Vigil", "best", "p95", "Vigil", "sooner", "raised", "late"):
        table.add_column(name, justify="right", no_wrap=True)
    present = {(waiting.group, waiting.arrived) for waiting in variant.orders[0].waiting}
    rows = [(group, ANY_TIME) for group in (*report.scenario.groups[:-1], ALL_CONDITIONS, THE_REST)]
    for shift in report.scenario.shifts:
        rows += [(ALL_CONDITIONS, shift.name), (THE_REST, shift.name)]
    for group, arrived in rows:
        if (group, arrived) not in present:
            continue
        waits = {order: variant.waiting(order, group, arrived) for order in Order}
        late = [waits[order].over_target for order in (Order.ARRIVAL, Order.VIGIL)]
        raised = variant.raised_rest if group == THE_REST else variant.seen.get(group)
        table.add_row(
            group if arrived == ANY_TIME else f" {_short(group)}, {arrived}",
            *(f"{waits[order].mean.mean:.1f}" for order in Order),
            *(f"{waits[order].p95.mean:.0f}" for order in (Order.ARRIVAL, Order.VIGIL)),
            _interval(variant.gain(group, arrived).vigil),
            "" if raised is None or arrived != ANY_TIME else f"{raised.mean:.0%}",
            "" if None in late else "→".join(f"{e.mean:.0%}" for e in late if e is not None),
        )
    console = plain_console()
    console.print(table)
    for note in variant.notes:
        say(console, f"  {note}")
    console.print()


def _short(group: str) -> str:
    return "sick" if group.startswith("all") else "rest"


def _interval(value: "Estimate") -> str:
    if value.low is None or value.high is None:
        return f"{value.mean:.1f}"
    dash = "–" if value.low >= 0 else " to "
    return f"{value.mean:.1f} ({value.low:.1f}{dash}{value.high:.1f})"
