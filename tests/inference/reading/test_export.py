"""Signed readings out of the house, and into training."""

import csv
import io
import json
import uuid
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pydicom
import pytest
import typer
from typer.testing import CliRunner

from tests.inference.conftest import Until, serving
from tests.inference.reading.conftest import HANH, MINH, Room
from vigil.errors import ManifestError
from vigil_inference.access.account import Account
from vigil_inference.access.roles import Role
from vigil_inference.cli import register
from vigil_inference.reading.export import Export, source_of
from vigil_inference.reading.pictures import Pictures
from vigil_inference.service import Service
from vigil_inference.settings import Settings
from vigil_training.data_sets.check import check
from vigil_training.data_sets.film import write_films
from vigil_training.data_sets.sets import import_set
from vigil_training.manifest import ManifestRow, read_manifest

app = typer.Typer()
register(app)
BOX = {"x": 0.1, "y": 0.5, "width": 0.25, "height": 0.3}
NAME = "Nguyễn^Thị Zyzzyva"


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["readings", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


@dataclass
class Ward:
    """A running service that analyses phantoms with the stand-in bundle, and a reader."""

    client: httpx.Client
    data_dir: Path
    studies: list[dict[str, Any]]

    def say(self, study: dict[str, Any], act: str, **fields: Any) -> None:
        uid = study["study_instance_uid"]
        seen = self.client.get(f"/api/studies/{uid}/readings").json()["mine"]["version"]
        if "label" in fields:
            fields["sop_instance_uid"] = study["preview_sop_instance_uid"]
        body = {"id": str(uuid.uuid4()), "seen_version": seen, "act": act} | fields
        self.client.post(f"/api/studies/{uid}/readings/statements", json=body).raise_for_status()


@pytest.fixture
def ward(
    settings: Settings, stand_in_bundle: Path, phantom_file: Callable[..., Path],
    stow: Callable[..., httpx.Response], until: Until,
) -> Iterator[Ward]:  # fmt: skip
    """Six studies of six patients, signed: three with effusion, and nothing large."""
    settings = settings.model_copy(update={"bundle": stand_in_bundle, "site": "Bệnh viện Đà Bắc"})
    with serving(settings, Service(settings)) as client:
        for number, kind in enumerate(["effusion", "normal"] * 3):
            path = phantom_file(
                40 + number, kind, patient_name=NAME, patient_id=f"TT-{number}",
                InstitutionName="Tellclinic", PatientBirthDate="19420317",
            )  # fmt: skip
            assert stow(client, path).is_success

        def analysed() -> list[dict[str, Any]] | None:
            found = client.get("/api/worklist?order=arrival").json()["studies"]
            return found if sum(one["state"] == "analysed" for one in found) == 6 else None

        ward = Ward(client, settings.data_dir, until(analysed, 60))
        for study in ward.studies:
            flags = [flag["key"] for flag in study["flags"]]
            if "Effusion" in flags:
                ward.say(study, "agree", label="Effusion", regions=[BOX], note="Zyzzyva trái")
            for other in set(flags) - {"Effusion"}:
                ward.say(study, "disagree", label=other)
            ward.say(study, "add", label="Scoliosis")
            ward.say(study, "sign_off", rest_absent=[study["preview_sop_instance_uid"]])
        yield ward


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def truths(rows: tuple[ManifestRow, ...]) -> dict[str, tuple[Any, ...]]:
    return {
        row.image_id: (
            row.labels, row.label_scope, row.boxes, row.view, row.age_years, row.sex,
            row.patient_id, row.source,
        )
        for row in rows
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("pictures", [Pictures.DICOM, Pictures.PNG])
def test_what_was_signed_comes_into_training_as_it_was_signed(
    ward: Ward, tmp_path: Path, pictures: Pictures
) -> None:
    folder = tmp_path / "export"
    code, said = run(
        "export", "--to", folder, "--pictures", pictures.value, "--data-dir", ward.data_dir
    )
    assert (code, said) == (0, f"{folder}: 6 pictures of 6 patients\n")
    exported = read_manifest(folder / "manifest.csv")
    with_effusion = [row for row in exported if "Effusion" in row.labels]
    flagged = [s for s in ward.studies if any(f["key"] == "Effusion" for f in s["flags"])]
    assert len(with_effusion) == len(flagged) > 0
    for row in exported:
        assert row.label_scope == {"Effusion", "Cardiomegaly"}
        assert row.path.suffix == {"dicom": ".dcm", "png": ".png"}[pictures.value]
    for row in with_effusion:
        [box] = row.boxes
        assert (box.label, box.x, box.y, box.width, box.height) == ("Effusion", 0.1, 0.5, 0.25, 0.3)

    imported = import_set("reading-room", folder)
    to = tmp_path / "manifest.csv"
    write_films(imported.films, to)
    again = read_manifest(to)
    assert truths(again) == truths(exported)
    found = check([(to, again)], split_seed=0, validation_fraction=0.3)
    assert (found.leaks, found.findings) == (0, ())
    # Who is drawn for validation hangs on the pseudonyms, which each installation makes anew.
    assert sum(found.sides.values()) == 6


@pytest.mark.slow
def test_what_leaves_the_house_names_nobody_and_the_pixels_are_the_originals(
    ward: Ward, tmp_path: Path
) -> None:
    folder = tmp_path / "export"
    run("export", "--to", folder, "--pictures", "dicom", "--data-dir", ward.data_dir)
    uids = [study["study_instance_uid"] for study in ward.studies]
    uids += [study["preview_sop_instance_uid"] for study in ward.studies]
    for path in [*folder.glob("*.*"), *folder.glob("pictures/*")]:
        content = path.read_bytes()
        for secret in ("Zyzzyva", "TT-", "Tellclinic", "19420317", "trái", *uids):
            assert secret.encode() not in content, path.name
    originals = {
        dataset.PixelData: dataset
        for dataset in map(pydicom.dcmread, (ward.data_dir / "instances").glob("*/*"))
    }
    for path in folder.glob("pictures/*.dcm"):
        fresh = pydicom.dcmread(path)
        original = originals[fresh.PixelData]
        assert fresh.PatientID == fresh.PatientName
        assert fresh.PatientIdentityRemoved == "YES"
        assert fresh.PatientSex == original.PatientSex
        assert fresh.file_meta.TransferSyntaxUID == original.file_meta.TransferSyntaxUID
        assert (fresh.pixel_array == original.pixel_array).all()
    readme = (folder / "README.md").read_text(encoding="utf-8")
    assert "Research use only, not a medical device" in readme


@pytest.mark.slow
def test_a_researcher_fetches_the_same_by_http_and_a_technician_does_not(
    ward: Ward, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "export"
    run("export", "--to", folder, "--source", "benh-vien-da-bac", "--data-dir", ward.data_dir)
    assert not (folder / "pictures").exists()
    monkeypatch.setattr(
        "vigil_inference.access.gate.EVERYBODY",
        Account("r", "R", frozenset({Role.RESEARCHER})),
    )
    answer = ward.client.get("/api/readings/export").raise_for_status()
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.namelist() == ["manifest.csv", "README.md"]
        manifest = archive.read("manifest.csv")
    assert manifest == (folder / "manifest.csv").read_bytes()
    assert {row["source"] for row in rows_of(manifest.decode())} == {"benh-vien-da-bac"}
    answer = ward.client.get("/api/readings/export?pictures=png").raise_for_status()
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        archive.extractall(tmp_path / "unzipped")
    assert len(read_manifest(tmp_path / "unzipped" / "manifest.csv")) == 6
    assert ward.client.get("/api/readings/statistics").json()["signed_studies"] == 6
    monkeypatch.setattr(
        "vigil_inference.access.gate.EVERYBODY",
        Account("t", "T", frozenset({Role.TECHNICIAN})),
    )
    for path in ("export", "statistics"):
        refused = ward.client.get(f"/api/readings/{path}")
        assert (refused.status_code, refused.json()["code"]) == (403, "NOT_ALLOWED")


def exported(room: Room, tmp_path: Path) -> tuple[list[dict[str, str]], dict[str, int]]:
    export = Export(room.store, tmp_path, source="room", pictures=Pictures.NONE)
    files = {file.name: file.content for file in export.files()}
    assert set(files) == {"manifest.csv", "README.md"}
    return rows_of(files["manifest.csv"].decode()), dict(export.exported.left_out)


def test_what_nobody_spoke_of_is_unknown_and_never_negative(room: Room, tmp_path: Path) -> None:
    study = room.receive(1, {"Effusion": 0.8, "Mass": 0.1, "Edema": None})
    room.say(study, "agree", label="Effusion")
    assert exported(room, tmp_path) == ([], {})  # not signed
    room.sign(study)
    [row], _ = exported(room, tmp_path)
    assert (row["labels"], row["label_scope"]) == ("Effusion", "Effusion")
    room.undo(study)
    room.sign(study, rest=True)
    [row], _ = exported(room, tmp_path)
    assert (row["labels"], row["label_scope"]) == ("Effusion", "Effusion|Mass")
    assert (row["view"], row["age"], row["readers"]) == ("PA", "45", "1")
    assert row["bundles"] == "d" * 64


def test_where_two_readers_differ_the_label_is_uncertain(room: Room, tmp_path: Path) -> None:
    study = room.receive(1, {"Effusion": 0.8, "Mass": 0.1})
    for reader, act in ((HANH, "agree"), (MINH, "disagree")):
        room.say(study, act, reader, label="Effusion")
        room.say(study, "agree", reader, label="Mass")
        room.sign(study, reader)
    [row], _ = exported(room, tmp_path)
    assert (row["labels"], row["label_scope"], row["uncertain"]) == ("", "Mass", "Effusion")
    assert row["readers"] == "2"


def test_a_study_whose_pictures_name_two_patients_is_left_out(room: Room, tmp_path: Path) -> None:
    study = room.receive(1, {"Effusion": 0.8})
    room.receive(1, {"Effusion": 0.8}, study=study, sop=f"{study}.2", patient_id="another")
    room.say(study, "agree", label="Effusion")
    room.sign(study)
    assert exported(room, tmp_path) == ([], {"the study's pictures name several patients": 1})


def test_patients_keep_their_new_names_and_studies_without_a_number_are_apart(
    room: Room, tmp_path: Path
) -> None:
    for number, patient in enumerate(["A", "A", "", ""]):
        study = room.receive(number, {"Effusion": 0.8}, patient_id=patient)
        room.say(study, "agree", label="Effusion")
        room.sign(study)
    names = [row["patient_id"] for row in exported(room, tmp_path)[0]]
    assert names == [row["patient_id"] for row in exported(room, tmp_path)[0]]
    assert names[0] == names[1]
    assert len(set(names)) == 3
    assert "A" not in names


@pytest.mark.parametrize(
    ("turn", "box"),
    [
        ("90° clockwise", (0.2, 0.6, 0.1, 0.3)),
        ("180°", (0.6, 0.7, 0.3, 0.1)),
        ("90° anticlockwise", (0.7, 0.1, 0.1, 0.3)),
    ],
)
def test_regions_follow_a_picture_back_to_how_its_file_lies(
    turn: str, box: tuple[float, ...]
) -> None:
    import numpy as np

    from vigil_inference.reading.export import _in_the_file
    from vigil_inference.reading.statements import Region

    region = Region(0.1, 0.2, 0.3, 0.1)
    found = _in_the_file(region, turn)
    assert (found.x, found.y, found.width, found.height) == pytest.approx(box)
    # The same by pixels: what lies in the box of the file lies in the region once it is turned.
    file = np.zeros((100, 100))
    file[
        round(found.y * 100) : round((found.y + found.height) * 100),
        round(found.x * 100) : round((found.x + found.width) * 100),
    ] = 1
    quarters = {"90° clockwise": 1, "180°": 2, "90° anticlockwise": 3}[turn]
    rows, columns = np.nonzero(np.rot90(file, -quarters))
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (20, 29, 10, 39)


def test_an_export_goes_into_no_folder_that_holds_something(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(Exception, match="expected a new or an empty folder"):
        run("export", "--to", tmp_path, "--data-dir", tmp_path)


def test_statistics_are_printed_with_what_they_do_not_say(
    tmp_path: Path, settings: Settings
) -> None:
    from vigil_inference.store import Store

    settings.data_dir.mkdir(parents=True)
    room = Room(Store(settings.database))
    study = room.receive(1, {"Effusion": 0.8})
    room.say(study, "agree", label="Effusion")
    room.sign(study)
    room.store.close()
    code, said = run("statistics", "--data-dir", settings.data_dir)
    assert code == 0
    assert "1 of 1 studies signed" in said
    assert "Effusion" in said
    assert "SAW_THE_MODEL" in said
    assert "Research use only" in said
    code, said = run("statistics", "--json", "--data-dir", settings.data_dir)
    assert json.loads(said)["findings"][0]["table"]["both_positive"] == 1
    with pytest.raises(Exception, match="there is no database"):
        run("statistics", "--data-dir", tmp_path / "none")


def test_the_source_is_the_sites_name_in_plain_letters() -> None:
    assert source_of("Bệnh viện Đa khoa Thủ Đức") == "benh-vien-da-khoa-thu-duc"
    assert source_of("") == "reading-room"


def test_an_export_without_pictures_is_no_training_set_yet(room: Room, tmp_path: Path) -> None:
    study = room.receive(1, {"Effusion": 0.8})
    room.say(study, "agree", label="Effusion")
    room.sign(study)
    for file in Export(room.store, tmp_path, source="r", pictures=Pictures.NONE).files():
        (tmp_path / file.name).write_bytes(file.content)
    with pytest.raises(ManifestError, match=r"the file pictures/i\w+\.dcm is missing"):
        import_set("reading-room", tmp_path)
