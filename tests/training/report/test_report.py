"""The whole report from real answers of a bundle that knows phantoms."""

import csv
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from vigil.errors import ConfigurationError, ManifestError
from vigil_training.cli import register
from vigil_training.report.checklists import checklists
from vigil_training.report.contents import ComparedArea
from vigil_training.report.diagrams import differences
from vigil_training.report.page import SECTIONS

_VOID = {"meta", "img", "line", "polyline", "polygon", "rect", "br"}


class _Page(HTMLParser):
    """Counts what a page holds, and that every element is closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def all(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag == name]


@pytest.fixture
def app() -> typer.Typer:
    application = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)
    register(application)
    return application


def _records(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def wide_manifest(phantom_manifest: Path) -> Path:
    """The phantoms as of two sources, men and women, a title that must be escaped."""
    rows = _records(phantom_manifest)
    path = phantom_manifest.parent / "wide.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        for number, row in enumerate(rows):
            scope = "Effusion|Mass"
            source = "<b>small</b>" if number >= 22 else "phantom"
            writer.writerow({**row, "source": source, "label_scope": scope})
    return path


def _run(app: typer.Typer, *arguments: str | Path) -> str:
    result = CliRunner().invoke(app, ["evaluate", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def test_the_report_is_one_page_that_needs_nothing_else_and_says_what_the_json_says(
    app: typer.Typer, stand_in_bundle: Path, wide_manifest: Path, tmp_path: Path
) -> None:
    page, figures = tmp_path / "out" / "report.html", tmp_path / "out" / "report.json"
    said = _run(
        app, "--bundle", stand_in_bundle, "--manifest", wide_manifest, "--samples", "100",
        "--report", page, "--json", figures, "--scores", tmp_path / "scores.csv",
        "--against", stand_in_bundle, "--drift-from", wide_manifest,
    )  # fmt: skip
    assert "judging" in said
    text = page.read_text(encoding="utf-8")
    found = json.loads(figures.read_text(encoding="utf-8"))
    assert found["schema_version"] == "vigil-evaluation-report/1"
    assert str(tmp_path) not in figures.read_text(encoding="utf-8") + text
    parsed = _Page(text)
    assert {entry.anchor for entry in SECTIONS} <= {a.get("id") for a in parsed.all("h2")}
    assert parsed.all("script") == []
    assert not re.search(r"(src|href)=.(https?:)?//", text)
    assert all(str(image["src"]).startswith("data:image/jpeg") for image in parsed.all("img"))
    assert all(image["alt"] for image in parsed.all("img"))
    assert all(svg["aria-label"] and svg["role"] == "img" for svg in parsed.all("svg"))
    assert all(cell["scope"] in ("row", "col") for cell in parsed.all("th"))
    anchors = {a.get("id") for _, a in parsed.tags}
    assert all(str(a["href"])[1:] in anchors for a in parsed.all("a"))
    assert "Research use only, not a medical device" in text
    assert "<b>small</b>" not in text
    assert "&lt;b&gt;small&lt;/b&gt;" in text

    (row,) = [r for r in found["results"] if r["source"] == "phantom"]
    assert f"{row['auroc']:.3f}" in text
    assert row["keys"] == ["Effusion"]
    assert {failure["key"] for failure in found["failures"]} <= {"Effusion"}
    assert found["libraries"].keys() >= {"onnxruntime", "numpy"}
    assert found["digest"] in text
    (curves,) = found["curves"]
    flag = curves["thresholds"][0]
    assert flag["true_positives"] / row["positives"] == pytest.approx(row["sensitivity"])
    assert sum(curves["histogram_positive"]) == row["positives"]
    (compared,) = [a for a in found["against"]["areas"] if a["source"] == "phantom"]
    assert (compared["difference"], compared["p"]) == (0, None)
    assert [f["has_map"] for f in found["failures"]] == [bool(f) for f in found["failures"]]


def test_only_differences_that_stay_after_the_correction_stand_out() -> None:
    told = {"source": "nih", "n": 200, "positives": 40, "patients": 150, "first": 0.8,
            "second": 0.85, "p": 0.02, "withheld": ""}  # fmt: skip
    areas = [
        ComparedArea(
            label="Edema", difference=0.05, interval=(0.01, 0.09), p_corrected=0.04, **told
        ),
        ComparedArea(
            label="Mass", difference=-0.03, interval=(-0.1, 0.04), p_corrected=0.3, **told
        ),
    ]
    drawn = str(differences(areas))
    ends = re.findall(
        r'<polyline class="line whisker (s\d)" points="([\d.]+),[\d.]+ ([\d.]+),', drawn
    )
    none = float(re.findall(r'<polyline class="line guide" points="([\d.]+),', drawn)[0])
    # Drawn from below: Mass first, across the line of no difference; Edema right of it.
    assert [style for style, _, _ in ends] == ["s0", "s1"]
    assert float(ends[0][1]) < none < float(ends[0][2])
    assert none < float(ends[1][1])
    assert "Mass, nih -0.030 (-0.100 to 0.040)" in drawn


def test_a_small_site_and_a_label_that_nobody_knows_are_cautions_with_rows(
    app: typer.Typer, stand_in_bundle: Path, wide_manifest: Path, tmp_path: Path
) -> None:
    figures = tmp_path / "report.json"
    _run(app, "--bundle", stand_in_bundle, "--manifest", wide_manifest, "--samples", "20",
         "--json", figures)  # fmt: skip
    found = json.loads(figures.read_text(encoding="utf-8"))
    cautions = {one["what"]: one for one in found["cautions"]}
    small = cautions["<b>small</b>: only 2 patients"]
    assert (small["count"], small["rows"]) == (2, ["row 24 (22)", "row 25 (23)"])
    strange = cautions["the label Mass is in scope, but the bundle has no finding for it"]
    assert strange["count"] == 24
    (hidden,) = [row for row in found["withheld"] if row["source"] == "<b>small</b>"]
    assert "1 patient with it and 1 patient without it" in hidden["reason"]
    (row,) = [r for r in found["results"] if r["source"] == "<b>small</b>"]
    assert (row["auroc"], row["sensitivity"], row["n"]) == (None, None, 2)
    assert found["not_measured"] == ["Cardiomegaly"]
    parts = {(w["group"], w["part"]) for w in found["withheld"] if w["source"] == "phantom"}
    assert parts == {("age", "40 to 59"), ("sex", "F"), ("view", "PA")}


def test_one_class_and_a_broken_picture_are_cautions_and_no_picture_is_shown_if_asked(
    app: typer.Typer, stand_in_bundle: Path, phantom_manifest: Path, tmp_path: Path
) -> None:
    rows = _records(phantom_manifest)[1::2]
    broken = phantom_manifest.parent / "broken.png"
    broken.write_bytes(b"no picture")
    path = phantom_manifest.parent / "sick.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows([*rows, {**rows[0], "path": "broken.png", "patient_id": "x"}])
    page, figures = tmp_path / "report.html", tmp_path / "report.json"
    _run(app, "--bundle", stand_in_bundle, "--manifest", path, "--samples", "20",
         "--report", page, "--json", figures, "--no-pictures")  # fmt: skip
    cautions = json.loads(figures.read_text(encoding="utf-8"))["cautions"]
    assert any(c["what"] == "Effusion, phantom: every film has it" for c in cautions)
    (unread,) = [c for c in cautions if "cannot be read or are broken" in c["what"]]
    assert unread["rows"] == ["row 14 (1)"]
    assert "mend or fetch" in unread["advice"]
    text = page.read_text(encoding="utf-8")
    assert "<img" not in text
    assert "pictures of patients" not in text


def test_against_and_drift_without_a_report_are_refused(
    app: typer.Typer, stand_in_bundle: Path, phantom_manifest: Path
) -> None:
    with pytest.raises(ConfigurationError, match="told in the report only"):
        _run(app, "--bundle", stand_in_bundle, "--manifest", phantom_manifest, "--samples", "0",
             "--against", stand_in_bundle)  # fmt: skip


def test_every_item_of_both_guidelines_stands_once_and_points_to_a_section() -> None:
    claim, tripod = checklists(frozenset({"external", "failures", "others", "maps"}))
    assert [item.number for item in claim.items] == [str(n) for n in range(1, 45)]
    assert len(tripod.items) == len({item.number for item in tripod.items}) == 52
    anchors = {entry.anchor for entry in SECTIONS}
    for item in (*claim.items, *tripod.items):
        assert (item.where in anchors) is (item.answer != "not here")
        assert item.note or item.answer == "here"
    # In the first edition of CLAIM 42 items were numbered; one of them is no more.
    before = [item.number if item.earlier is None else item.earlier for item in claim.items]
    assert sorted(filter(None, before), key=int) == [str(n) for n in range(1, 43) if n != 11]
    assert [item.number for item in claim.items if item.earlier == ""] == ["13", "32", "43"]
    assert all(item.earlier is None for item in tripod.items)
    without = checklists(frozenset())[0].items[32]
    assert (without.answer, without.where) == ("not here", "")
    assert "was evaluated: add one" in without.note


def test_a_probability_that_is_no_number_is_refused_with_its_row(
    monkeypatch: pytest.MonkeyPatch, stand_in_bundle: Path, phantom_manifest: Path
) -> None:
    from vigil_training.evaluate import judge, measure
    from vigil_training.merits import Answer

    judged = judge(stand_in_bundle, phantom_manifest, limit=3)
    broken = [a._replace(probabilities={**a.probabilities, "Effusion": float("nan")})
              for a in judged.answers]  # fmt: skip
    assert isinstance(broken[0], Answer)
    object.__setattr__(judged, "answers", tuple(broken))
    with pytest.raises(ManifestError, match="the probability of Effusion of row 2 is no number"):
        measure(judged, 0)
