"""The states of deliveries, without any destination."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import update

from vigil.triage import Priority
from vigil_inference.delivery.desk import Desk, Selection
from vigil_inference.delivery.dispatch import backoff_seconds
from vigil_inference.delivery.ledger import Ledger, Step
from vigil_inference.delivery.states import DeliveryState
from vigil_inference.delivery.tables import Delivery, ResultObject, ResultSet
from vigil_inference.leases import Leases
from vigil_inference.store import Store
from vigil_inference.tables import Study

NOW = datetime(2026, 11, 21, 8, tzinfo=UTC)


@pytest.fixture
def leases(store: Store) -> Leases:
    return Leases(store)


@pytest.fixture
def ledger(store: Store, leases: Leases) -> Ledger:
    return Ledger(store, leases, give_up_seconds=3600)


def add(store: Store, number: int, priority: Priority = Priority.ROUTINE) -> None:
    """Add a study with one report on its way to the PACS."""
    with store.writing() as session:
        study = Study(
            study_instance_uid=f"1.2.{number}",
            received_at=NOW,
            reading_order=priority.reading_order,
        )
        session.add(study)
        session.flush()
        result_set = ResultSet(
            study_id=study.id, number=1, basis="", objects=[], message_id=f"m{number}",
            message="{}", released_at=NOW,
        )  # fmt: skip
        session.add(result_set)
        session.flush()
        item = ResultObject(
            result_set_id=result_set.id, kind="report", sop_class_uid="1.1",
            sop_instance_uid=f"1.9.{number}", series_instance_uid="1.8", instance_number=1,
            file_path="x", sha256="0" * 64, size_bytes=1,
        )  # fmt: skip
        session.add(item)
        session.flush()
        session.add(
            Delivery(
                study_id=study.id,
                result_set_id=result_set.id,
                result_object_id=item.id,
                destination="pacs",
                subject=item.sop_instance_uid,
                created_at=NOW,
                due_at=NOW,
            )
        )


def state(store: Store) -> list[tuple[str, str, int]]:
    rows = Desk(store).rows(Selection(), limit=100)
    return [(row.state.value, row.code, row.attempts) for row in reversed(rows)]


def test_many_workers_never_get_the_same_delivery(store: Store, ledger: Ledger) -> None:
    for number in range(12):
        add(store, number)

    def claim(_worker: int) -> list[int]:
        taken = []
        while (parcel := ledger.claim("pacs", with_proof=True)) is not None:
            taken.append(parcel.delivery_id)
        return taken

    with ThreadPoolExecutor(8) as pool:
        taken = [number for numbers in pool.map(claim, range(8)) for number in numbers]
    assert sorted(taken) == list(range(1, 13))
    assert state(store) == [("SENDING", "", 1)] * 12


def test_critical_studies_are_taken_first_and_then_the_older_ones(
    store: Store, ledger: Ledger
) -> None:
    for number, priority in enumerate(
        (Priority.ROUTINE, Priority.URGENT, Priority.CRITICAL, Priority.ROUTINE, Priority.CRITICAL)
    ):
        add(store, number, priority)
    order = []
    while (parcel := ledger.claim("pacs", with_proof=True)) is not None:
        order.append(parcel.study_instance_uid)
    assert order == ["1.2.2", "1.2.4", "1.2.1", "1.2.0", "1.2.3"]


def test_proof_is_asked_for_after_all_that_is_to_be_sent_and_only_where_it_is_wanted(
    store: Store, ledger: Ledger
) -> None:
    add(store, 0)
    parcel = ledger.claim("pacs", with_proof=True)
    assert parcel is not None
    assert ledger.sent(parcel, "C_STORE_0000", "")
    assert state(store) == [("SENT", "C_STORE_0000", 1)]
    assert ledger.claim("pacs", with_proof=False) is None
    add(store, 1)
    steps = [ledger.claim("pacs", with_proof=True) for _ in range(2)]
    assert [step and step.step for step in steps] == [Step.SEND, Step.PROVE]
    assert steps[1] is not None
    assert ledger.delivered(steps[1], "C_FIND", "")
    assert state(store)[0] == ("DELIVERED", "C_FIND", 1)


def test_who_fell_silent_is_replaced_and_cannot_speak_any_more(
    store: Store, ledger: Ledger
) -> None:
    add(store, 0)
    silent = ledger.claim("pacs", with_proof=True)
    assert silent is not None
    assert ledger.claim("pacs", with_proof=True) is None
    with store.writing() as session:
        session.execute(
            update(Delivery).values(leased_until=datetime.now(UTC) - timedelta(seconds=1))
        )
    other = ledger.claim("pacs", with_proof=True)
    assert other is not None
    assert (other.was_interrupted, other.attempts) == (True, 2)
    assert not ledger.sent(silent, "C_STORE_0000", "")
    assert state(store) == [("SENDING", "", 2)]
    assert ledger.sent(other, "C_STORE_0000", "")


def test_what_a_process_was_sending_when_it_ended_is_taken_up_by_the_next_start(
    store: Store, ledger: Ledger
) -> None:
    add(store, 0)
    assert ledger.claim("pacs", with_proof=True) is not None
    Leases(store).free_all()  # what a start does where no other process can be at work
    again = ledger.claim("pacs", with_proof=True)
    assert again is not None
    assert (again.was_interrupted, again.attempts) == (True, 2)


def test_a_delivery_that_is_being_sent_is_neither_cancelled_nor_sent_again(
    store: Store, ledger: Ledger
) -> None:
    add(store, 0)
    assert ledger.claim("pacs", with_proof=True) is not None
    assert Desk(store).cancel(Selection(ids=(1,))) == []
    assert Desk(store).retry(Selection(ids=(1,))) == []


def test_cancelled_is_not_sent_and_retried_begins_anew(store: Store, ledger: Ledger) -> None:
    add(store, 0)
    assert Desk(store).cancel(Selection(destination="pacs")) == [1]
    assert ledger.claim("pacs", with_proof=True) is None
    assert Desk(store).retry(Selection(destination="pacs")) == [1]
    parcel = ledger.claim("pacs", with_proof=True)
    assert parcel is not None
    assert parcel.attempts == 1
    assert ledger.fail(parcel, "C_STORE_C000", "refused")
    assert state(store) == [("FAILED", "C_STORE_C000", 1)]
    assert Desk(store).retry(Selection(states=(DeliveryState.FAILED,))) == [1]
    assert state(store) == [("PENDING", "", 0)]


def test_a_report_of_commitment_counts_once_and_only_if_it_was_asked_for(
    store: Store, ledger: Ledger
) -> None:
    add(store, 0)
    parcel = ledger.claim("pacs", with_proof=True)
    assert parcel is not None
    ledger.sent(parcel, "C_STORE_0000", "")
    proof = ledger.claim("pacs", with_proof=True)
    assert proof is not None
    assert ledger.note_commitment(proof, "1.5")
    assert not ledger.committed("1.6")
    assert not ledger.committed("")
    assert ledger.committed("1.5")
    assert not ledger.committed("1.5")
    # The answer to the question came after the report: it changes nothing any more.
    assert not ledger.put_off(proof, 60, "COMMITMENT_ASKED", "")
    assert state(store) == [("DELIVERED", "COMMITTED", 1)]


def test_waits_double_up_to_the_longest_and_half_of_each_is_chance() -> None:
    for attempts, whole in ((1, 30), (2, 60), (4, 240), (8, 3600), (400, 3600)):
        waits = [backoff_seconds(attempts, 30, 3600) for _ in range(200)]
        assert whole / 2 <= min(waits) < whole * 0.6
        assert whole * 0.9 < max(waits) <= whole
