"""What Vigil makes: each object's attributes, found by building it for two made-up studies.

An attribute that is the same in both is fixed. So what stands here is what is written.
"""

import uuid
from datetime import UTC, datetime, timedelta

import numpy as np
from highdicom.sr import CodedConcept
from pydicom import DataElement, Dataset
from pydicom.uid import UID, DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian

from vigil.findings import CONCEPTS, Code
from vigil.triage import Flag, Priority
from vigil_inference.conformance.markdown import table, template
from vigil_inference.results import PictureResult, ResultOptions, StudyResult, build_results, codes
from vigil_inference.results.document import SCHEMES
from vigil_inference.results.source import COPIED

_TOO_LONG = 70


def describe_objects() -> str:
    """Return the section on result objects."""
    first, second = (build_results(_example(number)) for number in (1, 2))
    kinds = table(
        ("Object", "SOP class UID", "Modality", "Series number", "When"),
        [
            (
                UID(built.SOPClassUID).name.removesuffix(" Storage"),
                f"`{built.SOPClassUID}`",
                built.Modality,
                built.SeriesNumber,
                when,
            )
            for built, when in zip(first, _WHEN, strict=True)
        ],
    )
    attributes = [
        f"### 7.{number} {UID(one.SOPClassUID).name.removesuffix(' Storage')}\n\n"
        + _attributes(one, other)
        for number, (one, other) in enumerate(zip(first, second, strict=True), 2)
    ]
    return template("objects").format(
        kinds=kinds,
        syntax=ExplicitVRLittleEndian.name,
        copied=", ".join(COPIED) + ".",
        attributes="\n\n".join(attributes),
        concepts=_concepts(),
        findings=table(
            ("Label", "Finding", "Site"),
            [(c.label, _code(c.code), _code(c.site)) for c in CONCEPTS.values()],
        ),
        schemes=table(
            ("Designator", "UID", "Name"),
            [(name, f"`{said[0]}`", said[1]) for name, said in SCHEMES.items()],
        ),
    )


_WHEN = (
    "every study, also one of which nothing could be analysed",
    "each picture with a finding over its threshold",
    "studies with a finding over its threshold, where `result_key_objects` is set",
)


def _attributes(one: Dataset, other: Dataset) -> str:
    """Return the attributes that are not taken over, at the top of an object."""
    rows = []
    for element in one:
        if element.keyword in COPIED:
            continue
        fixed = element.keyword in other and element.value == other[element.keyword].value
        made = _MADE.get(element.keyword, _value(element) if fixed else "made for this object")
        rows.append(
            (
                f"({element.tag.group:04X},{element.tag.element:04X})",
                element.name,
                element.VR,
                made,
            )
        )
    return table(("Tag", "Attribute", "VR", "Value"), rows)


_MADE = {
    "SoftwareVersions": "Vigil's version, the bundle's name and digest",
    "DeviceSerialNumber": "from the installation's identity",
    "ContentDate": "when the last picture was analysed",
    "ContentTime": "when the last picture was analysed",
    "InstanceCreationDate": "the same",
    "InstanceCreationTime": "the same",
    "ContentSequence": "see section 7.5",
    "SourceImageSequence": "the picture, with the purpose (121322, DCM)",
    "CurrentRequestedProcedureEvidenceSequence": "the pictures of the study",
    "InstanceNumber": "a capture's as its picture's; a document's 1, and one more for each that "
    "replaces it",
    "Rows": "at most 1024",
    "Columns": "at most 1024",
    "PixelData": "the picture with its heat map beside it, and the findings as a legend",
}


def _value(element: DataElement) -> str:
    if element.VR == "SQ":
        return "fixed items" if element.value else "empty"
    if element.VR in ("OB", "OW"):
        return "made for this object"
    text = "\\".join(map(str, element.value)) if element.VM > 1 else str(element.value)
    if not text:
        return "empty"
    return f"`{text}`" if len(text) <= _TOO_LONG else f"`{text[:_TOO_LONG]}…`"


def _concepts() -> str:
    names = sorted(
        {
            (str(concept.value), concept.scheme_designator, concept.meaning)
            for concept in vars(codes).values()
            if isinstance(concept, CodedConcept)
        },
        key=lambda concept: (concept[1], concept[0]),
    )
    return table(("Code", "Scheme", "Meaning"), [(f"`{c}`", s, m) for c, s, m in names])


def _code(code: Code) -> str:
    return f"({code.value}, {code.scheme}, “{code.meaning}”)"


def _example(number: int) -> StudyResult:
    """Return a study with one finding; of two numbers, all that may differ does."""
    source = Dataset()
    source.SOPClassUID = DigitalXRayImageStorageForPresentation
    for level in ("Study", "Series"):
        setattr(source, f"{level}InstanceUID", f"2.25.{number}{len(level)}")
    source.SOPInstanceUID = f"2.25.{number}"
    source.Modality = "DX"
    source.PatientName, source.PatientID = f"Made^Up {number}", str(number)
    source.Rows = source.Columns = 64 + number
    source.InstanceNumber = source.SeriesNumber = number
    rows, columns = np.mgrid[0:32, 0:32]
    hill = np.exp(-((rows - 10 - number) ** 2 + (columns - 12) ** 2) / 40)
    label = ("Effusion", "Mass")[number - 1]
    picture = PictureResult(
        source=source,
        analysed_at=datetime(2026, 1, number, tzinfo=UTC) + timedelta(hours=number),
        priority=Priority.URGENT,
        findings={label: 0.8},
        flags=(Flag(label, label, 0.8 + number / 100, 0.5, Priority.URGENT),),
        maps={label: (0.05 + 0.9 * hill).astype(np.float32)},
        pixels=np.tile(np.arange(256, dtype=np.uint16) * 256, (256 + number, 1)),
    )
    return StudyResult(
        (picture,),
        bundle_id=f"bundle-{number}",
        bundle_digest=f"{number}" * 64,
        namespace=uuid.uuid5(uuid.NAMESPACE_OID, str(number)),
        options=ResultOptions(key_objects=True),
        software_version=str(number),
    )
