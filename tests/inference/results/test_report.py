import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from hashlib import sha256

import highdicom
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.sr.codedict import codes
from pydicom.uid import Comprehensive3DSRStorage, ExplicitVRLittleEndian

from tests.inference.results.studies import (
    DIGEST,
    SIZE,
    TIMESTAMP,
    make_map,
    make_picture,
    make_refusal,
    make_source,
    make_study,
)
from vigil.errors import RefusalCode
from vigil.findings import CONCEPTS, LABELS
from vigil.gate import OWN_MANUFACTURER
from vigil.heat_map import outline_of
from vigil.triage import Flag, Priority
from vigil.triager import TriageResult
from vigil_inference.results import (
    Language,
    PictureResult,
    Profile,
    StudyResult,
    build_report,
    build_results,
    predecessor_of,
    to_bytes,
)
from vigil_inference.results.document import identify_coding_schemes
from vigil_inference.results.region import Correction, to_source


def read_back(study: StudyResult) -> Dataset:
    return pydicom.dcmread(DicomBytesIO(to_bytes(build_report(study))))


def items(node: Dataset) -> Iterator[Dataset]:
    for item in node.get("ContentSequence", []):
        yield item
        yield from items(item)


def named(node: Dataset, meaning: str) -> list[Dataset]:
    return [
        item
        for item in items(node)
        if "ConceptNameCodeSequence" in item
        and item.ConceptNameCodeSequence[0].CodeMeaning == meaning
    ]


def comments(report: Dataset) -> list[str]:
    return [item.TextValue for item in named(report, "Comment")]


def evaluations(report: Dataset) -> dict[str, str]:
    container = named(report, "Qualitative Evaluations")[0]
    return {
        item.ConceptNameCodeSequence[0].CodeValue: item.ConceptCodeSequence[0].CodeValue
        for item in container.ContentSequence
        if item.ValueType == "CODE"
    }


def text_of(report: Dataset) -> str:
    return "\n".join(str(element.value) for element in report.iterall())


def test_highdicom_reads_the_finding_its_certainty_place_and_algorithm_back():
    study = make_study()
    report = highdicom.sr.Comprehensive3DSR.from_dataset(read_back(study))
    groups = report.content.get_planar_roi_measurement_groups()
    assert len(groups) == 1
    group = groups[0]
    assert group.tracking_identifier == "Vigil Effusion in picture 1"
    assert group.finding_type == codes.SCT.PleuralEffusion
    assert [site.value.value for site in group.finding_sites] == ["3120008"]
    certainty = group.get_measurements(codes.DCM.CertaintyOfFinding)[0]
    assert certainty.value == 91.4
    assert certainty.unit == codes.UCUM.Percent
    roi = group.roi
    assert roi.graphic_type == highdicom.sr.GraphicTypeValues.POLYLINE
    expected = outline_of(study.pictures[0].maps["Effusion"], 0.5) * (SIZE[1], SIZE[0])
    np.testing.assert_allclose(roi.value, expected, atol=0.06)
    np.testing.assert_array_equal(roi.value[0], roi.value[-1])
    told = [item.TextValue for item in named(report, "Algorithm Parameters")]
    assert told[:3] == [
        "threshold 0.5",
        "region level 0.5 between median and highest logit of the map",
        f"bundle SHA-256 {DIGEST}",
    ]
    family = named(report, "Algorithm Family")[0].ConceptCodeSequence[0]
    assert (family.CodeValue, family.CodingSchemeDesignator) == ("123110", "DCM")


def test_the_report_names_its_maker_and_what_it_may_be_used_for():
    report = read_back(make_study())
    assert report.SOPClassUID == Comprehensive3DSRStorage
    assert report.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert report.Manufacturer == OWN_MANUFACTURER
    assert report.SeriesDescription == "AI CXR triage (research use only)"
    assert report.SeriesNumber == 9001
    assert list(report.SoftwareVersions) == [
        "vigil 0.1.0",
        "bundle cxr-test-1",
        f"bundle SHA-256 {DIGEST[:48]}",
    ]
    assert report.DeviceSerialNumber
    assert (report.CompletionFlag, report.VerificationFlag) == ("COMPLETE", "UNVERIFIED")
    assert "AI – research use – not for diagnosis" in comments(report)
    assert "Research use only, not a medical device." in comments(report)


def test_patient_and_study_are_the_sources():
    source = make_source(
        PatientWeight="52.5", AccessionNumber="A-17", IssuerOfPatientID="BV", PatientSize="1.60"
    )
    report = read_back(make_study(make_picture(source=source)))
    for keyword in (
        "PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex",
        "PatientAge", "PatientSize", "PatientWeight", "StudyInstanceUID", "StudyDate", "StudyTime",
        "StudyID", "StudyDescription", "AccessionNumber", "ReferringPhysicianName",
    ):  # fmt: skip
        assert report[keyword].value == source[keyword].value, keyword
    assert report.SeriesInstanceUID != source.SeriesInstanceUID


def test_every_picture_is_evidence_and_in_the_image_library():
    pictures = [make_picture(source=make_source(number=n)) for n in (1, 2)]
    pictures.append(make_refusal(RefusalCode.NOT_FRONTAL, source=make_source(number=3)))
    report = read_back(make_study(*pictures))
    evidence = report.CurrentRequestedProcedureEvidenceSequence
    assert len(evidence) == 1
    referenced = {
        sop.ReferencedSOPInstanceUID
        for series in evidence[0].ReferencedSeriesSequence
        for sop in series.ReferencedSOPSequence
    }
    assert referenced == {picture.sop_instance_uid for picture in pictures}
    library = named(report, "Image Library")[0]
    images = [item for item in items(library) if item.ValueType == "IMAGE"]
    assert {i.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for i in images} == referenced


def test_findings_are_present_or_undetermined():
    picture = make_picture({"Effusion": 0.9, "Mass": 0.1}, withheld={"Pneumonia": "adults only"})
    told = evaluations(read_back(make_study(picture)))
    assert told == {
        "111017": "111242",
        CONCEPTS["Effusion"].code.value: "52101004",
        CONCEPTS["Mass"].code.value: "373068000",
        CONCEPTS["Pneumonia"].code.value: "373068000",
    }


@pytest.mark.parametrize("language", Language)
def test_no_report_says_that_a_finding_is_absent(language):
    lateral = make_refusal(RefusalCode.NOT_FRONTAL, source=make_source(number=2))
    negative = make_picture(dict.fromkeys(LABELS, 0.01))
    for pictures in ([negative], [negative, lateral], [make_picture()]):
        report = read_back(make_study(*pictures, language=language))
        told = evaluations(report)
        told.pop("111017")
        for label in pictures[0].findings:
            is_flagged = label in {flag.label for flag in pictures[0].flags}
            expected = "52101004" if is_flagged else "373068000"
            assert told[CONCEPTS[label].code.value] == expected, label
        assert "272519000" not in text_of(report)
        assert "absent" not in text_of(report).lower()


@pytest.mark.parametrize(
    ("pictures", "summary"),
    [
        ([make_picture({"Mass": 0.1})], "111241"),
        ([make_picture({"Mass": 0.9})], "111242"),
        ([make_picture({"Mass": 0.9}, withheld={"Nodule": "adults only"})], "111242"),
        ([make_picture({"Mass": 0.9}), make_refusal(source=make_source(number=2))], "111244"),
    ],
)
def test_the_summary_says_whether_all_pictures_were_judged(pictures, summary):
    assert evaluations(read_back(make_study(*pictures)))["111017"] == summary


@pytest.mark.parametrize(
    "pictures",
    [
        [make_picture({"Mass": 0.1}, withheld={"Nodule": "adults only"})],
        [make_picture({"Mass": 0.1}), make_refusal(source=make_source(number=2))],
        [make_refusal()],
        [make_refusal(RefusalCode.NOT_FRONTAL)],
    ],
)
def test_no_summary_says_without_findings_where_something_was_not_judged(pictures):
    report = read_back(make_study(*pictures))
    assert "111017" not in evaluations(report)
    assert "without findings" not in text_of(report)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"regions": False},
        {"profile": Profile.CADT},
        {"pictures": [make_picture({"Mass": 0.1})]},
        {"pictures": [make_picture(maps={})]},
        {"pictures": [make_picture(maps={"Effusion": np.full((8, 8), 0.9, np.float32)})]},
        {"pictures": [make_refusal()]},
    ],
)
def test_no_measurement_group_is_without_a_region_and_no_measurement_report_without_a_group(
    changes,
):
    changes = dict(changes)
    report = read_back(make_study(*changes.pop("pictures", []), **changes))
    groups = named(report, "Measurement Group")
    assert all(any(i.ValueType == "SCOORD" for i in items(group)) for group in groups)
    title = report.ConceptNameCodeSequence[0].CodeValue
    assert (title == "126000") == bool(groups)
    assert ("ContentTemplateSequence" in report) == bool(groups)
    if not groups:
        assert title == "18748-4"


def test_a_flag_without_a_region_keeps_its_certainty():
    report = read_back(make_study(regions=False))
    finding = named(report, "Pleural effusion")[0]
    assert finding.ConceptCodeSequence[0].CodeMeaning == "Present"
    certainty = finding.ContentSequence[0]
    assert certainty.RelationshipType == "HAS PROPERTIES"
    assert certainty.MeasuredValueSequence[0].NumericValue == 91.4


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_the_region_of_a_turned_picture_lies_in_the_source_as_it_was_sent(quarters):
    name = {1: "90° clockwise", 2: "180°", 3: "90° anticlockwise"}[quarters]
    map_ = make_map(0.2, 0.3)
    picture = make_picture(
        maps={"Effusion": map_},
        notes=(f"the picture was turned {name} and inverted before it was analysed",),
    )
    report = highdicom.sr.Comprehensive3DSR.from_dataset(read_back(make_study(picture)))
    place = report.content.get_planar_roi_measurement_groups()[0].roi.value[:-1].mean(axis=0)
    centre = to_source(np.array([[0.2, 0.3]]), Correction(quarters))[0] * (SIZE[1], SIZE[0])
    np.testing.assert_allclose(place, centre, atol=12)
    assert any(f"turned {name}" in comment for comment in comments(report))


def test_a_correction_that_is_not_known_leaves_the_region_out_and_is_quoted():
    note = "the picture was mirrored before it was analysed"
    report = read_back(make_study(make_picture(notes=(note,))))
    assert not named(report, "Measurement Group")
    assert note in comments(report)


def test_the_case_level_profile_says_that_the_study_was_flagged_and_nothing_more():
    picture = make_picture({"Effusion": 0.914, "Mass": 0.1})
    results = build_results(make_study(picture, profile=Profile.CADT, key_objects=True))
    assert len(results) == 1
    report = results[0]
    assert evaluations(report) == {"111017": "111242"}
    assert comments(report)[0] == "This study was flagged for prioritised reading."
    assert named(report, "Priority")[0].TextValue == "URGENT"
    everything = text_of(report).lower()
    for word in ("effusion", "mass", "91.4", "91%", "absent", "normal", "certainty", "scoord"):
        assert word not in everything.replace("abnormal", ""), word


def test_the_case_level_profile_is_silent_about_a_study_without_a_flag():
    negative = make_picture({"Mass": 0.1})
    assert build_results(make_study(negative, profile=Profile.CADT)) == ()
    replaced = predecessor_of(build_report(make_study(profile=Profile.CADT)))
    report = build_report(make_study(negative, profile=Profile.CADT, predecessor=replaced))
    assert evaluations(report) == {}
    assert "That says nothing of what the films show." in comments(report)[0]


def test_a_site_may_do_without_reports_of_negatives_and_of_refusals():
    assert build_report(make_study(make_picture({"Mass": 0.1}), negatives=False)) is None
    assert build_report(make_study(make_refusal(), refusals=False)) is None
    assert build_report(make_study(make_picture({"Mass": 0.1}))) is not None


@pytest.mark.parametrize("code", RefusalCode)
@pytest.mark.parametrize("language", Language)
def test_a_refused_study_says_why(code, language):
    report = build_report(make_study(make_refusal(code), language=language))
    assert evaluations(report) == {}
    why = comments(report)[0]
    assert f"({code})" in why
    if language is Language.ENGLISH:
        assert why.endswith(": the pixels end before the picture does")
    assert named(report, "Priority")[0].TextValue == "NOT_ANALYSED"


@pytest.mark.parametrize("label", LABELS)
def test_every_label_is_reported_with_its_own_code_and_site(label):
    report = read_back(make_study(make_picture({label: 0.7})))
    finding = named(report, "Finding")[0].ConceptCodeSequence[0]
    site = named(report, "Finding Site")[0].ConceptCodeSequence[0]
    concept = CONCEPTS[label]
    assert (finding.CodeValue, finding.CodingSchemeDesignator) == (
        concept.code.value,
        concept.code.scheme,
    )
    assert site.CodeValue == concept.site.value
    assert evaluations(report)[concept.code.value] == "52101004"


def test_a_later_picture_gives_a_report_that_names_the_one_it_replaces():
    first = build_report(make_study())
    second = build_report(
        make_study(
            make_picture(),
            make_picture({"Mass": 0.8}, source=make_source(number=2)),
            predecessor=predecessor_of(first),
        )
    )
    assert second.SOPInstanceUID != first.SOPInstanceUID
    assert second.SeriesInstanceUID == first.SeriesInstanceUID
    assert (first.InstanceNumber, second.InstanceNumber) == (1, 2)
    assert "PredecessorDocumentsSequence" not in first
    study = second.PredecessorDocumentsSequence[0]
    reference = study.ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
    assert study.StudyInstanceUID == first.StudyInstanceUID
    assert reference.ReferencedSOPInstanceUID == first.SOPInstanceUID
    assert reference.ReferencedSOPClassUID == first.SOPClassUID


def test_a_report_of_another_bundle_may_replace_one_and_is_in_a_series_of_its_own():
    first = build_report(make_study())
    second = build_report(make_study(bundle_digest="40" * 32, predecessor=predecessor_of(first)))
    assert second.SeriesInstanceUID != first.SeriesInstanceUID
    series = second.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0]
    assert series.SeriesInstanceUID == first.SeriesInstanceUID


_BUILD = """
from hashlib import sha256
from tests.inference.results.studies import make_study
from vigil_inference.results import build_results, to_bytes
study = make_study(key_objects=True)
print(*[sha256(to_bytes(result)).hexdigest() for result in build_results(study)])
"""


def test_the_same_facts_give_the_same_bytes_at_another_time_in_another_process():
    digests = [
        sha256(to_bytes(result)).hexdigest()
        for result in build_results(make_study(key_objects=True))
    ]
    time.sleep(1.1)
    environment = os.environ | {"TZ": "Asia/Ho_Chi_Minh", "PYTHONHASHSEED": "7"}
    output = subprocess.run(
        [sys.executable, "-c", _BUILD], env=environment, capture_output=True, text=True, check=True
    )
    assert output.stdout.split() == digests
    assert len(digests) == 3


def test_the_objects_hold_no_other_time_than_the_results_own():
    for result in build_results(make_study(key_objects=True)):
        own = [
            element.value
            for element in result.iterall()
            if element.VR in {"DA", "TM", "DT"}
            and not element.keyword.startswith("Study")
            and element.keyword != "PatientBirthDate"
        ]
        assert set(own) == {"20260105", "083015"}


def test_a_report_is_as_late_as_the_last_analysis_in_it():
    first = make_picture(source=make_source(number=1))
    later = TIMESTAMP + timedelta(hours=1)
    second = make_picture(source=make_source(number=2), analysed_at=later)
    assert build_report(make_study(first, second)).ContentTime == "093015"


def test_the_time_is_on_the_sources_clock_where_it_says_which():
    source = make_source()
    source.TimezoneOffsetFromUTC = "+0700"
    report = build_report(make_study(make_picture(source=source)))
    assert (report.ContentTime, report.TimezoneOffsetFromUTC) == ("153015", "+0700")


def test_codes_beyond_the_well_known_schemes_say_which_scheme_they_are_from():
    report = read_back(make_study(make_picture({"Pleural_Thickening": 0.8})))
    schemes = {
        item.CodingSchemeDesignator: item.CodingSchemeUID
        for item in report.CodingSchemeIdentificationSequence
    }
    assert schemes["RADLEX"] == "2.16.840.1.113883.6.256"
    for study in (make_study(), make_study(make_picture({"Mass": 0.1}))):
        used = {e.value for e in build_report(study).iterall() if e.tag == 0x00080102}
        assert not any(scheme.startswith("99") for scheme in used)


def test_a_private_code_without_its_scheme_is_not_let_out():
    report = build_report(make_study())
    report.ConceptNameCodeSequence[0].CodingSchemeDesignator = "99HOUSE"
    with pytest.raises(ValueError, match="99HOUSE"):
        identify_coding_schemes(report)


def test_what_the_core_says_goes_into_the_report_as_it_is():
    result = TriageResult(
        status="analysed",
        priority=Priority.CRITICAL,
        reason="",
        bundle_id="b",
        bundle_digest=DIGEST,
        milliseconds=1.0,
        findings={"Effusion": 0.97},
        flags=(Flag("Effusion", "Effusion", 0.97, 0.5, Priority.CRITICAL),),
        notes=("the patient's age is unknown; an adult was assumed",),
        maps={"Effusion": make_map()},
    )
    report = read_back(make_study(PictureResult.from_triage(make_source(), result, TIMESTAMP)))
    assert named(report, "Priority")[0].TextValue == "CRITICAL"
    assert "the patient's age is unknown; an adult was assumed" in comments(report)
    assert len(named(report, "Measurement Group")) == 1
