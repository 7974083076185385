"""The profile `cadt`: a case-level flag only, as rules for computer-assisted triage ask.

No finding, score, region or map leaves the interface then; the priority stays, for it is the flag.
(21 CFR 892.2080: such software does not mark, highlight or direct attention to a location in the
original image.)
"""

from typing import TypeVar

from vigil.triage import Priority
from vigil_inference.settings import Settings
from vigil_inference.views import InstanceView, StudyDetail, StudySummary, WorklistPage

_Study = TypeVar("_Study", bound=StudySummary)
_REASON = {
    Priority.CRITICAL: "the model asks for this study to be read at once",
    Priority.URGENT: "the model asks for this study to be read soon",
    Priority.ROUTINE: "the model asks for no earlier reading",
}

# What a note says of the film stays; these speak of single findings or of what was measured.
_SAY_MORE = ("cardiothoracic ratio", "probability and threshold of")


def is_case_level(settings: Settings) -> bool:
    """Whether only a case-level flag may be said."""
    return settings.result_profile == "cadt"


def at_case_level(page: WorklistPage) -> WorklistPage:
    """Return a page of the worklist without findings."""
    return page.model_copy(update={"studies": tuple(_summary(study) for study in page.studies)})


def study_at_case_level(study: StudyDetail) -> StudyDetail:
    """Return a study without findings, scores, regions and maps."""
    summary = _summary(study)
    instances = tuple(_instance(instance) for instance in study.instances)
    return study.model_copy(
        update={"flags": summary.flags, "reason": summary.reason, "instances": instances}
    )


def _summary(study: _Study) -> _Study:
    reason = _REASON.get(study.priority, study.reason)
    return study.model_copy(update={"flags": (), "reason": reason})


def _instance(instance: InstanceView) -> InstanceView:
    reason = _REASON.get(instance.priority, instance.reason)
    silent = {"findings": (), "anatomy": None, "localisation": None}
    notes = tuple(note for note in instance.notes if not any(part in note for part in _SAY_MORE))
    return instance.model_copy(update={**silent, "reason": reason, "notes": notes})
