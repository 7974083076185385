"""The tables of a model card, each from its part of ``metrics.json`` or ``bundle.json``."""

from collections.abc import Sequence

from vigil.bundle import BundleManifest, FindingSpec
from vigil_training.figures import (
    BackgroundFigures,
    Evaluation,
    LabelFigures,
    Measure,
    Merits,
    OutlineFigures,
    RatioFigures,
    SourceFigures,
)
from vigil_training.gate_check import GateFigures
from vigil_training.statistics import wilson

Lines = tuple[str, ...]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Lines:
    """Return a Markdown table."""
    lines = (head, ["---"] * len(head), *rows)
    return tuple("| " + " | ".join(cells) + " |" for cells in lines)


def number(value: float | None, places: int = 3) -> str:
    """Return a figure, or a dash for what is not known."""
    return "–" if value is None else f"{value:.{places}f}"


def with_interval(
    value: float | None, interval: tuple[float, float] | None, places: int = 3
) -> str:
    """Return ``0.888 (0.833–0.935)``, and ``0.010 (-0.020 to 0.040)`` where a bound is negative."""
    if value is None or interval is None:
        return number(value, places)
    dash = "–" if min(interval) >= 0 else " to "
    return f"{value:.{places}f} ({interval[0]:.{places}f}{dash}{interval[1]:.{places}f})"


def _of(row: Merits, name: Measure, places: int = 2) -> str:
    value: float | None = getattr(row, name)
    return with_interval(value, row.intervals.get(name), places)


def figures(evaluation: Evaluation) -> Lines:
    """Return how each label does on each source, and how the sources fared."""
    shown = [
        (
            row.label, row.source, str(row.n), str(row.positives), _of(row, "auroc", 3),
            _of(row, "average_precision"), _of(row, "sensitivity"), _of(row, "specificity"),
            number(row.flagged, 2),
        )
        for row in evaluation.results
    ]  # fmt: skip
    head = ("label", "source", "n", "positive", "AUROC", "AUPRC", "sensitivity", "specificity",
            "flagged")  # fmt: skip
    return (
        f"Measured by `vigil evaluate` on `{evaluation.manifest}`, split `{evaluation.split}`, "
        f"through the code that serves (software {evaluation.software}, {evaluation.created}). "
        f"95 % intervals; {evaluation.bootstrap_samples} bootstrap samples of patients.",
        "",
        *table(head, shown),
        "",
        *(_source_line(source) for source in evaluation.sources),
        "",
        *evaluation.notes,
    )


def _source_line(source: SourceFigures) -> str:
    refused = ", ".join(f"{count} {code}" for code, count in source.refused.items()) or "none"
    line = f"- {source.source}: {source.analysed} of {source.pictures} analysed; refused: {refused}"
    if source.corrected:
        line += f"; {source.corrected} put right by the gate"
    if source.priorities:
        counts = (f"{count} {priority}" for priority, count in source.priorities.items())
        line += f"; priorities: {', '.join(counts)}"
    if source.flagged is not None:
        line += f"; any flag: {source.flagged:.0%}"
    if source.mean_auroc is not None:
        line += f"; mean AUROC {source.mean_auroc:.3f} over {source.labels_in_mean} labels"
    return line


def strangers(sources: Sequence[SourceFigures]) -> Lines:
    """Return how sources fared that the bundle was not trained on."""
    foreign = [source for source in sources if source.trained_on is False]
    if not foreign:
        return ("No source that the bundle was not trained on was shown to it.",)
    return (
        "Sources of which no picture was trained on: what another hospital may expect.",
        "",
        *(_source_line(source) for source in foreign),
    )


def parts(evaluation: Evaluation) -> Lines:
    """Return the figures by sex, age and view."""
    if not evaluation.parts:
        return ("No part of the patients is large enough to be judged by itself.",)
    rows = [
        (
            row.label, row.source, f"{row.group} {row.part}", str(row.n), str(row.positives),
            _of(row, "auroc", 3), _of(row, "sensitivity"), _of(row, "specificity"),
            number(row.expected_calibration_error),
        )
        for row in evaluation.parts
    ]  # fmt: skip
    head = ("label", "source", "part", "n", "positive", "AUROC", "sensitivity", "specificity",
            "ECE")  # fmt: skip
    return (
        "Only parts with at least 20 positive and 20 negative patients.", "", *table(head, rows)
    )  # fmt: skip


def calibration(results: Sequence[LabelFigures]) -> Lines:
    """Return how far the probabilities can be believed, source by source."""
    rows = []
    for row in results:
        shipped, crossed = row.reliability, row.cross_fitted
        if shipped is None:
            continue
        rows.append(
            (
                row.label, row.source, str(row.n),
                with_interval(shipped.calibration_error, shipped.calibration_error_interval),
                number(crossed.calibration_error if crossed else None),
                f"{shipped.by_chance:.3f} ({shipped.by_chance_high:.3f})",
                number(shipped.debiased), number(shipped.brier),
                with_interval(shipped.slope, shipped.slope_interval, 2),
                with_interval(shipped.intercept, shipped.intercept_interval, 2),
            )
        )  # fmt: skip
    if not rows:
        return ("No source holds enough films.",)
    head = ("label", "source", "n", "ECE", "cross-fitted", "by chance (95 %)", "debiased", "Brier",
            "slope", "intercept")  # fmt: skip
    return (
        "Expected calibration error (ECE): ten bins of equal count. It is never 0 on few films: "
        "*by chance* is what perfect probabilities would give on as many (mean, and the 95 % "
        "quantile above which an error is more than chance); *debiased* is the root mean square "
        "error without the bins' sampling variance. Slope 1 and intercept 0 are right; a slope "
        "over 1 says that the probabilities are too timid. *Cross-fitted*: the calibration "
        "fitted on other patients.",
        "",
        *table(head, rows),
    )


def operating_points(manifest: BundleManifest, background: Sequence[BackgroundFigures]) -> Lines:
    """Return the thresholds, what they give and cost, and the uncertain band."""
    rule = manifest.training.get("experimental_rule", "")
    rows = [_operating_row(finding) for finding in manifest.findings]
    head = ("finding", "ages", "asks for", "flag at", "sensitivity", "specificity", "critical at",
            "uncertain", "")  # fmt: skip
    bands = [finding for finding in manifest.findings if finding.uncertain is not None]
    return (
        "Chosen on the validation patients of all sources together, before the gate; sensitivity "
        "first, then what it costs. 95 % intervals over films (Wilson). "
        f"Experimental: {rule}.",
        "",
        *table(head, rows),
        *(("", *_bands(bands)) if bands else ()),
        *(("", *_background(background)) if background else ()),
    )


def _operating_row(finding: FindingSpec) -> tuple[str, ...]:
    low, high = finding.population.min_age_years, finding.population.max_age_years
    ages = "all" if low is None else f"{low:g} and over" if high is None else f"{low:g} to {high:g}"
    flag, critical, band = finding.flag, finding.critical, finding.uncertain
    return (
        finding.key, ages, str(finding.priority), f"{flag.threshold:.3f}",
        _share(flag.sensitivity, flag.positives), _share(flag.specificity, flag.negatives),
        number(critical.threshold if critical else None),
        "–" if band is None else f"{band.low:.3f} to {band.high:.3f}",
        "experimental" if finding.experimental else "",
    )  # fmt: skip


def _share(value: float | None, n: int) -> str:
    if value is None or not n:
        return "–"
    low, high = wilson(value, n)
    return f"{value:.1%} of {n} ({low:.0%}–{high:.0%})"


def _bands(findings: Sequence[FindingSpec]) -> Lines:
    lines = ["Uncertain: between these probabilities the validation patients do not let present "
             "and absent be told (split conformal prediction within each class). Measured on "
             "patients who chose neither end, the truth was held:", ""]  # fmt: skip
    for finding in findings:
        band = finding.uncertain
        assert band is not None  # only such are asked for
        present, absent = (
            "unknown" if held is None else f"{held:.1%}"
            for held in (band.coverage_present, band.coverage_absent)
        )
        lines.append(
            f"- {finding.key}: {present} of patients with it, {absent} of those without "
            f"(aim {band.target_coverage:.0%})"
        )
    return tuple(lines)


def certainty(results: Sequence[LabelFigures]) -> Lines:
    """Return what the uncertain bands say, source by source."""
    rows = [
        (
            row.label, row.source, number(row.certainty.present_held),
            number(row.certainty.absent_held), number(row.certainty.uncertain),
            "other patients" if row.certainty.cross_conformal else "the bundle",
        )
        for row in results
        if row.certainty is not None
    ]  # fmt: skip
    if not rows:
        return ("The bundle names no uncertain band.",)
    head = ("label", "source", "present, not called absent", "absent, not called present",
            "uncertain", "ends chosen by")  # fmt: skip
    return ("Parts of patients, source by source.", "", *table(head, rows))


def _background(background: Sequence[BackgroundFigures]) -> Lines:
    rows = [
        (row.label, row.source, str(row.films), with_interval(row.flagged, row.flagged_interval, 2))
        for row in background
    ]
    return (
        "Flagged among films of hospitals where nobody looked for it (some of them may have it):",
        "",
        *table(("label", "source", "films", "flagged"), rows),
    )


def outlines(found: Sequence[OutlineFigures]) -> Lines:
    """Return how well lungs and heart are outlined."""
    if not found:
        return ("Not measured.",)
    rows = [
        (
            row.structure, row.source, str(row.pictures), with_interval(row.mean, row.interval),
            number(row.median), number(row.lowest_tenth),
        )
        for row in found
    ]  # fmt: skip
    head = ("structure", "source", "films", "Dice, mean", "median", "lowest tenth")
    return (
        "Dice's coefficient against a person's outline, at the outline's own size.",
        "",
        *table(head, rows),
    )


def ratios(found: Sequence[RatioFigures]) -> Lines:
    """Return how well the cardiothoracic ratio is measured, and what it tells by itself."""
    if not found:
        return ()
    rows = [
        (
            row.source, str(row.measured),
            ", ".join(f"{count} {code}" for code, count in row.not_measured.items()) or "none",
            str(row.known), with_interval(row.mean_absolute_error, row.error_interval),
            number(row.mean_error), f"{row.positives} of {row.judged}",
            with_interval(row.auroc, row.auroc_interval),
        )
        for row in found
    ]  # fmt: skip
    head = ("source", "measured", "not measured", "known", "mean absolute error", "mean error",
            "Cardiomegaly", "AUROC of the ratio")  # fmt: skip
    return (
        "",
        "Cardiothoracic ratio: against a person's where one is known, and by itself as a score for "
        "the label Cardiomegaly.",
        "",
        *table(head, rows),
    )


def gate(found: Sequence[GateFigures]) -> Lines:
    """Return what the gate refused, put right and let pass."""
    if not found:
        return ("Not measured.",)
    rows = [
        (
            row.group, row.kind, str(row.pictures), str(row.passed), str(row.put_right),
            ", ".join(f"{count} {code}" for code, count in row.refused.items()) or "none",
            "–" if row.noted_mirrored is None else str(row.noted_mirrored),
            "–" if row.noted_anteroposterior is None else str(row.noted_anteroposterior),
        )
        for row in found
    ]  # fmt: skip
    head = ("shown", "kind", "pictures", "passed as it is", "put right", "refused",
            "said to be mirrored", "said to look AP")  # fmt: skip
    return table(head, rows)
