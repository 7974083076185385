from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vigil.triager import Triager
from vigil_training.manifest import ManifestRow, read_manifest
from vigil_training.report.drift import energy_coefficient, measure_drift, stability_index


def test_the_stability_index_is_that_by_hand() -> None:
    before, now = np.asarray([50, 50]), np.asarray([25, 75])
    p, q = np.asarray([50.5, 50.5]) / 101, np.asarray([25.5, 75.5]) / 101
    expected = sum((q - p) * np.log(q / p))
    assert stability_index(before, now) == pytest.approx(expected)
    assert stability_index(before, before) == 0


def test_the_energy_coefficient_is_one_for_two_points_and_zero_for_equal_groups() -> None:
    apart = np.asarray([[0.0, 0, 2, 2], [0, 0, 2, 2], [2, 2, 0, 0], [2, 2, 0, 0]])
    first = np.asarray([True, True, False, False])
    assert energy_coefficient(apart, first) == 1
    assert energy_coefficient(apart, np.asarray([True, False, True, False])) == 0


def _rows(manifest: Path) -> list[ManifestRow]:
    return list(read_manifest(manifest))


def test_an_older_and_sicker_hospital_is_noticed_and_the_same_one_is_not(
    stand_in_bundle: Path, phantom_manifest: Path
) -> None:
    rows = _rows(phantom_manifest)
    before = [replace(row, age_years=30.0 + row.number) for row in rows]
    changed = [
        replace(row, age_years=70.0 + row.number / 2, labels=frozenset({"Effusion"}))
        for row in rows
    ]
    triager = Triager.load(stand_in_bundle, threads=1)
    found = measure_drift(("a", "b"), before, changed, triager)
    shifts = {shift.characteristic: shift for shift in found.shifts}
    assert (found.patients_before, found.pictures_now) == (24, 24)
    age, label = shifts["age in years"], shifts["Effusion"]
    assert age.size is not None
    assert age.by_chance is not None
    assert age.size > age.by_chance > 0
    assert age.p_corrected is not None
    assert age.p_corrected < 0.001
    assert label.size == pytest.approx(0.5)
    assert (label.before, label.now) == ("50.0%", "100.0%")
    seen = shifts["what the network sees"]
    assert seen.size == 0
    assert seen.p == 1  # the pictures are the same


def test_few_patients_withhold_a_difference(stand_in_bundle: Path, phantom_manifest: Path) -> None:
    rows = _rows(phantom_manifest)
    triager = Triager.load(stand_in_bundle, threads=1)
    found = measure_drift(("a", "b"), rows, rows[:10], triager)
    assert all(shift.withheld and shift.p is None for shift in found.shifts)
    assert "24 and 10 patients" in found.shifts[0].withheld
