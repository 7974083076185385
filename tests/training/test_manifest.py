from pathlib import Path

import pytest
from tests.training.conftest import COLUMNS

from vigil.errors import ManifestError
from vigil_training.manifest import Box, read_gate_manifest, read_manifest


def test_a_row_is_read_as_it_stands(write_manifest) -> None:
    boxes = '[{"label": "Mass", "x": 0.1, "y": 0.2, "w": 0.3, "h": 0.4}]'
    row = {"labels": "Mass|Effusion", "label_scope": "Effusion|Mass|Nodule", "boxes": boxes}
    (read,) = read_manifest(write_manifest([row]))
    assert read.number == 2
    assert read.labels == {"Mass", "Effusion"}
    assert read.label_scope == {"Effusion", "Mass", "Nodule"}
    assert read.age_years == 50
    assert read.boxes == (Box("Mass", 0.1, 0.2, 0.3, 0.4),)
    assert read.path.name == "0.png"
    assert read.mask is None


def test_an_empty_age_and_an_empty_scope_are_unknown(write_manifest) -> None:
    (read,) = read_manifest(write_manifest([{"age": "", "label_scope": "", "view": "unknown"}]))
    assert read.age_years is None
    assert read.label_scope == frozenset()
    assert read.view == "UNKNOWN"


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"path": "missing.png"}, r"row 3: the file missing\.png is missing"),
        ({"label_scope": "Effusion|Scurvy"}, "row 3: unknown label Scurvy"),
        ({"labels": "Mass"}, "row 3: label Mass is positive but not in label_scope"),
        ({"age": "-4"}, "row 3: age is -4"),
        ({"age": "forty"}, "row 3: age is forty"),
        ({"age": "400"}, "row 3: age is 400"),
        ({"age": "nan"}, "row 3: age is nan"),
        ({"view": "OBLIQUE"}, "row 3: view is OBLIQUE"),
        ({"patient_id": ""}, "row 3: patient_id is empty"),
        ({"ctr": "55"}, "row 3: ctr is 55, expected a ratio between 0 and 1"),
        ({"ctr": "wide"}, "row 3: ctr is wide"),
        ({"path": "0.png"}, "row 3: the picture already stands in row 2"),
        ({"boxes": "[1]"}, "row 3: boxes are not a JSON list"),
        (
            {"boxes": '[{"label": "Effusion", "x": 12, "y": 0, "w": 0.1, "h": 0.1}]'},
            "row 3: a box of Effusion is .* as parts of the picture's width",
        ),
        (
            {"boxes": '[{"label": "Effusion", "x": 0.1, "y": 0, "w": 0, "h": 0.1}]'},
            "row 3: a box of Effusion is empty",
        ),
        ({"label_scope": "effusion"}, r"row 3: unknown label effusion; did you mean Effusion\?"),
        ({"path": "./0.png"}, "row 3: the picture already stands in row 2"),
        (
            {"labels": "No Finding|Effusion", "label_scope": "No Finding|Effusion"},
            "row 3: No Finding stands beside another label",
        ),
    ],
)
def test_a_wrong_row_is_named(write_manifest, row: dict[str, str], said: str) -> None:
    with pytest.raises(ManifestError, match=said):
        read_manifest(write_manifest([{}, row], (*COLUMNS, "ctr")))


def test_a_cardiothoracic_ratio_is_read_where_there_is_one(write_manifest) -> None:
    with_one, without = read_manifest(write_manifest([{"ctr": "0.548"}, {}], (*COLUMNS, "ctr")))
    assert with_one.cardiothoracic_ratio == 0.548
    assert without.cardiothoracic_ratio is None


def test_one_patient_in_two_splits_is_refused_and_both_rows_named(write_manifest) -> None:
    columns = ("path", "source", "patient_id", "image_id", "view", "age", "sex", "labels",
               "label_scope", "split")  # fmt: skip
    rows = [{"patient_id": "p", "split": "train"}, {"patient_id": "p", "split": "val"}]
    with pytest.raises(
        ManifestError, match="row 3: patient p is in split val here and in train in row 2"
    ):
        read_manifest(write_manifest(rows, columns))


def test_a_missing_column_is_named(write_manifest) -> None:
    columns = ("path", "source", "patient_id", "image_id", "view", "age", "sex", "labels")
    with pytest.raises(ManifestError, match="column missing: label_scope"):
        read_manifest(write_manifest([{}], columns))


def test_a_row_with_too_few_cells_is_named(write_manifest) -> None:
    path = write_manifest([{}])
    with path.open("a", encoding="utf-8") as file:
        file.write("1.png,nih\n")
    with pytest.raises(ManifestError, match="row 3: expected 12 columns"):
        read_manifest(path)


def test_a_manifest_that_is_not_there_or_empty_is_one_sentence(
    tmp_path: Path, write_manifest
) -> None:
    with pytest.raises(ManifestError, match="cannot be read"):
        read_manifest(tmp_path / "none.csv")
    with pytest.raises(ManifestError, match="holds no rows"):
        read_manifest(write_manifest([]))


def test_a_gate_manifest_says_what_a_picture_is(tmp_path: Path) -> None:
    (tmp_path / "hand.jpg").touch()
    path = tmp_path / "gate.csv"
    path.write_text("path,class,source,image_id\nhand.jpg,hand,mednist,1\n", encoding="utf-8")
    (row,) = read_gate_manifest(path)
    assert (row.kind, row.source, row.number) == ("hand", "mednist", 2)
    path.write_text("path,class,source,image_id\nfoot.jpg,foot,x,1\n", encoding="utf-8")
    with pytest.raises(ManifestError, match=r"row 2: the file foot\.jpg is missing"):
        read_gate_manifest(path)


def test_a_manifest_saved_by_a_spreadsheet_is_read(write_manifest) -> None:
    path = write_manifest([{"age": "61"}])
    path.write_text(path.read_text(encoding="utf-8"), encoding="utf-8-sig")
    (read,) = read_manifest(path)
    assert read.age_years == 61


def test_all_wrong_rows_are_named_at_once_and_no_more_than_five(write_manifest) -> None:
    path = write_manifest([{"label_scope": "Scurvy"}] * 3 + [{}] + [{"age": "old"}] * 4)
    with pytest.raises(ManifestError) as refused:
        read_manifest(path)
    lines = str(refused.value).splitlines()
    assert [line.split(": ")[0].rsplit("row ", 1)[-1] for line in lines[:5]] == list("23467")
    assert lines[5] == "and 2 more rows"


@pytest.mark.parametrize(("mark", "name"), [(";", "semicolons"), ("\t", "tabs")])
def test_a_table_with_other_separators_is_said_to_have_them(
    tmp_path: Path, mark: str, name: str
) -> None:
    path = tmp_path / "manifest.csv"
    path.write_text(mark.join(COLUMNS) + "\n", encoding="utf-8")
    with pytest.raises(ManifestError, match=f"separated by {name}, expected commas; save"):
        read_manifest(path)


def test_lines_in_another_encoding_are_named(write_manifest) -> None:
    path = write_manifest([{}, {"patient_id": "Nguyễn"}, {"patient_id": "X"}])
    path.write_bytes(path.read_bytes().replace(b",X,", "Müller".encode("latin-1").join([b","] * 2)))
    with pytest.raises(ManifestError, match="not a CSV file in UTF-8: line 4 of it cannot be read"):
        read_manifest(path)


def test_other_columns_are_named_beside_those_that_are_missing(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    path.write_text("file,patient\n1.png,a\n", encoding="utf-8")
    with pytest.raises(ManifestError, match=r"column missing: path, source.*found file, patient"):
        read_manifest(path)
