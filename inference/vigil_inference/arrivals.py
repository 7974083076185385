"""What arrives and is recorded: a picture's row, and its study's where it is the first of it."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sqlalchemy import Connection, Table, bindparam, insert, select, update

from vigil.triage import Priority
from vigil_inference.folding import searchable
from vigil_inference.headers import Header
from vigil_inference.tables import Instance, State, Study, table_of


class Outcome(StrEnum):
    """What became of a picture that was offered to the store."""

    NEW = "new"
    REPEATED = "repeated"
    """The same bytes were held already."""
    DIFFERS = "differs"
    """Other bytes are held under this SOP instance UID; they stay."""
    OTHER_STUDY = "other_study"
    """The SOP instance UID is held in another study; it stays there."""


@dataclass(frozen=True)
class Arrival:
    """A picture whose bytes are durable, to be recorded."""

    header: Header
    file_path: str
    sha256: str
    size_bytes: int
    door: str
    calling_ae_title: str
    received_at: datetime


@dataclass(frozen=True)
class Recorded:
    """The store's answer to an arrival."""

    outcome: Outcome
    instance_id: int
    study_instance_uid: str
    file_path: str
    is_removed: bool = False
    """Whether its bytes were removed by rule."""


# Made once: building a statement takes longer than SQLite takes to answer it.
_INSTANCES: Table = table_of(Instance)
_STUDIES: Table = table_of(Study)
_HELD = (
    select(
        _INSTANCES.c.id,
        _INSTANCES.c.sha256,
        _INSTANCES.c.file_path,
        _INSTANCES.c.removed_at,
        _STUDIES.c.study_instance_uid,
    )
    .join(_STUDIES, _STUDIES.c.id == _INSTANCES.c.study_id)
    .where(_INSTANCES.c.sop_instance_uid == bindparam("uid"))
)
_STUDY = (
    select(
        _STUDIES.c.id,
        _STUDIES.c.state,
        _STUDIES.c.patient_id,
        _STUDIES.c.patient_name,
        _STUDIES.c.search_text,
    )
    .where(_STUDIES.c.study_instance_uid == bindparam("uid"))
    .with_for_update()
)
_ADD_STUDY = insert(_STUDIES).returning(_STUDIES.c.id)
_ADD_INSTANCE = insert(_INSTANCES).returning(_INSTANCES.c.id)


def find_held(connection: Connection, header: Header, sha256: str) -> Recorded | None:
    """Return what is held under a picture's SOP instance UID, if anything."""
    row = connection.execute(_HELD, {"uid": header.sop_instance_uid}).one_or_none()
    if row is None:
        return None
    if row.sha256 == sha256:
        outcome = Outcome.REPEATED
    elif row.study_instance_uid == header.study_instance_uid:
        outcome = Outcome.DIFFERS
    else:
        outcome = Outcome.OTHER_STUDY
    return Recorded(
        outcome, row.id, row.study_instance_uid, row.file_path, row.removed_at is not None
    )


def record_arrival(connection: Connection, arrival: Arrival) -> Recorded:
    """Record a picture, unless its SOP instance UID is held already."""
    header = arrival.header
    held = find_held(connection, header, arrival.sha256)
    if held is not None:
        return held
    study_id = _join_study(connection, arrival)
    if study_id is None:
        study_id = _add_study(connection, arrival)
    instance_id = connection.execute(
        _ADD_INSTANCE,
        {
            "study_id": study_id,
            "sop_instance_uid": header.sop_instance_uid,
            "series_instance_uid": header.series_instance_uid,
            "sop_class_uid": header.sop_class_uid,
            "transfer_syntax_uid": header.transfer_syntax_uid,
            "modality": header.modality,
            "file_path": arrival.file_path,
            "sha256": arrival.sha256,
            "size_bytes": arrival.size_bytes,
            "door": arrival.door,
            "calling_ae_title": arrival.calling_ae_title,
            "received_at": arrival.received_at,
            "stored_at": arrival.received_at,
        },
    ).scalar_one()
    return Recorded(Outcome.NEW, instance_id, header.study_instance_uid, arrival.file_path)


def _join_study(connection: Connection, arrival: Arrival) -> int | None:
    """Say in a study that is known that another picture came; return its number, if there is it."""
    header = arrival.header
    study = connection.execute(_STUDY, {"uid": header.study_instance_uid}).one_or_none()
    if study is None:
        return None
    # Whoever signed did not see the picture that comes now.
    changed: dict[str, object] = {"read_at": None, "read_by": ""}
    if (study.patient_id, study.patient_name) != (header.patient_id, header.patient_name):
        changed["identity_conflict"] = True
        # Whoever looks for the other patient must find it too.
        changed["search_text"] = study.search_text + searchable(
            header.patient_name, header.patient_id
        )
    if study.state == State.NOT_ANALYSED.value:
        changed["state"] = State.RECEIVED.value
    connection.execute(update(_STUDIES).where(_STUDIES.c.id == study.id).values(changed))
    return int(study.id)


def _add_study(connection: Connection, arrival: Arrival) -> int:
    header = arrival.header
    study_id: int = connection.execute(
        _ADD_STUDY,
        {
            "study_instance_uid": header.study_instance_uid,
            "patient_name": header.patient_name,
            "patient_id": header.patient_id,
            "issuer_of_patient_id": header.issuer_of_patient_id,
            "patient_sex": header.patient_sex,
            "patient_birth_date": header.patient_birth_date,
            "patient_age": header.patient_age,
            "accession_number": header.accession_number,
            "study_description": header.study_description,
            "study_date": header.study_date,
            "study_time": header.study_time,
            "institution_name": header.institution_name,
            "source": arrival.calling_ae_title or arrival.door,
            "received_at": arrival.received_at,
            "state": State.RECEIVED.value,
            "priority_rank": 0,
            "reading_order": Priority.NOT_ANALYSED.reading_order,
            "identity_conflict": False,
            "search_text": searchable(
                header.patient_name, header.patient_id, header.accession_number
            ),
        },
    ).scalar_one()
    return study_id
