import os
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from vigil.bundle import load_bundle
from vigil.errors import ConfigurationError
from vigil_training.open_models.cli import register
from vigil_training.open_models.convert import Converted
from vigil_training.open_models.pickles import PickleRefusedError
from vigil_training.open_models.registry import MODELS

NAME = "densenet121-res224-all"


class _Runs:
    def __init__(self, command: str) -> None:
        self._command = command

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return os.system, (self._command,)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Run ``vigil models …`` with a store of its own; what it raises is raised."""
    monkeypatch.setenv("VIGIL_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "220")
    app = typer.Typer(rich_markup_mode=None)
    app.callback()(lambda: None)
    register(app)

    def invoke(*arguments: object) -> Result:
        result = CliRunner().invoke(app, ["models", *map(str, arguments)])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return invoke


def test_the_list_names_every_model_and_invents_no_figure(run: Callable[..., Result]) -> None:
    lines = {
        line.split()[1]: line for line in run("list").output.splitlines() if "densenet" in line
    }
    assert set(lines) <= set(MODELS)
    assert "0.77" in lines[NAME]
    assert "–" in lines["densenet121-res224-nih"]


def test_import_verify_and_remove(run: Callable[..., Result], densenet_file: Path) -> None:
    assert "SHA-256" in run("import", densenet_file, "--as", f"xrv:{NAME}").output
    assert "yes" in next(line for line in run("list").output.splitlines() if NAME in line)
    assert "whole" in run("verify").output
    assert "Removed" in run("remove", NAME).output


def test_without_models_verify_says_where_it_looked(
    run: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "No models are in" in run("verify").output


def test_verify_asks_the_shipped_bundle_about_its_reference_phantoms(
    run: Callable[..., Result], shipped_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(shipped_bundle.parent.parent)
    result = run("verify")
    assert result.exit_code == 0
    assert "reference outputs hold within" in result.output


def test_verify_exits_1_and_says_what_was_altered(
    run: Callable[..., Result], densenet_file: Path, tmp_path: Path
) -> None:
    run("import", densenet_file, "--as", NAME)
    path = tmp_path / "home" / "models" / NAME / "weights.safetensors"
    path.write_bytes(path.read_bytes() + b"\0")
    result = run("verify", NAME)
    assert result.exit_code == 1
    assert "altered" in result.output


def test_verify_takes_a_bundles_folder(
    run: Callable[..., Result], stand_in_bundle: Path, tmp_path: Path
) -> None:
    assert load_bundle(stand_in_bundle).digest[:12] in run("verify", stand_in_bundle).output
    assert run("verify", tmp_path).exit_code == 1


def test_a_malicious_file_is_refused_and_nothing_is_kept(
    run: Callable[..., Result], save: Callable[..., Path], tmp_path: Path
) -> None:
    file = save(_Runs(f"touch '{tmp_path / 'ran'}'"))
    with pytest.raises(PickleRefusedError, match=r"asks for \w+\.system"):
        run("import", file, "--as", NAME)
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "home").exists()


def test_a_bundle_can_be_made_on_the_way(
    run: Callable[..., Result],
    densenet_file: Path,
    tmp_path: Path,
    converted: Converted,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        "vigil_training.open_models.convert.convert", lambda *_: converted
    )  # what it does is tested beside it
    output = run("import", densenet_file, "--as", NAME, "--bundle", tmp_path / "bundle").output
    assert "all experimental and not calibrated" in output
    assert "left out: Enlarged Cardiomediastinum (no verified code" in output


def test_an_unknown_model_is_refused(run: Callable[..., Result]) -> None:
    with pytest.raises(ConfigurationError, match="no open model is called vgg"):
        run("convert", "vgg", "bundle")
