"""A finding's place and certainty: measurement groups of template TID 1410 (DICOM PS3.16)."""

from collections.abc import Iterator

import numpy as np
from highdicom.sr import (
    AlgorithmIdentification,
    FindingSite,
    GraphicTypeValues,
    ImageRegion,
    Measurement,
    PlanarROIMeasurementsAndQualitativeEvaluations,
    SourceImageForRegion,
    TrackingIdentifier,
)
from numpy.typing import NDArray

from vigil.elements import text
from vigil.findings import CHEST, CONCEPTS, HEART, Code
from vigil.heat_map import outline_of
from vigil.triage import Flag
from vigil_inference.results import codes
from vigil_inference.results.codes import coded
from vigil_inference.results.identity import tracking_uid
from vigil_inference.results.region import correction_of, in_pixels, to_source
from vigil_inference.results.source import frames_of, size_of
from vigil_inference.results.study import PictureResult, StudyResult


def measurement_groups(
    study: StudyResult,
) -> Iterator[PlanarROIMeasurementsAndQualitativeEvaluations]:
    """Return a measurement group for each flag that has a region, if the site wants regions.

    Never one without a region: it ends OHIF with an error.
    """
    if not study.options.regions:
        return
    for number, picture in enumerate(study.pictures, start=1):
        for flag in picture.flags:
            polygon = _region(study, picture, flag.label)
            if polygon is not None:
                yield _group(study, picture, flag, number, polygon)


def ratio_groups(
    study: StudyResult,
) -> Iterator[PlanarROIMeasurementsAndQualitativeEvaluations]:
    """Return two groups for each picture's cardiothoracic ratio, if the site wants regions.

    A group has one region (TID 1410) and its numbers none of their own: each of the two diameters
    has a group, and either says the ratio.
    """
    if not study.options.regions:
        return
    for number, picture in enumerate(study.pictures, start=1):
        anatomy, correction = picture.anatomy, correction_of(picture.notes)
        rows, columns = size_of(picture.source)
        if anatomy is None or anatomy.ratio is None or correction is None or not (rows and columns):
            continue
        for line, site in ((anatomy.heart_line, HEART), (anatomy.thorax_line, CHEST)):
            if line is not None:
                place = in_pixels(to_source(np.array(line), correction), rows, columns)
                yield _ratio_group(study, picture, number, anatomy.ratio, place, site)


def _ratio_group(
    study: StudyResult,
    picture: PictureResult,
    number: int,
    ratio: float,
    line: NDArray[np.float64],
    site: Code,
) -> PlanarROIMeasurementsAndQualitativeEvaluations:
    source = picture.source
    image = SourceImageForRegion(
        text(source, "SOPClassUID"), text(source, "SOPInstanceUID"), frames_of(source)
    )
    name = f"Cardiothoracic ratio, {site.meaning.lower()} diameter"
    return PlanarROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(
            tracking_uid(study, picture, name), f"Vigil {name} in picture {number}"
        ),
        referenced_region=ImageRegion(GraphicTypeValues.POLYLINE, line, image),
        finding_sites=[FindingSite(coded(site))],
        algorithm_id=AlgorithmIdentification(
            name=algorithm_name(study),
            version=study.software_version,
            parameters=[f"bundle SHA-256 {study.bundle_digest}"] if study.bundle_digest else None,
            family=codes.ARTIFICIAL_INTELLIGENCE,
        ),
        measurements=[Measurement(codes.CARDIOTHORACIC_RATIO, round(ratio, 3), codes.RATIO)],
    )


def _region(study: StudyResult, picture: PictureResult, label: str) -> NDArray[np.float64] | None:
    """Return a flag's outline in the source's pixels, None where there is none to be drawn."""
    correction = correction_of(picture.notes)
    rows, columns = size_of(picture.source)
    if label not in picture.maps or correction is None or not (rows and columns):
        return None
    outline = outline_of(picture.maps[label], study.options.region_level)
    if outline is None:
        return None
    return in_pixels(to_source(outline, correction), rows, columns)


def _group(
    study: StudyResult,
    picture: PictureResult,
    flag: Flag,
    number: int,
    polygon: NDArray[np.float64],
) -> PlanarROIMeasurementsAndQualitativeEvaluations:
    source, concept = picture.source, CONCEPTS[flag.label]
    image = SourceImageForRegion(
        text(source, "SOPClassUID"), text(source, "SOPInstanceUID"), frames_of(source)
    )
    level = f"{study.options.region_level:.6g}"
    parameters = [
        f"threshold {flag.threshold:.6g}",
        f"region level {level} between median and highest logit of the map",
        *([f"bundle SHA-256 {study.bundle_digest}"] if study.bundle_digest else []),
    ]
    return PlanarROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(
            tracking_uid(study, picture, flag.label), f"Vigil {flag.label} in picture {number}"
        ),
        referenced_region=ImageRegion(GraphicTypeValues.POLYLINE, polygon, image),
        finding_type=coded(concept.code),
        finding_sites=[FindingSite(coded(concept.site))],
        algorithm_id=AlgorithmIdentification(
            name=algorithm_name(study),
            version=study.software_version,
            parameters=parameters,
            family=codes.ARTIFICIAL_INTELLIGENCE,
        ),
        measurements=[Measurement(codes.CERTAINTY, certainty(flag), codes.PERCENT)],
    )


def algorithm_name(study: StudyResult) -> str:
    """Return the algorithm's name: Vigil, and the bundle if one judged."""
    return f"Vigil with {study.bundle_id}" if study.bundle_id else "Vigil"


def certainty(flag: Flag) -> float:
    """Return a flag's probability in per cent, to a tenth."""
    return round(100 * flag.probability, 1)
