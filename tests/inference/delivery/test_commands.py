"""Deliveries by the command line and by HTTP, and which rules a file would meet."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import typer
from typer.testing import CliRunner

from tests.inference.conftest import FakeModel, MakeFile, serving
from tests.inference.delivery.conftest import QUICK, Site
from vigil.errors import ConfigurationError
from vigil_inference.cli import register
from vigil_inference.service import Service
from vigil_inference.settings import Settings

app = typer.Typer()
register(app)
SHARE = '[[destinations]]\nname = "share"\nkind = "folder"\npath = "{share}"\n'


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Any]:
    """Run a command with the site's settings file; return its exit code and what it said."""
    config = tmp_path / "vigil.toml"
    config.write_text(
        f'data_dir = "{tmp_path / "var"}"\n' + SHARE.format(share=tmp_path / "share"),
        encoding="utf-8",
    )

    def run(*arguments: object) -> tuple[int, str]:
        result = CliRunner().invoke(app, [*map(str, arguments), "--config", str(config)])
        return result.exit_code, result.output

    return run


def test_dead_letters_are_listed_cancelled_and_sent_again(
    start_site: Callable[..., Site], run: Callable[..., Any], tmp_path: Path
) -> None:
    share = tmp_path / "share"
    site = start_site(
        {"name": "share", "kind": "folder", "path": str(share)}, delivery_give_up_seconds=0.1
    )
    site.receive("0.95")
    rows = site.wait_for("FAILED", "FAILED")
    code, said = run("deliveries", "list", "--state", "FAILED")
    assert code == 1
    assert "2 FAILED" in said
    assert "the folder does not take the file (ENOENT)" in said
    assert rows[0].study_instance_uid in said

    assert run("deliveries", "cancel", rows[1].id) == (0, "1 cancelled\n")
    site.wait_for("FAILED", "CANCELLED")
    share.mkdir()
    assert run("deliveries", "retry", "--to", "share") == (0, "2 to be sent again\n")
    site.wait_for("DELIVERED", "DELIVERED")
    code, said = run("deliveries", "list")
    assert (code, said.splitlines()[-1]) == (0, "2 DELIVERED")

    code, said = run("deliveries", "cancel", rows[0].id)
    assert code == 1
    assert f"left as they are: {rows[0].id}" in said
    code, said = run("deliveries", "retry")
    assert code == 2


def test_a_mistyped_folder_is_not_taken_for_an_empty_service(
    run: Callable[..., Any], tmp_path: Path
) -> None:
    result = CliRunner().invoke(app, ["deliveries", "list", "--data-dir", str(tmp_path / "no")])
    assert isinstance(result.exception, ConfigurationError)
    assert "there is no database" in str(result.exception)
    assert not (tmp_path / "no").exists()


def test_a_study_whose_results_cannot_be_built_is_named_with_the_reason(
    start_site: Callable[..., Site], run: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "share").mkdir()
    site = start_site(
        {"name": "share", "kind": "folder", "path": str(tmp_path / "share")},
        result_quiet_seconds=5,
        delivery_retry_seconds=600,
        delivery_retry_most_seconds=600,
    )
    study = site.receive("0.95")
    site.wait_until(lambda: site.service.store.waiting() == [])
    originals = list((tmp_path / "var" / "instances").glob("*/*.dcm"))
    kept = [path.rename(path.with_suffix(".away")) for path in originals]
    site.wait_until(site.service.delivery.desk.unreleased)
    code, said = run("deliveries", "list")
    assert code == 1
    assert f"no results of study {study}: an original cannot be read" in said
    for path in kept:
        path.rename(path.with_suffix(".dcm"))
    code, said = run("deliveries", "retry", "--study", study)
    assert (code, said.splitlines()[0]) == (0, f"results of study {study} are built again")
    site.wait_for("DELIVERED", "DELIVERED")


def test_the_interface_lists_cancels_and_retries(
    make_file: MakeFile, stow: Callable[..., httpx.Response], tmp_path: Path, until: Any
) -> None:
    share = tmp_path / "share"
    destination = {"name": "share", "kind": "folder", "path": str(share)}
    values = QUICK | {"data_dir": tmp_path / "var", "destinations": [destination]}
    settings = Settings(**values | {"delivery_give_up_seconds": 0.1})
    with serving(settings, Service(settings, FakeModel())) as client:
        assert stow(client, make_file("0.95")).status_code == 200

        def states() -> dict[str, int]:
            return client.get("/api/deliveries").json()["counts"]

        until(lambda: states() == {"FAILED": 2}, 60)
        page = client.get("/api/deliveries", params={"state": "FAILED", "limit": 1}).json()
        [row] = page["deliveries"]
        assert (row["kind"], row["code"], row["destination"]) == ("capture", "ENOENT", "share")
        # A page from elsewhere can send no JSON, and an empty request means nothing.
        plain = client.post(
            "/api/deliveries/cancel",
            content='{"destination": "share"}',
            headers={"Content-Type": "text/plain"},
        )
        assert plain.status_code == 422
        answer = client.post("/api/deliveries/retry", json={})
        assert (answer.status_code, answer.json()["code"]) == (422, "NOTHING_MEANT")
        assert states() == {"FAILED": 2}
        answer = client.post("/api/deliveries/cancel", json={"ids": [row["id"], 999]})
        assert answer.json() == {"ids": [row["id"]]}
        share.mkdir()
        answer = client.post("/api/deliveries/retry", json={"destination": "share"})
        assert len(answer.json()["ids"]) == 2
        until(lambda: states() == {"DELIVERED": 2}, 60)
        # What is handed out is what was delivered, file by file.
        results = client.get(f"/api/studies/{row['study_instance_uid']}/results").json()
        assert len(results) == 2
        for result in results:
            delivered = share / f"{result['sop_instance_uid']}.dcm"
            assert client.get(result["url"]).content == delivered.read_bytes()


def test_rules_test_says_which_rules_a_file_meets_and_why(
    make_file: MakeFile, run: Callable[..., Any], tmp_path: Path
) -> None:
    config = tmp_path / "vigil.toml"
    config.write_text(
        config.read_text(encoding="utf-8")
        + '[[destinations]]\nname = "b"\nkind = "folder"\npath = "/b"\nobjects = ["report"]\n'
        '[[delivery_rules]]\nto = ["share"]\npriorities = ["CRITICAL"]\nsources = ["XR*"]\n'
        '[[delivery_rules]]\nto = ["b"]\ninstitutions = ["bv*"]\n',
        encoding="utf-8",
    )
    path = make_file("0.95", InstitutionName="BV Huyện A")
    code, said = run("rules", "test", path, "--priority", "URGENT", "--source", "XR7")
    assert code == 0
    assert said.splitlines() == [
        "source XR7",
        "institution BV Huyện A",
        "priority URGENT, findings none",
        "rule 1 → share: not met",
        "    ✓ source XR7 is among XR*",
        "    ✗ priority URGENT is not among CRITICAL",
        "rule 2 → b: met",
        "    ✓ institution BV Huyện A is among bv*",
        "goes to b (folder): report",
    ]
    code, said = run("rules", "test", make_file("0.95"), "--priority", "URGENT")
    assert (code, said.splitlines()[-1]) == (1, "goes nowhere")


def test_rules_test_analyses_the_file_where_nothing_is_supposed(
    run: Callable[..., Any],
    phantom_file: Callable[..., Path],
    stand_in_bundle: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("VIGIL_BUNDLE", str(stand_in_bundle))
    code, said = run("rules", "test", phantom_file(1, "effusion"))
    assert code == 0
    assert "findings Effusion" in said
    assert "there are no rules: every result goes to every destination" in said
