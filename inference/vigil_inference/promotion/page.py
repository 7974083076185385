"""A comparison as a page of its own, which needs no network and runs no script, and as text."""

import html
from collections.abc import Iterable, Iterator, Sequence

from vigil.triage import Priority
from vigil_inference.promotion.comparison_views import (
    ComparedBundle,
    FindingComparison,
    Latency,
    ModelComparison,
    StudyMoves,
)
from vigil_inference.promotion.plots import quantile_plot, scatter
from vigil_inference.reading.statistics import Figure

_STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { margin: 0 auto; max-width: 64rem; padding: 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.2rem; margin-top: 2.5rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: .75rem 0; }
th, td { border-bottom: 1px solid #8886; padding: .3rem .9rem .3rem 0; text-align: left; }
td.n { text-align: right; white-space: nowrap; }
.wide { overflow-x: auto; } .quiet { opacity: .75; } .notice { font-weight: 600; }
.plots { display: flex; flex-wrap: wrap; gap: 1.5rem; }
figure { margin: 0; max-width: 100%; } svg { max-width: 100%; height: auto; }
figcaption { font-size: .9rem; } code { overflow-wrap: anywhere; }
details li { font-family: ui-monospace, monospace; font-size: .85rem; overflow-wrap: anywhere; }
"""
_SHORT = 12


def comparison_page(found: ModelComparison) -> str:
    """Return the page: HTML, with drawings and no script."""
    return "\n".join(_page(found)) + "\n"


def comparison_text(found: ModelComparison) -> str:
    """Return the same in a few lines, for a terminal."""
    return "\n".join(_text(found))


def _page(found: ModelComparison) -> Iterator[str]:
    title = f"{found.candidate.bundle_id} beside {found.reference.bundle_id}"
    yield "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
    yield "<meta name='viewport' content='width=device-width, initial-scale=1'>"
    yield f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head><body>"
    yield f"<h1>{html.escape(title)}</h1><p class='notice'>{html.escape(found.notice)}.</p>"
    yield _table(
        ("", "bundle", "digest", "stage", "site calibration"),
        [_bundle("reference", found.reference), _bundle("candidate", found.candidate)],
    )
    yield (
        f"<p>{found.pictures} pictures of {found.patients} patients were read by both; of "
        f"{found.candidate_served} the candidate's answer was shown. {found.dropped} were passed "
        f"over in shadow. Made {found.generated_at:%Y-%m-%d %H:%M} UTC.</p>"
    )
    yield "<ul>" + "".join(f"<li>{html.escape(one)}</li>" for one in found.caveats) + "</ul>"
    if not found.pictures:
        yield "<p>No picture was read by both yet.</p></body></html>"
        return
    yield "<h2>Priorities</h2>"
    yield from _priorities(found)
    yield from _moves("Studies that the candidate puts higher", found.raised)
    yield from _moves("Studies that the candidate puts lower", found.no_longer_raised)
    for finding in found.findings:
        yield from _finding(finding)
    yield "<h2>Refusals</h2>"
    yield f"<p>{found.refused_by_one} pictures are refused by one and analysed by the other.</p>"
    if found.refusals:
        rows = [(one.code, one.reference, one.candidate) for one in found.refusals]
        yield _table(("code", "reference", "candidate"), rows)
    yield "<h2>Milliseconds a picture</h2>"
    yield (
        "<p class='quiet'>In shadow a bundle has one thread and the lowest priority: compare those "
        "that served, or those in shadow, not one with the other.</p>"
    )
    yield _table(
        ("", "", "pictures", "median", "95 %"),
        [
            *_latency("reference", found.reference_milliseconds),
            *_latency("candidate", found.candidate_milliseconds),
        ],
    )
    yield from _drift(found)
    yield "</body></html>"


def _bundle(name: str, one: ComparedBundle) -> tuple[str, ...]:
    digest = one.bundle_digest[:_SHORT]
    return name, one.bundle_id, digest, one.stage.value, one.site_calibration or "none"


def _priorities(found: ModelComparison) -> Iterator[str]:
    counts = {(cell.reference, cell.candidate): cell.pictures for cell in found.priorities}
    names = [priority.value.replace("_", " ").lower() for priority in Priority]
    rows = [
        (name, *(counts.get((one, other), 0) for other in Priority))
        for name, one in zip(names, Priority, strict=True)
    ]
    yield "<p class='quiet'>Pictures; lines are the reference's priority.</p>"
    yield _table(("reference / candidate", *names), rows)


def _moves(title: str, moves: StudyMoves) -> Iterator[str]:
    yield f"<details><summary>{title}: {moves.studies}</summary><ul>"
    yield "".join(f"<li>{html.escape(uid)}</li>" for uid in moves.study_instance_uids)
    yield "</ul>"
    if moves.studies > len(moves.study_instance_uids):
        yield f"<p class='quiet'>The newest {len(moves.study_instance_uids)} are listed.</p>"
    yield "</details>"


def _finding(one: FindingComparison) -> Iterator[str]:
    yield f"<h2>{html.escape(one.key.replace('_', ' '))}</h2>"
    agreed = one.agreement
    yield (
        f"<p>{agreed.pictures} pictures of {agreed.patients} patients. Same flag: "
        f"{_percent(agreed.overall)}; kappa {_number(agreed.kappa)}; only the reference flags "
        f"{agreed.table.first_only}, only the candidate {agreed.table.second_only}. Greatest gap "
        f"of the scores' distributions: {one.distance:.2f}.</p>"
    )
    yield _table(
        ("bundle", "at the threshold of", "flags", "share (95 %)"),
        [(use.bundle, use.threshold_of, use.flagged, _percent(use.share)) for use in one.uses],
    )
    if one.readings is not None:
        told = one.readings
        yield (
            f"<p>Against {told.pictures} signed readings ({told.present} present; in "
            f"{told.saw_the_model} the reader saw the serving bundle's answer):</p>"
        )
        yield _table(
            ("", "sensitivity", "specificity"),
            [
                (
                    "reference",
                    _percent(told.reference_sensitivity),
                    _percent(told.reference_specificity),
                ),
                (
                    "candidate",
                    _percent(told.candidate_sensitivity),
                    _percent(told.candidate_specificity),
                ),
            ],
        )
    thresholds = one.reference_threshold, one.candidate_threshold
    yield "<div class='plots'>"
    yield _figure(scatter(one.points, thresholds), "One dot a picture; lines are the thresholds.")
    yield _figure(
        quantile_plot(one.quantiles),
        "Quantile against quantile: on the diagonal both say high scores equally often.",
    )
    yield "</div>"


def _figure(drawing: str, caption: str) -> str:
    return f"<figure>{drawing}<figcaption>{caption}</figcaption></figure>"


def _latency(
    name: str, told: tuple[Latency, Latency] | None
) -> Iterator[tuple[str, str, int, str, str]]:
    for what, one in zip(("served", "in shadow"), told or (), strict=False):
        if one.pictures:
            yield name, what, one.pictures, f"{one.median:.0f}", f"{one.percentile_95:.0f}"


def _drift(found: ModelComparison) -> Iterator[str]:
    if not found.drift or found.drift_since is None:
        return
    yield f"<h2>Since {html.escape(found.drift_of)} serves</h2>"
    yield (
        f"<p class='quiet'>Its first week since {found.drift_since:%Y-%m-%d %H:%M} UTC, and the "
        "last seven days: the shares flagged, and the greatest gap of the scores beside one that "
        "chance exceeds once in twenty. A gap beyond it says that the pictures or the machine that "
        "makes them changed; the more findings are compared, the sooner one is beyond it by "
        "chance. Pictures of one patient are not told apart here.</p>"
    )
    yield _table(
        ("finding", "pictures", "first week flagged", "last week flagged", "gap", "by chance"),
        [
            (
                one.key.replace("_", " "),
                f"{one.first_pictures}, {one.last_pictures}",
                _percent(one.first_flagged),
                _percent(one.last_flagged),
                "too few" if one.distance is None else f"{one.distance:.2f}",
                "" if one.by_chance is None else f"{one.by_chance:.2f}",
            )
            for one in found.drift
        ],
    )


def _text(found: ModelComparison) -> Iterator[str]:
    yield (
        f"{found.candidate.bundle_id} {found.candidate.bundle_digest[:_SHORT]} "
        f"({found.candidate.stage}) beside {found.reference.bundle_id} "
        f"{found.reference.bundle_digest[:_SHORT]} ({found.reference.stage})"
    )
    yield f"{found.pictures} pictures of {found.patients} patients, {found.dropped} passed over"
    for one in found.findings:
        shares = {(use.bundle, use.threshold_of): _percent(use.share) for use in one.uses}
        yield f"\n{one.key}, {one.agreement.pictures} pictures"
        yield f"  reference flags           {shares['reference', 'reference']}"
        yield f"  candidate flags           {shares['candidate', 'candidate']}"
        yield f"  at the other's threshold  {shares['candidate', 'reference']}"
        agreed = one.agreement
        same = f"{_percent(agreed.overall)}, kappa {_number(agreed.kappa)}"
        yield f"  same flag                 {same}"
        if (told := one.readings) is not None:
            yield (
                f"  {told.pictures} readings: sensitivity {_percent(told.reference_sensitivity)}, "
                f"candidate {_percent(told.candidate_sensitivity)}; specificity "
                f"{_percent(told.reference_specificity)}, candidate "
                f"{_percent(told.candidate_specificity)}"
            )
    yield (
        f"\nstudies that the candidate puts higher: {found.raised.studies}, lower: "
        f"{found.no_longer_raised.studies}; refused by one only: {found.refused_by_one} pictures"
    )
    yield from found.caveats
    yield f"{found.notice}."


def _percent(figure: Figure | None) -> str:
    if figure is None:
        return "–"
    return f"{figure.value:.0%} ({figure.low:.0%} to {figure.high:.0%})"


def _number(figure: Figure | None) -> str:
    return "–" if figure is None else f"{figure.value:.2f} ({figure.low:.2f} to {figure.high:.2f})"


def _table(names: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    head = "".join(f"<th>{html.escape(name)}</th>" for name in names)
    body = "".join("<tr>" + "".join(_cell(cell) for cell in row) + "</tr>" for row in rows)
    return f"<div class='wide'><table><tr>{head}</tr>{body}</table></div>"


def _cell(value: object) -> str:
    kind = " class='n'" if isinstance(value, int) else ""
    return f"<td{kind}>{html.escape(str(value))}</td>"
