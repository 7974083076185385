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
        "--pace", "2", "4", "--bundle", str(stand_in_bundle),
    )  # fmt: skip
    assert [parts["pace"][pace]["films"] for pace in ("2", "4")] == [6, 12]
    for pace in (parts["pace"]["2"], parts["pace"]["4"]):
        assert 0 < pace["p50"] <= pace["p95"] <= pace["p99"] <= pace["slowest"]
        assert min(pace["memory_mib"]) > 10
    assert "reached" in parts["pace"]["2"]


def test_a_pictures_parts_add_up_and_are_set_against_the_limit(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, stand_in_bundle: Path
) -> None:
    parts = run(
        monkeypatch, tmp_path / "b.json", "picture", "networks", "--size", "512", "--repeat", "1",
        "--no-peer", "--turns", "2", "--bundle", str(stand_in_bundle),
    )  # fmt: skip
    pictures = {name: v for name, v in parts["picture"].items() if name.startswith("512 ")}
    assert len(pictures) == 8
    for values in pictures.values():
        assert 0 < values["limit"] <= values["limit"] + values["parts"]["read"]
        assert min(values["parts"]["decode"], values["parts"]["network"]) > 0
        assert values["whole"] > values["parts"]["network"]
    assert parts["networks"]["float"]["milliseconds"] > 0


def test_the_service_under_load_is_set_against_the_bare_loop(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, stand_in_bundle: Path
) -> None:
    parts = run(
        monkeypatch, tmp_path / "b.json", "load", "--load-films", "4", "--load-rounds", "1",
        "--load-size", "512", "--bundle", str(stand_in_bundle),
    )  # fmt: skip
    for values in (parts["load"]["uncompressed"], parts["load"]["JPEG-LS"]):
        assert values["ratio"] == pytest.approx(values["service"] / values["bare"])
        parts = [values[f"{part}_core_seconds"] for part in ("bare", "sender", "disk")]
        assert min(*parts, values["core_seconds"]) > 0
        assert 0 < values["possible"] <= values["disk"]
        assert 0 < values["p50"] <= values["p95"] <= values["p99"]


def test_growth_is_measured_with_what_is_stored_and_with_workers(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, stand_in_bundle: Path
) -> None:
    parts = run(
        monkeypatch, tmp_path / "b.json", "growth", "start", "--stored", "1", "7", "--new-films",
        "3", "--workers", "1", "--backlog", "4", "--starts", "1", "--bundle", str(stand_in_bundle),
    )  # fmt: skip
    for stored in ("stored 1", "stored 7"):
        assert parts["growth"][stored]["received"] > 0
        assert parts["growth"][stored]["worklist_ms"] > 0
    assert parts["growth"]["workers 1"]["findings_per_second"] > 0
    assert parts["start"]["MiB at rest, model loaded"]["values"][0] > 10


def test_a_part_that_is_not_known_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["bench", "speed"])
    with pytest.raises(SystemExit):
        bench.main()
    assert "speed: expected of picture" in capsys.readouterr().err


def test_what_a_reader_waits_for_on_a_slow_line_is_measured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, stand_in_bundle: Path
) -> None:
    parts = run(
        monkeypatch, tmp_path / "b.json", "page", "--page-runs", "1", "--page-films", "2",
        "--page-rows", "700", "--bundle", str(stand_in_bundle),
    )  # fmt: skip
    names = ("first row", "first picture", "preview", "full depth")
    found = {name: parts["page"][name]["median"] for name in names}
    assert 0 < found["first picture"] <= found["preview"] <= found["full depth"]
    assert found["first row"] > 0
