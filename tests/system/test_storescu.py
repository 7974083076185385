"""A modality sends by itself: dcmtk's storescu, in the transfer syntaxes of chest radiographs."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pydicom
import pytest
from pydicom import uid

from tests.system.peers import HOST, Vigil, find_tool, with_other_identity
from tests.system.samples import DAMAGED, EXPECTED, codes, sop_instance_uid

# How storescu is told to offer what the file is in.
OFFER = {
    uid.ExplicitVRLittleEndian: "-xe",
    uid.ImplicitVRLittleEndian: "-xi",
    uid.DeflatedExplicitVRLittleEndian: "-xd",
    uid.ExplicitVRBigEndian: "-xb",
    uid.RLELossless: "-xr",
    uid.JPEGBaseline8Bit: "-xy",
    uid.JPEGExtended12Bit: "-xx",
    uid.JPEGLosslessSV1: "-xs",
    uid.JPEGLSLossless: "-xt",
    uid.JPEGLSNearLossless: "-xu",
    uid.JPEG2000Lossless: "-xv",
    uid.JPEG2000: "-xw",
}


def send(vigil: Vigil, path: Path) -> int:
    """Send a file with storescu in its own transfer syntax and return storescu's exit code."""
    meta = pydicom.dcmread(path, stop_before_pixels=True, force=True).file_meta
    syntax = meta.get("TransferSyntaxUID", uid.ImplicitVRLittleEndian)
    storescu = find_tool("storescu", "dcmtk")
    command = [storescu, OFFER[syntax], "-aec", "VIGIL", HOST, str(vigil.dicom_port), str(path)]
    return subprocess.run(command, check=False, timeout=60).returncode


def compress(path: Path, tool: str, option: str) -> Path:
    """Compress a file with one of dcmtk's tools, under the same UIDs."""
    compressed = path.with_suffix(f".{tool}{option}.dcm")
    keep_uid = ["+un"] if tool == "dcmcjpeg" else []
    command = [find_tool(tool, "dcmtk"), option, *keep_uid, str(path), str(compressed)]
    subprocess.run(command, check=True, timeout=60)
    return compressed


def test_one_picture_scores_the_same_in_every_lossless_transfer_syntax(
    start_vigil: Callable[..., Vigil], stand_in_bundle: Path, phantom_file: Callable[..., Path]
) -> None:
    vigil = start_vigil(stand_in_bundle)
    written = [
        uid.ExplicitVRLittleEndian,
        uid.ImplicitVRLittleEndian,
        uid.DeflatedExplicitVRLittleEndian,
        uid.RLELossless,
        uid.JPEGLSLossless,
        uid.JPEG2000Lossless,
    ]
    paths = [phantom_file(11, "effusion", transfer_syntax=syntax) for syntax in written]
    plain = phantom_file(11, "effusion", SOPInstanceUID="2.25.1101")
    paths.append(compress(plain, "dcmcjpeg", "+e1"))
    syntaxes = [pydicom.dcmread(path, stop_before_pixels=True) for path in paths]
    assert {ds.file_meta.TransferSyntaxUID for ds in syntaxes} == {
        *written,
        uid.JPEGLosslessSV1,
    }

    assert [send(vigil, path) for path in paths] == [0] * len(paths)
    instances = vigil.wait_for(len(paths))
    assert {instance["state"] for instance in instances.values()} == {"analysed"}
    received = {instance["transfer_syntax"] for instance in instances.values()}
    assert received == {ds.file_meta.TransferSyntaxUID.name for ds in syntaxes}
    scores = [
        {finding["label"]: finding["probability"] for finding in instance["findings"]}
        for instance in instances.values()
    ]
    for score in scores[1:]:
        assert score == pytest.approx(scores[0], abs=1e-6)
    (study,) = vigil.studies()
    assert study["pictures"] == len(paths)
    assert "Effusion" in {flag["label"] for flag in study["flags"]}


@pytest.mark.data
@pytest.mark.slow
def test_the_real_files_are_answered_without_a_pacs_between(
    start_vigil: Callable[..., Vigil], shipped_bundle: Path, dicom_samples: Path, tmp_path: Path
) -> None:
    vigil = start_vigil(shipped_bundle)
    files = {path.name: path for path in sorted(dicom_samples.glob("*.dcm"))}
    for twin in ("siim_6904_fake_mono1.dcm", "MR_truncated.dcm"):
        files[twin] = with_other_identity(files[twin], tmp_path)
    sent = {name for name, path in files.items() if name not in DAMAGED and send(vigil, path) == 0}
    # dcmtk neither sends what has no file meta information ...
    assert set(EXPECTED) - sent == set()
    instances = vigil.wait_for(len(sent))
    assert codes(instances, [files[name] for name in sent]) == EXPECTED
    # ... nor what breaks off in the middle; the service stays upright whatever comes of it.
    for name in DAMAGED:
        send(vigil, files[name])
    echo = [find_tool("echoscu", "dcmtk"), HOST, str(vigil.dicom_port)]
    assert subprocess.run(echo, check=False, timeout=30).returncode == 0
    assert vigil.get("/health")["status"] == "ok"


def test_a_name_in_vietnamese_arrives_as_it_was_sent(
    start_vigil: Callable[..., Vigil], stand_in_bundle: Path, phantom_file: Callable[..., Path]
) -> None:
    vigil = start_vigil(stand_in_bundle)
    path = phantom_file(2, patient_name="Nguyễn^Thị Hường", age=62)
    assert send(vigil, path) == 0
    vigil.wait_for(1)
    (study,) = vigil.studies()
    assert study["patient"]["name"] == "Nguyễn^Thị Hường"
    assert study["patient"]["display_name"] == "Nguyễn Thị Hường"
    assert study["patient"]["age"] == "062Y"
    assert study["study_description"] == "X-quang ngực thẳng"


def test_monochrome1_and_monochrome2_of_one_picture_score_alike(
    start_vigil: Callable[..., Vigil], stand_in_bundle: Path, phantom_file: Callable[..., Path]
) -> None:
    vigil = start_vigil(stand_in_bundle)
    pairs = []
    for seed, kind in ((21, "normal"), (22, "effusion"), (23, "cardiomegaly")):
        pair = [
            phantom_file(seed, kind, photometric=photometric)
            for photometric in ("MONOCHROME1", "MONOCHROME2")
        ]
        assert [send(vigil, path) for path in pair] == [0, 0]
        pairs.append([sop_instance_uid(path) for path in pair])
    instances = vigil.wait_for(6)
    for one, two in pairs:
        first, second = (
            {f["label"]: f["probability"] for f in instances[name]["findings"]}
            for name in (one, two)
        )
        assert first == pytest.approx(second, abs=1e-3)
        assert instances[one]["priority"] == instances[two]["priority"]
    # And the pictures are told apart, so that "alike" is no empty word.
    assert len({instances[one]["priority"] for one, _ in pairs}) > 1
