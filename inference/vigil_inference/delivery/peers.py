"""What can be asked of any destination, and how its answers are judged."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from pynetdicom.status import code_to_category

from vigil_inference.delivery.destinations import Tls
from vigil_inference.delivery.ledger import Parcel


class Verdict(StrEnum):
    """What a destination's answer means for a delivery."""

    ACCEPTED = "accepted"
    """It took the object."""
    HELD = "held"
    """It proved that it holds the object."""
    NOT_HELD = "not held"
    """It answered, and does not hold the object, or does not show it yet."""
    AWAITED = "awaited"
    """It will report by itself."""
    LATER = "later"
    """It cannot say or take it now."""
    REFUSED = "refused"
    """It will never take this object."""


@dataclass(frozen=True)
class Answer:
    """A destination's answer: the verdict, a stable word, and a sentence for people."""

    verdict: Verdict
    code: str
    reason: str = ""


class Peer(Protocol):
    """A destination, to one thread."""

    def send(self, parcel: Parcel) -> Answer:
        """Send an object or a message: ACCEPTED, LATER or REFUSED."""
        ...

    def prove(self, parcel: Parcel) -> Answer:
        """Ask for proof of what it took: HELD, NOT_HELD, AWAITED or LATER."""
        ...

    def close(self) -> None:
        """Let go of a connection that was kept for the next object."""
        ...


# Failures that pass: out of resources (PS3.4 table B.2-1), processing failure and resource
# limitation (PS3.7 annex C).
_PASSING = frozenset({0x0110, 0x0213, 0xFE00})
_DUPLICATE = 0x0111


def judge_dimse_status(status: int, comment: str = "") -> Answer:
    """Return what a C-STORE's status means (DICOM PS3.4 table B.2-1, PS3.7 annex C)."""
    code = f"C_STORE_{status:04X}"
    category = code_to_category(status)
    said = f"{category} 0x{status:04X}" + (f": {comment}" if comment else "")
    if category in ("Success", "Warning"):
        return Answer(Verdict.ACCEPTED, code, "" if status == 0 else f"stored with {said}")
    if status == _DUPLICATE:
        return Answer(Verdict.ACCEPTED, code, "the destination holds an object of this UID already")
    if status >> 8 == 0xA7 or status in _PASSING:
        return Answer(Verdict.LATER, code, f"the destination answered {said}")
    return Answer(Verdict.REFUSED, code, f"the destination refused it: {said}")


# Those of 4xx that an administrator or time mends without a change of the object.
_MENDED_ELSEWHERE = frozenset({401, 403, 404, 407, 408, 421, 423, 425, 429})


def judge_http_status(status: int) -> Answer:
    """Return what an HTTP status means where the body says no more (RFC 9110)."""
    code = f"HTTP_{status}"
    if 200 <= status < 300:
        return Answer(Verdict.ACCEPTED, code)
    if status >= 500 or status in _MENDED_ELSEWHERE:
        return Answer(Verdict.LATER, code, f"the destination answered {status}")
    if 300 <= status < 400:
        return Answer(
            Verdict.REFUSED, code, f"the destination redirects ({status}); set its own address"
        )
    return Answer(Verdict.REFUSED, code, f"the destination refused it: {status}")


def no_connection(error: Exception) -> Answer:
    """Return the answer where there was none; the error's own words may hold a patient's."""
    import httpx

    if isinstance(error, httpx.TimeoutException):
        return Answer(Verdict.LATER, "NO_ANSWER", "the destination took too long to answer")
    return Answer(
        Verdict.LATER,
        "NO_CONNECTION",
        f"the destination cannot be reached ({type(error).__name__})",
    )


def server_name(tls: Tls | None) -> dict[str, str]:
    """Return what tells httpx which name the destination's certificate must have."""
    return {"sni_hostname": tls.server_name} if tls is not None and tls.server_name else {}
