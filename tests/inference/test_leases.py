"""Who works on which row, on both databases."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import update

from tests.inference.test_store import analysed, arrival
from vigil.triage import Priority
from vigil_inference.leases import Lease, Leases
from vigil_inference.picture_queue import Claim, PictureQueue
from vigil_inference.store import Store
from vigil_inference.tables import Instance


@pytest.fixture
def queue(store: Store) -> PictureQueue:
    return PictureQueue(store, Leases(store))


def add(store: Store, count: int) -> list[int]:
    return [store.add(arrival(f"1.2.{number}")).instance_id for number in range(count)]


def silence(store: Store) -> None:
    """Let every lease end, as when whoever holds them has died a while ago."""
    with store.writing() as session:
        session.execute(update(Instance).values(leased_until=store.now() - timedelta(seconds=1)))


def row(store: Store, instance_id: int) -> Instance:
    with store.reading() as session:
        return session.get_one(Instance, instance_id)


def test_many_workers_never_get_the_same_picture(store: Store) -> None:
    ids = add(store, 40)
    queues = [PictureQueue(store, Leases(store)) for _ in range(8)]

    def take_all(queue: PictureQueue) -> list[int]:
        taken = []
        while (claim := queue.claim()) is not None:
            taken.append(claim.task.instance_id)
        return taken

    with ThreadPoolExecutor(8) as pool:
        taken = [number for numbers in pool.map(take_all, queues) for number in numbers]
    assert sorted(taken) == ids


def test_a_claim_tells_all_that_is_needed_and_counts_the_attempt(
    store: Store, queue: PictureQueue
) -> None:
    [number] = add(store, 1)
    claim = queue.claim()
    assert claim is not None
    assert claim.task.instance_id == number
    assert (claim.task.study_instance_uid, claim.task.file_path) == ("1.2", "instances/1.2.0.dcm")
    assert (claim.task.attempts, row(store, number).attempts) == (0, 1)
    assert row(store, number).owner.startswith(store.node_id)
    assert queue.claim() is None
    assert queue.count() == 1


def test_pictures_are_taken_by_arrival_and_suspects_after_all_others(
    store: Store, queue: PictureQueue
) -> None:
    ids = add(store, 3)
    assert taken(queue.claim()) == ids[0]  # and then the process died
    silence(store)
    assert [taken(queue.claim()) for _ in range(4)] == [ids[1], ids[2], ids[0], None]


def test_a_suspect_may_be_let_before_the_others_or_left_alone(
    store: Store, queue: PictureQueue
) -> None:
    ids = add(store, 3)
    queue.claim()
    silence(store)
    assert taken(queue.claim(suspects=False)) == ids[1]
    assert taken(queue.claim(suspects_first=True)) == ids[0]
    silence(store)
    assert taken(queue.claim(suspects=False)) == ids[2]
    assert queue.claim(suspects=False) is None


def test_who_fell_silent_is_replaced_and_cannot_write_any_more(
    store: Store, queue: PictureQueue
) -> None:
    [number] = add(store, 1)
    silent = queue.claim()
    silence(store)
    other = queue.claim()
    assert silent is not None
    assert other is not None
    assert other.task.attempts == 1
    assert not store.record_result(number, analysed(Priority.CRITICAL), silent.lease.token)
    assert row(store, number).state == "received"
    assert store.record_result(number, analysed(Priority.ROUTINE), other.lease.token)
    assert (row(store, number).priority, row(store, number).owner) == ("ROUTINE", "")
    assert row(store, number).leased_until is None


def test_a_lease_is_renewed_while_the_work_lasts_and_only_then(store: Store) -> None:
    add(store, 2)
    leases = Leases(store, seconds=20)
    queue = PictureQueue(store, leases)
    held, other = queue.claim(), queue.claim()
    assert held is not None
    assert other is not None
    longer = Leases(store, seconds=100)
    with longer.held(held.lease), store.writing() as session:
        longer.renew(session)
    with store.writing() as session:
        longer.renew(session)  # nothing is held any more
    assert ends(store, held.lease) > store.now() + timedelta(seconds=60)
    assert ends(store, other.lease) < store.now() + timedelta(seconds=21)


def test_a_lease_that_another_took_is_not_renewed(store: Store, queue: PictureQueue) -> None:
    add(store, 1)
    silent = queue.claim()
    silence(store)
    assert silent is not None
    other = queue.claim()
    assert other is not None
    longer = Leases(store, seconds=500)
    with longer.held(silent.lease), store.writing() as session:
        longer.renew(session)
    assert ends(store, other.lease) < store.now() + timedelta(seconds=60)


def test_a_lease_that_ended_while_the_database_was_away_is_renewed_if_nobody_took_the_row(
    store: Store,
) -> None:
    add(store, 1)
    leases = Leases(store)
    claim = PictureQueue(store, leases).claim()
    assert claim is not None
    silence(store)
    with leases.held(claim.lease), store.writing() as session:
        leases.renew(session)
    assert PictureQueue(store, Leases(store)).claim() is None


def test_a_picture_that_is_put_off_waits_and_its_attempt_does_not_count(
    store: Store, queue: PictureQueue
) -> None:
    [number] = add(store, 1)
    claim = queue.claim()
    assert claim is not None
    queue.put_off(claim, 30)
    assert row(store, number).attempts == 0
    assert queue.claim() is None
    silence(store)
    assert taken(queue.claim()) == number


def test_a_row_that_is_given_back_is_free_at_once(store: Store) -> None:
    [number] = add(store, 1)
    leases = Leases(store)
    queue = PictureQueue(store, leases)
    claim = queue.claim()
    assert claim is not None
    leases.give_back(claim.lease)
    assert taken(queue.claim()) == number


def test_the_only_process_on_a_database_frees_what_was_leased_before_it_came(store: Store) -> None:
    ids = add(store, 2)
    PictureQueue(store, Leases(store)).claim()
    fresh = Leases(store)
    fresh.free_all()
    again = [taken(PictureQueue(store, fresh).claim()) for _ in range(2)]
    assert again == [ids[1], ids[0]]


def test_nodes_agree_on_the_time_though_one_has_a_wrong_date(
    postgresql: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = Store(postgresql)
    add(right, 1)
    assert PictureQueue(right, Leases(right)).claim() is not None

    class Tomorrow(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:
            return datetime.now(UTC) + timedelta(days=1)

    monkeypatch.setattr("vigil_inference.database.datetime", Tomorrow)
    wrong = Store(postgresql)
    assert abs((wrong.now() - right.now()).total_seconds()) < 1
    assert PictureQueue(wrong, Leases(wrong)).claim() is None
    right.close()
    wrong.close()


def taken(claim: Claim | None) -> int | None:
    return None if claim is None else claim.task.instance_id


def ends(store: Store, lease: Lease) -> datetime:
    until = row(store, lease.row_id).leased_until
    assert until is not None
    return until
