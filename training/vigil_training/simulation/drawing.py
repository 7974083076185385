"""A simulation as a picture: how long each group waits, and how much sooner it is read."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vigil_training.drawing import new_figure, save_figure
from vigil_training.simulation.outcome import (
    ANY_TIME,
    PERCENTILES,
    Order,
    SimulationReport,
    VariantOutcome,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = {Order.ARRIVAL: "0.45", Order.VIGIL: "tab:blue", Order.PERFECT: "tab:green"}
_COLUMNS = 3


def draw(report: SimulationReport, path: Path) -> Path:
    """Write the picture as PNG; errors as in :func:`figure`.

    Raises
    ------
    ConfigurationError
        If matplotlib is not installed or the file cannot be written.
    """
    return save_figure(figure(report), path)


def figure(report: SimulationReport) -> "Figure":
    """Return the picture: one panel a group, and below them what each variant gains.

    Raises
    ------
    ConfigurationError
        If matplotlib is not installed.
    """
    base = report.variants[0]
    groups = [
        group
        for group in report.scenario.groups
        if any(w.group == group for w in base.orders[0].waiting)
    ]
    rows = -(-len(groups) // _COLUMNS)
    made = new_figure(12, 3.0 * rows + 4.2)
    made.suptitle(f"{report.scenario.name} – {base.operation}. {report.notice}.")
    grid = made.add_gridspec(rows + 1, _COLUMNS, height_ratios=[*[3.0] * rows, 4.0])
    for index, group in enumerate(groups):
        axes = made.add_subplot(grid[index // _COLUMNS, index % _COLUMNS])
        _waiting(axes, base, group, with_legend=index == 0)
    _gains(made.add_subplot(grid[rows, :]), report, groups)
    return made


def _waiting(axes: "Axes", outcome: VariantOutcome, group: str, *, with_legend: bool) -> None:
    for order, colour in _COLOURS.items():
        waiting = outcome.waiting(order, group)
        minutes = np.maximum(waiting.percentiles, 0.1)
        axes.plot(minutes, PERCENTILES, color=colour, label=f"{order}")
    axes.set_xscale("log")
    axes.set(xlim=(0.5, 1440), ylim=(0, 100), title=f"{group}, {waiting.films:,.0f} films")
    axes.set_xticks([1, 5, 15, 60, 240, 1440], ["1", "5", "15", "60", "240", "1 day"])
    axes.minorticks_off()
    axes.grid(color="0.92")
    axes.set(xlabel="minutes until the reading begins", ylabel="% of films read by then")
    if with_legend:
        axes.legend(loc="lower right", fontsize="small")


def _gains(axes: "Axes", report: SimulationReport, groups: list[str]) -> None:
    """Draw the minutes gained, a bar a variant, and the perfect order's as a line over it."""
    places = np.arange(len(groups))
    width = 0.8 / len(report.variants)
    for number, variant in enumerate(report.variants):
        gains = [variant.gain(group, ANY_TIME) for group in groups]
        means = np.asarray([gain.vigil.mean for gain in gains])
        low = np.asarray([_or(gain.vigil.low, gain.vigil.mean) for gain in gains])
        high = np.asarray([_or(gain.vigil.high, gain.vigil.mean) for gain in gains])
        at = places - 0.4 + width * (number + 0.5)
        axes.bar(
            at, means, width * 0.9, yerr=[means - low, high - means], capsize=2, label=variant.name
        )
        possible = [gain.possible.mean for gain in gains]
        axes.hlines(possible, at - width * 0.45, at + width * 0.45, "black", linewidth=1.5)
    axes.axhline(0, color="0.3", linewidth=0.8)
    axes.set_xticks(places, groups)
    axes.set(
        ylabel="minutes sooner in the mean",
        title="read sooner than first come, first served (95 %); black line: the perfect order",
    )
    axes.legend(
        loc="upper center",
        bbox_to_anchor=(0.5, -0.08),
        fontsize="small",
        ncols=len(report.variants),
    )


def _or(value: float | None, otherwise: float) -> float:
    return otherwise if value is None else value
