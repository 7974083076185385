"""The gates: other people's validators read every object and complain of none."""

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.inference.results.conftest import Files, studies
from tests.inference.results.studies import make_map, make_picture, make_study
from tests.system.peers import find_tool
from vigil.dicom import read_header
from vigil.errors import ImageRefused
from vigil_inference.results import build_results, to_bytes

NAMES = tuple(studies())
# dcentvfy cannot decide of two attributes which entity they belong to; every pair of an image and
# a document gets this line.
_UNDECIDED = "Different information entities for attribute"
_PRIVATE_SCHEME = re.compile(
    r"Unrecognized defined term (<99VIGIL>.*<Coding Scheme Designator>|<2\.25\.\d+>.*UID>)"
)
_PIXELMED = "/usr/share/java/pixelmed.jar"
_PIXELMED_JARS = (
    _PIXELMED,
    *(
        f"/usr/share/java/{name}.jar"
        for name in ("commons-codec", "jaxb-api", "slf4j-api", "slf4j-nop", "vecmath")
    ),
)


def complaints(tool: str, *paths: Path) -> list[str]:
    """Run a validator of dicom3tools and return its errors and warnings."""
    command = [find_tool(tool, "dicom3tools"), *map(str, paths)]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    lines = (answer.stdout + answer.stderr).splitlines()
    return [line for line in lines if "Error" in line or "Warning" in line or "Abort" in line]


@pytest.mark.parametrize("name", NAMES)
def test_dciodvfy_has_nothing_to_say_of_any_object(files: Mapping[str, Files], name: str):
    for path in files[name].results:
        found = complaints("dciodvfy", path)
        if name == "bare header":
            found = [line for line in found if "needed to build DICOMDIR" not in line]
        # A private scheme is none of its own; the report identifies it by its UID.
        found = [line for line in found if not _PRIVATE_SCHEME.search(line)]
        assert found == [], path.name


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"bare header"}))
def test_dcentvfy_finds_the_results_and_their_sources_of_one_study(
    files: Mapping[str, Files], name: str
):
    found = complaints("dcentvfy", *files[name].sources, *files[name].results)
    assert [line for line in found if _UNDECIDED not in line] == []


@pytest.mark.parametrize("name", NAMES)
def test_dsrdump_reads_every_report(files: Mapping[str, Files], name: str):
    # Without +Pl it cuts texts short, in the middle of a letter.
    command = [find_tool("dsrdump", "dcmtk"), "+U8", "+Pl", str(files[name].report)]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    lines = answer.stderr.splitlines()
    assert [line for line in lines if line.startswith(("E:", "F:"))] == []
    assert "AI – research use – not for diagnosis" in answer.stdout
    assert "Manufacturer        : Vigil" in answer.stdout


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ["all labels", "negative", "ratio"])
def test_pixelmed_finds_no_error_and_no_warning_where_a_template_is_claimed(
    files: Mapping[str, Files], name: str
):
    java = find_tool("java", "default-jre-headless")
    if not Path(_PIXELMED).exists():
        pytest.skip("PixelMed's toolkit (apt package libpixelmed-java) is not installed")
    command = [
        # PixelMed's style sheets are deeper than Java 17 lets XPath expressions be.
        java, "-Xss64m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
        "-Djdk.xml.xpathExprOpLimit=0", "-Djdk.xml.xpathTotalOpLimit=0",
        "-Djdk.xml.xpathExprGrpLimit=0", "-cp", ":".join(_PIXELMED_JARS),
        "com.pixelmed.validate.DicomSRValidator", str(files[name].report),
    ]  # fmt: skip
    answer = subprocess.run(command, capture_output=True, text=True, timeout=500, check=True)
    lines = (answer.stdout + answer.stderr).splitlines()
    assert "Found Comprehensive3DSR IOD" in lines
    assert "IOD validation complete" in lines
    assert [line for line in lines if line.startswith("Error")] == []
    warnings = [line for line in lines if line.startswith("Warning")]
    if name == "negative":
        # No template is claimed there, so that nothing can be in it.
        assert all(line.endswith("Content Item not in template") for line in warnings)
    else:
        assert "Found Root Template TID_1500 (MeasurementReport)" in lines
        assert warnings == []


@pytest.mark.data
def test_dciodvfy_finds_no_error_in_results_of_real_and_of_odd_headers(
    dicom_samples: Path, tmp_path: Path
):
    count = 0
    for sample in sorted(dicom_samples.glob("*.dcm")):
        try:
            source = read_header(sample)
        except ImageRefused:
            continue
        if "SOPClassUID" not in source:
            continue
        picture = make_picture(source=source, maps={"Effusion": make_map()})
        for index, result in enumerate(build_results(make_study(picture, key_objects=True))):
            path = tmp_path / f"{sample.stem}-{index}.dcm"
            path.write_bytes(to_bytes(result))
            errors = [line for line in complaints("dciodvfy", path) if "Error" in line]
            assert errors == [], path.name
            count += 1
    assert count > 60
