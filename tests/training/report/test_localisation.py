from types import SimpleNamespace

import numpy as np
import pytest

from vigil_training.manifest import Box, ManifestRow
from vigil_training.report.localisation import free_responses, marks_of


def _map(*peaks: tuple[int, int, float]) -> np.ndarray:
    """A quiet map with square patches of some probability."""
    made = np.full((64, 64), 0.02, np.float32)
    for row, column, value in peaks:
        made[row - 3 : row + 4, column - 3 : column + 4] = value / 2
        made[row, column] = value
    return made


def test_every_patch_of_a_map_is_a_mark_at_its_highest_place() -> None:
    marks = marks_of(_map((16, 16, 0.9), (48, 32, 0.8)))
    assert marks == [
        (pytest.approx(16.5 / 64), pytest.approx(16.5 / 64), pytest.approx(0.9)),
        (pytest.approx(32.5 / 64), pytest.approx(48.5 / 64), pytest.approx(0.8)),
    ]
    assert marks_of(np.full((64, 64), 0.5, np.float32)) == []


class _Pointer:
    """Points at the boxed corner of the first films, and elsewhere on the others."""

    bundle = SimpleNamespace(
        manifest=SimpleNamespace(findings=(SimpleNamespace(label="Pneumonia"),))
    )

    def triage(self, path: int, *, age_years: float | None) -> SimpleNamespace:
        shown = _map((16, 16, 0.9)) if path < 8 else _map((48, 48, 0.5))
        return SimpleNamespace(
            code=None, notes=(), findings={"Pneumonia": 0.5}, maps={"Pneumonia": shown}
        )


def _row(number: int, ill: bool, boxed: bool) -> ManifestRow:
    box = Box("Pneumonia", 0.1, 0.1, 0.3, 0.3)
    return ManifestRow(
        number=number, path=number, source="s", patient_id=f"p{number}", image_id=str(number),
        view="PA", age_years=40, sex="F", label_scope=frozenset({"Pneumonia"}),
        labels=frozenset({"Pneumonia"} if ill else ()), boxes=(box,) if boxed else (),
    )  # fmt: skip


def test_boxes_are_found_by_marks_in_them_and_unboxed_positives_are_left_out() -> None:
    rows = [_row(number, number < 13, number < 12) for number in range(20)]
    (found,) = free_responses(_Pointer(), rows, samples=50)
    assert (found.boxes, found.boxed_films, found.films_without) == (12, 12, 7)
    assert (found.positive_without_box, found.withheld) == (1, "")
    # Eight marks at 0.9 lie in boxes; the other eleven films have a false mark at 0.5 each.
    expected = [(0, 0), (0, 8 / 12), (11 / 19, 8 / 12)]
    assert np.asarray(found.curve) == pytest.approx(np.asarray(expected), abs=1e-5)
    assert found.at[0].found == pytest.approx(8 / 12)
    # Each of the eight maps lies in every other film's box: 8 × 7 + 4 × 8 of 12 × 11 pairs.
    assert found.found_by_other_maps == pytest.approx(88 / 132)
    few = free_responses(_Pointer(), rows[4:], samples=50)[0]
    assert (few.curve, few.at) == ((), ())
    assert few.withheld == "8 patients with a box; at least 10 are asked for"
