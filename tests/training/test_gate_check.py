from pathlib import Path

import pytest
from tests.core.conftest import TINY_ATTRIBUTES, build_bundle

from vigil.bundle import AttributeSpec, write_manifest
from vigil_training.gate_check import GateFigures, check_gate
from vigil_training.manifest import read_manifest


def _by_kind(bundle: Path, manifest: Path) -> dict[str, GateFigures]:
    found = check_gate(bundle, read_manifest(manifest), [], split=None, limit=6)
    return {row.kind: row for row in found}


@pytest.fixture
def lenient(tmp_path: Path) -> Path:
    """A bundle that tells whether the left half is the brighter one, and calls all films AP."""
    thresholds = {"frontal_chest": 0.0, "mirrored": 0.018, "anteroposterior": 0.01}
    attributes = tuple(
        AttributeSpec(name=name, threshold=thresholds.get(name, 1.0)) for name in TINY_ATTRIBUTES
    )
    manifest = build_bundle(tmp_path / "lenient")
    write_manifest(tmp_path / "lenient", manifest.model_copy(update={"attributes": attributes}))
    return tmp_path / "lenient"


def test_films_that_are_said_to_be_mirrored_are_counted_and_analysed(
    lenient: Path, phantom_manifest: Path
) -> None:
    found = _by_kind(lenient, phantom_manifest)
    right, mirrored = found["as it is"], found["mirrored"]
    assert right.passed == mirrored.passed == 6
    assert right.noted_mirrored is not None
    assert mirrored.noted_mirrored is not None
    # sigmoid(-4) is 0.018: one side of every film is the brighter one, and a flip changes sides.
    assert right.noted_mirrored + mirrored.noted_mirrored == 6


def test_films_that_are_said_to_look_ap_are_counted_by_their_view(
    lenient: Path, phantom_manifest: Path
) -> None:
    found = _by_kind(lenient, phantom_manifest)
    by_view = found["PA by its manifest"]
    assert by_view.pictures == by_view.noted_anteroposterior == 6
    assert "AP by its manifest" not in found


def test_a_bundle_that_does_not_tell_mirrored_films_has_no_count(
    tmp_path: Path, phantom_manifest: Path
) -> None:
    build_bundle(tmp_path / "plain", attributes=False)
    found = _by_kind(tmp_path / "plain", phantom_manifest)
    assert [row.noted_mirrored for row in found.values()] == [None] * len(found)
    assert [row.noted_anteroposterior for row in found.values()] == [None] * len(found)
    assert found["mirrored"].passed == 6
