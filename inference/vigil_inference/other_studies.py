"""A patient's other studies: under the same number of the same issuer, and never merged silently.

A patient ID alone is weak: hospitals share numbers, and clerks mistype them. So a name or a birth
date that differs is said beside each study, and the reader decides.
"""

from pydicom.valuerep import PersonName
from sqlalchemy import select
from sqlalchemy.orm import selectinload

from vigil.triage import Priority
from vigil_inference.picture_views import OtherStudies, OtherStudy
from vigil_inference.store import Store
from vigil_inference.tables import RANK, Instance, Study
from vigil_inference.worklist import display_name

_MOST = 50


def read_other_studies(store: Store, study_instance_uid: str) -> OtherStudies | None:
    """Return the patient's other studies, or None if the study is not known."""
    with store.reading() as session:
        this = session.scalars(
            select(Study).where(Study.study_instance_uid == study_instance_uid)
        ).one_or_none()
        if this is None:
            return None
        if not this.patient_id:
            return OtherStudies(matched_by="", studies=())
        others = session.scalars(
            select(Study)
            .where(
                Study.patient_id == this.patient_id,
                Study.issuer_of_patient_id == this.issuer_of_patient_id,
                Study.id != this.id,
            )
            .options(selectinload(Study.instances).defer(Instance.result))
            .order_by(Study.study_date.desc(), Study.received_at.desc())
            .limit(_MOST)
        ).all()
    found = [_view(study, this) for study in others]
    return OtherStudies(
        matched_by=this.patient_id,
        # Python's sort is stable: within each part the newest stays first.
        studies=tuple(sorted(found, key=lambda study: not study.is_earlier)),
    )


def _view(study: Study, this: Study) -> OtherStudy:
    shown = max(
        (instance for instance in study.instances if instance.has_preview),
        key=lambda instance: RANK[Priority(instance.priority)],
        default=None,
    )
    return OtherStudy(
        study_instance_uid=study.study_instance_uid,
        study_date=study.study_date,
        study_description=study.study_description,
        received_at=study.received_at,
        priority=study.priority,
        is_earlier=_moment(study) < _moment(this),
        patient_name=display_name(study.patient_name),
        name_differs=_folded(study.patient_name) != _folded(this.patient_name),
        birth_date_differs=bool(
            study.patient_birth_date
            and this.patient_birth_date
            and study.patient_birth_date != this.patient_birth_date
        ),
        preview_sop_instance_uid=shown.sop_instance_uid if shown else None,
    )


def _moment(study: Study) -> tuple[str, str, str]:
    return study.study_date, study.study_time, study.received_at.isoformat()


def _folded(person_name: str) -> str:
    """Return a name as it is compared: its first group, without case and spacing."""
    return " ".join(str(PersonName(person_name).alphabetic).replace("^", " ").casefold().split())
