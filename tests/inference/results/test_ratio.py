"""The cardiothoracic ratio in the results: a number with its two lines, or nothing at all."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from pydicom.dataset import Dataset

from tests.inference.results.studies import (
    SIZE,
    make_anatomy,
    make_picture,
    make_source,
    make_study,
)
from vigil.anatomy import NoRatio
from vigil.radiograph import View
from vigil_inference.results import (
    Language,
    PictureResult,
    Profile,
    build_report,
    draw_capture,
    to_bytes,
)
from vigil_inference.results.language import phrases_of, ratio_sentence

ROWS, COLUMNS = SIZE
TURNED = "the picture was turned 90° clockwise before it was analysed"


def items(node: Dataset) -> Iterator[Dataset]:
    for item in node.get("ContentSequence", []):
        yield item
        yield from items(item)


def ratios(report: Dataset) -> list[Dataset]:
    return [
        item
        for item in items(report)
        if item.ValueType == "NUM" and item.ConceptNameCodeSequence[0].CodeValue == "CTR"
    ]


def report_of(*pictures: PictureResult, **options: object) -> Dataset:
    report = build_report(make_study(*pictures, **options))
    assert report is not None
    return report


def points(item: Dataset) -> np.ndarray:
    return np.reshape(item.GraphicData, (-1, 2))


def groups(report: Dataset) -> list[Dataset]:
    return [
        item
        for item in items(report)
        if item.ValueType == "CONTAINER" and item.ConceptNameCodeSequence[0].CodeValue == "125007"
    ]


def lines(report: Dataset) -> list[np.ndarray]:
    """Return the regions of the groups that hold a ratio, (2, 2) each: heart, thorax."""
    return [
        points(next(item for item in group.ContentSequence if item.ValueType == "SCOORD"))
        for group in groups(report)
        if ratios(group)
    ]


def test_either_diameter_is_a_line_with_the_ratio_of_both_and_no_unit():
    report = report_of(make_picture(anatomy=make_anatomy(0.543)))
    heart, thorax = lines(report)
    assert np.ptp(heart[:, 0]) / np.ptp(thorax[:, 0]) == pytest.approx(0.543, abs=0.001)
    assert thorax == pytest.approx(
        np.array([[0.1 * COLUMNS, 0.7 * ROWS], [0.9 * COLUMNS, 0.7 * ROWS]])
    )
    for number in ratios(report):
        value = number.MeasuredValueSequence[0]
        assert float(value.NumericValue) == 0.543
        unit = value.MeasurementUnitsCodeSequence[0]
        assert (unit.CodeValue, unit.CodingSchemeDesignator) == ("{ratio}", "UCUM")


def test_every_group_has_one_region_and_a_name_of_its_own():
    report = report_of(make_picture(anatomy=make_anatomy()))
    assert len(groups(report)) == 3
    uids = set()
    for group in groups(report):
        regions = [item for item in group.ContentSequence if item.ValueType == "SCOORD"]
        assert len(regions) == 1
        uids |= {item.UID for item in group.ContentSequence if item.ValueType == "UIDREF"}
    assert len(uids) == 3


def test_the_code_is_named_as_our_own():
    report = report_of(make_picture(anatomy=make_anatomy()))
    schemes = report.CodingSchemeIdentificationSequence
    own = [item for item in schemes if item.CodingSchemeDesignator == "99VIGIL"]
    assert [item.CodingSchemeName for item in own] == ["Vigil's own codes"]


def test_a_study_without_a_flag_reports_its_ratio_too():
    report = report_of(make_picture({"Effusion": 0.1}, anatomy=make_anatomy()))
    assert len(ratios(report)) == 2


def test_lines_on_a_turned_picture_are_turned_back():
    picture = make_picture(source=make_source(10), notes=(TURNED,), anatomy=make_anatomy())
    _, thorax = lines(report_of(picture))
    assert np.ptp(thorax[:, 0]) == 0
    assert sorted(thorax[:, 1]) == pytest.approx([0.1 * ROWS, 0.9 * ROWS])


def test_no_number_leaves_where_the_ratio_is_withheld_or_regions_are_not_wanted():
    whole = make_picture(anatomy=make_anatomy())
    child = replace(
        make_anatomy(), ratio=None, heart_line=None, thorax_line=None, no_ratio=NoRatio.CHILD
    )
    unknown = "the picture was stretched before it was analysed"
    for report in (
        report_of(make_picture(anatomy=child)),
        report_of(whole, regions=False),
        report_of(whole, profile=Profile.CADT),
        report_of(make_picture(anatomy=make_anatomy(), notes=(unknown,))),
    ):
        assert ratios(report) == []
        assert "99VIGIL" not in str(report)


def test_a_flag_without_a_region_keeps_its_certainty_beside_a_ratio():
    report = report_of(make_picture(maps={}, anatomy=make_anatomy()))
    certainties = [
        item
        for item in items(report)
        if item.ValueType == "NUM" and item.ConceptNameCodeSequence[0].CodeValue == "111012"
    ]
    assert [float(i.MeasuredValueSequence[0].NumericValue) for i in certainties] == [91.4]


def test_a_repeat_is_the_same_bytes():
    one, two = (report_of(make_picture(anatomy=make_anatomy())) for _ in range(2))
    assert to_bytes(one) == to_bytes(two)


def test_the_capture_says_the_ratio_and_draws_both_lines():
    bare, drawn = make_picture(maps={}), make_picture(maps={}, anatomy=make_anatomy())
    study = make_study(bare)
    without, with_lines = draw_capture(study, bare), draw_capture(study, drawn)
    half = with_lines.shape[1] // 2
    panels = slice(52, 650)
    changed = np.abs(with_lines[panels].astype(int) - without[panels]).max(axis=2) > 10
    assert not changed[:, :half].any()
    long_rows = np.flatnonzero(changed[:, half:].sum(axis=1) > 120)
    # Two horizontal lines, each a few rows thick, apart from each other.
    assert 2 <= long_rows.size <= 16
    assert (np.diff(long_rows) > 20).sum() == 1


@pytest.mark.parametrize(
    ("language", "sentence"),
    [
        (Language.ENGLISH, "Cardiothoracic ratio (CTR) 0.54 (AP: the heart looks larger)"),
        (Language.FRENCH, "Rapport cardiothoracique (CTR) 0,54"),
        (Language.VIETNAMESE, "(CTR) 0,54"),
    ],
)
def test_the_ratio_is_written_as_the_language_writes_numbers(language, sentence):
    assert sentence in ratio_sentence(0.543, View.AP, phrases_of(language))
    assert "AP" not in ratio_sentence(0.543, View.PA, phrases_of(language))
