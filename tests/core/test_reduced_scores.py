"""The shipped bundle says the same of real films, whether they are decoded in whole or not."""

from pathlib import Path

import numpy as np
import pytest
from pydicom import uid

from tests.bench.bench_agreement import enlarged, write_film
from tests.conftest import DATA
from tests.system.samples import RADIOGRAPHS
from vigil.bundle import default_bundle
from vigil.reading import read_radiograph
from vigil.triager import Triager, TriageResult

TOLERANCE = 0.03
"""Of any probability; cutting four of 3,000 rows and columns off changes it by up to 0.05."""

_FILMS = ("nih", "shenzhen", "montgomery")


@pytest.fixture(scope="module")
def triager() -> Triager:
    return Triager.load(default_bundle(), threads=1)


def _same(reduced: TriageResult, whole: TriageResult) -> None:
    assert reduced.code == whole.code
    assert reduced.findings.keys() == whole.findings.keys()
    for label, probability in whole.findings.items():
        assert reduced.findings[label] == pytest.approx(probability, abs=TOLERANCE), label
    for label in reduced.maps.keys() & whole.maps.keys():
        assert reduced.maps[label].shape == whole.maps[label].shape
        assert np.abs(reduced.maps[label] - whole.maps[label]).mean() < TOLERANCE
    if whole.anatomy is not None and whole.anatomy.ratio is not None:
        assert reduced.anatomy is not None
        assert reduced.anatomy.ratio == pytest.approx(whole.anatomy.ratio, abs=0.02)


@pytest.mark.data
@pytest.mark.parametrize("name", RADIOGRAPHS)
def test_a_real_file_scores_as_when_it_is_decoded_in_whole(
    name: str, triager: Triager, dicom_samples: Path
) -> None:
    path = dicom_samples / name
    _same(triager.triage(path), triager.judge(read_radiograph(path)))


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize(
    "syntax",
    [
        uid.ExplicitVRLittleEndian,
        uid.JPEGExtended12Bit,
        uid.JPEG2000Lossless,
        uid.JPEG2000,
        uid.HTJ2KLossless,
    ],
    ids=lambda s: s.name,
)
def test_a_film_of_3000_pixels_scores_as_when_it_is_decoded_in_whole(
    syntax: uid.UID, triager: Triager, tmp_path: Path
) -> None:
    folder = DATA / "cxr-train" / "images"
    if not folder.is_dir():
        pytest.skip("the real films are not beside the project (VIGIL_DATA names their folder)")
    for number, source in enumerate(_FILMS):
        film = sorted((folder / source).iterdir())[7]
        stored = enlarged(film, 2995 + number, number)
        path = write_film(stored, number, syntax, tmp_path)
        reduced = triager.triage(path)
        assert reduced.radiograph is not None
        assert reduced.radiograph.sampling is not None
        _same(reduced, triager.judge(read_radiograph(path)))
