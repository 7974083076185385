"""The site's record: what it says from the first start on, and changes that meet."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.inference.conftest import FakeModel, Until
from tests.inference.promotion.bundles import Bundles
from tests.inference.promotion.conftest import Site, asked
from vigil.bundle import load_bundle
from vigil_inference.promotion.record import (
    Change,
    Decision,
    Entry,
    Move,
    SiteModels,
    read_models,
    write_decision,
)
from vigil_inference.promotion.stages import Action, RecordMoved, Stage
from vigil_inference.service import Service
from vigil_inference.store import Store

NOW = datetime(2026, 11, 25, tzinfo=UTC)
A, B, C = (Entry(letter * 64, letter, Stage.LIVE, NOW) for letter in "abc")


def decision(entry: Entry, after: int, *others: Entry, **values: Any) -> Decision:
    common: dict[str, Any] = {"action": Action.SHADOW, "made_by": "hanh", "reason": "a trial"}
    return Decision(after, entry=entry, others=others, **common | values)


def test_the_first_start_writes_the_settings_bundle_down_as_live(
    site: Site, serving: Service, bundles: Bundles
) -> None:
    models = read_models(serving.store)
    [entry], [change] = models.entries, models.changes
    assert (entry.digest, entry.stage) == (load_bundle(bundles.first).digest, Stage.LIVE)
    assert (change.number, change.action, change.reason) == (1, Action.SETTING, "the first start")
    assert change.made_by.endswith("(settings)")
    assert not models.is_decided


def test_a_second_start_with_the_same_bundle_writes_nothing(site: Site, until: Until) -> None:
    for _ in range(2):
        service = site.start()
        until(lambda: service.analysis.status.available)  # noqa: B023
        assert read_models(service.store).number == 1
        service.stop()
        site.nodes.clear()


def test_until_a_person_decides_the_setting_decides_and_the_record_follows(
    site: Site, serving: Service, bundles: Bundles, until: Until
) -> None:
    serving.stop()
    site.nodes.clear()
    service = site.start(bundle=bundles.second)
    until(lambda: service.analysis.status.available)
    assert service.analysis.status.bundle_id == "second"
    assert site.stages(service) == {"first": "retired", "second": "live"}
    former = read_models(service.store).former
    assert former is not None
    assert former.bundle_id == "first"


def test_after_a_person_decided_the_record_wins_over_the_setting(
    site: Site, serving: Service, bundles: Bundles, until: Until
) -> None:
    site.desk(serving).shadow(bundles.third, asked())
    serving.stop()
    site.nodes.clear()
    service = site.start(bundle=bundles.second)
    until(lambda: service.analysis.status.available)
    assert service.analysis.status.bundle_id == "first"


def test_a_service_with_a_given_model_writes_no_record(service: Service, model: FakeModel) -> None:
    service.start()
    assert read_models(service.store) == SiteModels()
    service.stop()


def test_of_two_changes_that_rest_on_the_same_state_the_second_is_told_of_the_first(
    store: Store,
) -> None:
    write_decision(store, decision(replace(A, stage=Stage.SHADOW), 0))
    with pytest.raises(RecordMoved, match="hanh: shadow a aaaaaaaaaaaa \\(a trial\\)"):
        write_decision(store, decision(replace(B, stage=Stage.SHADOW), 0, made_by="nam"))
    models = read_models(store)
    assert [entry.bundle_id for entry in models.entries] == ["a"]
    assert models.number == 1


def test_a_stage_keeps_its_since_when_another_bundle_moves(store: Store) -> None:
    write_decision(store, decision(A, 0))
    [before] = read_models(store).entries
    write_decision(store, decision(replace(B, stage=Stage.SHADOW), 1))
    after = read_models(store).find(A.digest)
    assert after is not None
    assert after.since == before.since


def models_after(*changes: tuple[Action, dict[Entry, tuple[str, Stage]]]) -> SiteModels:
    stages: dict[str, Entry] = {}
    told = []
    for number, (action, moves) in enumerate(changes, 1):
        for entry, (_, to_stage) in moves.items():
            stages[entry.digest] = replace(entry, stage=to_stage)
        moved = tuple(Move(e.digest, e.bundle_id, b, to) for e, (b, to) in moves.items())
        told.append(Change(number, NOW, "hanh", action, "", "", "", moved))
    return SiteModels(tuple(stages.values()), tuple(told))


START = (Action.SETTING, {A: ("", Stage.LIVE)})
SUPERVISED = (
    Action.PROMOTE,
    {B: ("shadow", Stage.SUPERVISED), A: ("live", Stage.SHADOW)},
)
LIVE = (Action.PROMOTE, {B: ("supervised", Stage.LIVE), A: ("shadow", Stage.RETIRED)})
BACK = (Action.ROLLBACK, {A: ("retired", Stage.LIVE), B: ("live", Stage.RETIRED)})
NEXT = (Action.PROMOTE, {C: ("supervised", Stage.LIVE), B: ("shadow", Stage.RETIRED)})


@pytest.mark.parametrize(
    ("changes", "former"),
    [
        ((START,), None),
        ((START, SUPERVISED), "a"),
        ((START, SUPERVISED, LIVE), "a"),
        ((START, SUPERVISED, LIVE, NEXT), "b"),
        # Nothing goes back to a bundle from which somebody went back.
        ((START, SUPERVISED, LIVE, BACK), None),
    ],
)
def test_a_rollback_goes_back_to_the_live_bundle_before(
    changes: tuple[Any, ...], former: str | None
) -> None:
    found = models_after(*changes).former
    assert (found and found.bundle_id) == former
