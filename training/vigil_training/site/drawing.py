"""A site calibration as pictures, one a finding."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vigil_training.calibrate import platt, probabilities
from vigil_training.curves import roc_curve
from vigil_training.drawing import new_figure, save_figure
from vigil_training.evaluate import Judged
from vigil_training.reliability import equal_bins
from vigil_training.site.calibration import Calibrated, FindingReport
from vigil_training.site.compare import Comparison, FindingComparison, shared_films
from vigil_training.site.films import SiteFilms

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


_TICKS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)


def draw(calibrated: Calibrated, folder: Path) -> tuple[Path, ...]:
    """Write a PNG file a finding; errors as in :func:`figure`.

    Raises
    ------
    ConfigurationError
        If matplotlib is not installed or the folder cannot be written to.
    """
    files = []
    for report, films in zip(calibrated.report.findings, calibrated.films, strict=True):
        made = figure(report, films, f"{calibrated.report.site}, {calibrated.report.bundle}")
        path = folder / f"{report.key.replace(':', '-')}.png"
        files.append(save_figure(made, path))
    return tuple(files)


def figure(report: FindingReport, films: SiteFilms, title: str) -> "Figure":
    """Return a finding's picture: ROC, thresholds, reliability, and what they cost.

    Raises
    ------
    ConfigurationError
        If matplotlib is not installed.
    """
    made = new_figure(11, 8.4)
    made.suptitle(
        f"{report.key.replace('_', ' ')} – {title}: {report.positive_patients} patients with it, "
        f"{report.negative_patients} without"
    )
    axes = made.subplots(2, 2)
    _roc(axes[0, 0], report, films)
    _thresholds(axes[0, 1], report)
    _reliability(axes[1, 0], report, films)
    _yield(axes[1, 1], report)
    return made


def _roc(axes: "Axes", report: FindingReport, films: SiteFilms) -> None:
    alarms, hits = roc_curve(films.truth, films.logits)
    axes.plot([0, 1], [0, 1], color="0.85", linewidth=1)
    if report.key.startswith("Tuberculosis"):
        axes.fill_between([0, 0.3], 0.9, 1, color="tab:green", alpha=0.15, label="the WHO's aim")
    axes.plot(alarms, hits, color="0.3", label=f"AUROC {report.auroc:.3f}")
    for point, name, colour, marker in (
        (report.chosen, "chosen here", "tab:blue", "o"),
        (report.bundles_own, "the bundle's own", "tab:orange", "x"),
    ):
        low, high = point.sensitivity_interval
        error = [[max(point.sensitivity - low, 0)], [max(high - point.sensitivity, 0)]]
        low, high = point.specificity_interval
        across = [[max(high - point.specificity, 0)], [max(point.specificity - low, 0)]]
        at = 1 - point.specificity, point.sensitivity
        axes.errorbar(*at, error, across, fmt=marker, color=colour, capsize=3, label=name)
    axes.set(xlabel="1 − specificity", ylabel="sensitivity", title="ROC")
    axes.legend(loc="lower right", fontsize="small")


def _thresholds(axes: "Axes", report: FindingReport) -> None:
    at = [row.threshold for row in report.table]
    for name, colour in (("sensitivity", "tab:blue"), ("specificity", "tab:red")):
        values = [getattr(row, name) for row in report.table]
        bounds = np.asarray([getattr(row, f"{name}_interval") for row in report.table])
        axes.plot(at, values, color=colour, label=name)
        axes.fill_between(at, bounds[:, 0], bounds[:, 1], color=colour, alpha=0.15)
    axes.axvline(report.chosen.threshold, color="0.3", linestyle=":", label="chosen here")
    axes.set(xlabel="threshold (the site's probability)", title="each threshold, 95 %")
    # A rare finding's thresholds crowd near 0.
    axes.set_xscale("log")
    axes.set_xticks(shown := [t for t in _TICKS if at[0] <= t <= 1], [f"{t:g}" for t in shown])
    axes.minorticks_off()
    axes.set(ylim=(0, 1.02))
    axes.legend(loc="center left", fontsize="small")


def _reliability(axes: "Axes", report: FindingReport, films: SiteFilms) -> None:
    axes.plot([0, 1], [0, 1], color="0.85", linewidth=1)
    # At the films' own prevalence: at another these films can say nothing of reliability.
    site = probabilities(films.logits, platt(films.logits, films.truth))
    for probability, name, colour, width in (
        (films.probabilities, f"bundle (ECE {report.errors.bundle:.3f})", "tab:orange", 4.0),
        (site, f"site (crossed {report.errors.crossed:.3f})", "tab:blue", 1.5),
    ):
        parts = equal_bins(probability)
        promised = [float(probability[part].mean()) for part in parts]
        seen = [float(films.truth[part].mean()) for part in parts]
        axes.plot(promised, seen, marker=".", color=colour, label=name, linewidth=width)
    title = f"reliability on these films (chance {report.errors.by_chance:.3f})"
    axes.set(xlabel="probability", ylabel="frequency", title=title)
    axes.legend(loc="upper left", fontsize="small")


def _yield(axes: "Axes", report: FindingReport) -> None:
    work = report.workload
    flagged = [row.flagged_a_day for row in report.table]
    axes.plot(flagged, [row.found_a_day for row in report.table], color="tab:blue", label="found")
    axes.plot(flagged, [row.missed_a_day for row in report.table], color="tab:red", label="missed")
    axes.axvline(report.chosen.flagged_a_day, color="0.3", linestyle=":", label="chosen here")
    axes.set(
        xlabel=f"flagged films a day, of {work.films_a_day:g}",
        ylabel="patients with it a day",
        title=f"yield at a prevalence of {work.prevalence:.1%}",
    )
    axes.legend(loc="center right", fontsize="small")


def draw_comparison(
    found: Comparison, first: Judged, second: Judged, folder: Path
) -> tuple[Path, ...]:
    """Write a PNG file a finding that was compared; errors as in :func:`draw`."""
    files = []
    for finding in found.findings:
        made = comparison_figure(found, finding, first, second)
        files.append(save_figure(made, folder / f"{finding.key.replace(':', '-')}.png"))
    return tuple(files)


def comparison_figure(
    found: Comparison, finding: FindingComparison, first: Judged, second: Judged
) -> "Figure":
    """Return a finding's two bundles at their own thresholds and at each other's.

    Left their ROC curves, and where each threshold lies on each; right how sensitivity and
    specificity change against the first bundle at its own.

    Raises
    ------
    ConfigurationError
        If matplotlib is not installed.
    """
    made = new_figure(12, 5.4)
    made.suptitle(
        f"{finding.key.replace('_', ' ')}: {found.bundles[0]} (first) and {found.bundles[1]} "
        f"(second) on {finding.films} films, {finding.positive_patients} patients with it"
    )
    left, right = made.subplots(1, 2, width_ratios=(1, 1.25))
    left.plot([0, 1], [0, 1], color="0.85", linewidth=1)
    films = shared_films(first, second, finding.key)
    for place, (own, colour) in enumerate(zip(films, _BUNDLES, strict=True)):
        name = f"{('first', 'second')[place]}, AUROC {finding.auroc[place]:.3f}"
        left.plot(*roc_curve(own.truth, own.logits), color=colour, label=name)
    # The order in which compare_bundles tells them; the last has no threshold of its own.
    for used, (name, colour, marker, filled) in zip(finding.used, _POINTS, strict=False):
        at = 1 - used.specificity, used.sensitivity
        left.plot(*at, marker, color=colour, markerfacecolor=colour if filled else "white",
                  markersize=9, label=name, linestyle="none")  # fmt: skip
    left.set(xlabel="1 − specificity", ylabel="sensitivity", title="where the thresholds lie")
    left.legend(loc="lower right", fontsize="small")
    _changes(right, finding)
    return made


_BUNDLES = ("tab:blue", "tab:orange")
_POINTS = (
    ("first, at its own", "tab:blue", "o", True),
    ("second, at its own", "tab:orange", "o", True),
    ("second, at the first's", "tab:orange", "D", False),
    ("first, at the second's", "tab:blue", "D", False),
)


def _changes(axes: "Axes", finding: FindingComparison) -> None:
    names = ["second,\nat its own", "second,\nat the first's", "first,\nat the second's",
             "second, set on\nothers' films"]  # fmt: skip
    places = np.arange(len(names))
    for measure, colour, shift in (("sensitivity", "tab:green", -0.12),
                                   ("specificity", "tab:purple", 0.12)):  # fmt: skip
        for place, used in zip(places, finding.used[1:], strict=True):
            value = 100 * getattr(used, f"{measure}_difference")
            interval = getattr(used, f"{measure}_difference_interval")
            low, high = interval or (value / 100, value / 100)
            error = [[max(value - 100 * low, 0)], [max(100 * high - value, 0)]]
            axes.errorbar(place + shift, value, error, fmt="o", color=colour, capsize=3,
                          label=measure if place == 0 else None)  # fmt: skip
            axes.annotate(f"{getattr(used, measure):.0%}", (place + shift, value), (7, 0),
                          textcoords="offset points", fontsize="small", va="center")  # fmt: skip
    base = finding.used[0]
    axes.axhline(0, color="0.3", linewidth=0.8)
    axes.set_xticks(places, names)
    axes.set(xlim=(-0.5, len(names) - 0.3), ylabel="change in points (95 %)")
    axes.set_title(
        f"against the first at its own: sensitivity {base.sensitivity:.0%}, specificity "
        f"{base.specificity:.0%}"
    )
    axes.legend(loc="best", fontsize="small")
