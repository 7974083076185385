"""The rooms keep to themselves: checked in fresh interpreters, for every module of the packages."""

import ast
import importlib.metadata
import importlib.util
import json
import pkgutil
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.conftest import PROJECT

# Imports all of a package and prints what that loaded.
_PROBE = """
import importlib, json, pkgutil, sys
name = sys.argv[1]
sys.modules["mlflow"] = None  # MONAI loads it where it is installed, and a web framework with it
package = importlib.import_module(name)
for module in pkgutil.walk_packages(package.__path__, name + "."):
    # Alembic's environment runs a migration where it is imported.
    if not module.name.endswith("__main__") and ".migrations" not in module.name:
        importlib.import_module(module.name)
print(json.dumps(sorted({module.partition(".")[0] for module in sys.modules})))
"""
_WEB_AND_STATE = {"alembic", "dbos", "fastapi", "pynetdicom", "sqlalchemy", "starlette", "uvicorn"}
_TRAINING = {"monai", "onnx", "sklearn", "torch", "torchvision"}


def _loaded_by(package: str) -> set[str]:
    probe = subprocess.run(
        [sys.executable, "-c", _PROBE, package], capture_output=True, text=True, check=False
    )
    assert probe.returncode == 0, probe.stderr
    return set(json.loads(probe.stdout.splitlines()[-1]))


@pytest.mark.parametrize(
    ("package", "forbidden"),
    [
        ("vigil", {"vigil_inference", "vigil_training"} | _TRAINING | _WEB_AND_STATE),
        ("vigil_inference", {"vigil_training"} | _TRAINING),
        ("vigil_training", {"vigil_inference"} | _WEB_AND_STATE),
    ],
)
def test_a_room_loads_nothing_that_belongs_to_another(package: str, forbidden: set[str]) -> None:
    loaded = _loaded_by(package)
    assert package in loaded
    assert loaded & forbidden == set()


def test_the_probe_sees_every_module_of_the_core() -> None:
    found = {module.name for module in pkgutil.iter_modules([str(_folder("vigil"))])}
    assert {"triager", "dicom", "phantom", "cli"} <= found


def test_the_command_line_answers_help_without_torch() -> None:
    code = (
        "import sys; from importlib.metadata import entry_points; from vigil.cli import app\n"
        "for entry in entry_points(group='vigil.commands'): entry.load()(app)\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def _folder(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0])


# What a room may import is what its installation brings: the service's dependencies, and extras.
_EXTRAS = {"vigil": (), "vigil_inference": (), "vigil_training": ("training", "mlflow", "xrv")}


@pytest.mark.parametrize("package", sorted(_EXTRAS))
def test_what_a_room_imports_is_declared(package: str) -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = list(project["dependencies"])
    for extra in _EXTRAS[package]:
        declared += project["optional-dependencies"].get(extra, [])
    names = {_normalised(re.split(r"[^\w.-]", requirement)[0]) for requirement in declared}
    distributions = importlib.metadata.packages_distributions()
    undeclared = {}
    for module in sorted(_imported_by(package)):
        owners = {_normalised(owner) for owner in distributions.get(module, [])}
        if not owners & (names | {"vigil-cxr"}):
            undeclared[module] = sorted(owners) or "not installed"
    assert undeclared == {}


def _imported_by(package: str) -> set[str]:
    """Return the top-level modules that a package's sources name, without the standard library."""
    found = set()
    for path in _folder(package).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                found.add(node.module.partition(".")[0])
    return found - sys.stdlib_module_names - set(_EXTRAS)


def _normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
