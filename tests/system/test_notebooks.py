"""Each notebook runs from top to bottom, as a reader would run it."""

import ast
import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

PROJECT = Path(__file__).parents[2]
NOTEBOOKS = PROJECT / "notebooks"
EXECUTED = PROJECT / "var/notebooks"
"""What ran on phantoms, which the documentation site shows."""


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:zmq.*", "ignore::RuntimeWarning:zmq.*")
@pytest.mark.parametrize("pictures", ["real", "phantoms"])
@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda p: p.stem)
def test_a_notebook_runs_from_top_to_bottom(
    path: Path, pictures: str, shipped_bundle: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("VIGIL_BUNDLE", str(shipped_bundle.resolve()))
    if pictures == "phantoms":
        monkeypatch.setenv("VIGIL_DATA", str(tmp_path))
    elif "VIGIL_DATA" in os.environ:
        monkeypatch.setenv("VIGIL_DATA", str(Path(os.environ["VIGIL_DATA"]).resolve()))
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(
        notebook, timeout=560, resources={"metadata": {"path": str(path.parent)}}
    ).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    printed = "".join(output.get("text", "") for output in outputs)
    assert "URGENT" in printed or "CRITICAL" in printed or "ROUTINE" in printed
    assert any("image/png" in output.get("data", {}) for output in outputs)
    if pictures == "phantoms":
        EXECUTED.mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook, EXECUTED / path.name)


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda p: p.stem)
def test_a_notebook_is_committed_without_outputs(path: Path) -> None:
    for cell in nbformat.read(path, as_version=4).cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda p: p.stem)
def test_a_notebook_calls_the_packages_and_defines_nothing(path: Path) -> None:
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "code":
            code = "\n".join(row for row in cell.source.splitlines() if not row.startswith("%"))
            definitions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
            nodes = list(ast.walk(ast.parse(code)))
            assert not [node for node in nodes if isinstance(node, definitions)], cell.source


def test_there_is_a_notebook_for_each_step() -> None:
    assert [path.stem[:2] for path in sorted(NOTEBOOKS.glob("*.ipynb"))] == [
        f"{number:02}" for number in range(1, 9)
    ]
