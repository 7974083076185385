"""Reference outputs: what a bundle's network said of a few phantoms on the machine that made it.

They lie beside the network in ``reference_outputs.json``, pictures and expected probabilities, so
that every installation can show that it computes what was measured: another processor, runtime or
library may not change a score (mlmed/torchxrayvision issue 160 asks for this).
"""

import base64
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from vigil.errors import BundleError
from vigil.phantom import MAX_STORED_VALUE, PhantomKind, make_phantom
from vigil.processor import Network
from vigil.triager import Triager

REFERENCE_NAME = "reference_outputs.json"
TOLERANCE = 2e-3
"""Greatest difference of any probability: float32 on another processor stays far below it."""

INT8_TOLERANCE = 0.05
"""The same for 8-bit integers, whose steps a processor may round to another side."""

_KINDS = (PhantomKind.NORMAL, PhantomKind.EFFUSION, PhantomKind.CARDIOMEGALY, PhantomKind.INVERTED)
_ROWS, _COLUMNS = 160, 144


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ReferenceCase(_Strict):
    """One picture and what the network said of it.

    ``picture`` is an 8-bit grey PNG in base64: the picture itself and not its recipe, since
    another version of the drawing library would draw another one.
    """

    name: str
    picture: str
    probabilities: dict[str, float]
    attributes: dict[str, float]


class ReferenceOutputs(_Strict):
    """``reference_outputs.json``: the cases, and the digest of the bundle that answered.

    ``cases`` are what the network in floating point said, ``cases_int8`` what the one in 8-bit
    integers said of the same pictures, where the bundle brings one.
    """

    digest: str
    cases: tuple[ReferenceCase, ...]
    cases_int8: tuple[ReferenceCase, ...] = ()


def write_reference_outputs(folder: Path) -> ReferenceOutputs:
    """Ask a bundle's networks about the reference phantoms and write their answers beside it."""
    triager = Triager.load(folder, network="float")
    cases_int8: tuple[ReferenceCase, ...] = ()
    if triager.bundle.int8_path is not None:
        cases_int8 = _cases(Triager.load(folder, network="int8"))
    outputs = ReferenceOutputs(
        digest=triager.bundle.digest, cases=_cases(triager), cases_int8=cases_int8
    )
    (folder / REFERENCE_NAME).write_text(outputs.model_dump_json(indent=1) + "\n", "utf-8")
    return outputs


def _cases(triager: Triager) -> tuple[ReferenceCase, ...]:
    cases = []
    for seed, kind in enumerate(_KINDS, 1):
        stored = make_phantom(seed, kind, (_ROWS, _COLUMNS)).pixels
        picture = (stored.astype(np.float64) * 255 / MAX_STORED_VALUE).round().astype(np.uint8)
        encoded = cv2.imencode(".png", picture)[1].tobytes()
        prediction = triager.predict(_display(picture))
        cases.append(
            ReferenceCase(
                name=f"phantom {seed}, {kind}",
                picture=base64.b64encode(encoded).decode("ascii"),
                probabilities=dict(prediction.probabilities),
                attributes=dict(prediction.attributes),
            )
        )
    return tuple(cases)


def check_reference_outputs(triager: Triager) -> float | None:
    """Compare what a bundle says here with what it said where it was made.

    Returns
    -------
    float or None
        The greatest difference of any probability; None if the bundle brings no references of
        the network that answers.

    Raises
    ------
    BundleError
        If the references cannot be read, belong to another bundle, or differ by more than
        the tolerance of the network that answers.
    """
    path = triager.bundle.folder / REFERENCE_NAME
    try:
        outputs = ReferenceOutputs.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        raise BundleError(f"{path}: the reference outputs cannot be read") from error
    if outputs.digest != triager.bundle.digest:
        raise BundleError(
            f"{path}: the references are of bundle {outputs.digest[:12]}…, "
            f"expected {triager.bundle.digest[:12]}…"
        )
    cases, tolerance = outputs.cases, TOLERANCE
    if triager.network is Network.INT8:
        cases, tolerance = outputs.cases_int8, INT8_TOLERANCE
    if not cases:
        return None
    greatest = 0.0
    for case in cases:
        prediction = triager.predict(_display(_decoded(path, case)))
        for expected, found in (
            (case.probabilities, prediction.probabilities),
            (case.attributes, prediction.attributes),
        ):
            if expected.keys() != found.keys():
                raise BundleError(f"{path}: {case.name} names other outputs than the bundle has")
            greatest = max([greatest, *(abs(expected[key] - found[key]) for key in expected)])
    if greatest > tolerance:
        raise BundleError(
            f"{path}: this machine's outputs differ from the references by {greatest:.4f}, "
            f"expected at most {tolerance}: its scores are not those that were measured"
        )
    return greatest


def _decoded(path: Path, case: ReferenceCase) -> NDArray[np.uint8]:
    try:
        encoded = np.frombuffer(base64.b64decode(case.picture, validate=True), np.uint8)
        picture = cv2.imdecode(encoded, cv2.IMREAD_GRAYSCALE)
    except (ValueError, cv2.error) as error:
        raise BundleError(f"{path}: the picture of {case.name} is damaged") from error
    if picture is None:
        raise BundleError(f"{path}: the picture of {case.name} is damaged")
    return np.asarray(picture, np.uint8)


def _display(picture: NDArray[np.uint8]) -> NDArray[np.uint16]:
    return picture.astype(np.uint16) * np.uint16(257)
