"""A site calibration as pictures, one a finding."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vigil_training.calibrate import platt, probabilities
from vigil_training.curves import roc_curve
from vigil_training.drawing import new_figure, save_figure
from vigil_training.reliability import equal_bins
from vigil_training.site.calibration import Calibrated, FindingReport
from vigil_training.site.films import SiteFilms

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


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
        at = 1 - point.specificity, point.sensitivity
        axes.errorbar(*at, error, fmt=marker, color=colour, capsize=3, label=name)
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
    axes.set(ylim=(0, 1.02))
    axes.legend(loc="center right", fontsize="small")


def _reliability(axes: "Axes", report: FindingReport, films: SiteFilms) -> None:
    axes.plot([0, 1], [0, 1], color="0.85", linewidth=1)
    # At the films' own prevalence: at another these films can say nothing of reliability.
    site = probabilities(films.logits, platt(films.logits, films.truth))
    for probability, name, colour in (
        (films.probabilities, f"bundle (ECE {report.errors.bundle:.3f})", "tab:orange"),
        (site, f"site (crossed {report.errors.crossed:.3f})", "tab:blue"),
    ):
        parts = equal_bins(probability)
        promised = [float(probability[part].mean()) for part in parts]
        seen = [float(films.truth[part].mean()) for part in parts]
        axes.plot(promised, seen, marker=".", color=colour, label=name)
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
