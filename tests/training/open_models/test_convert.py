from pathlib import Path

import numpy as np
import pytest

from vigil.bundle import load_bundle
from vigil.classifier import Classifier
from vigil.errors import ConfigurationError
from vigil.findings import CONCEPTS
from vigil_training.open_models.convert import (
    Converted,
    convert,
    split_labels,
    vigil_label,
)
from vigil_training.open_models.registry import ORDER, OpenModel, find_model
from vigil_training.open_models.store import ModelStore

MODEL = find_model("densenet121-res224-all")


def test_the_bundle_is_whole_and_says_that_nothing_is_validated(converted: Converted) -> None:
    manifest = load_bundle(converted.folder).manifest
    assert manifest.id == "xrv-densenet121-res224-all"
    assert (manifest.preprocessing.version, manifest.preprocessing.size) == (2, 224)
    assert manifest.training["licence"] == "Apache-2.0"
    for finding in manifest.findings:
        assert finding.experimental
        assert finding.calibration.method == "none"
        assert finding.population.min_age_years == 15
        assert finding.critical is None
        assert finding.flag.sensitivity is None
    points = {vigil_label(k): v for k, v in MODEL.operating_points.items()}
    assert all(f.flag.threshold == points[f.label] for f in manifest.findings)


def test_every_output_is_in_the_bundle_or_left_out_with_a_reason(converted: Converted) -> None:
    labels = {finding.label for finding in converted.manifest.findings}
    assert labels | {vigil_label(label) for label in converted.left_out} == {
        vigil_label(label) for label in MODEL.labels
    }
    assert labels <= set(CONCEPTS)
    assert "no verified code" in converted.left_out["Enlarged Cardiomediastinum"]


def test_a_maps_mean_is_the_logit_without_its_bias(converted: Converted) -> None:
    classifier = Classifier(load_bundle(converted.folder), threads=1)
    rng = np.random.default_rng(0)
    images = [(rng.random((1, 1, 224, 224), np.float32) * 2 - 1) * 1024 for _ in range(2)]
    one, other = (classifier.predict(image) for image in images)
    assert one.cams.shape[1:] == (7, 7)
    assert one.embedding.shape == (1024,)
    assert one.embedding.min() >= 0
    logits = [np.array(list(p.logits.values())) for p in (one, other)]
    biases = [values - p.cams.mean((1, 2)) for values, p in zip(logits, (one, other), strict=True)]
    np.testing.assert_allclose(*biases, atol=1e-3)
    expected = 1 / (1 + np.exp(-logits[0]))
    np.testing.assert_allclose(list(one.probabilities.values()), expected, atol=1e-6)


def test_the_card_gives_the_authors_figures_and_says_whose_they_are(converted: Converted) -> None:
    card = (converted.folder / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "not calibrated" in card
    assert "mlmed/torchxrayvision BENCHMARKS.md" in card
    assert "| Pneumothorax | 0.75 | 0.85 | – | 0.79 | 0.81 | 0.93 | 0.85 |" in card
    assert "Enlarged Cardiomediastinum: no verified code" in card


def test_a_single_set_model_has_only_the_outputs_it_was_trained_on() -> None:
    model = find_model("densenet121-res224-rsna")
    labels, reasons = split_labels(model)
    assert {vigil_label(label) for label in labels} == {"Pneumonia", "Lung_Opacity"} & set(CONCEPTS)
    assert reasons["Atelectasis"] == "not trained: its output means nothing"
    assert set(labels) | set(reasons) == set(ORDER)


@pytest.mark.parametrize("model", [MODEL, find_model("densenet121-res224-mimic_nb")])
def test_a_folder_in_use_or_a_missing_model_is_refused(
    model: OpenModel, store: ModelStore, tmp_path: Path
) -> None:
    if model is MODEL:
        (tmp_path / "file").write_text("")
        with pytest.raises(ConfigurationError, match="expected a new or empty folder"):
            convert(model, store, tmp_path)
    else:
        with pytest.raises(ConfigurationError, match="mimic_nb is not in"):
            convert(model, store, tmp_path)
