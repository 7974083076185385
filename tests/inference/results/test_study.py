from datetime import datetime

import pytest

from tests.inference.results.studies import make_picture, make_refusal, make_source, make_study
from vigil.errors import RefusalCode
from vigil.triage import Priority
from vigil_inference.results import Presence, ResultOptions


def test_a_flag_in_any_picture_makes_a_finding_present():
    study = make_study(
        make_picture({"Effusion": 0.1, "Mass": 0.2}, source=make_source(number=1)),
        make_picture({"Effusion": 0.9, "Mass": 0.2}, source=make_source(number=2)),
    )
    assert study.presence == {"Effusion": Presence.PRESENT, "Mass": Presence.UNDETERMINED}


def test_a_finding_below_its_threshold_or_withheld_is_undetermined():
    study = make_study(make_picture({"Mass": 0.2}, withheld={"Nodule": "adults only"}))
    assert study.presence == {"Mass": Presence.UNDETERMINED, "Nodule": Presence.UNDETERMINED}
    assert study.withheld == {"Nodule"}


def test_a_finding_withheld_in_one_picture_and_negative_in_another_is_withheld_in_the_study():
    study = make_study(
        make_picture({"Mass": 0.2}, source=make_source(number=1)),
        make_picture({}, withheld={"Mass": "PA only"}, source=make_source(number=2)),
    )
    assert study.presence == {"Mass": Presence.UNDETERMINED}
    assert study.withheld == {"Mass"}


@pytest.mark.parametrize(
    ("code", "has_unread"),
    [
        (RefusalCode.NOT_FRONTAL, False),
        (RefusalCode.DERIVED, False),
        (RefusalCode.PIXELS_CORRUPT, True),
        (RefusalCode.NOT_CHEST, True),
        (RefusalCode.INTERNAL_ERROR, True),
    ],
)
def test_a_film_that_could_not_be_read_counts_as_unread_but_a_lateral_does_not(code, has_unread):
    negative = make_picture({"Mass": 0.2}, source=make_source(number=1))
    study = make_study(negative, make_refusal(code, source=make_source(number=2)))
    assert study.has_unread is has_unread
    assert study.presence == {"Mass": Presence.UNDETERMINED}


def test_the_study_has_the_highest_priority_of_its_pictures():
    study = make_study(make_refusal(), make_picture(source=make_source(number=2)))
    assert study.priority is Priority.URGENT


def test_pictures_of_two_studies_are_refused():
    with pytest.raises(ValueError, match="several studies"):
        make_study(make_picture(source=make_source(3)), make_picture(source=make_source(4)))


def test_a_time_without_a_zone_is_refused():
    with pytest.raises(ValueError, match="time zone"):
        make_picture(analysed_at=datetime(2026, 1, 5))  # noqa: DTZ001


@pytest.mark.parametrize("level", [0.0, 1.0, -1.0])
def test_a_region_level_outside_the_maps_range_is_refused(level):
    with pytest.raises(ValueError, match="region_level"):
        ResultOptions(region_level=level)


def test_every_option_changes_the_options_digest():
    default = ResultOptions()
    others = [
        ResultOptions(**{name: not getattr(default, name)})
        for name in ("regions", "captures", "key_objects", "negatives", "refusals")
    ]
    assert len({options.digest for options in (default, *others)}) == 6
