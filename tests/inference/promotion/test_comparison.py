"""What the pairs say: checked against figures worked out by hand, and on real services."""

import re
from datetime import UTC, datetime
from xml.etree import ElementTree as ET

import httpx
import pytest

from tests.inference.conftest import Until, serving
from tests.inference.promotion.bundles import Bundles
from tests.inference.promotion.conftest import SendFilms, Site, asked, readings
from vigil.triage import Priority
from vigil_inference.promotion.comparison import _distance, _said, read_comparison
from vigil_inference.promotion.page import comparison_page, comparison_text
from vigil_inference.promotion.pairs import Answer, Compared, PicturePair, Score
from vigil_inference.promotion.record import Entry
from vigil_inference.promotion.stages import MoveRefused, Stage
from vigil_inference.service import Service

NOW = datetime(2026, 11, 25, tzinfo=UTC)
REFERENCE = Entry("a" * 64, "old", Stage.LIVE, NOW)
CANDIDATE = Entry("b" * 64, "new", Stage.SHADOW, NOW)


def answer(probability: float | None, threshold: float) -> Answer:
    if probability is None:
        return Answer("NOT_CHEST", Priority.NOT_ANALYSED, {}, 5.0)
    flagged = probability >= threshold
    score = Score("Effusion", probability, threshold, flagged)
    priority = Priority.URGENT if flagged else Priority.ROUTINE
    return Answer(None, priority, {"Effusion": score}, 10.0)


def pairs(*scores: tuple[float | None, float | None]) -> list[PicturePair]:
    return [
        PicturePair(
            f"1.2.{n}", f"1.2.{n}.1", f"patient {n}", False, answer(one, 0.5), answer(other, 0.2)
        )
        for n, (one, other) in enumerate(scores)
    ]


def test_the_trap_shows_both_bundles_at_their_own_and_at_each_others_threshold() -> None:
    found = _said(
        Compared(REFERENCE, CANDIDATE),
        pairs((0.6, 0.3), (0.4, 0.25), (0.1, 0.1), (0.9, 0.6)),
        {},
    )
    [finding] = found["findings"]
    uses = {(use.bundle, use.threshold_of): use.flagged for use in finding.uses}
    assert uses == {
        ("reference", "reference"): 2,
        ("candidate", "candidate"): 3,
        ("candidate", "reference"): 1,  # what the old threshold would make of the new bundle
        ("reference", "candidate"): 3,
    }
    own = finding.uses[0].share
    # Wilson's interval of 2 of 4.
    assert (own.value, round(own.low, 3), round(own.high, 3)) == (0.5, 0.15, 0.85)
    table = finding.agreement.table
    assert (table.both_positive, table.first_only, table.second_only, table.both_negative) == (
        2, 0, 1, 1,
    )  # fmt: skip
    assert finding.agreement.kappa.value == pytest.approx(0.5)


def test_priorities_cross_and_studies_that_would_move_are_named() -> None:
    found = _said(
        Compared(REFERENCE, CANDIDATE), pairs((0.4, 0.25), (0.6, 0.1), (0.1, 0.1), (None, 0.1)), {}
    )
    cells = {(c.reference.value, c.candidate.value): c.pictures for c in found["priorities"]}
    assert cells == {
        ("URGENT", "ROUTINE"): 1,
        ("ROUTINE", "URGENT"): 1,
        ("ROUTINE", "ROUTINE"): 1,
        ("NOT_ANALYSED", "ROUTINE"): 1,
    }
    # One that was refused and would be routine keeps its place.
    assert found["raised"].study_instance_uids == ("1.2.0",)
    assert found["no_longer_raised"].study_instance_uids == ("1.2.1",)
    [refusal] = found["refusals"]
    assert (refusal.code, refusal.reference, refusal.candidate) == ("NOT_CHEST", 1, 0)
    assert found["refused_by_one"] == 1


def test_signed_readings_tell_which_of_the_two_is_right() -> None:
    words = {("1.2.0.1", "Effusion"): (True, True), ("1.2.1.1", "Effusion"): (False, False)}
    found = _said(Compared(REFERENCE, CANDIDATE), pairs((0.4, 0.25), (0.1, 0.3)), words)
    told = found["findings"][0].readings
    assert (told.pictures, told.present, told.saw_the_model) == (2, 1, 1)
    assert (told.reference_sensitivity.value, told.candidate_sensitivity.value) == (0.0, 1.0)
    assert (told.reference_specificity.value, told.candidate_specificity.value) == (1.0, 0.0)


def test_without_truth_no_figure_calls_a_difference_an_error() -> None:
    found = _said(Compared(REFERENCE, CANDIDATE), pairs((0.6, 0.3)), {})
    assert found["findings"][0].readings is None
    assert any("a difference is no error" in caveat for caveat in found["caveats"])
    assert any("nothing here says which of the two is right" in one for one in found["caveats"])


def test_the_distance_of_distributions_is_that_of_kolmogorov_and_smirnov() -> None:
    import numpy as np

    assert _distance(np.array([0.1, 0.2, 0.3]), np.array([0.1, 0.2, 0.3])) == 0
    assert _distance(np.array([0.1, 0.2]), np.array([0.8, 0.9])) == 1
    assert _distance(np.array([0.1, 0.5]), np.array([0.5, 0.9])) == pytest.approx(0.5)


@pytest.fixture
def compared(site: Site, bundles: Bundles, send_films: SendFilms, until: Until) -> Service:
    """A service whose two bundles read four pictures before a promotion, and two after it."""
    service = site.start()
    until(lambda: service.analysis.status.available)
    desk = site.desk(service)
    desk.shadow(bundles.second, asked())
    until(lambda: service.shadow.pair)
    send_films(service, 2)
    send_films(service, 2, "effusion")

    def read(count: int) -> bool:
        return len([row for row in readings(service) if row.state == "read"]) == count

    until(lambda: read(4))
    desk.promote("second", asked())
    until(lambda: service.analysis.status.bundle_id == "second")
    send_films(service, 2, "effusion")
    until(lambda: read(6))
    return service


def test_pictures_before_and_after_a_promotion_are_compared_the_same_way_round(
    compared: Service,
) -> None:
    found = read_comparison(compared.store)
    assert (found.reference.bundle_id, found.candidate.bundle_id) == ("first", "second")
    assert (found.pictures, found.candidate_served) == (6, 2)
    finding = next(one for one in found.findings if one.key == "Effusion")
    assert (finding.reference_threshold, finding.candidate_threshold) == (0.5, 0.02)
    # One network: the same scores, so all that differs is the threshold.
    assert finding.distance == 0
    assert all(one == pytest.approx(other, abs=1e-5) for one, other in finding.points)
    flags = {(use.bundle, use.threshold_of): use.flagged for use in finding.uses}
    assert flags["candidate", "reference"] == flags["reference", "reference"] >= 4
    assert flags["candidate", "candidate"] == flags["reference", "candidate"]
    assert found.no_longer_raised.studies == 0
    assert found.drift_of.startswith("second ")
    assert "before and after the promotion are taken together" in " ".join(found.caveats)


def test_the_page_is_whole_needs_nothing_else_and_names_no_patient(compared: Service) -> None:
    page = comparison_page(read_comparison(compared.store))
    assert "Research use only, not a medical device" in page
    assert re.findall(r"<script|<link|<img|src=|url\(|@import", page) == []
    drawings = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    assert len(drawings) == 4
    for drawing in drawings:
        assert ET.fromstring(drawing).tag.endswith("svg")
    assert "Phantom" not in page
    assert "kappa" in comparison_text(read_comparison(compared.store))


def test_before_anything_was_in_shadow_there_is_nothing_to_compare(
    site: Site, serving: Service
) -> None:
    with pytest.raises(MoveRefused, match="no bundle was in shadow here"):
        read_comparison(serving.store)


def test_the_record_and_the_comparison_are_told_over_http(
    site: Site, bundles: Bundles, until: Until
) -> None:
    service = site.make()
    with serving(service.settings, service) as client:
        site.nodes.clear()  # the web application starts and stops it
        until(lambda: service.analysis.status.available)
        refused = client.get("/api/models/comparison")
        assert (refused.status_code, refused.json()["code"]) == (409, "MODEL_MOVE_REFUSED")
        site.desk(service).shadow(bundles.second, asked("a trial"))
        record = client.get("/api/models").raise_for_status().json()
        stages = {one["bundle_id"]: one["stage"] for one in record["bundles"]}
        assert stages == {"first": "live", "second": "shadow"}
        assert record["changes"][-1]["reason"] == "a trial"
        assert record["changes"][-1]["made_by"] == "hanh@station"
        found = client.get("/api/models/comparison").raise_for_status().json()
        assert found["pictures"] == 0
        assert_is_ready(client)


def assert_is_ready(client: httpx.Client) -> None:
    assert client.get("/ready").json()["checks"]["model"] == "ok"
