"""What is kept of an analysis: a picture's result as a document of its own, complete and typed.

A stored result must be readable years later and with another bundle loaded, so it repeats what
the bundle said of each finding: threshold, operating point, population.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict

import vigil
from vigil.errors import RefusalCode
from vigil.triage import Priority

if TYPE_CHECKING:
    from vigil.bundle import BundleManifest, FindingSpec
    from vigil.triager import TriageResult


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


def record_result(
    result: "TriageResult", manifest: "BundleManifest", *, has_preview: bool
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
            )
        )
    return AnalysisRecord(
        status=result.status,
        code=result.code,
        reason=result.reason,
        priority=result.priority,
        findings=tuple(findings),
        notes=result.notes,
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
