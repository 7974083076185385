from dataclasses import replace

from vigil_training.manifest import GateRow, ManifestRow, read_manifest
from vigil_training.split import side_of, side_of_row


def _rows(write_manifest) -> tuple[ManifestRow, ...]:
    rows = [{"patient_id": f"p{number // 3}", "source": "abc"[number % 2]} for number in range(600)]
    return read_manifest(write_manifest(rows))


def test_no_patient_is_on_both_sides(write_manifest) -> None:
    sides: dict[tuple[str, str], set[str]] = {}
    for row in _rows(write_manifest):
        sides.setdefault((row.source, row.patient_id), set()).add(side_of_row(row, 3, 0.2))
    assert all(len(found) == 1 for found in sides.values())
    assert {side for found in sides.values() for side in found} == {"train", "val"}


def test_a_fifth_of_each_sources_patients_is_held_out() -> None:
    for source in ("nih", "kermany"):
        held_out = sum(side_of(source, str(n), 0, 0.2) == "val" for n in range(5000))
        assert 0.18 < held_out / 5000 < 0.22


def test_the_split_depends_on_the_seed_and_on_nothing_else() -> None:
    first = [side_of("nih", str(n), 1, 0.2) for n in range(200)]
    assert first == [side_of("nih", str(n), 1, 0.2) for n in range(200)]
    assert first != [side_of("nih", str(n), 2, 0.2) for n in range(200)]
    # Written down once: a change of the hash would move patients that a bundle never saw.
    held_out = [n for n in range(40) if side_of("nih", str(n), 4, 0.2) == "val"]
    assert held_out == [2, 4, 9, 16, 37]


def test_a_manifests_own_split_goes_first(write_manifest) -> None:
    row = _rows(write_manifest)[0]
    assert side_of_row(replace(row, split="train"), 0, 0.2) == "train"
    assert side_of_row(replace(row, split="test"), 0, 0.2) == "test"


def test_the_test_patients_choose_nothing(write_manifest) -> None:
    row = replace(_rows(write_manifest)[0], split="test")
    for seed in range(20):
        assert side_of_row(row, seed, 0.9) not in ("train", "val")


def test_a_gate_picture_is_split_by_itself(tmp_path) -> None:
    rows = [GateRow(n, tmp_path / str(n), "hand", "mednist", str(n)) for n in range(500)]
    held_out = sum(side_of_row(row, 0, 0.2) == "val" for row in rows)
    assert 60 < held_out < 140
