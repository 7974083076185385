"""Studies for the tests: phantoms' headers, with findings, maps and pixels as the test says."""

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from vigil.anatomy import Anatomy
from vigil.errors import RefusalCode
from vigil.phantom import Phantom, make_phantom
from vigil.phantom.dicom import make_uid, write_dx
from vigil.triage import Flag, Priority
from vigil_inference.results import PictureResult, ResultOptions, StudyResult

NAMESPACE = uuid.UUID("c2b9a1de-6b1f-4f8e-9d56-0a1b2c3d4e5f")
DIGEST = "3f" * 32
TIMESTAMP = datetime(2026, 1, 5, 8, 30, 15, tzinfo=UTC)
SIZE = (600, 500)


@cache
def _phantom(seed: int, kind: str, size: tuple[int, int]) -> Phantom:
    return make_phantom(seed, kind, size)


def make_source(seed: int = 3, number: int = 1, **tags: object) -> Dataset:
    """Return a phantom's header; pictures of one seed are of one study."""
    with TemporaryDirectory() as folder:
        path = write_dx(_phantom(seed, "normal", (256, 256)), Path(folder) / "a.dcm", **tags)
        source = pydicom.dcmread(path, stop_before_pixels=True)
    source.SOPInstanceUID = make_uid("picture", seed, number)
    source.InstanceNumber = number
    source.Rows, source.Columns = SIZE
    return source


def make_map(x: float = 0.3, y: float = 0.7, spread: float = 0.1) -> NDArray[np.float32]:
    """Return a map with one hill, at shares of the picture's width and height."""
    rows, columns = np.mgrid[0:64, 0:53]
    distance = ((columns + 0.5) / 53 - x) ** 2 + ((rows + 0.5) / 64 - y) ** 2
    return (0.05 + 0.9 * np.exp(-distance / (2 * spread**2))).astype(np.float32)


def make_anatomy(ratio: float = 0.543) -> Anatomy:
    """Return two lungs and a heart, whose diameters are those of the ratio."""
    left, right = 0.1, 0.9
    end = 0.35 + ratio * (right - left)
    box = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0), (0.0, 0.0))
    shapes = [
        np.array([(x + w * width, y + h * height) for w, h in box])
        for x, y, width, height in (
            (left, 0.2, 0.3, 0.6), (0.6, 0.2, 0.3, 0.6), (0.35, 0.45, end - 0.35, 0.3),
        )
    ]  # fmt: skip
    return Anatomy(
        lungs=(shapes[0], shapes[1]),
        heart=shapes[2],
        lungs_area=0.36,
        lungs_cut=0.0,
        heart_line=((0.35, 0.6), (end, 0.6)),
        thorax_line=((left, 0.7), (right, 0.7)),
        ratio=ratio,
    )


def make_picture(
    probabilities: Mapping[str, float] | None = None,
    *,
    source: Dataset | None = None,
    maps: Mapping[str, NDArray[np.float32]] | None = None,
    notes: tuple[str, ...] = (),
    withheld: Mapping[str, str] | None = None,
    threshold: float = 0.5,
    analysed_at: datetime = TIMESTAMP,
    anatomy: Anatomy | None = None,
) -> PictureResult:
    """Return an analysed picture: what is at or over the threshold is flagged and has a map."""
    probabilities = {"Effusion": 0.914, "Mass": 0.12} if probabilities is None else probabilities
    flags = tuple(
        Flag(label, label, probability, threshold, Priority.URGENT)
        for label, probability in probabilities.items()
        if probability >= threshold
    )
    phantom = _phantom(3, "effusion", (300, 250))
    return PictureResult(
        source=make_source() if source is None else source,
        analysed_at=analysed_at,
        priority=Priority.URGENT if flags else Priority.ROUTINE,
        findings=probabilities,
        flags=flags,
        withheld=withheld or {},
        notes=notes,
        maps={flag.label: make_map() for flag in flags} if maps is None else maps,
        pixels=(phantom.pixels.astype(np.uint32) * 16).astype(np.uint16),
        anatomy=anatomy,
    )


def make_refusal(
    code: RefusalCode = RefusalCode.PIXELS_CORRUPT, *, source: Dataset | None = None
) -> PictureResult:
    """Return a picture that was not analysed."""
    return PictureResult(
        source=make_source() if source is None else source,
        analysed_at=TIMESTAMP,
        priority=Priority.NOT_ANALYSED,
        code=code,
        reason="the pixels end before the picture does",
    )


def make_study(*pictures: PictureResult, **changes: object) -> StudyResult:
    """Return a study; by default one picture with an effusion."""
    options = {
        name: changes.pop(name)
        for name in list(changes)
        if name in ResultOptions.__dataclass_fields__
    }
    arguments: dict[str, object] = {
        "bundle_id": "cxr-test-1",
        "bundle_digest": DIGEST,
        "namespace": NAMESPACE,
        "options": ResultOptions(**options),  # type: ignore[arg-type]
        "software_version": "0.1.0",
    }
    return StudyResult(pictures or (make_picture(),), **(arguments | changes))  # type: ignore[arg-type]
