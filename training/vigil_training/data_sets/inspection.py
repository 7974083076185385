"""What is in a manifest, as one page with pictures that needs no network.

Counts, ages, sexes, views and splits a source, labels with what is unknown, examples, pictures
that are the same film, patients on two sides, and films with lettering in a corner.
"""

import html
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vigil import RESEARCH_USE, __version__
from vigil.findings import LABELS, NO_FINDING
from vigil_training.data_sets.check import Checked, check
from vigil_training.data_sets.near_copies import Looks, copies, look_at_all
from vigil_training.drawing import new_figure, png_address, thumbnail, write_page_text
from vigil_training.figures import Figures
from vigil_training.manifest import ManifestRow

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_EXAMPLES = 6
_COPIES_SHOWN = 8
_TEXT_SHOWN = 3
_THUMBNAIL = 176
_LETTERING = 0.004
"""From this part of a corner with hard edges on a film counts as lettered."""
_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem;color:#222}
h1{font-size:1.6rem}h2{margin-top:2.2rem;font-size:1.2rem;border-bottom:1px solid #ddd}
table{border-collapse:collapse;margin:.6rem 0}td,th{padding:.2rem .7rem;text-align:right}
td:first-child,th:first-child,.left{text-align:left}.left{white-space:nowrap}tr:nth-child(even){background:#f6f6f6}
figure{display:inline-block;margin:.3rem;width:176px;vertical-align:top}
figcaption{font-size:12px;color:#555;overflow-wrap:anywhere}img{max-width:100%}
.leak,.warning{padding-left:.7rem;border-left:4px solid #c77700}.leak{border-color:#a00}
.leak strong{color:#a00}.note{color:#666}@media print{figure{break-inside:avoid}}
"""


class SourceSummary(Figures):
    """One source's films."""

    source: str
    films: int
    patients: int
    films_a_patient: float
    views: dict[str, int]
    sexes: dict[str, int]
    splits: dict[str, int]
    median_age: float | None
    unknown_age: int
    under_15: int
    lettered: int | None
    """Films with lettering in a corner; None if no picture was read."""


class LabelSummary(Figures):
    """One label in one source."""

    label: str
    source: str
    positive: int
    negative: int
    unknown: int
    positive_patients: int


class Inspection(Figures):
    """What ``vigil data inspect --json`` writes."""

    manifest: str
    films: int
    patients: int
    sources: tuple[SourceSummary, ...]
    labels: tuple[LabelSummary, ...]
    copies: int | None
    """Pairs of pictures that are the same film; None if no picture was read."""
    broken: int | None
    checked: Checked
    notice: str


@dataclass(frozen=True, eq=False)
class Inspected:
    """The figures, and what the page shows beside them."""

    figures: Inspection
    rows: tuple[ManifestRow, ...]
    looks: Looks | None


def inspect(
    path: Path,
    rows: Sequence[ManifestRow],
    *,
    split_seed: int = 0,
    validation_fraction: float = 0.2,
    pictures: bool = True,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Inspected:
    """Count what is in a manifest.

    Parameters
    ----------
    path, rows
        The manifest's file and its rows.
    split_seed, validation_fraction
        As in :func:`vigil_training.data_sets.check.check`.
    pictures
        Whether the pictures are read, for copies and lettering.
    progress
        Called with the pictures read and their total.
    """
    looks = look_at_all([row.path for row in rows], progress) if pictures else None
    checked = check(
        [(path, rows)],
        split_seed=split_seed,
        validation_fraction=validation_fraction,
        pictures=False,
    )
    sources = sorted({row.source for row in rows})
    found = Inspection(
        manifest=path.name,
        films=len(rows),
        patients=len({(row.source, row.patient_id) for row in rows}),
        sources=tuple(_source(source, rows, looks) for source in sources),
        labels=tuple(_labels(rows, sources)),
        copies=None if looks is None else len(copies(looks)),
        broken=None if looks is None else len(looks.broken),
        checked=checked,
        notice=RESEARCH_USE,
    )
    return Inspected(found, tuple(rows), looks)


def _source(source: str, rows: Sequence[ManifestRow], looks: Looks | None) -> SourceSummary:
    places = [place for place, row in enumerate(rows) if row.source == source]
    own = [rows[place] for place in places]
    ages = [row.age_years for row in own if row.age_years is not None]
    patients = len({row.patient_id for row in own})
    lettered = None
    if looks is not None:
        lettered = sum(_is_lettered(looks, place) for place in places)
    return SourceSummary(
        source=source,
        films=len(own),
        patients=patients,
        films_a_patient=round(len(own) / patients, 2),
        views=dict(sorted(Counter(row.view for row in own).items())),
        sexes=dict(sorted(Counter(row.sex or "unknown" for row in own).items())),
        splits=dict(sorted(Counter(row.split or "open" for row in own).items())),
        median_age=float(np.median(ages)) if ages else None,
        unknown_age=len(own) - len(ages),
        under_15=sum(age < 15 for age in ages),
        lettered=lettered,
    )


def _is_lettered(looks: Looks, place: int) -> bool:
    return place in looks.found and max(looks.found[place].corners) >= _LETTERING


def _labels(rows: Sequence[ManifestRow], sources: Sequence[str]) -> Iterator[LabelSummary]:
    used = {label for row in rows for label in row.label_scope}
    # What the networks do not learn is known of some films all the same.
    others = sorted(used - {*LABELS, NO_FINDING})
    for label in (*(one for one in LABELS if one in used), *others, NO_FINDING):
        for source in sources:
            own = [row for row in rows if row.source == source]
            known = [row for row in own if label in row.label_scope]
            positive = [row for row in known if label in row.labels]
            if known:
                yield LabelSummary(
                    label=label,
                    source=source,
                    positive=len(positive),
                    negative=len(known) - len(positive),
                    unknown=len(own) - len(known),
                    positive_patients=len({row.patient_id for row in positive}),
                )


def write_page(inspected: Inspected, to: Path) -> None:
    """Write the page; pictures and plots are in it.

    Raises
    ------
    ConfigurationError
        If matplotlib is not installed or the file cannot be written.
    """
    write_page_text(to, "\n".join(_page(inspected)))


def _page(inspected: Inspected) -> Iterator[str]:
    figures = inspected.figures
    title = html.escape(f"What is in {figures.manifest}")
    yield f"<!doctype html><html lang='en'><meta charset='utf-8'><title>{title}</title>"
    yield f"<style>{_STYLE}</style><h1>{title}</h1>"
    yield (
        f"<p>{figures.films:,} films of {figures.patients:,} patients, "
        f"{len(figures.sources)} sources. Vigil {__version__}. {RESEARCH_USE}.</p>"
    )
    yield "<h2>Sources</h2>"
    yield _table(
        ("source", "films", "patients", "films a patient", "median age", "age unknown",
         "under 15", "views", "splits", "lettered"),
        [
            (
                one.source, one.films, one.patients, one.films_a_patient,
                "–" if one.median_age is None else f"{one.median_age:.0f}", one.unknown_age,
                one.under_15, _counted(one.views), _counted(one.splits),
                "–" if one.lettered is None else one.lettered,
            )
            for one in figures.sources
        ],
    )  # fmt: skip
    yield f"<p><img alt='ages and views' src='{png_address(overview(inspected))}'></p>"
    yield "<h2>Labels</h2><p class='note'>Unknown is not negative: nobody looked for it.</p>"
    yield _table(
        ("label", "source", "positive", "negative", "unknown", "patients with it"),
        [
            (one.label, one.source, one.positive, one.negative, one.unknown, one.positive_patients)
            for one in figures.labels
        ],
    )
    yield from _found(figures.checked)
    if inspected.looks is not None:
        yield from _same_films(inspected)
        yield from _lettered(inspected)
    yield from _examples(inspected)


def _found(checked: Checked) -> Iterator[str]:
    yield "<h2>Leaks and warnings</h2>"
    if not checked.findings:
        yield "<p>None without looking at the pictures.</p>"
    for finding in checked.findings:
        mark, kind = ("leak", "Leak") if finding.leak else ("warning", "Warning")
        more = finding.count - len(finding.rows)
        where = "; ".join(finding.rows) + (f" and {more:,} more" if more else "")
        yield (
            f"<p class='{mark}'><strong>{kind}: {html.escape(finding.what)}.</strong><br>"
            f"{html.escape(finding.advice[:1].upper() + finding.advice[1:])}.<br>"
            f"<span class='note'>{html.escape(where)}</span></p>"
        )


def _same_films(inspected: Inspected) -> Iterator[str]:
    looks = inspected.looks
    assert looks is not None
    pairs = copies(looks)
    yield (
        f"<h2>The same film twice</h2><p>Pairs of pictures that are the same film: {len(pairs)}. "
        "A crop of 4 % or more is not found.</p>"
    )
    for pair in pairs[:_COPIES_SHOWN]:
        for place in pair[:2]:
            yield _figure(inspected.rows[place], f"alike {pair.correlation:.2f}")
    if looks.broken:
        yield f"<p>Pictures that cannot be read: {len(looks.broken)}.</p>"


def _lettered(inspected: Inspected) -> Iterator[str]:
    looks = inspected.looks
    assert looks is not None
    places = [place for place in looks.found if _is_lettered(looks, place)]
    yield (
        f"<h2>Lettering</h2><p>{len(places):,} of {len(looks.found):,} films have hard edges in a "
        "corner, as burnt-in text and markers have. A marker that one hospital uses gives the "
        "hospital away.</p>"
    )
    chosen: list[int] = []
    for source in sorted({row.source for row in inspected.rows}):
        own = [place for place in places if inspected.rows[place].source == source]
        chosen += sorted(own, key=lambda place: -max(looks.found[place].corners))[:_TEXT_SHOWN]
    for place in chosen:
        yield _figure(inspected.rows[place], f"{max(looks.found[place].corners):.1%} of a corner")


def _examples(inspected: Inspected) -> Iterator[str]:
    yield "<h2>Examples</h2>"
    by_label: dict[str, list[ManifestRow]] = defaultdict(list)
    for row in inspected.rows:
        for label in sorted(row.labels):
            by_label[label].append(row)
    for label in [one for one in (*LABELS, NO_FINDING) if by_label[one]]:
        yield f"<h3>{html.escape(label.replace('_', ' '))}</h3>"
        for row in _spread(by_label[label]):
            yield _figure(row, "|".join(sorted(row.labels)))


def _spread(rows: list[ManifestRow]) -> list[ManifestRow]:
    """Return some rows, each source at least once."""
    chosen: list[ManifestRow] = []
    for source in sorted({row.source for row in rows}):
        chosen += [row for row in rows if row.source == source][:2]
    return chosen[:_EXAMPLES]


_WORDS = frozenset({"source", "views", "splits"})
"""Columns that hold no numbers."""


def _table(names: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    styles = [" class='left'" if name in _WORDS else "" for name in names]
    head = "".join(
        f"<th{style}>{html.escape(name)}</th>" for style, name in zip(styles, names, strict=True)
    )
    body = "".join(
        "<tr>"
        + "".join(
            f"<td{style}>{html.escape(str(cell))}</td>"
            for style, cell in zip(styles, row, strict=True)
        )
        + "</tr>"
        for row in rows
    )
    return f"<table><tr>{head}</tr>{body}</table>"


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())


def _figure(row: ManifestRow, caption: str) -> str:
    said = " · ".join(
        filter(None, (row.source, row.view, "" if row.age_years is None else f"{row.age_years:g}y"))
    )
    image = thumbnail(row.path, _THUMBNAIL)
    shown = f"<img alt='' src='{image}'>" if image else "<p>cannot be read</p>"
    text = html.escape(f"{caption} — {said} — {row.image_id}")
    return f"<figure>{shown}<figcaption>{text}</figcaption></figure>"


def overview(inspected: Inspected) -> "Figure":
    """Return a picture of ages and labels a source.

    Raises
    ------
    ConfigurationError
        If matplotlib is not installed.
    """
    made = new_figure(11, 7.5)
    grid = made.add_gridspec(2, 1, height_ratios=(1, 1.4))
    ages, labels = made.add_subplot(grid[0]), made.add_subplot(grid[1])
    sources = [one.source for one in inspected.figures.sources]
    colours = {source: f"C{place}" for place, source in enumerate(sources)}
    known = {
        source: [
            r.age_years for r in inspected.rows if r.source == source and r.age_years is not None
        ]
        for source in sources
    }
    aged = [source for source in sources if known[source]]
    films = sum(map(len, known.values()))
    title = f"ages, known of {films:,} of {len(inspected.rows):,} films"
    ages.set(xlabel="age in years", ylabel="films", title=title)
    if aged:
        ages.hist(
            [known[source] for source in aged], bins=list(range(0, 101, 5)), stacked=True,
            label=aged, color=[colours[source] for source in aged],
        )  # fmt: skip
        ages.legend(fontsize="small")
    names = list(dict.fromkeys(one.label for one in inspected.figures.labels))
    at = np.arange(len(names))
    for source in sources:
        counts = {
            one.label: one.positive for one in inspected.figures.labels if one.source == source
        }
        shown = [place for place, name in enumerate(names) if counts.get(name)]
        values = [counts[names[place]] for place in shown]
        labels.plot(shown, values, "o", color=colours[source], label=source)
    labels.set_xticks(at, [name.replace("_", " ") for name in names], rotation=40, ha="right")
    labels.set(ylabel="films with it", title="labels, a point a source", yscale="log")
    labels.grid(axis="y", color="0.92")
    labels.legend(fontsize="small", loc="center left", bbox_to_anchor=(1.0, 0.5))
    return made
