from pathlib import Path
from types import ModuleType

import pytest
import requests

from vigil.errors import ConfigurationError
from vigil_training.open_models import pull as module
from vigil_training.open_models.pull import pull
from vigil_training.open_models.registry import find_model
from vigil_training.open_models.store import ModelStore

MODEL = find_model("densenet121-res224-all")


def test_what_the_package_downloads_goes_through_the_allow_list(
    xrv: ModuleType, densenet_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def download(url: str, filename: str) -> None:
        assert url == MODEL.url
        Path(filename).write_bytes(densenet_file.read_bytes())

    monkeypatch.setattr(xrv.utils, "download", download)
    store = ModelStore(tmp_path)
    assert pull(MODEL, store).source_file == MODEL.file
    assert store.held() == (MODEL,)
    with pytest.raises(ConfigurationError, match="already"):
        pull(MODEL, store)


def test_without_a_network_it_says_how_to_carry_the_file_in(
    xrv: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def download(url: str, filename: str) -> None:
        raise requests.ConnectionError(url)

    monkeypatch.setattr(xrv.utils, "download", download)
    with pytest.raises(ConfigurationError, match=r"is there a network\? .*`vigil models import"):
        pull(MODEL, ModelStore(tmp_path))
    assert not list(tmp_path.iterdir())


def test_without_the_extra_it_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> ModuleType:
        raise ModuleNotFoundError(name=name)

    monkeypatch.setattr(module.importlib, "import_module", missing)
    monkeypatch.setattr(module, "import_torchvision_models", lambda: None)
    with pytest.raises(ConfigurationError, match=r"pip install 'vigil-cxr\[xrv\]'"):
        pull(MODEL, ModelStore(tmp_path))
