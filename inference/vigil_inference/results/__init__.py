"""A study's results as standard DICOM objects that any PACS can take.

========================  ===========================  =============================================
Object                    Built by                     When
========================  ===========================  =============================================
Comprehensive 3D SR       :func:`build_report`         every analysed study; refused ones if wanted
Secondary Capture         :func:`build_captures`       each picture with flags
Key Object Selection      :func:`build_key_objects`    studies with flags, where wanted
========================  ===========================  =============================================

All are pure functions of a :class:`StudyResult`: the same facts give the same bytes. Research use,
not a medical device.
"""

from pydicom.dataset import Dataset

from vigil_inference.results.capture import build_captures, draw_capture
from vigil_inference.results.document import predecessor_of, to_bytes
from vigil_inference.results.key_objects import build_key_objects
from vigil_inference.results.report import build_report
from vigil_inference.results.study import (
    Language,
    PictureResult,
    Predecessor,
    Presence,
    Profile,
    ResultOptions,
    StudyResult,
)


def build_results(study: StudyResult) -> tuple[Dataset, ...]:
    """Build all objects that the site wants of a study, the report first."""
    documents = (build_report(study), *build_captures(study), build_key_objects(study))
    return tuple(document for document in documents if document is not None)


__all__ = [
    "Language",
    "PictureResult",
    "Predecessor",
    "Presence",
    "Profile",
    "ResultOptions",
    "StudyResult",
    "build_captures",
    "build_key_objects",
    "build_report",
    "build_results",
    "draw_capture",
    "predecessor_of",
    "to_bytes",
]
