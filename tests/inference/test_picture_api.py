"""Pictures at full depth, tags and a patient's other studies, over HTTP."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import httpx
import numpy as np
import pydicom
import pytest
from pydicom.uid import ImplicitVRLittleEndian
from sqlalchemy import update

from tests.inference.conftest import FakeModel, MakeFile, Until, serving
from tests.inference.test_full_depth import inflate
from vigil.anatomy import Anatomy
from vigil.dicom import describe, open_dicom, read_dicom
from vigil.pixels import read_stored_values
from vigil_inference.service import Service
from vigil_inference.settings import Settings
from vigil_inference.tables import Instance

Stow = Callable[..., httpx.Response]


@pytest.fixture
def send(client: httpx.Client, service: Service, stow: Stow, until: Until) -> Callable[[Path], str]:
    """Send a file, wait for its answer, and return the path of its picture."""

    def send_one(path: Path) -> str:
        assert stow(client, path).status_code == 200
        until(lambda: not service.store.waiting())
        return picture_of(path)

    return send_one


def picture_of(path: Path) -> str:
    header = pydicom.dcmread(path, stop_before_pixels=True)
    return f"/api/studies/{header.StudyInstanceUID}/instances/{header.SOPInstanceUID}"


@pytest.mark.parametrize(
    "name",
    [
        "CR-MONO1-10-chest.dcm",  # implicit VR, MONOCHROME1
        "rsna_c64d5667.dcm",  # JPEG baseline
        "RG3_JPLL.dcm",  # JPEG lossless
        "RG3_JLSN.dcm",  # JPEG-LS
        "RG3_RLE.dcm",
        "RG3_J2KI.dcm",  # JPEG 2000
    ],
)
def test_full_depth_is_what_the_core_decodes(
    client: httpx.Client,
    send: Callable[[Path], str],
    dicom_samples: Path,
    tmp_path: Path,
    name: str,
) -> None:
    # The stand-in for the model reads wishes in a tag of text, which real films lack.
    dataset = pydicom.dcmread(dicom_samples / name, force=True)
    dataset.ImageComments = "0.1"
    if "TransferSyntaxUID" not in dataset.file_meta:  # one is older than the file format
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    path = tmp_path / name
    dataset.save_as(path, enforce_file_format=True)
    picture = send(path)
    told = client.get(f"{picture}/presentation").json()
    answer = client.get(f"{picture}/pixels")
    assert answer.headers["content-type"] == "application/gzip"
    assert len(answer.content) == told["depth"]["bytes"]
    depth = told["depth"]
    codes = inflate(answer.content, depth["rows"], depth["columns"])
    dataset = open_dicom(dicom_samples / name)
    stored = read_stored_values(dataset, describe(dataset), dicom_samples / name).values
    values = depth["slope"] * codes + depth["intercept"]
    expected = stored * float(dataset.get("RescaleSlope", 1)) + float(
        dataset.get("RescaleIntercept", 0)
    )
    seen = codes > 0 if depth["has_mask"] else np.ones(codes.shape, bool)
    np.testing.assert_allclose(values[seen], expected[seen], atol=1e-6)
    view = depth["views"][0]
    if view["shape"] == "LINEAR":
        grey = ((values - view["low"]) / (view["high"] - view["low"])).clip(0, 1)
        grey = np.where(seen, 1 - grey if depth["is_inverted"] else grey, 0)
        analysed = read_dicom(dicom_samples / name).pixels / 65535
        assert np.abs(grey - analysed).max() < 1 / 1024


def test_a_picture_that_the_browser_has_is_not_sent_again(
    client: httpx.Client, send: Callable[[Path], str], make_file: MakeFile
) -> None:
    picture = send(make_file())
    answer = client.get(f"{picture}/pixels")
    assert answer.headers["cache-control"] == "private, no-cache"
    again = client.get(f"{picture}/pixels", headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_a_turned_picture_is_given_upright_and_its_spacing_with_it(
    client: httpx.Client,
    service: Service,
    send: Callable[[Path], str],
    make_file: MakeFile,
) -> None:
    path = make_file(
        Rows=4, Columns=8, PixelData=np.arange(32, dtype="<u2").tobytes(), PixelSpacing=[0.2, 0.1]
    )
    picture = send(path)
    note = "the picture was turned 90° clockwise and inverted before it was analysed"
    with service.store.writing() as session:
        [instance] = session.query(Instance).all()
        # An older result says it in its notes alone.
        instance.result = {
            **(instance.result or {}),
            "notes": [note],
            "quarter_turns": None,
            "inverted": None,
        }
    told = client.get(f"{picture}/presentation").json()
    assert (told["quarter_turns"], told["inverted"]) == (1, True)
    assert (told["rows"], told["columns"]) == (8, 4)
    assert (told["spacing"]["row_mm"], told["spacing"]["column_mm"]) == (0.1, 0.2)
    assert told["depth"]["is_inverted"] is True
    codes = inflate(client.get(f"{picture}/pixels").content, 8, 4)
    np.testing.assert_array_equal(codes, np.rot90(np.arange(32).reshape(4, 8), -1))


@pytest.mark.parametrize(
    ("tags", "source", "plane"),
    [
        ({"ImagerPixelSpacing": [0.1, 0.1]}, "ImagerPixelSpacing", "detector"),
        ({"PixelSpacing": [0.1, 0.1]}, "PixelSpacing", "unknown"),
        (
            {"PixelSpacing": [0.1, 0.1], "ImagerPixelSpacing": [0.1, 0.1]},
            "PixelSpacing",
            "detector",
        ),
        (
            {"PixelSpacing": [0.09, 0.09], "ImagerPixelSpacing": [0.1, 0.1]},
            "PixelSpacing",
            "calibrated",
        ),
        (
            {"PixelSpacing": [0.1, 0.1], "PixelSpacingCalibrationType": "FIDUCIAL"},
            "PixelSpacing",
            "calibrated",
        ),
    ],
)
def test_in_which_plane_a_spacing_holds_is_said(
    client: httpx.Client,
    send: Callable[[Path], str],
    make_file: MakeFile,
    tags: dict[str, object],
    source: str,
    plane: str,
) -> None:
    spacing = client.get(f"{send(make_file(**tags))}/presentation").json()["spacing"]
    assert (spacing["source"], spacing["plane"]) == (source, plane)


def test_without_a_spacing_none_is_made_up(
    client: httpx.Client, send: Callable[[Path], str], make_file: MakeFile
) -> None:
    assert client.get(f"{send(make_file())}/presentation").json()["spacing"] is None


def test_of_a_removed_original_the_header_still_tells_and_the_pixels_are_410(
    client: httpx.Client, service: Service, send: Callable[[Path], str], make_file: MakeFile
) -> None:
    picture = send(make_file(PixelSpacing=[0.2, 0.2]))
    removed = datetime(2026, 11, 20, tzinfo=UTC)
    with service.store.writing() as session:
        session.execute(update(Instance).values(removed_at=removed, removal_reason="30 days"))
    answer = client.get(f"{picture}/pixels")
    assert (answer.status_code, answer.json()["code"]) == (410, "ORIGINAL_REMOVED")
    assert "2026-11-20: 30 days" in answer.json()["message"]
    told = client.get(f"{picture}/presentation").json()
    assert (told["depth"], told["code"]) == (None, "ORIGINAL_REMOVED")
    assert told["spacing"]["row_mm"] == 0.2
    assert client.get(f"{picture}/image.jpg").status_code == 200


def test_a_picture_that_cannot_be_decoded_says_why(
    client: httpx.Client, send: Callable[[Path], str], make_file: MakeFile
) -> None:
    picture = send(make_file("PIXELS_CORRUPT", PixelData=bytes(16)))
    answer = client.get(f"{picture}/pixels")
    assert (answer.status_code, answer.json()["code"]) == (422, "PIXELS_CORRUPT")
    told = client.get(f"{picture}/presentation").json()
    assert (told["depth"], told["code"]) == (None, "PIXELS_CORRUPT")


def test_a_file_that_is_gone_is_404_and_its_preview_stays(
    client: httpx.Client, service: Service, send: Callable[[Path], str], make_file: MakeFile
) -> None:
    picture = send(make_file())
    for file in (service.settings.data_dir / "instances").rglob("*.dcm"):
        file.unlink()
    for route in ("pixels", "tags"):
        answer = client.get(f"{picture}/{route}")
        assert (answer.status_code, answer.json()["code"]) == (404, "NO_ORIGINAL")
    assert client.get(f"{picture}/presentation").json()["code"] == "NO_ORIGINAL"
    assert client.get(f"{picture}/image.jpg").status_code == 200


@pytest.mark.parametrize("route", ["presentation", "pixels", "tags"])
def test_an_unknown_picture_is_404(client: httpx.Client, route: str) -> None:
    answer = client.get(f"/api/studies/1.2/instances/1.3/{route}")
    assert (answer.status_code, answer.json()["code"]) == (404, "PICTURE_UNKNOWN")


def test_the_tags_are_told_with_their_names_and_without_pixels(
    client: httpx.Client, send: Callable[[Path], str], make_file: MakeFile
) -> None:
    item = pydicom.Dataset()
    item.CodeValue, item.CodeMeaning = "36554-4", "X-quang ngực"
    picture = send(make_file(ProcedureCodeSequence=[item], PatientComments="x" * 5000))
    tags = {(tag["tag"], tag["level"]): tag for tag in client.get(f"{picture}/tags").json()}
    name = tags["0010,0010", 0]
    assert (name["name"], name["vr"], name["value"]) == ("Patient's Name", "PN", "Nguyễn^Văn An")
    assert tags["0002,0010", 0]["value"] == "1.2.840.10008.1.2.1"
    assert tags["0008,1032", 0]["value"] == "1 ×"
    assert tags["0008,0104", 1]["value"] == "X-quang ngực"
    assert len(tags["0010,4000", 0]["value"]) == 256
    assert tags["0010,4000", 0]["value"].endswith("…")
    assert not any(tag.startswith("7FE0") for tag, _ in tags)


def test_the_other_studies_of_a_patient_are_found_and_a_differing_name_is_said(
    client: httpx.Client, send: Callable[[Path], str], make_file: MakeFile
) -> None:
    this = send(make_file(StudyDate="20261121"))
    send(make_file(StudyDate="20250301"))
    send(make_file(StudyDate="20240301", PatientName="NGUYỄN^VĂN  AN"))
    send(make_file(StudyDate="20261122", PatientName="Trần^Thị Bình", PatientBirthDate="19800101"))
    send(make_file(StudyDate="20230101", PatientID="P2"))
    send(make_file(StudyDate="20230101", IssuerOfPatientID="another hospital"))
    told = client.get(f"{this.split('/instances')[0]}/others").json()
    assert told["matched_by"] == "P1"
    assert [(s["study_date"], s["is_earlier"], s["name_differs"]) for s in told["studies"]] == [
        ("20250301", True, False),
        ("20240301", True, False),
        ("20261122", False, True),
    ]
    assert all(study["preview_sop_instance_uid"] for study in told["studies"])


def test_without_a_patient_id_no_other_study_is_found(
    client: httpx.Client, send: Callable[[Path], str], make_file: MakeFile
) -> None:
    this, _ = [send(make_file(PatientID="")) for _ in range(2)]
    told = client.get(f"{this.split('/instances')[0]}/others").json()
    assert told == {"matched_by": "", "studies": []}
    assert client.get("/api/studies/1.2.3/others").status_code == 404


def test_in_the_profile_cadt_no_finding_score_region_or_map_leaves_the_service(
    settings: Settings, stow: Stow, make_file: MakeFile, until: Until
) -> None:
    outlined = Anatomy(
        lungs=(np.array([[0.1, 0.1], [0.4, 0.1], [0.4, 0.8]]),),
        heart=None,
        heart_line=None,
        thorax_line=None,
        ratio=None,
        no_ratio=None,
        lungs_area=0.2,
        lungs_cut=0.0,
    )
    said = {}
    for profile in ("findings", "cadt"):
        of = settings.model_copy(
            update={"result_profile": profile, "data_dir": settings.data_dir / profile}
        )
        service = Service(of, model_that_outlines(outlined))
        path = make_file("0.95")
        with serving(of, service) as client:
            stow(client, path)
            until(lambda service=service: not service.store.waiting())
            study = client.get(picture_of(path).split("/instances")[0])
            said[profile] = {
                "study": study.text,
                "worklist": client.get("/api/worklist").text,
                "map": client.get(f"{picture_of(path)}/heatmap/Effusion.png").status_code,
                "configured": client.get("/api/configuration").json()["heat_maps"],
            }
            assert study.json()["priority"] == "CRITICAL"
            assert client.get(f"{picture_of(path)}/pixels").status_code == 200
    assert said["findings"]["map"] == 200
    assert (said["cadt"]["map"], said["cadt"]["configured"]) == (404, False)
    for document in ("study", "worklist"):
        for word in ("Effusion", "0.95"):
            assert word in said["findings"][document]
            assert word not in said["cadt"][document]
    assert "0.8" in said["findings"]["study"]
    for word in ("Mass", "0.8", "0.4", 'lungs":'):
        assert word not in said["cadt"]["study"]


def model_that_outlines(anatomy: Anatomy) -> FakeModel:
    """Return a model that outlines this in every picture."""
    outlining = FakeModel()
    triage = outlining.triage
    outlining.triage = lambda path: replace(triage(path), anatomy=anatomy)  # type: ignore[method-assign]
    return outlining
