"""OHIF opens every result on a real Orthanc: nothing ends it, and what is drawn is where it is due.

OHIF is told to open the series in question; what is on its page afterwards is what a reader sees.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO

import httpx
import numpy as np
import pytest
from playwright.sync_api import Page
from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from tests.inference.delivery.archive import Archive
from tests.inference.results.conftest import studies
from tests.inference.results.studies import (
    SIZE,
    make_anatomy,
    make_picture,
    make_source,
    make_study,
)
from tests.viewers.conftest import SCREENSHOTS
from tests.viewers.ohif import OhifServer, Outline, Reader
from vigil.phantom import make_phantom
from vigil_inference.results import StudyResult, build_report, build_results, to_bytes
from vigil_inference.results.codes import MEASUREMENT_REPORT

RATIO = make_picture({"Effusion": 0.1}, source=make_source(91), anatomy=make_anatomy())
STUDIES = {**studies(), "ratio alone": make_study(RATIO)}


@dataclass(frozen=True)
class Stored:
    """A study as it lies in the archive."""

    study: StudyResult
    results: tuple[Dataset, ...]

    def series(self, modality: str) -> str:
        """Return the series of the results of a kind."""
        return next(str(r.SeriesInstanceUID) for r in self.results if r.Modality == modality)


def _with_pixels(source: Dataset) -> bytes:
    """Return a header as a file with a phantom's pixels."""
    copy = Dataset(source)
    copy.file_meta = source.file_meta
    copy.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    copy.file_meta.MediaStorageSOPInstanceUID = source.SOPInstanceUID
    copy.file_meta.MediaStorageSOPClassUID = source.SOPClassUID
    pixels = make_phantom(3, "effusion", (copy.Rows, copy.Columns)).pixels
    copy.PixelData = pixels.astype("<u2").tobytes()
    copy["PixelData"].VR = "OW"
    buffer = BytesIO()
    copy.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _store(archive: Archive, content: bytes) -> None:
    answer = httpx.post(f"{archive.url}/instances", content=content, timeout=30)
    assert answer.is_success, answer.text


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archive]:
    archive = Archive(tmp_path_factory.mktemp("orthanc") / "archive", dicomweb=True).start()
    yield archive
    archive.stop()


@pytest.fixture(scope="module")
def stored(archive: Archive) -> Mapping[str, Stored]:
    """Every kind of study, its pictures and its results, in the archive."""
    found = {}
    for name, study in STUDIES.items():
        results = build_results(study)
        contents = [_with_pixels(picture.source) for picture in study.pictures]
        for content in (*contents, *map(to_bytes, results)):
            _store(archive, content)
        found[name] = Stored(study, results)
    return found


@pytest.fixture(scope="module")
def server(archive: Archive) -> Iterator[OhifServer]:
    with OhifServer(f"{archive.url}/dicom-web") as server:
        yield server


@pytest.fixture
def reader(server: OhifServer, page: Page) -> Reader:
    return Reader(page, server, SCREENSHOTS / "orthanc")


def _regions(report: Dataset, *, lines: bool = False) -> list[Outline]:
    """Return the report's regions, or its lines of two points."""
    found: list[Outline] = []

    def collect(item: Dataset) -> None:
        if item.get("ValueType") == "SCOORD":
            numbers = item.GraphicData
            points = list(zip(numbers[::2], numbers[1::2], strict=True))
            if (len(points) == 2) == lines:
                found.append(points)
        for inner in item.get("ContentSequence", ()):
            collect(inner)

    collect(report)
    return found


def _box(outline: Outline) -> np.ndarray:
    points = np.array(outline, float)
    return np.concatenate([points.min(axis=0), points.max(axis=0)])


def _are_drawn(expected: list[Outline], drawn: list[Outline]) -> bool:
    """Whether each is there, to three pixels of the picture."""
    return all(
        any(np.abs(_box(shape) - _box(outline)).max() < 3 for shape in drawn)
        for outline in expected
    )


def test_a_report_that_ends_ohif_is_noticed(reader: Reader, archive: Archive):
    """Without a measurement group, TID 1500 does; if it no longer does, our other form can go."""
    source = make_source(90)
    study = make_study(make_picture({"Effusion": 0.1}, source=source))
    report = build_report(study)
    assert report is not None
    report.ConceptNameCodeSequence = [MEASUREMENT_REPORT]
    template = Dataset()
    template.MappingResource, template.TemplateIdentifier = "DCMR", "1500"
    report.ContentTemplateSequence = [template]
    for content in (_with_pixels(source), to_bytes(report)):
        _store(archive, content)
    reader.open(study.study_instance_uid, report.SeriesInstanceUID)
    reader.wait_for_crash()


@pytest.mark.parametrize(
    "name", ["one effusion", "all labels", "turned", "superseding", "bare header", "frames"]
)
def test_ohif_draws_each_region_where_the_report_has_it(
    reader: Reader, stored: Mapping[str, Stored], name: str
):
    study = stored[name]
    reader.open(study.study.study_instance_uid, study.series("SR"))
    reader.wait_for("Certainty of Finding")
    low, high = reader.picture()
    assert high - low > 100
    expected = _regions(study.results[0])[: len(study.study.flagged[0].flags)]
    assert expected
    assert _are_drawn(expected, reader.drawn("polyline", SIZE, len(expected)))
    reader.check(f"{name} SR")


def test_ohif_draws_the_two_diameters_of_the_cardiothoracic_ratio(
    reader: Reader, stored: Mapping[str, Stored]
):
    study = stored["ratio alone"]
    reader.open(study.study.study_instance_uid, study.series("SR"))
    reader.wait_for("Cardiothoracic ratio: 0.54", "Heart", "Chest")
    expected = _regions(study.results[0], lines=True)
    assert len(expected) == 2
    assert _are_drawn(expected, reader.drawn("line", SIZE, 2))
    reader.check("ratio SR")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("negative", ("Diagnostic Imaging Report", "ROUTINE")),
        ("judged in full", ("All algorithms succeeded; without findings",)),
        ("no region", ("All algorithms succeeded; with findings", "Pleural effusion 91%")),
        ("refused", ("NOT_ANALYSED", "Không phân tích (PIXELS_CORRUPT): dữ liệu ảnh bị hỏng")),
        ("case level", ("This study was flagged for prioritised reading.",)),
    ],
)
def test_ohif_shows_a_report_without_regions_as_text(
    reader: Reader, stored: Mapping[str, Stored], name: str, words: tuple[str, ...]
):
    study = stored[name]
    reader.open(study.study.study_instance_uid, study.series("SR"))
    reader.wait_for(*words)
    reader.check(f"{name} SR")


def test_ohif_shows_a_capture_and_lists_the_key_objects(
    reader: Reader, stored: Mapping[str, Stored]
):
    study = stored["one effusion"]
    reader.open(study.study.study_instance_uid, study.series("OT"))
    low, high = reader.picture()
    assert high - low > 100
    reader.wait_for_thumbnails(2)
    assert "KO" in reader.wait_for("S:9001", "S:9002", "S:9003")
    reader.check("capture")
