"""The rows of a release: its objects as they are kept, and their deliveries."""

from collections.abc import Sequence
from dataclasses import dataclass

import structlog
from sqlalchemy import select
from sqlalchemy.orm import Session

from vigil_inference.delivery.destinations import ResultKind
from vigil_inference.delivery.states import DeliveryState
from vigil_inference.delivery.tables import Delivery, ResultObject, ResultSet

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Kept:
    """A result object whose bytes are on the disk."""

    kind: ResultKind
    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    instance_number: int
    file_path: str
    sha256: str
    size_bytes: int


def kept_before(session: Session, sop_instance_uids: Sequence[str]) -> tuple[list[Kept], bool]:
    """Return the objects of an earlier release, and whether the files of all are still there."""
    rows = {
        row.sop_instance_uid: row
        for row in session.scalars(
            select(ResultObject).where(ResultObject.sop_instance_uid.in_(sop_instance_uids))
        )
    }
    is_whole = all(uid in rows and rows[uid].removed_at is None for uid in sop_instance_uids)
    kept = [
        Kept(
            kind=row.kind,  # type: ignore[arg-type]
            sop_class_uid=row.sop_class_uid,
            sop_instance_uid=row.sop_instance_uid,
            series_instance_uid=row.series_instance_uid,
            instance_number=row.instance_number,
            file_path=row.file_path,
            sha256=row.sha256,
            size_bytes=row.size_bytes,
        )
        for row in (rows[uid] for uid in sop_instance_uids if uid in rows)
    ]
    return kept, is_whole


def record_object(session: Session, item: Kept, result_set_id: int) -> ResultObject:
    """Return an object's row; one of an earlier release is the same object with the same bytes."""
    row = session.scalars(
        select(ResultObject).where(ResultObject.sop_instance_uid == item.sop_instance_uid)
    ).one_or_none()
    if row is None:
        row = ResultObject(
            result_set_id=result_set_id,
            kind=item.kind,
            sop_class_uid=item.sop_class_uid,
            sop_instance_uid=item.sop_instance_uid,
            series_instance_uid=item.series_instance_uid,
            instance_number=item.instance_number,
            file_path=item.file_path,
            sha256=item.sha256,
            size_bytes=item.size_bytes,
        )
        session.add(row)
        session.flush()
    elif row.sha256 == item.sha256 and row.removed_at is not None:
        row.removed_at, row.removal_reason = None, ""  # its file was written again just now
    elif row.sha256 != item.sha256:
        # Drawn by another version of a library: under one UID the first bytes are the object.
        log.warning("result_kept_as_first_released", object=row.id)
    return row


def plan(
    session: Session, result_set: ResultSet, destination: str, item: ResultObject | None
) -> None:
    """Add a delivery, unless this subject goes or went to that destination already."""
    subject = result_set.message_id if item is None else item.sop_instance_uid
    known = session.scalar(
        select(Delivery.id).where(Delivery.destination == destination, Delivery.subject == subject)
    )
    if known is not None:
        return
    now = result_set.released_at
    session.add(
        Delivery(
            study_id=result_set.study_id,
            result_set_id=result_set.id,
            result_object_id=None if item is None else item.id,
            destination=destination,
            subject=subject,
            state=DeliveryState.PENDING.value,
            created_at=now,
            due_at=now,
        )
    )
