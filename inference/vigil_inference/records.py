"""What is kept of an analysis: a picture's result as a document of its own, complete and typed.

A stored result must be readable years later and with another bundle loaded, so it repeats what
the bundle said of each finding: threshold, operating point, population.
"""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict

import vigil
from vigil.anatomy import Anatomy, Line, NoRatio, Polygon
from vigil.errors import RefusalCode
from vigil.triage import Priority

if TYPE_CHECKING:
    from vigil.bundle import BundleManifest, FindingSpec
    from vigil.triager import TriageResult


_CORRECTION = re.compile(
    r"the picture was (?:turned (?P<turn>90° clockwise|180°|90° anticlockwise))?"
    r"(?: and )?(?:inverted)? before it was analysed"
)
_QUARTER_TURNS = {"90° clockwise": 1, "180°": 2, "90° anticlockwise": 3}
SUPERVISED_NOTE = "under supervision: the bundle that judged this picture is on trial here"
"""What the page and the DICOM results say of a picture that such a bundle judged."""


class _Record(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class FindingRecord(_Record):
    """One finding of one picture. Withheld: ``probability`` is None and ``withheld`` says why."""

    key: str
    label: str
    probability: float | None
    threshold: float | None
    critical_threshold: float | None
    sensitivity: float | None
    """At the threshold, on the validation patients."""
    specificity: float | None
    flagged: bool
    priority: Priority
    """What this finding asks for: ROUTINE where it stays below its threshold."""
    experimental: bool
    withheld: str | None
    has_map: bool
    uncertain: tuple[float, float] | None = None
    """Between these probabilities the validation patients do not let present and absent be told."""


class AnatomyRecord(_Record):
    """Lungs and heart in one picture; see :class:`vigil.anatomy.Anatomy`."""

    lungs: tuple[tuple[tuple[float, float], ...], ...]
    heart: tuple[tuple[float, float], ...] | None
    heart_line: Line | None
    thorax_line: Line | None
    ratio: float | None
    no_ratio: NoRatio | None
    lungs_area: float
    lungs_cut: float

    @classmethod
    def of(cls, anatomy: Anatomy) -> Self:
        """Take over what the core measured; outlines to a ten-thousandth of the picture."""
        return cls(
            lungs=tuple(_points(polygon) for polygon in anatomy.lungs),
            heart=None if anatomy.heart is None else _points(anatomy.heart),
            heart_line=anatomy.heart_line,
            thorax_line=anatomy.thorax_line,
            ratio=anatomy.ratio,
            no_ratio=anatomy.no_ratio,
            lungs_area=anatomy.lungs_area,
            lungs_cut=anatomy.lungs_cut,
        )

    def anatomy(self) -> Anatomy:
        """Return what was taken over."""
        return Anatomy(
            lungs=tuple(np.array(points) for points in self.lungs),
            heart=None if self.heart is None else np.array(self.heart),
            heart_line=self.heart_line,
            thorax_line=self.thorax_line,
            ratio=self.ratio,
            no_ratio=self.no_ratio,
            lungs_area=self.lungs_area,
            lungs_cut=self.lungs_cut,
        )


def _points(polygon: Polygon) -> tuple[tuple[float, float], ...]:
    return tuple((round(float(x), 4), round(float(y), 4)) for x, y in polygon)


class AnalysisRecord(_Record):
    """One picture's result."""

    status: Literal["analysed", "not_analysed"]
    code: RefusalCode | None
    reason: str
    priority: Priority
    findings: tuple[FindingRecord, ...]
    notes: tuple[str, ...]
    bundle_id: str
    bundle_digest: str
    bundle_notice: str
    software_version: str
    milliseconds: float
    rows: int | None
    columns: int | None
    view: str
    age_years: float | None
    has_preview: bool
    anatomy: AnatomyRecord | None = None
    """None where nothing was outlined, and in results from before there were outlines."""
    quarter_turns: int | None = None
    """How often the picture was turned clockwise before it was analysed; None in older results,
    whose notes say it: see :meth:`correction`."""
    inverted: bool | None = None
    is_supervised: bool = False
    """Whether the bundle was under supervision: promoted, and not yet live."""

    def correction(self) -> tuple[int, bool]:
        """Return how often the picture was turned clockwise, and whether it was inverted."""
        if self.quarter_turns is not None:
            return self.quarter_turns, bool(self.inverted)
        for note in self.notes:
            said = _CORRECTION.fullmatch(note)
            if said:
                return _QUARTER_TURNS.get(said["turn"] or "", 0), "inverted" in note
        return 0, False


def record_result(
    result: "TriageResult",
    manifest: "BundleManifest",
    *,
    has_preview: bool,
    is_supervised: bool = False,
) -> AnalysisRecord:
    """Turn the core's answer into the document that is stored.

    Parameters
    ----------
    result
        What the triager said.
    manifest
        The bundle that said it, for the thresholds and the populations.
    has_preview
        Whether a preview picture was stored beside it.
    is_supervised
        Whether the bundle is under supervision; a note of the result says so too.
    """
    description = result.description
    age = description.patient_age_years if description else None
    flags = {flag.label: flag for flag in result.flags}
    labels = [
        *result.findings,
        *(label for label in result.withheld if label not in result.findings),
    ]
    findings = []
    for label in labels:
        flag = flags.get(label)
        spec = _spec_of(label, result.keys.get(label), age, manifest.findings)
        findings.append(
            FindingRecord(
                key=spec.key if spec else label,
                label=spec.label if spec else label,
                probability=result.findings.get(label),
                threshold=spec.flag.threshold if spec else None,
                critical_threshold=spec.critical.threshold if spec and spec.critical else None,
                sensitivity=spec.flag.sensitivity if spec else None,
                specificity=spec.flag.specificity if spec else None,
                flagged=flag is not None,
                priority=flag.priority if flag else Priority.ROUTINE,
                experimental=spec.experimental if spec else False,
                withheld=result.withheld.get(label) if label not in result.findings else None,
                has_map=label in result.maps,
                uncertain=(spec.uncertain.low, spec.uncertain.high)
                if spec and spec.uncertain
                else None,
            )
        )
    return AnalysisRecord(
        status=result.status,
        code=result.code,
        reason=result.reason,
        priority=result.priority,
        findings=tuple(findings),
        notes=(*result.notes, SUPERVISED_NOTE) if is_supervised else result.notes,
        bundle_id=result.bundle_id,
        bundle_digest=result.bundle_digest,
        bundle_notice=manifest.notice,
        software_version=vigil.__version__,
        milliseconds=result.milliseconds,
        rows=description.rows if description else None,
        columns=description.columns if description else None,
        view=description.view.value if description else "",
        age_years=age,
        has_preview=has_preview,
        anatomy=None if result.anatomy is None else AnatomyRecord.of(result.anatomy),
        quarter_turns=result.radiograph.quarter_turns if result.radiograph else 0,
        inverted=result.radiograph.inverted if result.radiograph else False,
        is_supervised=is_supervised,
    )


def refuse(code: RefusalCode, reason: str) -> AnalysisRecord:
    """Return the document of a picture that this service, not the core, could not analyse."""
    return AnalysisRecord(
        status="not_analysed",
        code=code,
        reason=reason,
        priority=Priority.NOT_ANALYSED,
        findings=(),
        notes=(),
        bundle_id="",
        bundle_digest="",
        bundle_notice="",
        software_version=vigil.__version__,
        milliseconds=0.0,
        rows=None,
        columns=None,
        view="",
        age_years=None,
        has_preview=False,
    )


def _spec_of(
    label: str, key: str | None, age_years: float | None, specs: "Sequence[FindingSpec]"
) -> "FindingSpec | None":
    """Return the specification that spoke for a label: two may share it, for two ages."""
    candidates = [spec for spec in specs if label in (spec.label, spec.key)]
    for spec in candidates:
        if spec.key == key:
            return spec
    if age_years is not None:
        for spec in candidates:
            if spec.population.includes_age(age_years):
                return spec
    return candidates[0] if candidates else None
