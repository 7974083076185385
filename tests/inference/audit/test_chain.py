"""The audit trail's rows stay, and one that does not is found."""

import threading
from collections.abc import Callable
from contextlib import closing

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError

from vigil_inference.audit.chain import verify
from vigil_inference.audit.tables import AuditRow
from vigil_inference.audit.trail import AuditEvent, AuditTrail
from vigil_inference.store import Store

TRIGGERS = ("audit_events_stay", "audit_events_remain", "audit_head_advances", "audit_head_remains")


def filled(store: Store, count: int = 20) -> AuditTrail:
    trail = AuditTrail(store)
    for number in range(count):
        trail.append(AuditEvent("hạnh", f"action-{number}", "1.2.3", 200, "", "192.0.2.1"))
    return trail


def problems_of(store: Store, noted: tuple[int, str] | None = None) -> list[str]:
    with store.reading() as session:
        return verify(session, noted)[0]


def tamper(store: Store, *statements: str) -> None:
    """Do what somebody can who owns the database: take the triggers away first."""
    with store.engine.begin() as connection:
        for name in TRIGGERS:
            table = "audit_head" if "head" in name else "audit_events"
            on = "" if connection.dialect.name == "sqlite" else f" ON {table}"
            connection.execute(text(f"DROP TRIGGER {name}{on}"))
        for statement in statements:
            connection.execute(text(statement))


def test_what_was_written_verifies(store: Store) -> None:
    assert problems_of(store) == []
    filled(store)
    with store.reading() as session:
        problems, last_id, sha256 = verify(session)
    assert (problems, last_id) == ([], 20)
    assert problems_of(store, (20, sha256)) == []


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_events SET account = 'somebody' WHERE id = 3",
        "DELETE FROM audit_events WHERE id = 3",
        "DELETE FROM audit_events",
        "DELETE FROM audit_head",
        "UPDATE audit_head SET last_id = 3",
    ],
)
def test_the_database_refuses_to_change_or_remove_a_row(store: Store, statement: str) -> None:
    filled(store, 5)
    with pytest.raises(DBAPIError, match="append-only"), store.engine.begin() as connection:
        connection.execute(text(statement))
    assert problems_of(store) == []


@pytest.mark.parametrize(
    ("statements", "found"),
    [
        (
            ["UPDATE audit_events SET account = 'somebody' WHERE id = 7"],
            ["event 7 is not what was written there"],
        ),
        (
            ["UPDATE audit_events SET outcome = 403 WHERE id = 20"],
            ["event 20 is not what was written there"],
        ),
        (["DELETE FROM audit_events WHERE id = 7"], ["event 7 is missing"]),
        (
            ["DELETE FROM audit_events WHERE id BETWEEN 7 AND 9"],
            ["events 7 to 9 are missing"],
        ),
        (
            [
                "UPDATE audit_events SET id = 100 WHERE id = 7",
                "UPDATE audit_events SET id = 7 WHERE id = 8",
                "UPDATE audit_events SET id = 8 WHERE id = 100",
            ],
            [
                "event 7 is not what was written there",
                "event 8 is not what was written there",
                "event 9 is not what was written there",
            ],
        ),
        (
            ["DELETE FROM audit_events WHERE id > 17"],
            ["the end is cut off: the head says 20 events, found 17"],
        ),
        (["DELETE FROM audit_head"], ["the chain's head is missing"]),
    ],
)
def test_what_was_changed_removed_moved_or_cut_off_is_found(
    store: Store, statements: list[str], found: list[str]
) -> None:
    filled(store)
    tamper(store, *statements)
    assert problems_of(store) == found


def test_an_end_that_was_cut_off_with_its_head_is_found_by_what_was_noted_elsewhere(
    store: Store,
) -> None:
    filled(store)
    with store.reading() as session:
        _, last_id, noted = verify(session)
        earlier = session.scalars(select(AuditRow.sha256).where(AuditRow.id == 17)).one()
    tamper(
        store,
        "DELETE FROM audit_events WHERE id > 17",
        f"UPDATE audit_head SET last_id = 17, sha256 = '{earlier}'",
    )
    assert problems_of(store) == []  # nothing in the database tells it
    assert problems_of(store, (last_id, noted)) == [
        "the end is cut off: event 20 was noted, the last is 17"
    ]
    filled(store, 3)
    assert problems_of(store, (last_id, noted)) == ["event 20 has another seal than was noted"]


def test_several_nodes_append_to_one_chain(database: str) -> None:
    with closing(Store(database)) as one, closing(Store(database)) as other:
        threads = [
            threading.Thread(target=filled, args=(store, 25)) for store in (one, other, one, other)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with one.reading() as session:
            assert verify(session)[:2] == ([], 100)


def test_what_was_seen_is_written_once_a_session_and_together(store: Store) -> None:
    trail = AuditTrail(store)
    for _ in range(100):
        trail.note_once(AuditEvent("hạnh", "picture_seen", "1.2.3", 200), "1")
    trail.note_once(AuditEvent("hạnh", "picture_seen", "1.2.3", 200), "2")
    trail.note_once(AuditEvent("hạnh", "picture_seen", "1.2.4", 200), "1")
    with store.reading() as session:
        assert session.scalars(select(AuditRow)).all() == []
    trail.flush()
    with store.reading() as session:
        rows = session.scalars(select(AuditRow).order_by(AuditRow.id)).all()
    assert [row.study_instance_uid for row in rows] == ["1.2.3", "1.2.3", "1.2.4"]
    assert problems_of(store) == []


def test_what_cannot_be_written_now_waits(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    trail = AuditTrail(store)
    trail.note(AuditEvent("hạnh", "study_opened", "1.2.3", 200))
    write: Callable[..., None] = trail._write

    def fail(_events: object) -> None:
        raise DBAPIError("", None, Exception())

    monkeypatch.setattr(trail, "_write", fail)
    trail.flush()
    monkeypatch.setattr(trail, "_write", write)
    trail.flush()
    with store.reading() as session:
        assert [row.action for row in session.scalars(select(AuditRow))] == ["study_opened"]
