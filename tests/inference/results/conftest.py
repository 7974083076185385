"""Every kind of study, with all its objects as files: what the validators and the PACS are given.

The validators are Debian's: ``dciodvfy`` and ``dcentvfy`` (dicom3tools), ``dsrdump`` (dcmtk) and
PixelMed's ``DicomSRValidator`` (libpixelmed-java and a Java runtime).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    ExplicitVRLittleEndian,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
)

from tests.inference.results.studies import (
    make_anatomy,
    make_map,
    make_picture,
    make_refusal,
    make_source,
    make_study,
)
from vigil.errors import RefusalCode
from vigil.findings import LABELS
from vigil_inference.results import (
    Language,
    Profile,
    StudyResult,
    build_report,
    build_results,
    predecessor_of,
    to_bytes,
)


@dataclass(frozen=True)
class Files:
    """A study's results, and its sources' headers, as files."""

    results: tuple[Path, ...]
    sources: tuple[Path, ...]

    @property
    def report(self) -> Path:
        """The report, which comes first."""
        return self.results[0]


def _bare_source() -> Dataset:
    """Return a CR header with next to nothing in it, as old modalities write it."""
    source = make_source(8)
    for keyword in (
        "PatientOrientation", "ImagerPixelSpacing", "PixelSpacing", "PatientBirthDate", "StudyID",
        "PatientSex", "AccessionNumber", "ReferringPhysicianName", "StudyDescription",
    ):  # fmt: skip
        delattr(source, keyword)
    source.Modality = "CR"
    source.SOPClassUID = ComputedRadiographyImageStorage
    return source


def _frames_source() -> Dataset:
    source = make_source(9)
    source.SOPClassUID = MultiFrameGrayscaleWordSecondaryCaptureImageStorage
    source.NumberOfFrames = 1
    return source


def studies() -> Mapping[str, StudyResult]:
    """Return a study of every kind."""
    first = make_picture(source=make_source(4, 1))
    later = make_picture({"Mass": 0.8, "Effusion": 0.2}, source=make_source(4, 2))
    turned = "the picture was turned 90° clockwise and inverted before it was analysed"
    return {
        "one effusion": make_study(key_objects=True, language=Language.VIETNAMESE),
        "all labels": make_study(
            make_picture(
                dict.fromkeys(LABELS, 0.875),
                source=make_source(5, IssuerOfPatientID="Bệnh viện huyện", PatientWeight="52"),
                maps={label: make_map(0.1 + 0.05 * i, 0.5) for i, label in enumerate(LABELS)},
            ),
            language=Language.FRENCH,
            key_objects=True,
        ),
        "no region": make_study(make_picture(source=make_source(6)), regions=False),
        "negative": make_study(
            make_picture({"Effusion": 0.1, "Mass": 0.2}, withheld={"Edema": "-"})
        ),
        "judged in full": make_study(
            make_picture({"Effusion": 0.1, "Mass": 0.2}, source=make_source(11))
        ),
        "refused": make_study(make_refusal(), language=Language.VIETNAMESE),
        "case level": make_study(make_picture(source=make_source(7)), profile=Profile.CADT),
        "turned": make_study(make_picture(source=make_source(10), notes=(turned,))),
        "superseding": make_study(
            first,
            later,
            make_refusal(RefusalCode.NOT_FRONTAL, source=make_source(4, 3)),
            predecessor=predecessor_of(build_report(make_study(first))),
            key_objects=True,
        ),
        "bare header": make_study(make_picture(source=_bare_source()), key_objects=True),
        "ratio": make_study(
            make_picture({"Effusion": 0.1}, source=make_source(12), anatomy=make_anatomy()),
            make_picture(source=make_source(12, 2), notes=(turned,), anatomy=make_anatomy(0.6)),
        ),
        "frames": make_study(make_picture(source=_frames_source()), key_objects=True),
    }


def _write_source(source: Dataset, path: Path) -> Path:
    """Write a header as a file of its own, with pixels so that validators see an image."""
    copy = Dataset(source)
    copy.file_meta = source.file_meta
    copy.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    copy.file_meta.MediaStorageSOPInstanceUID = source.SOPInstanceUID
    copy.file_meta.MediaStorageSOPClassUID = source.SOPClassUID
    copy.PixelData = np.zeros((source.Rows, source.Columns), "<u2").tobytes()
    copy["PixelData"].VR = "OW"
    copy.save_as(path, enforce_file_format=True)
    return path


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Files]:
    """All studies' objects, written once."""
    folder = tmp_path_factory.mktemp("results")
    written = {}
    for number, (name, study) in enumerate(studies().items()):
        results = []
        for index, result in enumerate(build_results(study)):
            path = folder / f"{number}-{index}-{result.Modality}.dcm"
            path.write_bytes(to_bytes(result))
            results.append(path)
        sources = [
            _write_source(picture.source, folder / f"{number}-source-{index}.dcm")
            for index, picture in enumerate(study.pictures)
        ]
        written[name] = Files(tuple(results), tuple(sources))
    return written
