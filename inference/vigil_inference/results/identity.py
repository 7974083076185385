"""UIDs that are derived from what they identify, so that a repeat is the same object.

``2.25.`` and a version 5 UUID as a decimal number (DICOM PS3.5 B.2, RFC 9562): the same study,
judged by the same bundle and built by the same software with the same options, has the same UIDs
on every machine of an installation; any other has others.
"""

import uuid
from enum import StrEnum

from vigil_inference.results.study import PictureResult, StudyResult


class ObjectKind(StrEnum):
    """The kinds of result objects; each has a series of its own."""

    REPORT = "report"
    CAPTURE = "capture"
    KEY_OBJECTS = "key objects"


def make_uid(namespace: uuid.UUID, *parts: str) -> str:
    """Return the UID of these parts, at most 44 characters long."""
    # Lengths keep ("ab", "c") and ("a", "bc") apart.
    name = "|".join(f"{len(part)}:{part}" for part in parts)
    return f"2.25.{uuid.uuid5(namespace, name).int}"


def device_uid(study: StudyResult) -> str:
    """Return the UID of the observing device: this version of Vigil with this bundle, here."""
    return make_uid(study.namespace, "device", *_maker(study))


def series_instance_uid(study: StudyResult, kind: ObjectKind) -> str:
    """Return the UID of the series that holds the study's objects of a kind.

    Later reports join their predecessors' series unless another bundle, software or set of
    options made them, for all objects of a series are of one piece of equipment
    (DICOM PS3.3 A.1.2.3).
    """
    return make_uid(
        study.namespace, "series", kind, study.study_instance_uid, *_maker(study),
        study.options.digest,
    )  # fmt: skip


def sop_instance_uid(
    study: StudyResult, kind: ObjectKind, picture: PictureResult | None = None
) -> str:
    """Return the UID of one object, of the whole study or of one of its pictures.

    It depends on which pictures there are and on why any of them was refused: when one that the
    software failed on is analysed later, that is another report.
    """
    pictures = study.pictures if picture is None else (picture,)
    sources = (f"{p.sop_instance_uid}={p.code or 'analysed'}" for p in pictures)
    predecessor = "" if study.predecessor is None else study.predecessor.sop_instance_uid
    return make_uid(
        study.namespace, "object", kind, *sources, *_maker(study), study.options.digest,
        predecessor if picture is None else "",
    )  # fmt: skip


def tracking_uid(study: StudyResult, picture: PictureResult, label: str) -> str:
    """Return the UID by which a finding in a picture is known (DICOM PS3.16 TID 4108)."""
    return make_uid(
        study.namespace, "tracking", picture.sop_instance_uid, label, *_maker(study),
        study.options.digest,
    )  # fmt: skip


def _maker(study: StudyResult) -> tuple[str, str, str, str]:
    serial_number = study.device_serial_number
    return study.bundle_id, study.bundle_digest, study.software_version, serial_number
