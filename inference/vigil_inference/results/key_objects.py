"""Key Object Selection: the pictures with flags, marked "Of Interest"."""

from copy import deepcopy

from highdicom.ko import KeyObjectSelection
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import KeyObjectSelectionDocumentStorage

from vigil_inference.results.codes import OF_INTEREST
from vigil_inference.results.document import (
    evidence_of,
    identify_coding_schemes,
    instance_number_of,
    new_object,
)
from vigil_inference.results.identity import ObjectKind, sop_instance_uid
from vigil_inference.results.language import phrases_of
from vigil_inference.results.observer import device_observer_context
from vigil_inference.results.study import Profile, StudyResult


def build_key_objects(study: StudyResult) -> Dataset | None:
    """Build a study's key object selection, None without flags or where the site wants none.

    Never in the ``cadt`` profile: to point at one picture of a study is more than a case's flag.

    Returns
    -------
    Dataset
        A Key Object Selection Document (DICOM PS3.3 A.35.4, PS3.16 TID 2010) with its file meta
        information.
    """
    wanted = study.options.key_objects and study.options.profile is not Profile.CADT
    if not wanted or not study.flagged:
        return None
    sources = [picture.source for picture in study.flagged]
    uid = sop_instance_uid(study, ObjectKind.KEY_OBJECTS)
    selection = new_object(study, ObjectKind.KEY_OBJECTS, KeyObjectSelectionDocumentStorage, uid)
    # Key Object Document Series and Key Object Document modules, PS3.3 C.17.6.1 and C.17.6.2.
    selection.ReferencedPerformedProcedureStepSequence = Sequence()
    selection.InstanceNumber = instance_number_of(study)
    selection.CurrentRequestedProcedureEvidenceSequence = evidence_of(sources)
    root = KeyObjectSelection(
        document_title=OF_INTEREST,
        referenced_objects=sources,
        observer_device_context=device_observer_context(study),
        description=phrases_of(study.options.language).disclaimer,
    )[0]
    for item in root.ContentSequence:
        # TID 2010 row 8 has no concept name, and forbids one; highdicom writes "Source".
        if item.ValueType == "IMAGE":
            del item.ConceptNameCodeSequence
    # The codes are shared; the caller's selection is the caller's own.
    for element in deepcopy(root):
        selection.add(element)
    identify_coding_schemes(selection)
    return selection
