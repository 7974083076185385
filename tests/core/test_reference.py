import json
from pathlib import Path

import pytest

from tests.core.conftest import build_bundle
from vigil.bundle import default_bundle
from vigil.errors import BundleError
from vigil.reference import (
    REFERENCE_NAME,
    TOLERANCE,
    check_reference_outputs,
    write_reference_outputs,
)
from vigil.triager import Triager


def _change(folder: Path, **changes: object) -> None:
    path = folder / REFERENCE_NAME
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_bundle_says_here_what_it_said_where_it_was_made(bundle_folder: Path) -> None:
    outputs = write_reference_outputs(bundle_folder)
    assert len({case.probabilities["Effusion"] for case in outputs.cases}) == len(outputs.cases)
    assert check_reference_outputs(Triager.load(bundle_folder)) < 1e-6


def test_a_bundle_without_references_is_not_refused(bundle_folder: Path) -> None:
    assert check_reference_outputs(Triager.load(bundle_folder)) is None


def test_another_score_than_the_reference_is_refused_with_both_figures(
    bundle_folder: Path,
) -> None:
    outputs = write_reference_outputs(bundle_folder).model_dump()
    outputs["cases"][1]["probabilities"]["Pneumonia"] += 2 * TOLERANCE
    _change(bundle_folder, cases=outputs["cases"])
    with pytest.raises(BundleError, match=r"differ from the references by 0.0040, expected at"):
        check_reference_outputs(Triager.load(bundle_folder))


def test_references_of_another_bundle_are_refused(bundle_folder: Path) -> None:
    write_reference_outputs(bundle_folder)
    build_bundle(bundle_folder, description="another one")
    with pytest.raises(BundleError, match="the references are of bundle"):
        check_reference_outputs(Triager.load(bundle_folder))


@pytest.mark.parametrize("picture", ["%%%", "AAAA", ""])
def test_a_damaged_picture_is_named(bundle_folder: Path, picture: str) -> None:
    cases = write_reference_outputs(bundle_folder).model_dump()["cases"]
    cases[0]["picture"] = picture
    _change(bundle_folder, cases=cases)
    with pytest.raises(BundleError, match="picture of phantom 1, normal is damaged"):
        check_reference_outputs(Triager.load(bundle_folder))


def test_a_file_that_is_no_reference_is_refused(bundle_folder: Path) -> None:
    (bundle_folder / REFERENCE_NAME).write_text("{}")
    with pytest.raises(BundleError, match="cannot be read"):
        check_reference_outputs(Triager.load(bundle_folder))


def test_the_shipped_bundle_computes_here_what_was_measured() -> None:
    difference = check_reference_outputs(Triager.load(default_bundle()))
    assert difference is not None
    assert difference < TOLERANCE
