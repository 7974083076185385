"""The report: a Comprehensive 3D SR document that says what was found, where, and by what.

With a region it follows template TID 1500 "Measurement Report" (DICOM PS3.16), one measurement
group (TID 1410) for each finding and each cardiothoracic ratio that has one. Without any region it
is a plain diagnostic imaging report of no template: the same items, but a TID 1500 document without
groups, or with a group that has no region, ends OHIF with an error (measured, see
``docs/decisions/result-objects.md``).
"""

from collections.abc import Iterator
from copy import deepcopy

from highdicom.sr import (
    CodeContentItem,
    CodedConcept,
    ContainerContentItem,
    ContentItem,
    ContentSequence,
    ImageContentItem,
    MeasurementReport,
    NumContentItem,
    RelationshipTypeValues,
    TextContentItem,
)
from highdicom.sr.templates import LanguageOfContentItemAndDescendants
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import Comprehensive3DSRStorage

from vigil.elements import text
from vigil.findings import CONCEPTS
from vigil.triage import Flag
from vigil_inference.results import codes
from vigil_inference.results.codes import coded
from vigil_inference.results.document import (
    evidence_of,
    identify_coding_schemes,
    instance_number_of,
    new_object,
    predecessor_evidence,
)
from vigil_inference.results.identity import ObjectKind, sop_instance_uid
from vigil_inference.results.language import (
    DISCLAIMER,
    Phrases,
    correction_sentence,
    flag_sentence,
    phrases_of,
)
from vigil_inference.results.measurements import (
    algorithm_name,
    certainty,
    measurement_groups,
    ratio_groups,
)
from vigil_inference.results.observer import device_observer
from vigil_inference.results.region import correction_of
from vigil_inference.results.source import size_of
from vigil_inference.results.study import Language, Profile, StudyResult

_CONTAINS = RelationshipTypeValues.CONTAINS
_HAS_CONCEPT_MOD = RelationshipTypeValues.HAS_CONCEPT_MOD
_HAS_ACQ_CONTEXT = RelationshipTypeValues.HAS_ACQ_CONTEXT
_HAS_PROPERTIES = RelationshipTypeValues.HAS_PROPERTIES


def build_report(study: StudyResult) -> Dataset | None:
    """Build a study's report, None where the site's options and profile ask for none.

    A report that replaces another is always built: the earlier one would stand uncorrected.

    Parameters
    ----------
    study
        The study's facts.

    Returns
    -------
    Dataset
        A Comprehensive 3D SR document (DICOM PS3.3 A.35.13) with its file meta information.
    """
    if not _is_wanted(study):
        return None
    uid = sop_instance_uid(study, ObjectKind.REPORT)
    report = new_object(study, ObjectKind.REPORT, Comprehensive3DSRStorage, uid)
    # SR Document Series and General modules, PS3.3 C.17.1 and C.17.2.
    report.ReferencedPerformedProcedureStepSequence = Sequence()
    report.InstanceNumber = instance_number_of(study)
    report.CompletionFlag = "COMPLETE"
    report.VerificationFlag = "UNVERIFIED"
    report.PreliminaryFlag = "PRELIMINARY"
    report.PerformedProcedureCodeSequence = Sequence()
    report.CurrentRequestedProcedureEvidenceSequence = evidence_of(
        picture.source for picture in study.pictures
    )
    if study.predecessor is not None:
        report.PredecessorDocumentsSequence = predecessor_evidence(study.predecessor)
    # The codes are shared; the caller's report is the caller's own.
    for element in deepcopy(_content(study)):
        report.add(element)
    identify_coding_schemes(report)
    return report


def _is_wanted(study: StudyResult) -> bool:
    if study.predecessor is not None or study.flagged:
        return True
    if not study.analysed:
        return study.options.refusals
    return study.options.negatives and study.options.profile is not Profile.CADT


def _content(study: StudyResult) -> Dataset:
    phrases = phrases_of(study.options.language)
    language = LanguageOfContentItemAndDescendants(coded(phrases.code))
    has_findings = study.options.profile is Profile.FINDINGS
    places = list(measurement_groups(study)) if has_findings else []
    groups = [*places, *ratio_groups(study)] if has_findings else []
    root: Dataset
    if groups:
        root = MeasurementReport(
            observation_context=device_observer(study),
            procedure_reported=codes.IMAGING_PROCEDURE,
            imaging_measurements=groups,
            title=codes.MEASUREMENT_REPORT,
            language_of_content_item_and_descendants=language,
        )[0]
        # TID 1500 has the library before the measurements, which highdicom puts last.
        root.ContentSequence.insert(len(root.ContentSequence) - 1, _image_library(study))
    else:
        root = ContainerContentItem(codes.IMAGING_REPORT)
        procedure = CodeContentItem(
            codes.PROCEDURE_REPORTED, codes.IMAGING_PROCEDURE, _HAS_CONCEPT_MOD
        )
        root.ContentSequence = ContentSequence(
            [*language, *device_observer(study), procedure, _image_library(study)]
        )
    root.ContentSequence.append(_evaluations(study, phrases, has_groups=bool(places)))
    return root


def _image_library(study: StudyResult) -> ContainerContentItem:
    """Return the study's pictures (TID 1600 to 1602).

    highdicom's own asks every CR and DX for a patient orientation and a pixel spacing; real ones
    lack them.
    """
    group = ContainerContentItem(codes.IMAGE_LIBRARY_GROUP, relationship_type=_CONTAINS)
    group.ContentSequence = ContentSequence(
        [_library_entry(picture.source) for picture in study.pictures]
    )
    library = ContainerContentItem(codes.IMAGE_LIBRARY, relationship_type=_CONTAINS)
    library.ContentSequence = ContentSequence([group])
    return library


def _library_entry(source: Dataset) -> ImageContentItem:
    item = ImageContentItem(
        codes.SOURCE,
        text(source, "SOPClassUID"),
        text(source, "SOPInstanceUID"),
        relationship_type=_CONTAINS,
    )
    modality = codes.MODALITIES.get(text(source, "Modality"), codes.OTHER_MODALITY)
    descriptors: list[ContentItem] = [CodeContentItem(codes.MODALITY, modality, _HAS_ACQ_CONTEXT)]
    rows, columns = size_of(source)
    for name, value in ((codes.PIXEL_DATA_ROWS, rows), (codes.PIXEL_DATA_COLUMNS, columns)):
        if value:
            descriptors.append(
                NumContentItem(name, value, codes.PIXELS, relationship_type=_HAS_ACQ_CONTEXT)
            )
    item.ContentSequence = ContentSequence(descriptors)
    return item


def _evaluations(study: StudyResult, phrases: Phrases, *, has_groups: bool) -> ContainerContentItem:
    """Return what is said of the whole study: codes for programs, sentences for people."""
    container = ContainerContentItem(codes.QUALITATIVE_EVALUATIONS, relationship_type=_CONTAINS)
    items: list[ContentItem] = []
    if (summary := _summary(study)) is not None:
        items.append(CodeContentItem(codes.CAD_SUMMARY, summary, _CONTAINS))
    if study.options.profile is Profile.FINDINGS:
        items.extend(_presences(study, with_certainty=not has_groups))
    items.append(TextContentItem(codes.PRIORITY, study.priority.value, _CONTAINS))
    comments = (*_comments(study, phrases), *_disclaimers(study, phrases))
    items.extend(TextContentItem(codes.COMMENT, comment, _CONTAINS) for comment in comments)
    items.append(TextContentItem(codes.ALGORITHM_NAME, algorithm_name(study), _CONTAINS))
    items.append(TextContentItem(codes.ALGORITHM_VERSION, study.software_version, _CONTAINS))
    if study.bundle_digest:
        parameter = f"bundle SHA-256 {study.bundle_digest}"
        items.append(TextContentItem(codes.ALGORITHM_PARAMETERS, parameter, _CONTAINS))
    container.ContentSequence = ContentSequence(items)
    return container


def _summary(study: StudyResult) -> CodedConcept | None:
    """Return a code of CID 6047, or none.

    "Without findings" is said only where every film was judged for every finding, and never in a
    case-level result.
    """
    if study.flagged:
        return codes.SOME_WITH_FINDINGS if study.has_unread else codes.ALL_WITH_FINDINGS
    is_complete = bool(study.analysed) and not study.has_unread and not study.withheld
    if not is_complete or study.options.profile is Profile.CADT:
        return None
    return codes.ALL_WITHOUT_FINDINGS


def _presences(study: StudyResult, *, with_certainty: bool) -> Iterator[CodeContentItem]:
    """Return a code for each finding; its certainty too where no measurement group holds it."""
    best: dict[str, Flag] = {}
    for picture in study.pictures:
        for flag in picture.flags:
            if flag.label not in best or flag.probability > best[flag.label].probability:
                best[flag.label] = flag
    for label, presence in study.presence.items():
        name = coded(CONCEPTS[label].code)
        item = CodeContentItem(name, codes.PRESENCES[presence], _CONTAINS)
        if with_certainty and label in best:
            value = certainty(best[label])
            probability = NumContentItem(
                codes.CERTAINTY, value, codes.PERCENT, relationship_type=_HAS_PROPERTIES
            )
            item.ContentSequence = ContentSequence([probability])
        yield item


def _comments(study: StudyResult, phrases: Phrases) -> Iterator[str]:
    if study.options.profile is Profile.CADT:
        if study.analysed:
            yield phrases.case_flag if study.flagged else phrases.no_case_flag
    else:
        yield from _finding_comments(study, phrases)
    for picture in study.refused:
        assert picture.code is not None
        sentence = phrases.refusals[picture.code]
        if study.options.language is Language.ENGLISH and picture.reason:
            sentence = f"{sentence}: {picture.reason}"
        yield f"{phrases.not_analysed} ({picture.code}): {sentence}"
    for picture in study.analysed:
        for note in picture.notes:
            correction = correction_of((note,))
            yield (correction and correction_sentence(correction, phrases)) or note


def _finding_comments(study: StudyResult, phrases: Phrases) -> Iterator[str]:
    for picture in study.flagged:
        yield f"{phrases.flagged}: " + "; ".join(
            flag_sentence(flag, phrases) for flag in picture.flags
        )
    if study.withheld:
        names = ", ".join(phrases.findings.get(label, label) for label in sorted(study.withheld))
        yield f"{phrases.withheld}: {names}"


def _disclaimers(study: StudyResult, phrases: Phrases) -> Iterator[str]:
    yield DISCLAIMER
    if study.options.language is not Language.ENGLISH:
        yield phrases.disclaimer
    yield phrases.not_a_device
