import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

Write = Callable[..., Path]


def _vigil(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-c", "from vigil.cli import main; main()"]
    return subprocess.run(
        [*command, *map(str, arguments)], capture_output=True, text=True, check=False
    )


@pytest.fixture
def folder(tmp_path: Path, chest_like: np.ndarray, write_dicom: Write) -> Path:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    write_dicom(chest_like).rename(pictures / "a.dcm")
    (pictures / "b").write_bytes(b"broken")
    (pictures / "README.md").write_text("not a picture")
    return pictures


def test_every_file_gets_one_line_of_json(folder: Path, bundle_folder: Path) -> None:
    run = _vigil("triage", folder, "--json", "--bundle", bundle_folder)
    assert run.returncode == 0, run.stderr
    lines = [json.loads(line) for line in run.stdout.splitlines()]
    assert [Path(line["path"]).name for line in lines] == ["a.dcm", "b"]
    assert lines[0]["status"] == "analysed"
    assert lines[1]["code"] == "FILE_UNREADABLE"


def test_the_table_says_research_use(folder: Path, bundle_folder: Path) -> None:
    run = _vigil("triage", folder, "--bundle", bundle_folder)
    assert run.returncode == 0, run.stderr
    assert "FILE_UNREADABLE" in run.stdout
    assert "not a medical device" in run.stdout


def test_an_altered_bundle_is_one_sentence_and_exit_code_2(
    folder: Path, bundle_folder: Path
) -> None:
    with (bundle_folder / "model.onnx").open("ab") as file:
        file.write(b"\0")
    run = _vigil("triage", folder, "--bundle", bundle_folder)
    assert run.returncode == 2
    assert run.stderr.startswith("vigil: ")
    assert "the network was altered" in run.stderr
    assert "Traceback" not in run.stderr


def test_a_path_that_does_not_exist_is_named(bundle_folder: Path) -> None:
    run = _vigil("triage", "nowhere.dcm", "--bundle", bundle_folder)
    assert run.returncode == 2
    assert "nowhere.dcm does not exist" in run.stderr
    assert "Traceback" not in run.stderr


@pytest.mark.parametrize("option", [(), ("--json",)])
def test_a_folder_without_pictures_is_said_and_is_no_success(
    tmp_path: Path, bundle_folder: Path, option: tuple[str, ...]
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "README.md").write_text("not a picture")
    run = _vigil("triage", empty, "--bundle", bundle_folder, *option)
    assert run.returncode == 1
    assert run.stderr == f"no picture in {empty}\n"
    assert run.stdout == ""


def test_the_help_and_the_version_say_research_use() -> None:
    for option in ("--help", "--version"):
        run = _vigil(option)
        assert run.returncode == 0
        assert "not a medical device" in " ".join(run.stdout.split())
