import shutil
from pathlib import Path

import pytest

from vigil.bundle import load_bundle, write_manifest
from vigil.errors import ConfigurationError
from vigil.triager import Triager
from vigil_training.cross_site import SECTION, cross_site, sources_of
from vigil_training.evaluate import evaluate
from vigil_training.manifest import read_manifest
from vigil_training.model_card import read_metrics, write_metrics, write_section


def _trained_on(bundle: Path, folder: Path, sources: str) -> Path:
    shutil.copytree(bundle, folder)
    manifest = load_bundle(folder).manifest
    training = {**manifest.training, "sources": sources, "run": folder.name}
    write_manifest(folder, manifest.model_copy(update={"id": folder.name, "training": training}))
    return folder


@pytest.fixture
def both_hospitals(phantom_manifest: Path) -> Path:
    """The phantoms, every third of them at another hospital."""
    header, *lines = phantom_manifest.read_text(encoding="utf-8").splitlines()
    changed = [
        line.replace(",phantom,", ",elsewhere,", 1) if number % 3 == 0 else line
        for number, line in enumerate(lines)
    ]
    path = phantom_manifest.with_name("two.csv")
    path.write_text("\n".join([header, *changed]) + "\n", encoding="utf-8")
    return path


def test_a_bundle_is_judged_on_all_films_of_the_source_that_it_left_out(
    smoke_bundle: Path, both_hospitals: Path, tmp_path: Path
) -> None:
    own = _trained_on(smoke_bundle, tmp_path / "own", "phantom, elsewhere")
    other = _trained_on(smoke_bundle, tmp_path / "other", "phantom")
    found = cross_site(load_bundle(own).manifest, [other], both_hospitals, samples=20)
    [row] = found.rows
    assert (row.label, row.trained_on, row.tested_on) == ("Effusion", ("phantom",), "elsewhere")
    # All that its gate lets in: a network of a few steps may refuse one of them.
    triager = Triager.load(other)
    judged = [
        film
        for film in read_manifest(both_hospitals)
        if film.source == "elsewhere" and triager.triage(film.path).status == "analysed"
    ]
    assert len(judged) >= 6
    positives = sum("Effusion" in film.labels for film in judged)
    assert (row.n, row.positives) == (len(judged), positives)
    assert (row.bundle, row.digest) == ("other", load_bundle(other).manifest.digest)
    metrics = evaluate(own, both_hospitals, samples=0)
    write_metrics(own / "metrics.json", metrics)
    write_section(own, SECTION, "Cross-site", found)
    assert read_metrics(own / "metrics.json").sections[SECTION].title == "Cross-site"
    card = (own / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert (
        f"| Effusion | phantom (`other`) | elsewhere | {row.n} | {row.positives} | {row.auroc:.3f}"
        in card
    )


def test_a_bundle_that_left_nothing_out_is_refused(
    smoke_bundle: Path, both_hospitals: Path, tmp_path: Path
) -> None:
    own = _trained_on(smoke_bundle, tmp_path / "own", "phantom")
    same = _trained_on(smoke_bundle, tmp_path / "same", "phantom, more")
    with pytest.raises(ConfigurationError, match="was trained on every source of own"):
        cross_site(load_bundle(own).manifest, [same], both_hospitals, samples=0)
    stranger = _trained_on(smoke_bundle, tmp_path / "stranger", "nowhere")
    with pytest.raises(ConfigurationError, match="knows no label of phantom"):
        cross_site(load_bundle(own).manifest, [stranger], both_hospitals, samples=0)


def test_the_sources_of_a_bundle_are_named_in_its_manifest(
    smoke_bundle: Path, tmp_path: Path
) -> None:
    folder = _trained_on(smoke_bundle, tmp_path / "b", " nih,shenzhen , ")
    assert sources_of(load_bundle(folder).manifest) == {"nih", "shenzhen"}
