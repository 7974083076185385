import numpy as np
import pytest

from vigil_training.config import RunConfig
from vigil_training.manifest import GateRow, read_manifest
from vigil_training.targets import chest_examples, gate_examples, one_sided_labels

CONFIG = RunConfig.model_validate(
    {
        "name": "t",
        "description": "t",
        "data": {
            "manifest": "manifest.csv",
            "sources": [
                {"name": "nih", "share": 1},
                {"name": "kermany", "share": 1, "age_group": "child"},
                {"name": "wingspan", "share": 1, "age_group": "adult"},
                {"name": "elsewhere", "share": 1},
            ],
        },
        "findings": [
            {"key": "Effusion", "label": "Effusion", "min_age": 15},
            {"key": "Pneumonia", "label": "Pneumonia", "min_age": 15},
            {"key": "Pneumonia:child", "label": "Pneumonia", "min_age": 1, "max_age": 5},
        ],
        "optimisation": {"epochs": 1, "pictures_per_epoch": 8},
    }
)
NEGATIVES = [  # so that no source is one-sided
    {"source": source, "label_scope": "Effusion|Pneumonia", "age": age}
    for source, age in (("nih", "40"), ("kermany", ""), ("wingspan", ""), ("elsewhere", ""))
]


def _known(write_manifest, row: dict[str, str]) -> dict[str, float | None]:
    example = chest_examples(read_manifest(write_manifest([*NEGATIVES, row])), CONFIG)[-1]
    return {
        name: float(target) if known else None
        for name, target, known in zip(CONFIG.outputs, example.targets, example.mask, strict=True)
    }


def test_a_label_outside_the_scope_is_unknown_not_negative(write_manifest) -> None:
    known = _known(write_manifest, {"label_scope": "Effusion", "age": "40"})
    assert known["Effusion"] == 0
    assert known["Pneumonia"] is None
    assert known["Pneumonia:child"] is None


@pytest.mark.parametrize(
    ("source", "age", "adult", "child"),
    [
        ("nih", "15", 1.0, None),
        ("nih", "14", None, None),
        ("nih", "5", None, 1.0),
        ("nih", "0", None, None),
        ("kermany", "", None, 1.0),
        ("wingspan", "", 1.0, None),
        ("elsewhere", "", None, None),
    ],
)
def test_a_label_counts_only_inside_the_findings_population(
    write_manifest, source: str, age: str, adult: float | None, child: float | None
) -> None:
    row = {"source": source, "age": age, "labels": "Pneumonia", "label_scope": "Pneumonia"}
    known = _known(write_manifest, row)
    assert known["Pneumonia"] == adult
    assert known["Pneumonia:child"] == child


def test_a_film_without_any_label_in_scope_still_shows_a_chest(write_manifest) -> None:
    known = _known(write_manifest, {"label_scope": "", "source": "wingspan", "age": ""})
    assert known == {
        "Effusion": None, "Pneumonia": None, "Pneumonia:child": None,
        "frontal_chest": 1, "child": 0, "inverted": 0, "rotated": 0, "mirrored": 0,
        "anteroposterior": None,
    }  # fmt: skip


def test_whether_an_unknown_age_is_a_childs_stays_unknown(write_manifest) -> None:
    assert _known(write_manifest, {"source": "elsewhere", "age": ""})["child"] is None
    assert _known(write_manifest, {"source": "kermany", "age": ""})["child"] == 1
    assert _known(write_manifest, {"age": "14"})["child"] == 1


def test_a_view_is_taught_only_where_both_views_are_from_one_source(write_manifest) -> None:
    views = [("nih", "AP"), ("nih", "PA"), ("nih", "unknown"), ("kermany", "AP")]
    rows = read_manifest(
        write_manifest([{"source": source, "view": view} for source, view in views])
    )
    column = CONFIG.outputs.index("anteroposterior")
    examples = chest_examples(rows, CONFIG)
    assert [example.mask[column] for example in examples] == [1, 1, 0, 0]
    assert [example.targets[column] for example in examples] == [1, 0, 0, 0]


def test_a_source_without_a_negative_teaches_nothing_of_a_label(write_manifest) -> None:
    positive = {"source": "hannover", "labels": "Effusion", "label_scope": "Effusion"}
    rows = read_manifest(write_manifest([*NEGATIVES, positive]))
    assert one_sided_labels(rows) == {("hannover", "Effusion")}
    lone = read_manifest(write_manifest([{"labels": "Effusion", "label_scope": "Effusion"}]))
    assert chest_examples(lone, CONFIG)[0].mask[0] == 0


def test_a_picture_that_is_no_chest_film_teaches_only_that(tmp_path) -> None:
    row = GateRow(2, tmp_path / "hand.jpg", "hand", "mednist", "1")
    (example,) = gate_examples([row], CONFIG)
    assert not example.chest
    assert np.flatnonzero(example.mask).tolist() == [CONFIG.outputs.index("frontal_chest")]
    assert example.targets.sum() == 0
