"""The rooms keep to themselves: checked in fresh interpreters, for every module of the packages."""

import importlib.util
import json
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

# Imports all of a package and prints what that loaded.
_PROBE = """
import importlib, json, pkgutil, sys
name = sys.argv[1]
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
