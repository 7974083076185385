import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from vigil.errors import ConfigurationError, ManifestError
from vigil_training.cli import register


@pytest.fixture
def app() -> typer.Typer:
    application = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)
    register(application)
    return application


@pytest.mark.parametrize("command", ["train", "export", "evaluate"])
def test_every_command_explains_itself(app: typer.Typer, command: str) -> None:
    result = CliRunner().invoke(app, [command, "--help"])
    assert result.exit_code == 0
    assert len(result.output) > 400


def test_evaluate_prints_a_table_and_writes_its_figures(
    app: typer.Typer, smoke_bundle: Path, phantom_manifest: Path, tmp_path: Path
) -> None:
    out = tmp_path / "figures" / "metrics.json"
    arguments = ["evaluate", "--bundle", str(smoke_bundle), "--manifest", str(phantom_manifest)]
    result = CliRunner().invoke(app, [*arguments, "--json", str(out), "--samples", "20"])
    assert result.exit_code == 0, result.output
    assert "Effusion" in result.output
    assert "Research use only, not a medical device" in result.output
    figures = json.loads(out.read_text(encoding="utf-8"))
    assert figures["results"][0]["label"] == "Effusion"
    assert figures["bundle"] == "smoke"
    assert str(tmp_path) not in out.read_text(encoding="utf-8")


def test_a_finding_of_children_is_printed_as_it_is_called(
    capsys: pytest.CaptureFixture[str],
) -> None:
    from vigil_training.progress import plain_console, say

    say(plain_console(), "Pneumonia:child [95 %]: " + "x" * 90)
    assert capsys.readouterr().out == "Pneumonia:child [95 %]: " + "x" * 90 + "\n"


def test_wrong_arguments_raise_what_the_command_line_turns_into_a_sentence(
    app: typer.Typer, smoke_bundle: Path, tmp_path: Path
) -> None:
    runner = CliRunner()
    wrong_split = ["evaluate", "--bundle", str(smoke_bundle), "--manifest", "m", "--split", "dev"]
    result = runner.invoke(app, wrong_split)
    assert isinstance(result.exception, ConfigurationError)
    assert "--split is dev" in str(result.exception)
    result = runner.invoke(app, ["train", str(tmp_path / "none.toml")])
    assert isinstance(result.exception, ConfigurationError)
    manifest = ["evaluate", "--bundle", str(smoke_bundle), "--manifest", str(tmp_path / "none.csv")]
    assert isinstance(runner.invoke(app, manifest).exception, ManifestError)
    result = runner.invoke(app, ["export", str(tmp_path), "--to", "x", "--data", "nowhere"])
    assert isinstance(result.exception, ConfigurationError)
    assert "there is no folder nowhere" in str(result.exception)


def test_a_refused_run_is_one_sentence_and_exit_code_two(tmp_path: Path) -> None:
    code = "from vigil.cli import main; main()"
    result = subprocess.run(
        [sys.executable, "-c", code, "train", str(tmp_path / "none.toml")],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert result.returncode == 2
    assert "none.toml: cannot be read" in result.stderr
    assert "Traceback" not in result.stderr


def test_evaluating_and_reading_manifests_load_no_torch() -> None:
    modules = ("cli", "config", "manifest", "split", "statistics", "calibrate", "evaluate",
               "gate_check", "model_card", "targets")  # fmt: skip
    imports = "; ".join(f"import vigil_training.{name}" for name in modules)
    code = f"import sys; {imports}; sys.exit('torch' in sys.modules or 'monai' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
