from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from vigil.errors import ConfigurationError
from vigil_training.open_models.registry import find_model
from vigil_training.open_models.store import ModelStore, default_store
from vigil_training.open_models.weights import sha256_of

MODEL = find_model("densenet121-res224-all")


def test_what_goes_in_comes_out(densenet: nn.Module, densenet_file: Path, tmp_path: Path) -> None:
    store = ModelStore(tmp_path / "store")
    record = store.add(densenet_file, MODEL)
    assert record.source_sha256 == sha256_of(densenet_file)
    assert record.source_file == MODEL.file
    assert record.sha256 == sha256_of(store.folder_of(MODEL) / "weights.safetensors")
    assert store.held() == (MODEL,)
    kept = store.load(MODEL).state
    for name, value in densenet.state_dict().items():
        assert torch.equal(kept[name], value), name


def test_the_same_weights_are_kept_as_the_same_bytes(
    densenet: nn.Module, densenet_file: Path, save: Callable[..., Path], tmp_path: Path
) -> None:
    one = ModelStore(tmp_path / "one").add(densenet_file, MODEL)
    other = ModelStore(tmp_path / "other").add(save(densenet.state_dict()), MODEL)
    assert one.sha256 == other.sha256
    assert one.source_sha256 != other.source_sha256


def test_a_model_that_is_here_stays_unless_replaced(densenet_file: Path, tmp_path: Path) -> None:
    store = ModelStore(tmp_path)
    store.add(densenet_file, MODEL)
    with pytest.raises(ConfigurationError, match="already; remove it first or give --replace"):
        store.add(densenet_file, MODEL)
    assert store.add(densenet_file, MODEL, replace=True).name == MODEL.name


def test_a_refused_file_leaves_the_store_as_it_was(
    densenet_file: Path, save: Callable[..., Path], tmp_path: Path
) -> None:
    store = ModelStore(tmp_path / "store")
    first = store.add(densenet_file, MODEL)
    with pytest.raises(ConfigurationError, match="expected densenet121-res224-all"):
        store.add(save({"w": torch.zeros(1)}), MODEL, replace=True)
    assert store.record(MODEL) == first
    assert [path.name for path in store.folder.iterdir()] == [MODEL.name]


def test_altered_weights_are_refused(densenet_file: Path, tmp_path: Path) -> None:
    store = ModelStore(tmp_path)
    store.add(densenet_file, MODEL)
    path = store.folder_of(MODEL) / "weights.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"weights were altered: expected SHA-256 \w{12}…"):
        store.load(MODEL)


def test_a_record_of_another_model_is_refused(densenet_file: Path, tmp_path: Path) -> None:
    store, sister = ModelStore(tmp_path), find_model("densenet121-res224-nih")
    store.add(densenet_file, MODEL)
    store.folder_of(MODEL).rename(store.folder_of(sister))
    with pytest.raises(ConfigurationError, match=f"expected {sister.name}, found {MODEL.name}"):
        store.load(sister)


def test_a_removed_model_is_gone_and_said_to_be(densenet_file: Path, tmp_path: Path) -> None:
    store = ModelStore(tmp_path)
    store.add(densenet_file, MODEL)
    store.remove(MODEL)
    assert store.held() == ()
    with pytest.raises(ConfigurationError, match=f"{MODEL.name} is not in"):
        store.remove(MODEL)
    with pytest.raises(ConfigurationError, match=f"`vigil models pull {MODEL.name}` fetches it"):
        store.load(MODEL)


def test_the_stores_place_can_be_chosen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VIGIL_HOME", str(tmp_path))
    assert default_store().folder == tmp_path / "models"
    monkeypatch.delenv("VIGIL_HOME")
    assert default_store().folder.parts[-2:] == ("vigil", "models")
