"""The measurements run and say what they must; how fast anything is, no test asserts."""

import json
import sys
from pathlib import Path

import pytest

from tests.bench import __main__ as bench

pytestmark = [pytest.mark.slow, pytest.mark.system, pytest.mark.timeout(600)]


def run(monkeypatch: pytest.MonkeyPatch, path: Path, *arguments: str) -> dict[str, dict]:
    monkeypatch.setattr(sys, "argv", ["bench", *arguments, "--json", str(path)])
    assert bench.main() == 0
    return json.loads(path.read_text(encoding="utf-8"))["parts"]


def test_receiving_is_measured_beside_the_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = run(
        monkeypatch, tmp_path / "b.json", "receive", "--rounds", "1", "--files", "2",
        "--small-files", "2",
    )  # fmt: skip
    for size, goals in (("8 MB", (2.5, 1.5)), ("1 MB", (4.0, 2.0))):
        found = parts["receive"][size]
        assert list(found) == ["Vigil", "Orthanc", "storescp", "write and fsync alone"]
        assert all(rates["median"] > 0 for rates in found.values())
        assert (found["Orthanc"]["goal"], found["storescp"]["goal"]) == goals
        for rates in found.values():
            expected = found["Vigil"]["median"] / rates["median"]
            assert rates["vigil_ratio"] == pytest.approx(expected)
    assert "load" in capsys.readouterr().out
    assert parts["receive"]["machine"]["cores"] >= 1


def test_a_steady_pace_is_measured_to_the_finding(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, stand_in_bundle: Path
) -> None:
    parts = run(
        monkeypatch, tmp_path / "b.json", "pace", "--seconds", "3", "--film", "512",
        "--bundle", str(stand_in_bundle),
    )  # fmt: skip
    pace = parts["pace"]
    assert pace["films"] == 6
    assert 0 < pace["p50"] <= pace["p95"] <= pace["p99"] <= pace["slowest"]
    assert min(pace["memory_mib"]) > 10


def test_a_part_that_is_not_known_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["bench", "speed"])
    with pytest.raises(SystemExit):
        bench.main()
    assert "speed: expected of picture" in capsys.readouterr().err
