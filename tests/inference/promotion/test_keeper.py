"""Promotion and rollback while nodes serve."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.inference.conftest import Until
from tests.inference.promotion.bundles import Bundles
from tests.inference.promotion.conftest import (
    SendFilms,
    Site,
    all_answered,
    asked,
    instances,
    readings,
)
from tests.inference.promotion.test_shadow import restart
from vigil.triage import Priority
from vigil_inference.promotion.record import read_models
from vigil_inference.records import SUPERVISED_NOTE, AnalysisRecord
from vigil_inference.service import Service
from vigil_inference.tables import Study
from vigil_inference.worklist import read_study, read_worklist


def serves(service: Service, bundle_id: str) -> bool:
    return service.analysis.status.bundle_id == bundle_id


def shown(service: Service) -> list[tuple[str, Priority]]:
    page = read_worklist(service.store, service.analysis.status)
    return sorted((study.study_instance_uid, study.priority) for study in page.studies)


def answered_by(service: Service) -> list[str]:
    return [row.bundle_id for row in instances(service)]


def test_the_whole_way_from_shadow_to_live_and_back_while_serving(
    site: Site, serving: Service, bundles: Bundles, send_films: SendFilms, until: Until
) -> None:
    desk = site.desk(serving)
    desk.shadow(bundles.second, asked())
    until(lambda: serving.shadow.pair)
    send_films(serving, 3, "effusion")
    until(lambda: len([row for row in readings(serving) if row.state == "read"]) == 3)
    before = shown(serving)

    desk.promote("second", asked())
    until(lambda: serves(serving, "second"))
    assert site.stages(serving) == {"first": "shadow", "second": "supervised"}
    assert shown(serving) == before
    send_films(serving, 3, "effusion")
    until(lambda: all_answered(serving))
    until(lambda: len([row for row in readings(serving) if row.state == "read"]) == 6)
    assert answered_by(serving) == ["first"] * 3 + ["second"] * 3
    assert [row.is_supervising for row in readings(serving)] == [False] * 3 + [True] * 3
    records = [AnalysisRecord.model_validate(row.result) for row in instances(serving)]
    assert [record.is_supervised for record in records] == [False] * 3 + [True] * 3
    assert [SUPERVISED_NOTE in record.notes for record in records] == [False] * 3 + [True] * 3

    desk.promote("second", asked())
    until(lambda: serving.shadow.pair is None)
    send_films(serving, 1)
    until(lambda: all_answered(serving))
    assert AnalysisRecord.model_validate(instances(serving)[-1].result).is_supervised is False
    assert site.stages(serving) == {"first": "retired", "second": "live"}

    desk.rollback(asked("too many alarms"))
    until(lambda: serves(serving, "first"))
    assert site.stages(serving) == {"first": "live", "second": "retired"}
    send_films(serving, 1)
    until(lambda: all_answered(serving))
    assert answered_by(serving)[-1] == "first"
    # What the other answered stays as it was said, with its name.
    assert answered_by(serving)[3:7] == ["second"] * 4
    assert serving.checks()["model"] == "ok"
    history = [
        (change.action.value, change.made_by) for change in read_models(serving.store).changes
    ]
    assert history[1:] == [
        (action, "hanh@station") for action in ("shadow", "promote", "promote", "rollback")
    ]


def test_a_promotion_lowers_no_priority(
    site: Site, serving: Service, bundles: Bundles, send_films: SendFilms, until: Until
) -> None:
    send_films(serving, 4, "effusion")
    send_films(serving, 2)
    until(lambda: all_answered(serving))
    before = shown(serving)
    assert {Priority.CRITICAL, Priority.ROUTINE} <= {priority for _, priority in before}
    desk = site.desk(serving)
    desk.shadow(bundles.third, asked())
    desk.promote("third", asked(anyway=True))
    until(lambda: serves(serving, "third"))
    desk.rollback(asked())
    until(lambda: serves(serving, "first"))
    assert shown(serving) == before
    with serving.store.reading() as session:
        assert session.query(Study).count() == 6


def test_a_picture_in_work_keeps_the_bundle_that_began_it(
    site: Site, serving: Service, bundles: Bundles, send_films: SendFilms, until: Until
) -> None:
    import threading

    model: Any = serving.analysis._model
    began, go_on = threading.Event(), threading.Event()
    real = model.triage

    def slow(path: Path) -> Any:
        began.set()
        assert go_on.wait(60)
        return real(path)

    model.triage = slow
    send_films(serving, 1)
    assert began.wait(60)
    desk = site.desk(serving)
    desk.shadow(bundles.second, asked())
    desk.promote("second", asked(anyway=True))
    until(lambda: serves(serving, "second"))
    go_on.set()
    until(lambda: all_answered(serving))
    [row] = instances(serving)
    record = AnalysisRecord.model_validate(row.result)
    assert (row.bundle_id, record.bundle_id, record.is_supervised) == ("first", "first", False)


def test_under_supervision_the_study_page_says_so(
    site: Site, serving: Service, bundles: Bundles, send_films: SendFilms, until: Until
) -> None:
    desk = site.desk(serving)
    desk.shadow(bundles.second, asked())
    desk.promote("second", asked(anyway=True))
    until(lambda: serves(serving, "second"))
    send_films(serving, 1)
    until(lambda: all_answered(serving))
    page = read_worklist(serving.store, serving.analysis.status)
    detail = read_study(
        serving.store, serving.analysis.status, page.studies[0].study_instance_uid, heat_maps=True
    )
    assert detail is not None
    assert detail.instances[0].is_supervised
    assert SUPERVISED_NOTE in detail.instances[0].notes


def test_a_node_that_cannot_load_the_new_bundle_says_so_and_goes_on(
    site: Site, serving: Service, bundles: Bundles, send_films: SendFilms, until: Until
) -> None:
    desk = site.desk(serving)
    desk.shadow(bundles.second, asked())
    digest = read_models(serving.store).shadow.digest  # type: ignore[union-attr]
    place = serving.settings.data_dir / "bundles" / digest
    # The shelf of this node is gone in the moment of the promotion, as an unmounted share is.
    serving.models._shelf = type(serving.models._shelf)(
        serving.settings.model_copy(update={"bundles_dir": site.folder / "not-mounted"})
    )
    shutil.rmtree(bundles.second)
    desk.promote("second", asked(anyway=True))
    until(lambda: serving.checks()["model"] != "ok")
    said = serving.checks()["model"]
    assert said.startswith("goes on with first ")
    assert "which is supervised by the record, cannot be served here" in said
    send_films(serving, 1)
    until(lambda: all_answered(serving))
    assert answered_by(serving) == ["first"]
    # As soon as it can be loaded, it is.
    (site.folder / "not-mounted").mkdir()
    shutil.copytree(place, site.folder / "not-mounted" / digest)
    until(lambda: serves(serving, "second"))
    assert serving.checks()["model"] == "ok"


def test_a_restart_serves_what_the_record_says_from_the_shelf(
    site: Site, serving: Service, bundles: Bundles, send_films: SendFilms, until: Until
) -> None:
    desk = site.desk(serving)
    desk.shadow(bundles.second, asked())
    desk.promote("second", asked(anyway=True))
    until(lambda: serves(serving, "second"))
    for folder in bundles:
        shutil.rmtree(folder)
    again = restart(site, serving)
    until(lambda: again.analysis.status.available)
    assert serves(again, "second")
    send_films(again, 1)
    until(lambda: all_answered(again))
    assert AnalysisRecord.model_validate(instances(again)[0].result).is_supervised
    site.desk(again).rollback(asked())
    until(lambda: serves(again, "first"))


@pytest.fixture
def two_nodes(
    tmp_path: Path, postgresql: str, bundles: Bundles, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Site, Service, Service]]:
    monkeypatch.setattr("vigil_inference.promotion.keeper._LOOK_SECONDS", 0.05)
    monkeypatch.setattr("vigil_inference.promotion.shadow._LOOK_SECONDS", 0.05)
    site = Site(tmp_path, postgresql, bundles.first)
    yield site, site.start(node_name="one"), site.start(has_doors=False, node_name="two")
    for node in site.nodes:
        node.stop()


def test_two_nodes_follow_one_promotion_and_share_the_shadow_work(
    two_nodes: tuple[Site, Service, Service],
    bundles: Bundles,
    send_films: SendFilms,
    until: Until,
) -> None:
    site, one, two = two_nodes
    until(lambda: one.analysis.status.available and two.analysis.status.available)
    assert read_models(one.store).number == 1
    desk = site.desk(one)
    desk.shadow(bundles.second, asked())
    until(lambda: one.shadow.pair and two.shadow.pair)
    send_films(one, 6)
    until(lambda: len([row for row in readings(one) if row.state == "read"]) == 6)
    assert len({row.instance_id for row in readings(one)}) == 6
    desk.promote("second", asked())
    until(lambda: serves(one, "second") and serves(two, "second"))
    desk.rollback(asked())
    until(lambda: serves(one, "first") and serves(two, "first"))
