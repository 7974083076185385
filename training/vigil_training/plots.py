"""Pictures of an evaluation: ROC curves and reliability diagrams, one file a label."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vigil_training.curves import roc_curve
from vigil_training.drawing import new_figure, save_figure
from vigil_training.evaluate import Judged
from vigil_training.figures import Evaluation, LabelFigures
from vigil_training.merits import scores_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LEAST_FILMS = 20


def draw(judged: Judged, found: Evaluation, folder: Path) -> tuple[Path, ...]:
    """Write a PNG file a label: ROC curve and reliability diagram, each source a line.

    Sources with fewer than 20 films or one class only are left out, and so is a label without
    any other.

    Raises
    ------
    ConfigurationError
        If matplotlib is not installed or the folder cannot be written to.
    """
    files = []
    for label in dict.fromkeys(row.label for row in found.results):
        rows = [row for row in found.results if row.label == label and _is_drawn(row)]
        if not rows:
            continue
        figure = new_figure(9, 4.4)
        figure.suptitle(f"{label.replace('_', ' ')} – {found.bundle}, split {found.split}")
        left, right = figure.subplots(1, 2)
        _roc(left, judged, rows)
        _reliability(right, rows)
        path = folder / f"{label}.png"
        files.append(save_figure(figure, path))
    return tuple(files)


def _is_drawn(row: LabelFigures) -> bool:
    return row.auroc is not None and row.n >= _LEAST_FILMS


def _roc(axes: "Axes", judged: Judged, rows: Sequence[LabelFigures]) -> None:
    axes.plot([0, 1], [0, 1], color="0.8", linewidth=1)
    for row in rows:
        own = [
            answer
            for answer in judged.answers
            if answer.row.source == row.source
            and row.label in answer.row.label_scope
            and row.label in answer.probabilities
        ]
        scores = scores_of(row.label, own)
        alarms, hits = roc_curve(scores.truth, scores.probability)
        text = f"{row.source}: AUROC {row.auroc:.3f}, {row.positives} of {row.n}"
        (line,) = axes.plot(alarms, hits, label=text)
        if row.specificity is not None and row.sensitivity is not None:
            point = 1 - row.specificity, row.sensitivity
            axes.plot(*point, marker="o", color=line.get_color())
    axes.set(xlabel="1 − specificity", ylabel="sensitivity", title="ROC; ● shipped threshold")
    axes.legend(loc="lower right", fontsize="small")


def _reliability(axes: "Axes", rows: Sequence[LabelFigures]) -> None:
    axes.plot([0, 1], [0, 1], color="0.8", linewidth=1)
    for row in rows:
        promised = np.asarray([bin_.mean_probability for bin_ in row.bins])
        seen = np.asarray([bin_.frequency for bin_ in row.bins])
        below = seen - np.asarray([bin_.low for bin_ in row.bins])
        above = np.asarray([bin_.high for bin_ in row.bins]) - seen
        text = f"{row.source}: ECE {row.expected_calibration_error:.3f}"
        if row.reliability is not None:
            text += f" (by chance {row.reliability.by_chance:.3f})"
        noise = np.maximum(np.stack([below, above]), 0)
        axes.errorbar(promised, seen, noise, marker=".", linewidth=1, capsize=2, label=text)
    axes.set(xlabel="probability", ylabel="frequency", title="Reliability, equal counts; 95 %")
    axes.legend(loc="upper left", fontsize="small")
