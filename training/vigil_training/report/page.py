"""The report as one HTML file without scripts or network, for screen, paper and screen reader."""

from jinja2 import Environment, PackageLoader, StrictUndefined

from vigil_training.card_tables import number, with_interval
from vigil_training.figures import Figures, Measure, Merits
from vigil_training.report.build import Made
from vigil_training.report.diagrams import differences, forest, free_response_plot, plots_of


class Entry(Figures):
    """A section's anchor and heading."""

    anchor: str
    title: str


SECTIONS = tuple(
    Entry(anchor=anchor, title=title)
    for anchor, title in (
        ("cautions", "Read this first"),
        ("about", "What was measured"),
        ("model", "The model"),
        ("data", "The films"),
        ("findings", "Each finding, each source"),
        ("external", "Sites that were not learnt from"),
        ("subgroups", "Sex, age and view"),
        ("withheld", "What is withheld"),
        ("thresholds", "Sensitivity and specificity at thresholds"),
        ("curves", "Curves"),
        ("boxes", "Maps against boxes"),
        ("against", "Against another bundle"),
        ("drift", "Drift between two manifests"),
        ("failures", "Failures"),
        ("methods", "How it was computed"),
        ("limits", "What it does not say"),
        ("checklists", "Reporting guidelines"),
    )
)


def render(made: Made) -> str:
    """Return the page's text."""
    report = made.report
    environment = Environment(
        loader=PackageLoader("vigil_training.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": number,
        "percent": _percent,
        "figure": _figure,
        "bounded": with_interval,
        "plain": lambda label: label.replace("_", " "),
        "counted": lambda counts: ", ".join(f"{k} {v}" for k, v in counts.items()) or "none",
        "p": _p,
    }
    drawn = [row for row in report.results if row.auroc is not None]
    compared = [one for one in report.against.areas if one.interval] if report.against else []
    by_pair = {(row.label, row.source): row for row in report.results}
    return environment.get_template("page.html.j2").render(
        report=report,
        sections=SECTIONS,
        titles={entry.anchor: entry.title for entry in SECTIONS},
        shown=made.shown,
        forest=forest(drawn) if drawn else "",
        differences=differences(compared) if compared else "",
        plots=[
            (by_pair[one.label, one.source], plots_of(by_pair[one.label, one.source], one))
            for one in report.curves
        ],
        boxes=[(row, None if row.withheld else free_response_plot(row))
               for row in report.free_response],
        foreign={source.source for source in report.sources if source.trained_on is False},
    )  # fmt: skip


def _figure(row: Merits, name: Measure, places: int = 2) -> str:
    value: float | None = getattr(row, name)
    return with_interval(value, row.intervals.get(name), places)


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"


def _p(value: float | None) -> str:
    if value is None:
        return "–"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
