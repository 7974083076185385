"""What a destination's answer means, without one."""

from typing import Any

import httpx
import pytest

from vigil_inference.delivery.dicomweb_peer import judge_store_response
from vigil_inference.delivery.peers import Verdict, judge_dimse_status, judge_http_status

UID = "1.2.3"


def response(status: int, **sequences: Any) -> httpx.Response:
    """Return a STOW-RS response: ``FailedSOPSequence`` is 00081198, ``Referenced…`` 00081199."""
    return httpx.Response(status, json=sequences)


def failed(reason: int) -> dict[str, Any]:
    item = {
        "00081155": {"vr": "UI", "Value": [UID]},
        "00081197": {"vr": "US", "Value": [reason]},
    }
    return {"00081198": {"vr": "SQ", "Value": [item]}}


def warned(reason: int) -> dict[str, Any]:
    item = {
        "00081155": {"vr": "UI", "Value": [UID]},
        "00081196": {"vr": "US", "Value": [reason]},
    }
    return {"00081199": {"vr": "SQ", "Value": [item]}}


@pytest.mark.parametrize(
    ("answer", "verdict", "code"),
    [
        (response(200), Verdict.ACCEPTED, "HTTP_200"),
        (response(200, **warned(0xB000)), Verdict.ACCEPTED, "STOW_B000"),
        (response(202, **warned(0xB007)), Verdict.ACCEPTED, "STOW_B007"),
        (response(202, **failed(0xA700)), Verdict.LATER, "STOW_A700"),
        (response(202, **failed(0xA900)), Verdict.REFUSED, "STOW_A900"),
        (response(409, **failed(0xC000)), Verdict.REFUSED, "STOW_C000"),
        (response(409, **failed(0x0110)), Verdict.LATER, "STOW_0110"),
        (response(409, **failed(0x0111)), Verdict.ACCEPTED, "STOW_0111"),
        # A failure whose reason is a warning's or success's is a failure all the same.
        (response(409, **failed(0xB000)), Verdict.REFUSED, "STOW_B000"),
        (response(409, **failed(0x0000)), Verdict.REFUSED, "STOW_0000"),
        (response(409), Verdict.REFUSED, "HTTP_409"),
        (response(503), Verdict.LATER, "HTTP_503"),
        (httpx.Response(200, text="<html>"), Verdict.ACCEPTED, "HTTP_200"),
        (httpx.Response(400, text="no"), Verdict.REFUSED, "HTTP_400"),
    ],
)
def test_a_stow_response_is_judged_by_what_it_says_of_the_object(
    answer: httpx.Response, verdict: Verdict, code: str
) -> None:
    judged = judge_store_response(answer, UID)
    assert (judged.verdict, judged.code) == (verdict, code)


@pytest.mark.parametrize(
    ("statuses", "verdict"),
    [
        ((200, 201, 204), Verdict.ACCEPTED),
        ((301, 302, 307, 400, 405, 406, 409, 410, 413, 415, 422), Verdict.REFUSED),
        ((401, 403, 404, 408, 425, 429, 500, 502, 503, 504), Verdict.LATER),
    ],
)
def test_http_statuses_that_time_or_an_administrator_mends_are_tried_again(
    statuses: tuple[int, ...], verdict: Verdict
) -> None:
    assert {judge_http_status(status).verdict for status in statuses} == {verdict}


@pytest.mark.parametrize(
    ("statuses", "verdict"),
    [
        ((0x0000, 0xB000, 0xB006, 0xB007, 0x0111), Verdict.ACCEPTED),
        ((0xA700, 0xA701, 0xA7FF, 0x0110, 0x0213), Verdict.LATER),
        ((0xA900, 0xA9FF, 0xC000, 0xC2FF, 0x0122, 0x0124, 0x0117), Verdict.REFUSED),
    ],
)
def test_dimse_statuses_are_stored_tried_again_or_dead(
    statuses: tuple[int, ...], verdict: Verdict
) -> None:
    assert {judge_dimse_status(status).verdict for status in statuses} == {verdict}
