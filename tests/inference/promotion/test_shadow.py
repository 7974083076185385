"""A bundle in shadow reads what the serving one reads, and changes nothing that anybody sees."""

import os
import shutil
import signal
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

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
from vigil_inference.leases import Leases
from vigil_inference.promotion import reader as reader_module
from vigil_inference.promotion.queue import Pair, ShadowQueue, count_unread
from vigil_inference.promotion.record import read_models
from vigil_inference.promotion.tables import ModelBundle, ShadowReading
from vigil_inference.records import AnalysisRecord
from vigil_inference.service import Service
from vigil_inference.tables import Instance, State
from vigil_inference.worklist import read_study, read_worklist


def read(service: Service) -> list[Any]:
    return [row for row in readings(service) if row.state == "read"]


def test_every_picture_is_read_in_shadow_and_no_row_of_the_serving_path_changes(
    site: Site, serving: Service, bundles: Bundles, send_films: SendFilms, until: Until
) -> None:
    site.desk(serving).shadow(bundles.second, asked())
    until(lambda: serving.shadow.pair)
    send_films(serving, 3)
    send_films(serving, 2, "effusion")
    until(lambda: all_answered(serving))
    before = [dict(vars(row)) for row in instances(serving)]
    studies = read_worklist(serving.store, serving.analysis.status).studies
    until(lambda: len(read(serving)) == 5)
    after = [dict(vars(row)) for row in instances(serving)]
    for rows in (before, after):
        for row in rows:
            row.pop("_sa_instance_state")
    assert after == before
    assert {row["bundle_digest"] for row in after} == {serving.analysis.status.bundle_digest}
    seen = read_worklist(serving.store, serving.analysis.status).studies
    assert [(s.priority, s.flags, s.reason) for s in seen] == [
        (s.priority, s.flags, s.reason) for s in studies
    ]
    for row in read(serving):
        record = AnalysisRecord.model_validate(row.record)
        assert (record.bundle_id, row.bundle_digest) == ("second", record.bundle_digest)
        assert row.serving_digest == serving.analysis.status.bundle_digest
        assert {finding.threshold for finding in record.findings} == {0.02, 0.5}


def test_what_shadow_says_is_nowhere_on_the_study_page(
    site: Site, serving: Service, bundles: Bundles, send_films: SendFilms, until: Until
) -> None:
    site.desk(serving).shadow(bundles.second, asked())
    until(lambda: serving.shadow.pair)
    send_films(serving, 1, "effusion")
    until(lambda: len(read(serving)) == 1)
    [study] = read_worklist(serving.store, serving.analysis.status).studies
    detail = read_study(
        serving.store, serving.analysis.status, study.study_instance_uid, heat_maps=True
    )
    assert detail is not None
    said = detail.model_dump_json() + study.model_dump_json()
    assert '"second"' not in said
    assert read_models(serving.store).shadow.digest not in said  # type: ignore[union-attr]


def pair_of(service: Service) -> Pair:
    models = read_models(service.store)
    assert models.shadow is not None
    assert models.serving is not None
    return Pair(models.shadow, models.serving, models.is_supervised)


@pytest.fixture
def silent(
    site: Site, serving: Service, bundles: Bundles, send_films: SendFilms, until: Until
) -> Service:
    """A service that answered four pictures while a bundle was in shadow that did not read."""
    serving.shadow.stop()
    site.desk(serving).shadow(bundles.second, asked())
    until(lambda: serving.shadow.pair)
    send_films(serving, 4)
    until(lambda: all_answered(serving))
    return serving


def queue_of(service: Service, most_waiting: int = 100) -> ShadowQueue:
    return ShadowQueue(service.store, Leases(service.store, 60), most_waiting)


def test_a_picture_that_waits_is_taken_before_one_that_waits_for_shadow(silent: Service) -> None:
    queue, pair = queue_of(silent), pair_of(silent)
    waiting = instances(silent)[-1].id
    with silent.store.writing() as session:
        session.execute(
            update(Instance)
            .where(Instance.id == waiting)
            # Nobody may take it yet, and then somebody may.
            .values(state=State.RECEIVED.value, leased_until=silent.store.now(), attempts=0)
        )
    silent.analysis.stop()
    assert queue.claim(pair) is None
    with silent.store.writing() as session:
        session.execute(
            update(Instance).where(Instance.id == waiting).values(state=State.ANALYSED.value)
        )
    task = queue.claim(pair)
    assert task is not None
    assert task.instance_id == instances(silent)[0].id


def test_while_pictures_come_the_serving_bundle_is_never_behind_shadow_work(
    site: Site, serving: Service, bundles: Bundles, send_films: SendFilms, until: Until
) -> None:
    site.desk(serving).shadow(bundles.second, asked())
    until(lambda: serving.shadow.pair)
    send_films(serving, 8)
    until(lambda: len(read(serving)) == 8)
    # The first shadow reading was taken when nothing waited any more: it ends after all answers.
    answered = [row.analysed_at for row in instances(serving)]
    taken_behind = [row for row in read(serving) if row.read_at < max(answered)]
    waiting_then = [
        (row.instance_id, other.id)
        for row in taken_behind
        for other in instances(serving)
        if other.received_at < row.read_at < other.analysed_at
    ]
    # At most the one that was in work when the others came.
    assert len({reading for reading, _ in waiting_then}) <= 1


def test_too_long_a_backlog_loses_its_oldest_pictures_and_counts_them(silent: Service) -> None:
    queue, pair = queue_of(silent, most_waiting=1), pair_of(silent)
    assert queue.trim(pair) == 3
    with silent.store.reading() as session:
        assert session.get(ModelBundle, pair.shadow.digest).shadow_dropped == 3  # type: ignore[union-attr]
        assert count_unread(session, pair) == 1
    assert queue.trim(pair) == 0
    task = queue.claim(pair)
    assert task is not None
    assert task.instance_id == instances(silent)[-1].id
    assert queue.claim(pair) is None


def test_a_picture_that_was_in_shadow_work_when_its_process_died_is_taken_again(
    silent: Service,
) -> None:
    queue, pair = queue_of(silent), pair_of(silent)
    first = queue.claim(pair)
    assert first is not None
    taken = [queue.claim(pair) for _ in range(3)]
    assert first.instance_id not in {task.instance_id for task in taken if task}
    with silent.store.writing() as session:
        session.execute(
            update(ShadowReading)
            .where(ShadowReading.instance_id == first.instance_id)
            .values(leased_until=silent.store.now() - timedelta(seconds=1))
        )
    again = queue.claim(pair)
    assert again is not None
    assert (again.instance_id, again.attempts) == (first.instance_id, 2)
    assert not queue.keep(first, AnalysisRecord.model_validate(instances(silent)[0].result))
    assert queue.keep(again, AnalysisRecord.model_validate(instances(silent)[0].result))


def test_two_nodes_take_different_pictures(silent: Service) -> None:
    pair, taken = pair_of(silent), []
    queues = [queue_of(silent), queue_of(silent)]

    def take(queue: ShadowQueue) -> None:
        tasks = [queue.claim(pair) for _ in range(4)]
        taken.extend(task.instance_id for task in tasks if task)

    threads = [threading.Thread(target=take, args=(queue,)) for queue in queues]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    while task := queues[0].claim(pair):  # where both looked at one row at the same moment
        taken.append(task.instance_id)
    assert sorted(taken) == [row.id for row in instances(silent)]


def test_a_network_that_ends_its_process_ends_neither_the_service_nor_its_answers(
    site: Site,
    serving: Service,
    bundles: Bundles,
    send_films: SendFilms,
    until: Until,
) -> None:
    site.desk(serving).shadow(bundles.second, asked())
    until(lambda: serving.shadow._reader)
    reader = serving.shadow._reader
    assert reader is not None
    os.kill(reader._process.pid, signal.SIGKILL)
    send_films(serving, 2)
    until(lambda: all_answered(serving))
    until(lambda: len(read(serving)) == 2)
    assert serving.shadow._reader is not reader
    assert {row.state for row in instances(serving)} == {"analysed"}
    assert max(row.attempts for row in read(serving)) == 2


def test_a_picture_that_ends_the_reader_each_time_is_given_up_and_the_next_is_read(
    site: Site,
    serving: Service,
    bundles: Bundles,
    send_films: SendFilms,
    until: Until,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = reader_module.ShadowReader.read
    deadly: list[str] = []

    def read_or_die(self: reader_module.ShadowReader, path: Path) -> AnalysisRecord:
        deadly.append(path.name) if not deadly else None
        if path.name == deadly[0]:
            os.kill(self._process.pid, signal.SIGSEGV)
        return real(self, path)

    monkeypatch.setattr(reader_module.ShadowReader, "read", read_or_die)
    site.desk(serving).shadow(bundles.second, asked())
    until(lambda: serving.shadow.pair)
    send_films(serving, 2)
    until(lambda: {row.state for row in readings(serving)} == {"read", "failed"})
    [failed] = [row for row in readings(serving) if row.state == "failed"]
    assert (failed.attempts, failed.record) == (3, None)
    assert "SIGSEGV" in failed.problem or "had ended" in failed.problem
    assert {row.state for row in instances(serving)} == {"analysed"}


def _cut(place: Path) -> None:
    place.chmod(0o755)
    (place / "model.onnx").chmod(0o644)
    (place / "model.onnx").write_bytes(b"no network")


@pytest.mark.parametrize("harm", [_cut, shutil.rmtree])
def test_a_candidate_that_breaks_on_the_shelf_is_told_and_pictures_are_answered(
    site: Site,
    serving: Service,
    bundles: Bundles,
    send_films: SendFilms,
    until: Until,
    harm: Callable[[Path], None],
) -> None:
    serving.shadow.stop()
    site.desk(serving).shadow(bundles.second, asked())
    digest = read_models(serving.store).shadow.digest  # type: ignore[union-attr]
    harm(serving.settings.data_dir / "bundles" / digest)
    shutil.rmtree(bundles.second)
    again = site.start() if serving.store.is_shared else restart(site, serving)
    until(lambda: again.shadow.problem)
    send_films(again, 2)
    until(lambda: all_answered(again))
    assert {row.state for row in instances(again)} == {"analysed"}
    assert again.checks()["model"] == "ok"
    assert readings(again) == []


def restart(site: Site, service: Service) -> Service:
    service.stop()
    site.nodes.remove(service)
    return site.start()


def test_a_restart_goes_on_with_what_was_not_read(
    site: Site, silent: Service, until: Until
) -> None:
    again = restart(site, silent)
    until(lambda: len(read(again)) == 4)


def test_the_reader_process_steps_behind_everything_else(
    site: Site, serving: Service, bundles: Bundles, until: Until
) -> None:
    site.desk(serving).shadow(bundles.second, asked())
    reader = until(lambda: serving.shadow._reader)
    pid = reader._process.pid
    assert os.getpriority(os.PRIO_PROCESS, pid) == 19
    assert Path(f"/proc/{pid}/oom_score_adj").read_text().strip() == "1000"
    serving.shadow.stop()
    assert not Path(f"/proc/{pid}").exists()
