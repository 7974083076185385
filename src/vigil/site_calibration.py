"""A site calibration: probabilities and thresholds set from a hospital's own films.

A JSON file made by ``vigil calibrate``. It names the digest of the bundle that it was made for,
and with any other bundle it is refused: a new version of a model at the old version's threshold is
another test. It replaces the calibration and the thresholds of the findings that it names; whom a
finding is for, whether it is experimental and what it asks for stay the bundle's.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from vigil.bundle import Bundle, Calibration, FindingSpec, OperatingPoint, UncertainBand
from vigil.errors import BundleError, ConfigurationError


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SiteFinding(_Strict):
    """One finding at one site.

    ``calibration`` takes the network's own logits, as the bundle's does. ``patients`` and
    ``positive_patients`` are those that it rests on.
    """

    key: str
    calibration: Calibration
    flag: OperatingPoint
    critical: OperatingPoint | None = None
    uncertain: UncertainBand | None = None
    patients: int = Field(ge=0)
    positive_patients: int = Field(ge=0)
    prevalence: float | None = Field(default=None, ge=0, le=1)
    """That the probabilities were moved to; None is that of the films."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.critical is not None and self.critical.threshold < self.flag.threshold:
            raise ValueError(f"finding {self.key}: the critical threshold is below the flag's")
        return self


class SiteCalibration(_Strict):
    """The file, with the SHA-256 of what it says."""

    format: Literal[1] = 1
    site: str = Field(min_length=1, max_length=64)
    created: str
    software: str
    bundle_id: str
    bundle_digest: str = Field(pattern=r"^[0-9a-f]{64}$")
    manifest: str
    """Name of the file of labelled films that it was made from; for people."""
    findings: tuple[SiteFinding, ...] = Field(min_length=1)
    notice: str
    digest: str = ""

    @model_validator(mode="after")
    def _check(self) -> Self:
        keys = [finding.key for finding in self.findings]
        if len(set(keys)) != len(keys):
            raise ValueError("two findings have the same key")
        return self

    def computed_digest(self) -> str:
        """Return the SHA-256 of the content without its own digest, as canonical JSON."""
        body = self.model_dump(mode="json", exclude={"digest"})
        canonical = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return hashlib.sha256(canonical.encode()).hexdigest()


@dataclass(frozen=True)
class AtSite:
    """A bundle with a site's calibration in place of its own.

    Attributes
    ----------
    bundle
        The bundle with the site's findings; its identifier and digest are those of the bundle.
    site, digest
        Whose calibration it is, and which.
    calibrations
        Key of each replaced finding to its calibration.
    """

    bundle: Bundle
    site: str
    digest: str
    calibrations: Mapping[str, Calibration]

    @property
    def name(self) -> str:
        """How results name it."""
        return f"{self.site} ({self.digest[:12]})"

    def probabilities(
        self, probabilities: Mapping[str, float], logits: Mapping[str, float]
    ) -> dict[str, float]:
        """Return the network's probabilities with the site's in their place."""
        changed = {
            key: float(1 / (1 + np.exp(-np.clip(own.slope * logits[key] + own.intercept, -60, 60))))
            for key, own in self.calibrations.items()
        }
        return {**probabilities, **changed}


def load_site_calibration(path: Path) -> SiteCalibration:
    """Read a site calibration.

    Raises
    ------
    BundleError
        If it cannot be read, does not fit its schema or was altered. The bundle must then not be
        served with thresholds that the site did not choose.
    """
    try:
        found = SiteCalibration.model_validate_json(path.read_bytes())
    except OSError as error:
        raise BundleError(
            f"{path}: the site calibration cannot be read ({error.strerror})"
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise BundleError(f"{path}: {where}: {first['msg']}") from error
    if found.digest != found.computed_digest():
        raise BundleError(
            f"{path}: the site calibration was altered; make it anew with `vigil calibrate`"
        )
    return found


def write_site_calibration(path: Path, calibration: SiteCalibration) -> SiteCalibration:
    """Write a site calibration with its digest and return it as written.

    Raises
    ------
    ConfigurationError
        If the file cannot be written.
    """
    signed = calibration.model_copy(update={"digest": calibration.computed_digest()})
    text = json.dumps(signed.model_dump(mode="json"), indent=2, ensure_ascii=False) + "\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be written ({error.strerror})") from error
    return signed


def at_site(bundle: Bundle, calibration: SiteCalibration) -> AtSite:
    """Put a site's calibration in the place of a bundle's own.

    Raises
    ------
    BundleError
        If it was made for another bundle, or names a finding that the bundle has not.
    """
    if calibration.bundle_digest != bundle.digest:
        raise BundleError(
            f"the site calibration of {calibration.site} was made for bundle "
            f"{calibration.bundle_id} {calibration.bundle_digest[:12]}…, not for {bundle.id} "
            f"{bundle.digest[:12]}…; make one for this bundle with `vigil calibrate`, or serve the "
            "other"
        )
    own = {finding.key: finding for finding in calibration.findings}
    known = {finding.key for finding in bundle.manifest.findings}
    if unknown := sorted(set(own) - known):
        raise BundleError(
            f"the site calibration of {calibration.site} names the finding {unknown[0]}, which "
            f"{bundle.id} does not have"
        )
    findings = tuple(
        _replaced(finding, own[finding.key]) if finding.key in own else finding
        for finding in bundle.manifest.findings
    )
    manifest = bundle.manifest.model_copy(update={"findings": findings})
    return AtSite(
        Bundle(bundle.folder, manifest),
        calibration.site,
        calibration.digest,
        {key: finding.calibration for key, finding in own.items()},
    )


def _replaced(finding: FindingSpec, own: SiteFinding) -> FindingSpec:
    return finding.model_copy(
        update={
            "calibration": own.calibration,
            "flag": own.flag,
            "critical": own.critical,
            "uncertain": own.uncertain,
        }
    )
