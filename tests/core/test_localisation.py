import json
from pathlib import Path
from typing import Any

import pytest

from vigil.bundle import Bundle, load_bundle
from vigil.localisation import HEAT_MAPS, Localisation, read_localisation

MEASURED = {
    "films": 9,
    "without_map": 1,
    "hits": 4,
    "hits_by_other_maps": 1.5,
    "centre_distance": 0.2,
    "centre_distance_interval": [0.1, 0.3],
}


@pytest.fixture
def bundle(bundle_folder: Path) -> Bundle:
    return load_bundle(bundle_folder)


def _write(bundle: Bundle, **changes: Any) -> None:
    section = {"title": "Heat maps", "lines": [], "figures": {"localisation": MEASURED}}
    content = {"digest": bundle.digest, "sections": {HEAT_MAPS: section}} | changes
    (bundle.folder / "metrics.json").write_text(json.dumps(content), encoding="utf-8")


def test_what_was_measured_of_this_bundle_is_told(bundle: Bundle) -> None:
    _write(bundle)
    found = read_localisation(bundle)
    assert found == Localisation.model_validate(MEASURED)
    assert found is not None
    assert (found.hits, found.films, found.centre_distance) == (4, 9, 0.2)


def test_figures_of_another_bundle_are_not_told(bundle: Bundle) -> None:
    _write(bundle, digest="0" * 64)
    assert read_localisation(bundle) is None


@pytest.mark.parametrize(
    "sections",
    [
        None,
        [],
        {HEAT_MAPS: {"figures": None}},
        {HEAT_MAPS: {"figures": {"localisation": None}}},
        {HEAT_MAPS: {"figures": {"localisation": MEASURED | {"films": 0}}}},
        {"other": {"figures": {"localisation": MEASURED}}},
    ],
)
def test_what_was_not_measured_or_is_damaged_is_not_told(bundle: Bundle, sections: Any) -> None:
    _write(bundle, sections=sections)
    assert read_localisation(bundle) is None


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff"])
def test_a_file_that_is_no_metrics_tells_nothing(bundle: Bundle, content: bytes) -> None:
    assert read_localisation(bundle) is None
    (bundle.folder / "metrics.json").write_bytes(content)
    assert read_localisation(bundle) is None
