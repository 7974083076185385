"""``vigil calibrate`` and ``vigil calibrate compare``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vigil.errors import ConfigurationError
from vigil_training.progress import plain_console, progress, say

if TYPE_CHECKING:
    from vigil_training.evaluate import Judged
    from vigil_training.figures import Figures
    from vigil_training.site.calibration import FindingReport, SiteReport
    from vigil_training.site.compare import Comparison
    from vigil_training.site.thresholds import ThresholdFigures

app = typer.Typer(invoke_without_command=True, rich_markup_mode=None, add_completion=False)

_SHOWN = 12
_Labels = Annotated[
    list[str] | None,
    typer.Option("--finding", help="A finding; may be repeated. [default: all with enough films]"),
]
_Split = Annotated[
    str, typer.Option(help="Which of the manifest's patients, as in `vigil evaluate`.")
]
_Plots = Annotated[
    Path | None, typer.Option(help="Draw a picture a finding into this folder, as PNG.")
]
_Json = Annotated[Path | None, typer.Option("--json", help="Write all figures to this file.")]


@app.callback()
def calibrate(
    context: typer.Context,
    site: Annotated[str | None, typer.Option(help="The site's name; results show it.")] = None,
    manifest: Annotated[
        Path | None, typer.Option(help="CSV file of labelled films of the site.")
    ] = None,
    bundle: Annotated[
        Path | None, typer.Option(help="The bundle's folder. [default: the one in models/]")
    ] = None,
    to: Annotated[
        Path | None, typer.Option(help="The file to write. [default: <site>.calibration.json]")
    ] = None,
    finding: _Labels = None,
    sensitivity: Annotated[
        float, typer.Option(help="To be reached by the threshold.", min=0.01, max=1.0)
    ] = 0.90,
    specificity: Annotated[
        float, typer.Option(help="Below this a warning is given.", min=0.0, max=1.0)
    ] = 0.70,
    threshold: Annotated[
        list[str] | None,
        typer.Option(help="FINDING=PROBABILITY from the table, instead of the rule; repeatable."),
    ] = None,
    prevalence: Annotated[
        float | None,
        typer.Option(
            help="Part of the site's people who have the finding. [default: that of the films]",
            min=0.0001,
            max=0.9999,
        ),
    ] = None,
    films_a_day: Annotated[float, typer.Option(help="For the table.", min=0)] = 100.0,
    film_cost: Annotated[float, typer.Option(help="Of one film, for the table.", min=0)] = 0.0,
    test_cost: Annotated[
        float, typer.Option(help="Of testing one flagged patient, for the table.", min=0)
    ] = 0.0,
    split: _Split = "all",
    json_out: _Json = None,
    plots: _Plots = None,
) -> None:
    """Set a bundle's probabilities and thresholds from a site's own labelled films.

    A few hundred films of known truth, none of which the bundle was trained on, are judged by the
    code that serves; for each threshold the table says sensitivity, specificity, flagged films a
    day, what is found and missed, and what it costs (the WHO's method for tuberculosis). The file
    is bound to this very bundle: give it to the server as `site_calibration`. `vigil calibrate
    compare` shows what becomes of a threshold at another bundle.
    """
    if context.invoked_subcommand is not None:
        return
    if site is None or manifest is None:
        missing = "--site NAME" if site is None else "--manifest CSV"
        raise ConfigurationError(f"{missing} is missing; `vigil calibrate --help` explains")
    from vigil.site_calibration import write_site_calibration
    from vigil_training.site.calibration import SiteGoals, calibrate_site

    goals = SiteGoals(
        sensitivity, specificity, prevalence, _thresholds(threshold or []), films_a_day,
        film_cost, test_cost,
    )  # fmt: skip
    judged = _judge(bundle, manifest, split, tuple(finding or ()))
    made = calibrate_site(site, judged, goals, tuple(finding or ()))
    _print_site(made.report)
    path = to or Path(f"{_file_name(site)}.calibration.json")
    written = write_site_calibration(path, made.calibration)
    typer.echo(
        f"{path}: {len(written.findings)} findings for bundle {written.bundle_digest[:12]}, "
        f'digest {written.digest[:12]}; serve with site_calibration = "{path}"'
    )
    if json_out is not None:
        _write(json_out, made.report)
    if plots is not None:
        from vigil_training.site.drawing import draw

        typer.echo(f"{plots}: {len(draw(made, plots))} pictures")


@app.command()
def compare(
    manifest: Annotated[Path, typer.Option(help="CSV file of labelled films.")],
    other: Annotated[Path, typer.Option("--with", help="The second bundle's folder.")],
    bundle: Annotated[
        Path | None, typer.Option(help="The first bundle's folder. [default: the one in models/]")
    ] = None,
    finding: _Labels = None,
    split: _Split = "all",
    json_out: _Json = None,
    plots: _Plots = None,
) -> None:
    """Compare two bundles at their own thresholds and at each other's.

    A threshold belongs to the model that it was set for: the row of the second bundle at the
    first's threshold shows what an update without recalibration would do.
    """
    from vigil_training.site.compare import compare_bundles

    labels = tuple(finding or ())
    first = _judge(bundle, manifest, split, labels)
    second = _judge(other, manifest, split, labels)
    found = compare_bundles(first, second, labels)
    _print_comparison(found)
    if json_out is not None:
        _write(json_out, found)
    if plots is not None:
        from vigil_training.site.drawing import draw_comparison

        typer.echo(f"{plots}: {len(draw_comparison(found, first, second, plots))} pictures")


def _judge(bundle: Path | None, manifest: Path, split: str, labels: tuple[str, ...]) -> "Judged":
    from vigil.bundle import default_bundle
    from vigil_training.evaluate import judge

    if split not in ("all", "train", "val", "test"):
        raise ConfigurationError(f"--split is {split}, expected all, train, val or test")
    folder = bundle or default_bundle()
    with progress(f"judging pictures with {folder.name}") as show:
        return judge(folder, manifest, split=split, labels=labels, progress=show)  # type: ignore[arg-type]


def _thresholds(given: list[str]) -> dict[str, float]:
    found = {}
    for text in given:
        name, _, value = text.rpartition("=")
        try:
            found[name] = float(value)
        except ValueError:
            name = ""
        if not name:
            raise ConfigurationError(f"--threshold {text}: expected FINDING=PROBABILITY")
    return found


def _file_name(site: str) -> str:
    kept = "".join(letter if letter.isalnum() else "-" for letter in site.lower())
    return "-".join(part for part in kept.split("-") if part) or "site"


def _write(path: Path, figures: "Figures") -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(figures.model_dump_json(indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be written ({error.strerror})") from error


def _print_site(report: "SiteReport") -> None:
    console = plain_console()
    say(
        console,
        f"{report.site}: {report.bundle} {report.digest[:12]} on {report.manifest}, split "
        f"{report.split}. {report.notice}.",
    )
    for finding in report.findings:
        _print_finding(finding)
    for key, why in report.not_calibrated.items():
        say(console, f"not calibrated: {why if key in why else f'{key}: {why}'}")


def _print_finding(report: "FindingReport") -> None:
    from rich.table import Table

    console = plain_console()
    work = report.workload
    low, high = report.auroc_interval or (0.0, 1.0)
    table = Table(
        title=f"{report.key}: {report.positive_patients} patients with it, "
        f"{report.negative_patients} without, AUROC {report.auroc:.3f} ({low:.2f}–{high:.2f})",
        caption=f"a day: of {work.films_a_day:g} films at a prevalence of {work.prevalence:.1%}; "
        "the bundle's threshold is of its own probability, the others of the site's",
        box=None,
        padding=(0, 1, 0, 0),
        title_justify="left",
        caption_justify="left",
    )
    table.add_column("threshold", no_wrap=True)
    for name in (
        "sensitivity\n(95 %)", "specificity\n(95 %)", "flagged\na day", "found\na day",
        "missed\na day", "tests /\nfound", "cost /\nfound",
    ):  # fmt: skip
        table.add_column(name, justify="right", no_wrap=True)
    for row in _thinned(report):
        table.add_row(f"{row.threshold:.3f}", *_cells(row))
    table.add_section()
    table.add_row("chosen")
    table.add_row(f"{report.chosen.threshold:.3f}", *_cells(report.chosen))
    table.add_row("the bundle's")
    table.add_row(f"{report.bundles_own.threshold:.3f}", *_cells(report.bundles_own))
    console.print(table)
    say(
        console,
        f"  on patients that chose nothing (ten folds): sensitivity "
        f"{report.crossed_sensitivity:.0%}, specificity {report.crossed_specificity:.0%}; "
        f"calibration error {report.errors.crossed:.3f}, the bundle's {report.errors.bundle:.3f}, "
        f"by chance {report.errors.by_chance:.3f}",
    )
    if report.refused:
        refused = ", ".join(f"{count} {code}" for code, count in report.refused.items())
        say(console, f"  left out: {refused}; `vigil evaluate` names their rows")
    for part in report.subgroups:
        say(
            console,
            f"  {part.group} {part.part}: sensitivity {_share(part.sensitivity)} of "
            f"{part.positive_patients}, specificity {_share(part.specificity)} of "
            f"{part.negative_patients} patients{'; differs' if part.differs else ''}",
        )
    for warning in report.warnings:
        say(console, f"  warning: {warning}", "yellow")
    console.print()


def _thinned(report: "FindingReport") -> "list[ThresholdFigures]":
    """Return some thresholds that differ in sensitivity, evenly over the table."""
    table = report.table
    step = max(1, len(table) // _SHOWN)
    return list(table[step // 2 :: step])


def _cells(row: "ThresholdFigures") -> list[str]:
    return [
        f"{row.sensitivity:.0%} ({_interval(row.sensitivity_interval)})",
        f"{row.specificity:.0%} ({_interval(row.specificity_interval)})",
        f"{row.flagged_a_day:.1f}",
        f"{row.found_a_day:.2f}",
        f"{row.missed_a_day:.2f}",
        "–" if row.tests_per_found is None else f"{row.tests_per_found:.1f}",
        "–" if row.cost_per_found is None else f"{row.cost_per_found:.0f}",
    ]


def _interval(bounds: tuple[float, float]) -> str:
    return f"{100 * bounds[0]:.0f}–{100 * bounds[1]:.0f}"


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.0%}"


_USED = (
    "1st at its own",
    "2nd at its own",
    "2nd at the 1st's",
    "1st at the 2nd's",
    "2nd set on others",
)
"""What the rows of a comparison are, in the order in which they come."""


def _print_comparison(found: "Comparison") -> None:
    from rich.table import Table

    console = plain_console()
    first, second = found.bundles
    say(console, f"1st: {first} {found.digests[0][:12]}; 2nd: {second} "
                 f"{found.digests[1][:12]}; {found.manifest}, split {found.split}")  # fmt: skip
    for finding in found.findings:
        low, high = finding.auroc_difference_interval or (0.0, 0.0)
        table = Table(
            title=f"{finding.key}: {finding.films} films, {finding.positive_patients} patients "
            f"with it; AUROC {finding.auroc[0]:.3f} and {finding.auroc[1]:.3f} (difference "
            f"{low:+.3f} to {high:+.3f})",
            box=None,
            padding=(0, 1, 0, 0),
            title_justify="left",
        )
        table.add_column("bundle, threshold", no_wrap=True)
        for name in ("", "sens", "spec", "flag", "sens change", "spec change"):
            table.add_column(name, justify="right", no_wrap=True)
        for name, row in zip(_USED, finding.used, strict=True):
            table.add_row(
                f"{name}{' *' if row.differs else ''}",
                "–" if row.threshold is None else f"{row.threshold:.3f}",
                *(f"{value:.0%}" for value in (row.sensitivity, row.specificity, row.flagged)),
                _change(row.sensitivity_difference, row.sensitivity_difference_interval),
                _change(row.specificity_difference, row.specificity_difference_interval),
            )
        console.print(table)
    for key, why in found.not_compared.items():
        say(console, f"not compared: {why if key in why else f'{key}: {why}'}")
    say(
        console,
        "Changes are in points from the first row, with 95 % intervals; *: more than chance, not "
        "corrected for how many rows are shown. 'set on others': a threshold that other patients "
        f"of these films chose to reach the first row's sensitivity. {found.notice}.",
    )


def _change(value: float, interval: tuple[float, float] | None) -> str:
    if interval is None or value == 0 == interval[0] == interval[1]:
        return "–"
    return f"{100 * value:+.0f} ({100 * interval[0]:+.0f} to {100 * interval[1]:+.0f})"
