"""What an administrator is told of stages and shadow work, and that a backup can serve again."""

import io
from pathlib import Path

from rich.console import Console

from tests.inference.conftest import Until, serving
from tests.inference.operations.test_metrics import scrape, value
from tests.inference.promotion.bundles import Bundles
from tests.inference.promotion.conftest import SendFilms, Site, asked, readings
from vigil.bundle import load_bundle
from vigil_inference.operations.backup import write_backup
from vigil_inference.operations.judgement import Level, Limits, judge_status
from vigil_inference.operations.restore import read_backup
from vigil_inference.operations.status import read_status
from vigil_inference.operations.terminal import print_status
from vigil_inference.service import Service


def test_metrics_and_status_say_stages_and_backlog(
    site: Site, bundles: Bundles, send_films: SendFilms, until: Until
) -> None:
    service = site.make()
    with serving(service.settings, service) as client:
        site.nodes.clear()  # the web application starts and stops it
        until(lambda: service.analysis.status.available)
        found = scrape(client)
        assert value(found, "vigil_shadow_pictures_total", outcome="read") == 0
        assert value(found, "vigil_shadow_waiting_pictures") == 0
        site.desk(service).shadow(bundles.second, asked())
        until(lambda: service.shadow.pair)
        send_films(service, 2)
        until(lambda: [row.state for row in readings(service)] == ["read", "read"])
        found = scrape(client)
        assert value(found, "vigil_shadow_pictures_total", outcome="read") == 2
        assert value(found, "vigil_shadow_pictures_total", outcome="dropped") == 0
        for folder, stage in ((bundles.first, "live"), (bundles.second, "shadow")):
            bundle = load_bundle(folder)
            labels = {"bundle": bundle.id, "digest": bundle.digest, "stage": stage}
            assert value(found, "vigil_model_stage_info", **labels) == 1
        status = read_status(service)
        assert status.database is not None
        assert {one.stage for one in status.database.models} == {"live", "shadow"}
        assert status.database.shadow is not None
        assert (status.database.shadow.read, status.database.shadow.waiting) == (2, 0)
        console = Console(width=200, record=True, file=io.StringIO())
        print_status(status, judge_status(status, Limits()), console)
        text = console.export_text()
        assert "0 wait, 2 read, 0 failed" in text
        assert "bundle shadow" in text


def test_a_candidate_that_does_not_read_is_worth_a_warning(site: Site, serving: Service) -> None:
    serving.shadow.problem = "the network was altered"
    judged = judge_status(read_status(serving), Limits())
    assert judged.level is Level.WARNING
    assert judged.sentences == ("the bundle in shadow does not read here: the network was altered",)


def test_a_restored_backup_serves_the_promoted_bundle_and_can_go_back(
    site: Site, serving: Service, bundles: Bundles, until: Until, tmp_path: Path
) -> None:
    if serving.store.is_shared:
        return  # a backup is of the embedded store
    desk = site.desk(serving)
    desk.shadow(bundles.second, asked())
    desk.promote("second", asked(anyway=True))
    until(lambda: serving.analysis.status.bundle_id == "second")
    manifest = write_backup(serving.settings, tmp_path / "backup.tar")
    assert sum(name.startswith("bundles/") for name in manifest.members) == 6
    elsewhere = site.settings(data_dir=tmp_path / "elsewhere", bundle=tmp_path / "nowhere")
    read_backup(elsewhere, tmp_path / "backup.tar")
    restored = site.start(data_dir=tmp_path / "elsewhere", bundle=tmp_path / "nowhere")
    until(lambda: restored.analysis.status.available)
    assert restored.analysis.status.bundle_id == "second"
    site.desk(restored, data_dir=tmp_path / "elsewhere").rollback(asked())
    until(lambda: restored.analysis.status.bundle_id == "first")
