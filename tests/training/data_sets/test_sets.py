"""Each set is read from a miniature tree in its published layout."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.training.data_sets import trees

from vigil.errors import ConfigurationError, ManifestError
from vigil.findings import NO_FINDING
from vigil_training.data_sets.film import Film, Marks, write_films
from vigil_training.data_sets.sets import SETS, Imported, import_set
from vigil_training.data_sets.table import LabelTable, load_table
from vigil_training.manifest import Box, read_manifest


def _read(name: str, folder: Path, **options: object) -> tuple[Imported, dict[str, Film]]:
    found = import_set(name, folder, **options)
    return found, {film.image_id: film for film in found.films}


def test_nih_takes_the_official_test_list_and_boxes_as_fractions(tmp_path: Path) -> None:
    found, films = _read("nih", trees.nih(tmp_path))
    heart = films["00000001_000"]
    assert heart.marks.labels == {"Cardiomegaly", "Emphysema"}
    assert heart.marks.scope == load_table("nih").scope | {NO_FINDING}
    assert heart.boxes == (Box("Cardiomegaly", 0.1, 0.2, 0.5, 0.25),)
    assert (heart.patient_id, heart.view, heart.age_years, heart.sex) == ("1", "PA", 57, "M")
    assert films["00000001_001"].marks.labels == {NO_FINDING}
    # The training list leaves its validation part open; a patient of 411 years has no known age.
    assert [films[name].split for name in sorted(films)] == ["", "", "test"]
    assert films["00000002_000"].age_years is None
    assert found.passed.films == {
        "the picture is not in the folder": ["Data_Entry_2017_v2020.csv, row 5"]
    }


def test_nih_without_its_lists_is_refused_and_a_split_of_ones_own_changes_its_name(
    tmp_path: Path,
) -> None:
    folder = trees.nih(tmp_path)
    (folder / "test_list.txt").unlink()
    with pytest.raises(ManifestError, match=r"expected test_list\.txt.*mixed into training"):
        import_set("nih", folder)
    _, films = _read("nih", folder, own_split=True)
    assert {(film.source, film.split) for film in films.values()} == {("nih-own-split", "")}


def test_nih_lists_that_put_a_patient_in_both_parts_are_refused(tmp_path: Path) -> None:
    folder = trees.nih(tmp_path)
    (folder / "train_val_list.txt").write_text("00000001_000.png\n")
    (folder / "test_list.txt").write_text("00000001_001.png\n00000002_000.png\n")
    with pytest.raises(ManifestError, match="patient 1 is in the official training part"):
        import_set("nih", folder)
    (folder / "train_val_list.txt").write_text("00000002_000.png\n")
    with pytest.raises(ManifestError, match=r"00000002_000\.png stands in both official lists"):
        import_set("nih", folder)


def test_chexpert_keeps_uncertain_negative_and_not_mentioned_apart(tmp_path: Path) -> None:
    found, films = _read("chexpert", trees.chexpert(tmp_path))
    healthy = films["patient00001-study1-view1_frontal"]
    assert healthy.marks.labels == {NO_FINDING}
    assert healthy.marks.negative == load_table("chexpert").scope
    assert (healthy.view, healthy.sex, healthy.split) == ("AP", "F", "train")
    lateral = films["patient00002-study2-view2_lateral"]
    assert lateral.marks.positive == {"Effusion"}
    assert lateral.marks.negative == {"Pneumothorax"}
    assert lateral.marks.uncertain == {"Edema"}
    assert lateral.marks.scope == {"Effusion", "Pneumothorax", NO_FINDING}
    assert (lateral.view, lateral.age_years) == ("LATERAL", None)  # 0 years is "not known"
    silent = films["patient00003-study1-view1_frontal"]
    assert silent.marks == Marks()
    assert silent.view == "FRONTAL"
    judged = films["patient64541-study1-view1_frontal"]
    assert (judged.split, judged.marks.positive) == ("val", {"Cardiomegaly"})
    assert len(judged.marks.negative) == 8
    assert found.passed.words == {}


def test_mimic_gives_a_studys_labels_to_its_films(tmp_path: Path) -> None:
    found, films = _read("mimic-cxr", trees.mimic(tmp_path))
    assert set(films) == {"aaa-1", "aaa-2", "bbb-1"}
    assert films["aaa-1"].marks == films["aaa-2"].marks
    assert films["aaa-1"].marks.uncertain == {"Pneumonia"}
    assert (films["aaa-1"].view, films["aaa-2"].view) == ("PA", "LATERAL")
    assert [films[name].split for name in sorted(films)] == ["train", "train", "val"]
    assert films["bbb-1"].marks.labels == {NO_FINDING}
    assert list(found.passed.films) == ["the picture is not in the folder"]
    (tmp_path / "mimic-cxr-2.0.0-split.csv.gz").unlink()
    with pytest.raises(ManifestError, match="it holds the official split"):
        import_set("mimic-cxr", tmp_path)


def test_vindr_takes_what_most_readers_saw_and_leaves_the_rest_open(tmp_path: Path) -> None:
    found, films = _read("vindr-cxr", trees.vindr_cxr(tmp_path))
    film = films["aaaa"]
    assert film.marks.positive == {"Tuberculosis"}
    assert film.marks.uncertain == {"Effusion", "Lung_Lesion"}  # one of three saw them
    assert "Pneumothorax" in film.marks.negative
    assert (film.age_years, film.sex, film.view, film.split) == (45, "M", "PA", "")
    assert film.size == (80, 96)
    assert film.boxes == (Box("Effusion", 0.1, 0.5, 0.4, 0.5),)
    assert films["bbbb"].split == "test"
    assert films["bbbb"].marks.labels == {NO_FINDING}
    assert found.passed.words == {}


def test_vindr_pcxr_knows_local_findings_by_their_boxes(tmp_path: Path) -> None:
    found, films = _read("vindr-pcxr", trees.vindr_pcxr(tmp_path))
    assert films["cccc"].marks.positive == {"Pneumonia", "Consolidation"}
    assert films["cccc"].age_years == 2
    assert films["dddd"].marks.labels == {NO_FINDING}
    assert films["dddd"].age_years == pytest.approx(10 / 12)
    assert [films[name].split for name in ("cccc", "dddd")] == ["", "test"]
    assert found.passed.words == {}


def test_padchest_reads_its_list_of_words_and_names_what_it_does_not_know(tmp_path: Path) -> None:
    found, films = _read("padchest", trees.padchest(tmp_path))
    assert films["a"].marks.labels == {NO_FINDING}
    assert films["b"].marks.positive == {"Effusion"}
    assert films["b"].marks.uncertain == {"Tuberculosis"}  # a healed one
    assert films["b"].view == "LATERAL"
    assert films["c"].marks == Marks()  # "unchanged" says nothing of what is there
    assert films["c"].view == "AP"
    assert films["f"].marks.positive == {"Cardiomegaly"}
    assert films["a"].age_years == 84
    assert found.passed.films == {
        "projection COSTAL": [f"{_PADCHEST}, row 5"],
        "Labels is no list of words": [f"{_PADCHEST}, row 6"],
    }
    assert list(found.passed.words) == ["a word of a later release"]


_PADCHEST = "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv"


def test_rsna_boxes_are_fractions_and_other_findings_stay_unknown(tmp_path: Path) -> None:
    _, films = _read("rsna", trees.rsna(tmp_path))
    film = films["opacity"]
    assert film.marks.positive == {"Lung_Opacity", "Pneumonia"}
    assert (film.view, film.age_years, film.split) == ("AP", 33, "")
    assert film.boxes[0] == Box("Lung_Opacity", 0.25, 0.125, 0.5, 0.25)
    assert len(film.boxes) == 4
    assert films["normal"].marks.labels == {NO_FINDING}
    assert films["other"].marks.labels == frozenset()
    assert films["other"].marks.scope == {"Lung_Opacity", "Pneumonia", NO_FINDING}


def test_siim_makes_a_box_of_an_outline_under_a_column_with_a_space(tmp_path: Path) -> None:
    _, films = _read("siim", trees.siim(tmp_path))
    assert films["1.2.3"].marks.positive == {"Pneumothorax"}
    assert films["1.2.4"].marks.negative == {"Pneumothorax"}
    assert films["1.2.4"].marks.scope == {"Pneumothorax"}
    (box,) = films["1.2.3"].boxes
    assert (box.x, box.y) == (100 / 1024, 200 / 1024)
    assert (box.width, box.height) == (3 / 1024, 5 / 1024)


def test_tbx11k_counts_active_tuberculosis_only(tmp_path: Path) -> None:
    _, films = _read("tbx11k", trees.tbx11k(tmp_path))
    assert films["tb0001"].marks.positive == {"Tuberculosis"}
    assert films["tb0001"].boxes == (Box("Tuberculosis", 0.25, 0.125, 0.5, 0.25),)
    assert films["tb0002"].marks.uncertain == {"Tuberculosis"}
    assert films["h0001"].marks.labels == {NO_FINDING}
    assert films["s0001"].marks.negative == {"Tuberculosis"}
    assert films["s0001"].marks.labels == frozenset()
    assert {film.split for film in films.values()} == {"train", "val"}


def test_shenzhen_and_montgomery_read_sex_and_age_of_both_forms(tmp_path: Path) -> None:
    shenzhen = trees.nlm(
        tmp_path / "china", "CHNCXR",
        {"0001_0": "male 45yrs\nnormal\n", "0400_1": "Female, 28yrs\nbilateral PTB\n",
         "0010_0": "male 16month\nright pleuritis\n"},
    )  # fmt: skip
    _, films = _read("shenzhen", shenzhen)
    normal, sick = films["CHNCXR_0001_0"], films["CHNCXR_0400_1"]
    assert (normal.sex, normal.age_years) == ("M", 45)
    assert normal.marks.labels == {NO_FINDING}
    assert sick.marks.labels == {"Tuberculosis"}
    assert (sick.sex, sick.age_years) == ("F", 28)
    other = films["CHNCXR_0010_0"]  # neither tuberculosis nor normal
    assert other.age_years == pytest.approx(16 / 12)
    assert other.marks.labels == frozenset()
    assert other.marks.negative == {"Tuberculosis"}
    montgomery = trees.nlm(
        tmp_path / "usa", "MCUCXR", {"0001_0": "Patient's Sex: F \nPatient's Age: 027Y\nnormal\n"}
    )
    _, films = _read("montgomery", montgomery)
    film = films["MCUCXR_0001_0"]
    assert (film.sex, film.age_years, film.view) == ("F", 27, "PA")


def test_open_i_needs_to_know_which_films_are_frontal(tmp_path: Path) -> None:
    _, films = _read("open-i", trees.open_i(tmp_path))
    assert len(films) == 6
    assert films["CXR1_1_IM-0001-3001"].view == "FRONTAL"
    assert films["CXR1_1_IM-0001-4001"].view == "LATERAL"
    assert films["CXR1_1_IM-0001-3001"].marks.labels == {NO_FINDING}
    assert films["CXR2_1_IM-0002-3001"].marks.positive == {"Lung_Opacity", "Pleural_Thickening"}
    assert films["CXR3_1_IM-0003-3001"].marks == Marks()
    assert films["CXR2_1_IM-0002-3001"].patient_id == films["CXR2_1_IM-0002-4001"].patient_id
    (tmp_path / "indiana_projections.csv").unlink()
    with pytest.raises(ManifestError, match="nothing says which films are frontal"):
        import_set("open-i", tmp_path)


def test_ones_own_dicom_files_and_labels(tmp_path: Path) -> None:
    trees.dicom(tmp_path / "a" / "one.dcm", 1, age=61, PatientID="p1")
    trees.dicom(tmp_path / "b" / "two.dcm", 2, PatientID="p2")
    header = ("file", "site", "Tuberculosis", "Effusion", "Bronchitis")
    trees.table(
        tmp_path / "labels.csv", header,
        [("a/one.dcm", "Phú Thọ", 1, -1, 0), ("two.dcm", "Huế", 0, "", 1),
         ("no.dcm", "Huế", 1, 0, 0)],
    )  # fmt: skip
    found, films = _read("dicom", tmp_path)
    assert films["one"].source == "Phú Thọ"
    assert films["one"].marks.positive == {"Tuberculosis"}
    assert films["one"].marks.uncertain == {"Effusion"}
    assert (films["one"].patient_id, films["one"].age_years) == ("p1", 61)
    assert films["two"].marks.scope == {"Tuberculosis"}
    assert list(found.passed.words) == ["Bronchitis"]
    assert found.passed.films["the file is not in the folder"] == ["labels.csv, row 4"]
    own = tmp_path / "words.toml"
    own.write_text('title = "x"\nterms = "y"\n[labels]\n"Bronchitis" = "Infiltration"\n')
    found, films = _read("dicom", tmp_path, table=own)
    assert films["two"].marks.positive == {"Infiltration"}
    assert set(found.passed.words) == {"Tuberculosis", "Effusion"}


def test_a_film_of_nobody_is_refused(tmp_path: Path) -> None:
    trees.dicom(tmp_path / "one.dcm", 1, PatientID=None)
    trees.table(tmp_path / "labels.csv", ("file", "Effusion"), [("one.dcm", 1)])
    with pytest.raises(ManifestError, match="add the column patient_id"):
        import_set("dicom", tmp_path)


def test_the_reading_rooms_export_comes_back_as_it_went(tmp_path: Path) -> None:
    films = (
        Film(trees.png(tmp_path / "1.png"), "room", "p1", "1",
             Marks(frozenset({"Effusion"}), frozenset({"Mass"}), frozenset({"Edema"})), "PA", 50.0),
        Film(trees.png(tmp_path / "2.png"), "room", "p2", "2",
             Marks(negative=frozenset({"Effusion"}), healthy=True), "AP"),
    )  # fmt: skip
    write_films(films, tmp_path / "manifest.csv")
    _, found = _read("reading-room", tmp_path)
    assert found["1"].marks == films[0].marks
    assert found["2"].marks == films[1].marks


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("nih", trees.nih), ("chexpert", trees.chexpert), ("mimic-cxr", trees.mimic),
        ("vindr-cxr", trees.vindr_cxr), ("vindr-pcxr", trees.vindr_pcxr),
        ("padchest", trees.padchest), ("rsna", trees.rsna), ("siim", trees.siim),
        ("tbx11k", trees.tbx11k), ("open-i", trees.open_i),
    ],
)  # fmt: skip
def test_what_is_written_is_a_manifest_that_training_reads(
    name: str, make: Callable[[Path], Path], tmp_path: Path
) -> None:
    found = import_set(name, make(tmp_path / "set"))
    to = tmp_path / "manifest.csv"
    write_films(found.films, to)
    rows = read_manifest(to)
    assert len(rows) == len(found.films)
    for row, film in zip(rows, found.films, strict=True):
        assert row.path.samefile(film.path)
        assert (row.labels, row.label_scope) == (film.marks.labels, film.marks.scope)
        assert not row.label_scope & film.marks.uncertain
        assert (row.split, row.view, row.patient_id) == (film.split, film.view, film.patient_id)
        assert len(row.boxes) == len(film.boxes)
    assert not Path(to.read_text(encoding="utf-8").splitlines()[1].split(",")[0]).is_absolute()
    elsewhere = tmp_path / "other" / "manifest.csv"
    write_films(found.films, elsewhere)
    assert read_manifest(elsewhere)[0].path.samefile(found.films[0].path)


@pytest.mark.parametrize("name", sorted(SETS))
def test_a_folder_that_holds_something_else_is_one_sentence(name: str, tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="expected"):
        import_set(name, tmp_path)


def test_a_set_or_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="there is no set jsrt, expected one of nih"):
        import_set("jsrt", tmp_path)
    with pytest.raises(ConfigurationError, match="there is no folder"):
        import_set("nih", tmp_path / "none")


def test_mixed_encodings_and_wrong_cells_name_the_row(tmp_path: Path) -> None:
    folder = trees.chexpert(tmp_path)
    path = folder / "train.csv"
    text = path.read_text(encoding="utf-8")
    path.write_text("\ufeff" + text, encoding="utf-8")  # Excel's mark is passed over
    assert len(import_set("chexpert", folder).films) == 4
    path.write_bytes(text.encode() + "CheXpert/train/Hà".encode("cp1258"))
    with pytest.raises(ManifestError, match=r"train\.csv, after row 4: is not UTF-8 .*save it as"):
        import_set("chexpert", folder)
    path.write_text(text.replace(",-1.0,", ",maybe,", 1), encoding="utf-8")
    with pytest.raises(ManifestError, match=r"train\.csv, row 3: Edema is maybe, expected"):
        import_set("chexpert", folder)
    path.write_text(text.replace(",-1.0,", ",nan,", 1), encoding="utf-8")
    with pytest.raises(ManifestError, match="row 3: Edema is nan, expected a number"):
        import_set("chexpert", folder)
    path.write_text(text.replace(",Edema,", ",Oedema,", 1), encoding="utf-8")
    with pytest.raises(ManifestError, match="row 2: column missing: Edema"):
        import_set("chexpert", folder)
    path.write_text(text.replace("Frontal/Lateral", "View", 1), encoding="utf-8")
    with pytest.raises(ManifestError, match=r"column missing: Frontal/Lateral; found Path"):
        import_set("chexpert", folder)


def test_a_mark_cannot_be_two_things() -> None:
    with pytest.raises(ValueError, match="Mass is marked in two ways"):
        Marks(frozenset({"Mass"}), frozenset({"Mass"}))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('[labels]\n"x" = "Fracture"', "unknown label Fracture"),
        ('healthy = ["x"]\n[labels]\n"X " = "Mass"', "the word x stands in two places"),
        ("[labels", "is not TOML"),
    ],
)
def test_a_wrong_table_is_one_sentence(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "t.toml"
    path.write_text(f'title = "t"\nterms = "u"\n{content}\n', encoding="utf-8")
    with pytest.raises(ConfigurationError, match=said):
        load_table(str(path))


def test_every_table_can_be_read_and_says_its_terms() -> None:
    for one in SETS.values():
        found: LabelTable = load_table(one.table)
        assert found.scope
        assert len(found.terms) > 40
