import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from tests.core.conftest import build_bundle
from tests.training.conftest import COLUMNS

from vigil.bundle import load_bundle
from vigil.localisation import HEAT_MAPS, read_localisation
from vigil_training.heat_maps.figures import HeatMapFigures
from vigil_training.heat_maps.measure import measure_heat_maps
from vigil_training.heat_maps.shuffled_weights import STAGES
from vigil_training.heat_maps.shuffles import rank_correlation, structural_similarity
from vigil_training.manifest import read_manifest

CELLS = [(row, column) for row in range(1, 4) for column in range(4)]


def _write_films(folder: Path, *, box_beside: bool = False) -> Path:
    """Write films with a bright quarter of a side each, its box and, as lungs, the same place.

    The tiny network's Effusion is brightness, on 4 × 4 places.
    """
    rows = []
    for number, (row, column) in enumerate(CELLS):
        picture = np.tile(np.linspace(0.25, 0.35, 200), (200, 1))
        mask = np.zeros((200, 200), np.uint8)
        place = np.s_[50 * row : 50 * row + 50, 50 * column : 50 * column + 50]
        picture[place], mask[place] = 0.95, 255
        cv2.imwrite(str(folder / f"{number}.png"), (picture * 65535).astype(np.uint16))
        cv2.imwrite(str(folder / f"mask{number}.png"), mask)
        x = ((column + 2 * box_beside) % 4) / 4
        box = {"label": "Effusion", "x": x, "y": row / 4, "w": 0.25, "h": 0.25}
        rows.append(
            {
                "path": f"{number}.png", "source": "made", "patient_id": f"p{number}",
                "image_id": str(number), "view": "PA", "age": "40", "sex": "F",
                "labels": "Effusion", "label_scope": "Effusion", "boxes": json.dumps([box]),
                "mask": f"mask{number}.png",
            }
        )  # fmt: skip
    path = folder / "manifest.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, (*COLUMNS, "mask"))
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A bundle whose Effusion is the brightness of each of 4 × 4 places."""
    return _build(tmp_path / "tiny", "elsewhere")


def _build(folder: Path, sources: str) -> Path:
    training = {"split_seed": 0, "validation_fraction": 0.6, "sources": sources}
    build_bundle(folder, attributes=False, training=training)
    return folder


def _measure(bundle: Path, manifest: Path, **options: object) -> HeatMapFigures:
    rows = read_manifest(manifest)
    return measure_heat_maps(bundle, rows, shuffled_films=3, samples=200, **options)  # type: ignore[arg-type]


def test_a_map_that_points_at_the_box_hits_and_others_maps_do_not(
    tiny: Path, tmp_path: Path
) -> None:
    found = _measure(tiny, _write_films(tmp_path), split=None)
    (group,) = found.boxes
    pointers = {pointer.pointer: pointer for pointer in group.pointers}
    own = pointers["the film's map"]
    assert (group.films, group.without_map, group.labels) == (12, 0, {"Effusion": 12})
    assert own.hits == 1
    # The map is 4 × 4 places wide, smoothed: its centre is off by less than a place.
    assert own.distance < 0.06
    assert own.overlap is not None
    assert own.overlap > 0.4
    assert pointers["another film's map"].hits == 0
    assert pointers["another film's map"].distance > 0.25
    assert pointers["anywhere"].hits == pytest.approx(1 / 16)
    assert group.more_hits_than_other_film_interval == (1, 1)
    organ = found.organs[0]
    assert (organ.organ, organ.source, organ.maps) == ("lungs", "made", 12)
    assert organ.area == pytest.approx(1 / 16)
    assert organ.inside > 0.4
    assert organ.other_film is not None
    assert organ.other_film < 0.1
    assert organ.hottest_inside == 1
    assert found.notices_shuffled_pictures


def test_a_map_that_points_elsewhere_misses_by_that_much(tiny: Path, tmp_path: Path) -> None:
    found = _measure(tiny, _write_films(tmp_path, box_beside=True), split=None)
    own = found.boxes[0].pointers[0]
    assert own.hits == 0
    assert own.distance == pytest.approx(0.5, abs=0.06)
    assert own.overlap == 0


def test_films_that_were_learnt_from_are_told_apart_and_make_no_headline(tmp_path: Path) -> None:
    learnt_here = _build(tmp_path / "learnt", "made, elsewhere")
    manifest = _write_films(tmp_path)
    found = _measure(learnt_here, manifest, split="val")
    held_out, learnt = found.boxes
    assert held_out.group == "took no part in the training"
    assert held_out.films + learnt.films == 12
    assert held_out.films > 2
    assert learnt.films > 2
    assert found.localisation is not None
    assert (found.localisation.films, found.localisation.hits) == (held_out.films,) * 2
    assert learnt.pointers[0].hits == 1


def test_the_service_reads_the_headline_that_was_measured(tiny: Path, tmp_path: Path) -> None:
    found = _measure(tiny, _write_films(tmp_path), split=None)
    bundle = load_bundle(tiny)
    section = {
        "title": "Heat maps",
        "lines": found.card_lines(),
        "figures": found.model_dump(mode="json"),
    }
    content = json.dumps({"digest": bundle.digest, "sections": {HEAT_MAPS: section}})
    (tiny / "metrics.json").write_text(content, encoding="utf-8")
    assert read_localisation(bundle) == found.localisation
    lines = "\n".join(found.card_lines())
    assert "| the film's map | 1.000 (1.000–1.000) |" in lines
    assert "| lungs | all | made |" in lines
    assert "in every row" in lines
    assert ("**" in lines) is (not found.notices_shuffled_weights)


def test_maps_that_do_not_notice_shuffled_weights_are_said_to_be_worthless(
    tiny: Path, tmp_path: Path
) -> None:
    found = _measure(tiny, _write_films(tmp_path), split=None)
    last = found.shuffles[-1]
    assert last.shuffled == "all"
    for bounds, notices in (((-0.2, 0.3), True), ((0.2, 0.6), False), (None, False)):
        row = last.model_copy(update={"rank_correlation_interval": bounds})
        changed = found.model_copy(update={"shuffles": (*found.shuffles[:-1], row)})
        assert changed.notices_shuffled_weights is notices
        assert ("do not show them" in "\n".join(changed.card_lines())) is not notices


def test_films_without_boxes_and_masks_are_only_judged_with_shuffled_weights(
    tiny: Path, phantom_manifest: Path
) -> None:
    found = _measure(tiny, phantom_manifest, split=None)
    assert [row.shuffled for row in found.shuffles] == ["nothing, another film", *dict(STAGES)]
    assert [row.films for row in found.shuffles] == [2, 3, 3, 3, 3]
    assert (found.boxes, found.organs, found.localisation) == ((), (), None)
    assert not found.notices_shuffled_pictures
    assert "No film with a radiologist's box was measured." in found.card_lines()


def test_likeness_is_one_with_itself_minus_one_with_its_opposite_and_zero_with_nothing() -> None:
    map_ = np.random.default_rng(0).random((64, 50)).astype(np.float32)
    assert rank_correlation(map_, map_**3) == pytest.approx(1)
    assert rank_correlation(map_, -map_) == pytest.approx(-1)
    assert rank_correlation(map_, np.zeros_like(map_)) == 0
    assert structural_similarity(map_, 5 * map_ + 2) == pytest.approx(1, abs=1e-6)
    other = np.random.default_rng(1).random((64, 50)).astype(np.float32)
    assert abs(structural_similarity(map_, other)) < 0.1
