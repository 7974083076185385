import json
import shutil
from pathlib import Path

import pytest
from pydantic import BaseModel

from vigil.bundle import UncertainBand, load_bundle, write_manifest
from vigil.errors import ConfigurationError
from vigil_training.evaluate import Judged, measure
from vigil_training.manifest import ManifestRow
from vigil_training.merits import Answer
from vigil_training.model_card import read_metrics, write_card, write_metrics, write_section


class _HowFar(BaseModel):
    pixels: float

    def card_lines(self) -> tuple[str, ...]:
        return (f"It lies {self.pixels:g} pixels away.",)


@pytest.fixture
def bundle(stand_in_bundle: Path, tmp_path: Path) -> Path:
    """A bundle with an uncertain band, and the metrics of 40 films."""
    folder = tmp_path / "card"
    shutil.copytree(stand_in_bundle, folder)
    manifest = load_bundle(folder).manifest
    band = UncertainBand(
        low=0.3, high=0.6, target_coverage=0.9, coverage_present=0.91, coverage_absent=0.887
    )
    effusion = manifest.findings[0].model_copy(update={"uncertain": band})
    findings = (effusion, *manifest.findings[1:])
    training = {"sources": "one", "split_seed": 0, "validation_fraction": 0.2}
    write_manifest(folder, manifest.model_copy(update={"findings": findings, "training": training}))
    write_metrics(folder / "metrics.json", _evaluation(folder))
    return folder


def _evaluation(folder: Path):
    answers = tuple(_answer(i, "one" if i < 30 else "abroad") for i in range(40))
    rows = tuple(answer.row for answer in answers)
    judged = Judged(load_bundle(folder).manifest, rows, answers, "val", "films.csv", 1.0)
    return measure(judged, samples=20)


def _answer(number: int, source: str) -> Answer:
    row = ManifestRow(
        number=number, path=Path("x.png"), source=source, patient_id=f"p{number}",
        image_id=str(number), view="PA", age_years=40, sex="F",
        labels=frozenset({"Effusion"} if number % 3 == 0 else ()),
        label_scope=frozenset({"Effusion"}),
    )  # fmt: skip
    probability = 0.2 + 0.6 * (number % 3 == 0)
    return Answer(
        row=row, code=None, corrected=False, priority="ROUTINE",
        probabilities={"Effusion": probability}, keys={"Effusion": "Effusion"},
        flagged=frozenset({"Effusion"} if probability > 0.5 else ()), outlines={},
    )  # fmt: skip


def test_a_card_says_the_band_its_coverage_other_hospitals_and_what_is_prohibited(
    bundle: Path,
) -> None:
    card = write_card(bundle).read_text(encoding="utf-8")
    assert "| 0.300 to 0.600 |" in card
    assert "- Effusion: 91.0% of patients with it, 88.7% of those without (aim 90%)" in card
    others = card.split("## Other hospitals")[1].split("##")[0]
    assert "abroad: 10 of 10 analysed" in others
    assert "one:" not in others
    assert "## What it must not be used for" in card
    assert "| Effusion | one | 30 | 10 | 1.000 (1.000–1.000) |" in card


def test_every_number_of_the_metrics_is_read_back(bundle: Path) -> None:
    metrics = read_metrics(bundle / "metrics.json")
    expected = _evaluation(bundle)
    assert metrics.results == expected.results
    assert metrics.sources == expected.sources


def test_another_measurement_adds_itself_and_outlives_a_new_evaluation(bundle: Path) -> None:
    write_section(bundle, "distance", "How far", _HowFar(pixels=12.5))
    write_metrics(bundle / "metrics.json", _evaluation(bundle))
    content = json.loads((bundle / "metrics.json").read_text(encoding="utf-8"))
    assert content["sections"]["distance"]["figures"] == {"pixels": 12.5}
    card = write_card(bundle).read_text(encoding="utf-8")
    assert "## How far\n\nIt lies 12.5 pixels away.\n" in card
    # A second measurement takes the first one's place.
    write_section(bundle, "distance", "How far", _HowFar(pixels=3))
    assert "12.5 pixels" not in (bundle / "MODEL_CARD.md").read_text(encoding="utf-8")


def test_a_measurement_of_another_bundle_is_neither_kept_nor_added(bundle: Path) -> None:
    write_section(bundle, "distance", "How far", _HowFar(pixels=12.5))
    manifest = load_bundle(bundle).manifest
    write_manifest(bundle, manifest.model_copy(update={"created": "2027-01-01"}))
    with pytest.raises(ConfigurationError, match="was measured on"):
        write_section(bundle, "distance", "How far", _HowFar(pixels=1))
    write_metrics(bundle / "metrics.json", _evaluation(bundle))
    assert read_metrics(bundle / "metrics.json").sections == {}


def test_what_an_older_version_wrote_gives_way_and_is_no_card(bundle: Path) -> None:
    path = bundle / "metrics.json"
    path.write_text('{"bundle": "old"}', encoding="utf-8")
    with pytest.raises(ConfigurationError, match="holds no figures of `vigil evaluate`"):
        write_card(bundle)
    write_metrics(path, _evaluation(bundle))
    assert read_metrics(path).bundle == "stand-in"
