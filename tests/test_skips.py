"""The policy on skips: named at the end of every run, and fatal where nothing may be missing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import PROJECT


@pytest.mark.parametrize(("ci", "expected"), [("", 0), ("true", 1)])
def test_a_skip_is_named_and_fails_the_run_in_ci(tmp_path: Path, ci: str, expected: int) -> None:
    (tmp_path / "test_peer.py").write_text(
        "import pytest\n\n"
        "def test_needs_a_peer():\n    pytest.skip('the peer is not installed')\n\n"
        "def test_needs_nothing():\n    pass\n"
    )
    command = [
        sys.executable, "-m", "pytest", "-p", "tests.conftest", "-c", os.devnull,
        f"--rootdir={tmp_path}", "-p", "no:cacheprovider", str(tmp_path),
    ]  # fmt: skip
    run = subprocess.run(
        command,
        cwd=PROJECT,
        env=os.environ | {"CI": ci},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert run.returncode == expected, run.stdout + run.stderr
    assert "not run, and why" in run.stdout
    assert "the peer is not installed:\n    test_peer.py::test_needs_a_peer" in run.stdout
    assert ("CI=true" in run.stdout) == (ci == "true")
