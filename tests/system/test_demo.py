"""``make demo``: the module behind it, with phantoms and without the real samples."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.conftest import PROJECT
from tests.system.peers import free_port


def run_demo(
    folder: Path, *arguments: str, bundle: Path, timeout: float = 200
) -> subprocess.CompletedProcess[str]:
    """Run the demonstration in a working folder beside which no samples lie."""
    command = [sys.executable, "-m", "vigil_inference.demo", "--exit", "--bundle", str(bundle)]
    environment = os.environ | {"VIGIL_DATA": str(folder / "nothing-here")}
    return subprocess.run(
        [*command, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
    )


def test_without_files_it_shows_phantoms_in_reading_order(
    tmp_path: Path, stand_in_bundle: Path
) -> None:
    run = run_demo(tmp_path, bundle=stand_in_bundle)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "10 of 10 acknowledged" in run.stdout
    assert "Nguyễn Văn An" in run.stdout
    assert "Research use only, not a medical device" in run.stdout
    assert "Worklist page  http://127.0.0.1:" in run.stdout
    assert re.search(r"Sign in as     reader, password (\w{4}-){3}\w{4}", run.stdout)
    rows = [line.split("│")[1].strip() for line in run.stdout.splitlines() if line.startswith("│")]
    order = [row for row in rows if row]
    assert len(order) == 10
    ranks = [
        ("CRITICAL", "URGENT").index(row) if row in ("CRITICAL", "URGENT") else 2 for row in order
    ]
    assert ranks == sorted(ranks)
    assert ranks[0] < 2
    assert "NOT_FRONTAL" in run.stdout  # the lateral one
    assert list((tmp_path / "var" / "demo").iterdir()) == []


def test_it_sends_a_persons_own_folder(
    tmp_path: Path, stand_in_bundle: Path, phantom_file: Callable[..., Path]
) -> None:
    own = phantom_file(5, "effusion", patient_name="Riêng^Tư").parent
    run = run_demo(tmp_path, str(own), bundle=stand_in_bundle)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "Riêng Tư" in run.stdout


def test_it_says_what_is_wrong_and_fails(tmp_path: Path, stand_in_bundle: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    run = run_demo(tmp_path, str(empty), bundle=stand_in_bundle)
    assert run.returncode == 1
    assert f"there are no files in {empty}" in run.stdout.replace("\n", "")
    assert "Traceback" not in run.stdout + run.stderr


def test_make_names_its_targets_without_setting_anything_up(tmp_path: Path) -> None:
    run = subprocess.run(
        ["make", "-C", str(PROJECT), f"VENV={tmp_path / 'venv'}"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    for target in ("demo", "test", "check", "bench"):
        assert f"make {target} " in run.stdout
    assert not (tmp_path / "venv").exists()


def test_ports_that_are_taken_are_passed_over() -> None:
    import socket

    from vigil_inference import demo

    wanted = free_port()
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", wanted))
        holder.listen()
        assert demo._free_port(wanted) != wanted
    assert demo._free_port(wanted) == wanted
