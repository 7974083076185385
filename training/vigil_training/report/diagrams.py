"""The plots of a report, each with its numbers in words for who does not see it."""

import math
from collections.abc import Sequence

from markupsafe import Markup

from vigil_training.card_tables import number, with_interval
from vigil_training.figures import LabelFigures
from vigil_training.report.contents import AtThreshold, ComparedArea, FreeResponse, LabelCurves
from vigil_training.report.drawn import Plot

_NAMES = 190
"""Pixels for names left of the axes."""
_ALPHA = 0.05


def plots_of(row: LabelFigures, curves: LabelCurves) -> tuple[Markup, ...]:
    """Return ROC, precision and recall, reliability, net benefit and histogram of one finding."""
    marked = [point for point in curves.thresholds if point.name != "fixed"]
    return (
        _roc(row, curves, marked),
        _precision(row, curves, marked),
        _reliability(row),
        _benefit(row, curves),
        _histogram(row, curves),
    )


def _name(row: LabelFigures) -> str:
    return f"{row.label.replace('_', ' ')}, {row.source}"


def _roc(row: LabelFigures, curves: LabelCurves, marked: Sequence[AtThreshold]) -> Markup:
    area = with_interval(row.auroc, row.intervals.get("auroc"))
    at = "; ".join(
        f"{point.name}: sensitivity {point.sensitivity:.2f}, specificity {point.specificity:.2f}"
        for point in marked
    )
    words = f"ROC curve of {_name(row)}: AUROC {area}, {row.positives} of {row.n} films. {at}"
    plot = Plot(f"ROC: {number(row.auroc)}", "1 − specificity", "sensitivity", words)
    plot.line([(0, 0), (1, 1)], "guide")
    plot.line(curves.roc, "s0")
    for style, point in zip(("s1", "s2"), marked, strict=False):
        x = 1 - point.specificity
        plot.upright(x, *point.sensitivity_interval, f"whisker {style}")
        low, high = point.specificity_interval
        plot.level(point.sensitivity, 1 - high, 1 - low, f"whisker {style}")
        plot.dot(x, point.sensitivity, style, point.name)
    return plot.svg()


def _precision(row: LabelFigures, curves: LabelCurves, marked: Sequence[AtThreshold]) -> Markup:
    area = with_interval(row.average_precision, row.intervals.get("average_precision"))
    words = (
        f"Precision and recall of {_name(row)}: area {area}; by chance it would be the "
        f"prevalence, {number(row.prevalence)}."
    )
    title = f"Precision, recall: {number(row.average_precision)}"
    plot = Plot(title, "recall (sensitivity)", "precision", words)
    plot.level(row.prevalence or 0.0, 0, 1, "guide")
    plot.line(curves.precision_recall, "s0")
    for style, point in zip(("s1", "s2"), marked, strict=False):
        if point.positive_predictive_value is not None:
            plot.dot(point.sensitivity, point.positive_predictive_value, style, point.name)
    return plot.svg()


def _reliability(row: LabelFigures) -> Markup:
    told = row.reliability
    said = "; ".join(
        f"promised {one.mean_probability:.2f}, seen {one.frequency:.2f} "
        f"({one.low:.2f} to {one.high:.2f}, {one.films} films)"
        for one in row.bins
    )
    error = number(row.expected_calibration_error)
    chance = number(told.by_chance if told else None)
    words = (
        f"Reliability of {_name(row)}: calibration error {error}, by chance {chance}. "
        f"{said or 'Too few films for bins.'}"
    )
    plot = Plot(f"ECE: {error}, by chance {chance}", "probability", "frequency", words)
    plot.line([(0, 0), (1, 1)], "guide")
    for one in row.bins:
        plot.upright(one.mean_probability, one.low, one.high, "whisker s0")
    plot.line([(one.mean_probability, one.frequency) for one in row.bins], "s0")
    for one in row.bins:
        plot.dot(one.mean_probability, one.frequency, "s0", f"{one.films} films")
    return plot.svg()


def _benefit(row: LabelFigures, curves: LabelCurves) -> Markup:
    points = curves.decision
    top = max(0.05, *(p.interval[1] if p.interval else p.model for p in points))
    up = (-0.25 * top, 1.05 * top)
    said = "; ".join(
        f"at {p.threshold:.2f}: {p.model:.3f}, acting on all {p.treat_all:.3f}"
        for p in points
        if round(p.threshold * 100) in (10, 20, 30, 50, 70)
    )
    words = f"Net benefit of {_name(row)} by threshold, acting on nobody is 0: {said}"
    plot = Plot("Net benefit; dashed: act on all", "threshold", "net hits a film", words, up=up)
    banded = [p for p in points if p.interval is not None]
    plot.band(
        [(p.threshold, p.interval[0]) for p in banded if p.interval],
        [(p.threshold, p.interval[1]) for p in banded if p.interval],
        "s0",
    )
    plot.level(0, 0, 1, "guide")
    everyone = [(p.threshold, p.treat_all) for p in points if p.treat_all >= up[0]]
    plot.line(everyone, "dashed s3")
    plot.line([(p.threshold, p.model) for p in points], "s0")
    return plot.svg()


def _histogram(row: LabelFigures, curves: LabelCurves) -> Markup:
    bins = len(curves.histogram_positive)
    sick, well = (
        [count / max(sum(counts), 1) for count in counts]
        for counts in (curves.histogram_positive, curves.histogram_negative)
    )
    words = (
        f"Histogram of the probabilities of {_name(row)} in {bins} bins from 0 to 1. Films with "
        f"it: {', '.join(map(str, curves.histogram_positive))}. Films without: "
        f"{', '.join(map(str, curves.histogram_negative))}."
    )
    most = max(*sick, *well)
    top = next((up for up in (0.2, 0.4, 0.6, 0.8) if most <= up), 1.0)
    plot = Plot("Scores: ■ with it, □ without", "probability", "part of its class", words,
                up=(0.0, top))  # fmt: skip
    for place in range(bins):
        plot.bar(place / bins, (place + 1) / bins, well[place], "hollow")
    for place in range(bins):
        plot.bar((place + 0.2) / bins, (place + 0.8) / bins, sick[place], "s1")
    return plot.svg()


def forest(rows: Sequence[LabelFigures]) -> Markup:
    """Return the AUROCs of all findings and sources with their intervals, one below the other."""
    said = "; ".join(
        f"{_name(row)} {with_interval(row.auroc, row.intervals.get('auroc'))}" for row in rows
    )
    up = (-0.5, len(rows) - 0.5)
    least = min([0.5, *(i[0] for row in rows if (i := row.intervals.get("auroc")) is not None)])
    across = math.floor(least * 10) / 10, 1.0
    plot = Plot("AUROC, 95 %; dotted: chance", "AUROC", "", f"AUROC: {said}", across, up, 720,
                70 + 20 * len(rows), _NAMES)  # fmt: skip
    plot.upright(0.5, *up, "guide")
    for place, row in enumerate(reversed(rows)):
        plot.name(place, _name(row))
        interval = row.intervals.get("auroc")
        if interval is not None:
            plot.level(place, *interval, "whisker s0")
        plot.dot(row.auroc or 0.0, place, "s0", number(row.auroc))
    return plot.svg(ticks_up=False)


def differences(areas: Sequence[ComparedArea]) -> Markup:
    """Return how two bundles' AUROCs differ, second minus first, one finding below the other."""
    said = "; ".join(
        f"{one.label.replace('_', ' ')}, {one.source} {with_interval(one.difference, one.interval)}"
        for one in areas
    )
    up = (-0.5, len(areas) - 0.5)
    ends = [0.05, *(abs(end) for one in areas for end in one.interval or ())]
    far = math.ceil(max(ends) * 20) / 20
    plot = Plot("AUROC, second minus first, 95 %", "◂ the first is better · the second is better ▸",
                "", f"Difference of AUROC: {said}", (-far, far), up, 720, 70 + 20 * len(areas),
                _NAMES)  # fmt: skip
    plot.upright(0, *up, "guide")
    for place, one in enumerate(reversed(areas)):
        plot.name(place, f"{one.label.replace('_', ' ')}, {one.source}")
        # Only what stays after the correction stands out.
        style = "s1" if one.p_corrected is not None and one.p_corrected < _ALPHA else "s0"
        if one.interval is not None:
            plot.level(place, *one.interval, f"whisker {style}")
        plot.dot(one.difference or 0.0, place, style, number(one.difference))
    return plot.svg(ticks_up=False)


def free_response_plot(row: FreeResponse) -> Markup:
    """Return a finding's free-response curve."""
    at = "; ".join(
        f"{with_interval(one.found, one.interval, 2)} found at {one.false_marks:g} false marks"
        for one in row.at
    )
    name = f"{row.label.replace('_', ' ')}, {row.source}"
    words = (
        f"Free-response curve of {name}: of {row.boxes} boxes {at}. Marks of another patient's "
        f"map find {number(row.found_by_other_maps, 2)}."
    )
    end = max(1.0, row.curve[-1][0] if row.curve else 1.0)
    title = f"{name}: {row.boxes} boxes of {row.boxed_patients} patients"
    plot = Plot(title, "false marks a film", "part of the boxes found", words,
                (0.0, min(end, 3.0)), width=420, height=300)  # fmt: skip
    if row.found_by_other_maps is not None:
        plot.level(row.found_by_other_maps, 0.0, min(end, 3.0), "guide")
    plot.line(row.curve, "s0")
    for one in row.at:
        if one.interval is not None:
            plot.upright(one.false_marks, *one.interval, "whisker s1")
        plot.dot(one.false_marks, one.found, "s1")
    return plot.svg()
