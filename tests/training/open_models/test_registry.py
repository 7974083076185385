import math
from pathlib import PurePosixPath
from types import ModuleType

import pytest

from vigil.errors import ConfigurationError
from vigil_training.open_models.registry import MODELS, ORDER, find_model


@pytest.mark.parametrize("name", MODELS)
def test_the_registry_says_what_the_package_says(name: str, xrv: ModuleType) -> None:
    model, published = MODELS[name], xrv.models.model_urls[name]
    assert published["weights_url"] == model.url
    assert PurePosixPath(published["weights_url"]).name == model.file
    assert published["input_resolution"] == model.size
    assert name.startswith(model.architecture)
    labels = published["labels"]
    assert all(label in ("", ours) for label, ours in zip(labels, ORDER, strict=True))
    points = dict(zip(labels, published["op_threshs"], strict=True))
    trained = {k: v for k, v in points.items() if k and not math.isnan(v)}
    assert trained == model.operating_points
    assert model.labels == tuple(label for label in labels if label in trained)


def test_the_order_is_the_packages(xrv: ModuleType) -> None:
    assert tuple(xrv.datasets.default_pathologies) == ORDER


def test_a_single_set_model_knows_only_what_it_was_trained_on() -> None:
    assert find_model("densenet121-res224-rsna").labels == ("Pneumonia", "Lung Opacity")
    assert "Lung Lesion" not in find_model("resnet50-res512-all").labels


def test_figures_are_the_authors_or_none() -> None:
    everything = find_model("xrv:densenet121-res224-all")
    assert everything.auroc["NIH ChestX-ray14"]["Pneumothorax"] == 0.75
    assert everything.mean_auroc("NIH ChestX-ray14") == pytest.approx(0.7743, abs=1e-4)
    assert find_model("densenet121-res224-nih").mean_auroc("NIH ChestX-ray14") is None
    assert find_model("densenet121-res224-all").mean_auroc("no such set") is None


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigurationError, match="no open model is called densenet; expected one"):
        find_model("densenet")
