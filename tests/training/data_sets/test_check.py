import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import typer
from tests.training.data_sets import trees
from typer.testing import CliRunner

from vigil.errors import ConfigurationError, ManifestError
from vigil.phantom import make_phantom
from vigil_training.cli import register
from vigil_training.data_sets.check import Checked, check
from vigil_training.data_sets.film import Film, Marks, write_films
from vigil_training.data_sets.inspection import inspect, write_page
from vigil_training.data_sets.near_copies import copies, corner_text, look_at_all
from vigil_training.manifest import ManifestRow, read_manifest

KNOWN = Marks(frozenset({"Effusion"}), frozenset({"Mass"}))
ABSENT = Marks(negative=frozenset({"Effusion", "Mass"}))


def _films(folder: Path, splits: str = "train train val test", source: str = "x") -> list[Film]:
    return [
        Film(
            trees.png(folder / f"{number}.png", number, (256, 256)), source, f"p{number}",
            str(number), KNOWN if number % 2 else ABSENT, "PA", 40.0 + number, "F",
            split="" if split == "open" else split,
        )
        for number, split in enumerate(splits.split())
    ]  # fmt: skip


def _check(folder: Path, films: list[Film], **options: object) -> Checked:
    path = folder / "manifest.csv"
    write_films(films, path)
    rows = read_manifest(path)
    return check([(path, rows)], split_seed=0, validation_fraction=0.3, **options)


def _said(found: Checked, *, leak: bool) -> str:
    return " | ".join(finding.what for finding in found.findings if finding.leak is leak)


def test_a_clean_manifest_passes(tmp_path: Path) -> None:
    found = _check(tmp_path, _films(tmp_path))
    assert found.leaks == 0
    assert found.sides == {"test": 1, "train": 2, "val": 1}


def test_a_copy_on_two_sides_is_a_leak_though_encoded_and_resized(tmp_path: Path) -> None:
    films = _films(tmp_path)
    picture = cv2.imread(str(films[0].path), cv2.IMREAD_GRAYSCALE)
    darker = (255 * (picture / 255.0) ** 1.3).astype(np.uint8)
    small = cv2.resize(darker, (180, 180), interpolation=cv2.INTER_AREA)
    films[2] = replace(films[2], path=films[2].path.with_suffix(".jpg"))
    cv2.imwrite(str(films[2].path), small, [cv2.IMWRITE_JPEG_QUALITY, 70])
    found = _check(tmp_path, films)
    assert "the same film on two sides: x train and x val" in _said(found, leak=True)
    assert found.leaks == 1
    (finding,) = (one for one in found.findings if one.leak)
    assert finding.rows == ("manifest.csv, row 2", "manifest.csv, row 4")
    assert _check(tmp_path, films, pictures=False).leaks == 0


def test_other_films_are_no_copies(tmp_path: Path) -> None:
    paths = [trees.png(tmp_path / f"{n}.png", n, (256, 256)) for n in range(12)]
    looks = look_at_all(paths)
    assert len(looks.found) == 12
    assert copies(looks) == []


def test_a_broken_picture_is_named_and_costs_no_other(tmp_path: Path) -> None:
    films = _films(tmp_path)
    films[1].path.write_bytes(b"no picture")
    found = _check(tmp_path, films)
    assert found.leaks == 0
    assert "pictures that cannot be read: 1 (FILE_UNREADABLE" in _said(found, leak=False)


def test_a_split_that_is_fixed_for_some_rows_only_is_a_leak(tmp_path: Path) -> None:
    found = _check(tmp_path, _films(tmp_path, "train open val open"), pictures=False)
    assert "x mixes a fixed split (train, val) with rows that would be drawn" in _said(
        found, leak=True
    )
    # A test part alone leaves the validation patients to be drawn, as NIH's lists do.
    assert _check(tmp_path, _films(tmp_path, "open open test"), pictures=False).leaks == 0


def test_official_splits_are_asked_for(tmp_path: Path) -> None:
    open_ = _check(tmp_path, _films(tmp_path, "open open", "nih"), pictures=False)
    assert "nih has an official split, which these rows do not carry" in _said(open_, leak=False)
    official = _check(tmp_path, _films(tmp_path, "open open test", "nih"), pictures=False)
    assert (official.leaks, _said(official, leak=False)) == (0, "")
    half = _check(tmp_path, _films(tmp_path, "open test", "chexpert"), pictures=False)
    assert "chexpert has an official validation part" in _said(half, leak=True)


@pytest.mark.parametrize("pair", [("nih", "rsna"), ("rsna", "siim"), ("tbx11k", "shenzhen")])
def test_sets_that_share_films_may_not_be_split_apart(
    tmp_path: Path, pair: tuple[str, str]
) -> None:
    films = _films(tmp_path, "train train val val")
    mixed = [replace(film, source=pair[n % 2]) for n, film in enumerate(films)]
    found = _check(tmp_path, mixed, pictures=False)
    assert f"{pair[0]} and {pair[1]} share films" in _said(found, leak=True)
    same_side = [replace(film, split="train") for film in mixed]
    assert _check(tmp_path, same_side, pictures=False).leaks == 0


def test_shenzhen_beside_montgomery_is_no_leak(tmp_path: Path) -> None:
    films = _films(tmp_path, "open open open open open open")
    mixed = [
        replace(film, source=("shenzhen", "montgomery")[n % 2]) for n, film in enumerate(films)
    ]
    assert _check(tmp_path, mixed, pictures=False).leaks == 0


def test_a_source_with_positives_only_is_warned_of(tmp_path: Path) -> None:
    films = [replace(film, marks=Marks(frozenset({"Mass"}))) for film in _films(tmp_path)]
    found = _check(tmp_path, films, pictures=False)
    assert "every film of x that is known for Mass has it" in _said(found, leak=False)


def test_a_patient_or_picture_in_two_manifests_and_on_two_sides_is_a_leak(tmp_path: Path) -> None:
    films = _films(tmp_path)
    one, other = tmp_path / "one.csv", tmp_path / "other.csv"
    write_films(films[:2], one)
    moved = replace(films[0], split="test")
    write_films([moved, films[3]], other)
    read = [(path, read_manifest(path)) for path in (one, other)]
    found = check(read, split_seed=0, validation_fraction=0.3, pictures=False)
    said = _said(found, leak=True)
    assert "patient p0 of x is on the sides test, train" in said
    assert "0.png is listed 2 times, on two sides" in said
    assert {row for finding in found.findings for row in finding.rows} >= {
        "one.csv, row 2", "other.csv, row 2",
    }  # fmt: skip


def _without_marker(seed: int) -> np.ndarray:
    """Return a phantom of (512, 400) whose marker, in the upper left corner, was painted over."""
    pixels = (make_phantom(seed, "normal", (512, 400)).pixels << 4).astype(np.uint16)
    pixels[:72, :120] = cv2.GaussianBlur(pixels[:72, :120], (0, 0), 12)
    return pixels


def _plain(folder: Path) -> Path:
    path = folder / "plain.png"
    cv2.imwrite(str(path), (_without_marker(1) >> 8).astype(np.uint8))
    return path


def test_lettering_in_a_corner_is_told_from_anatomy() -> None:
    for seed in range(6):
        marked = (make_phantom(seed, "normal", (512, 400)).pixels << 4).astype(np.uint16)
        assert corner_text(marked)[0] > 0.01  # phantoms carry a marker there
        assert max(corner_text(marked)[1:]) < 0.004
        plain = _without_marker(seed)
        assert max(corner_text(plain)) < 0.004
        grey = (plain >> 8).astype(np.uint8)
        cv2.putText(grey, "PA ERECT", (230, 500), cv2.FONT_HERSHEY_SIMPLEX, 1.0, 0, 2)
        assert corner_text(grey.astype(np.uint16) << 8)[3] > 0.01


def test_the_page_shows_counts_examples_copies_and_lettering(tmp_path: Path) -> None:
    films = _films(tmp_path)
    films.append(Film(_plain(tmp_path), "y", "p9", "9", ABSENT, "AP", 3.0, "M", split="train"))
    films.append(replace(films[0], path=tmp_path / "copy.png", image_id="10", patient_id="p0"))
    (tmp_path / "copy.png").write_bytes(films[0].path.read_bytes())
    manifest = tmp_path / "manifest.csv"
    write_films(films, manifest)
    rows: tuple[ManifestRow, ...] = read_manifest(manifest)
    found = inspect(manifest, rows)
    figures = found.figures
    assert (figures.films, figures.patients, figures.copies, figures.broken) == (6, 5, 1, 0)
    by_source = {one.source: one for one in figures.sources}
    assert by_source["x"].lettered == 5  # phantoms carry a marker
    assert by_source["y"].lettered == 0
    assert by_source["y"].under_15 == 1
    assert by_source["x"].splits == {"test": 1, "train": 3, "val": 1}
    effusion = next(o for o in figures.labels if (o.label, o.source) == ("Effusion", "x"))
    assert (effusion.positive, effusion.negative, effusion.unknown) == (2, 3, 0)
    page = tmp_path / "page.html"
    write_page(found, page)
    text = page.read_text(encoding="utf-8")
    assert text.count("data:image/jpeg;base64,") >= 4
    assert "http://" not in text
    assert "https://" not in text
    assert "Research use only, not a medical device" in text


def test_a_label_that_no_network_learns_is_listed_and_a_source_is_warned_of_once(
    tmp_path: Path,
) -> None:
    films = _films(tmp_path)
    manifest = tmp_path / "manifest.csv"
    write_films(films, manifest)
    rows = [
        replace(row, labels=row.labels | {"COVID-19", "Mass"},
                label_scope=row.label_scope | {"COVID-19", "Mass"})
        for row in read_manifest(manifest)
    ]  # fmt: skip
    figures = inspect(manifest, rows, pictures=False).figures
    (covid,) = [one for one in figures.labels if one.label == "COVID-19"]
    assert (covid.positive, covid.negative) == (len(rows), 0)
    (warning,) = figures.checked.findings
    assert warning.what == "every film of x that is known for COVID-19 or Mass has it"
    assert (warning.kind, warning.count, len(warning.rows)) == ("one class", len(rows), len(rows))


def test_the_commands_import_inspect_and_check(tmp_path: Path) -> None:
    app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)
    register(app)
    manifest, page, figures = tmp_path / "m.csv", tmp_path / "page.html", tmp_path / "f.json"
    folder = trees.padchest(tmp_path / "set")
    result = CliRunner().invoke(
        app, ["data", "import", "padchest", str(folder), "--to", str(manifest)]
    )
    assert result.exit_code == 0, result.output
    assert "uncertain      1" in result.output
    assert "the table does not know 'a word of a later release'" in result.output
    assert "left out: 1, projection COSTAL" in result.output

    result = CliRunner().invoke(
        app, ["data", "inspect", str(manifest), "--to", str(page), "--json", str(figures)]
    )
    assert result.exit_code == 0, result.output
    assert json.loads(figures.read_text(encoding="utf-8"))["films"] == 4
    assert page.stat().st_size > 10_000

    result = CliRunner().invoke(app, ["data", "check", str(manifest)])
    assert result.exit_code == 0, result.output
    assert "no leak was found" in result.output
    leaky = tmp_path / "leaky.csv"
    films = _films(tmp_path, "train open")
    write_films(films, leaky)
    result = CliRunner().invoke(app, ["data", "check", str(leaky), "--no-pictures"])
    assert result.exit_code == 1
    assert "LEAK: x mixes a fixed split" in result.output

    wrong = CliRunner().invoke(app, ["data", "import", "jsrt", str(folder), "--to", str(manifest)])
    assert isinstance(wrong.exception, ConfigurationError)
    missing = CliRunner().invoke(app, ["data", "check", str(tmp_path / "none.csv")])
    assert isinstance(missing.exception, ManifestError)
