"""A model bundle: a folder that holds all that the server needs to know about a model.

::

    models/<id>/
        bundle.json             what this module reads (format 2, see BundleManifest)
        model.onnx              image (N, 1, S, S) -> logits, probabilities, cams, embedding and,
                                where the manifest says so, attributes, structures, unfamiliarity
        model.int8.onnx         the same in 8-bit integers, where the manifest names it
        metrics.json            measured figures, written by `vigil evaluate`
        MODEL_CARD.md           the same for people
        reference_outputs.json  phantoms with expected probabilities

The digest covers the manifest and, through its SHA-256, the network; thresholds are part of the
manifest, so they belong to the digest. It protects against mix-ups and damage, not against an
attacker who can write to the disk.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from vigil.errors import BundleError
from vigil.findings import CONCEPTS
from vigil.preprocess import PreprocessingSpec
from vigil.triage import Priority

MANIFEST_NAME = "bundle.json"


ViewName = Literal["PA", "AP", "FRONTAL", "UNKNOWN"]
AttributeName = Literal[
    "frontal_chest", "child", "inverted", "rotated", "mirrored", "anteroposterior"
]
StructureName = Literal["lungs", "heart"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Population(_Strict):
    """Whom a finding was validated on; outside it the finding is withheld, never negative.

    Ages are completed years, both ends included; None is no limit.
    """

    min_age_years: float | None = None
    max_age_years: float | None = None
    views: tuple[ViewName, ...] = ("PA", "AP", "FRONTAL", "UNKNOWN")

    def includes_age(self, age_years: float) -> bool:
        """Return whether somebody of this age belongs to the population."""
        completed = int(age_years)
        above = self.min_age_years is None or completed >= self.min_age_years
        below = self.max_age_years is None or completed <= self.max_age_years
        return above and below

    def overlaps(self, other: "Population") -> bool:
        """Return whether some age belongs to both populations."""
        lowest = max(self.min_age_years or 0.0, other.min_age_years or 0.0)
        highest = min(
            200.0 if self.max_age_years is None else self.max_age_years,
            200.0 if other.max_age_years is None else other.max_age_years,
        )
        return lowest <= highest


class Calibration(_Strict):
    """How the graph makes a probability: ``sigmoid(slope * logit + intercept)``."""

    method: Literal["none", "platt"]
    slope: float = Field(default=1.0, gt=0)
    intercept: float = 0.0


class OperatingPoint(_Strict):
    """A threshold and what it was measured to give on the validation patients."""

    threshold: float = Field(ge=0, le=1)
    sensitivity: float | None = Field(default=None, ge=0, le=1)
    specificity: float | None = Field(default=None, ge=0, le=1)
    positives: int = Field(default=0, ge=0)
    negatives: int = Field(default=0, ge=0)


class UncertainBand(_Strict):
    """Probabilities between which the validation patients do not let present and absent be told.

    Split conformal prediction within each class: ``low`` and ``high``, both included, are where
    the sets {present} and {absent} overlap or neither holds. ``coverage_present`` and
    ``coverage_absent`` are the parts of patients, who chose neither end, whose truth the set held.
    """

    low: float = Field(ge=0, le=1)
    high: float = Field(ge=0, le=1)
    target_coverage: float = Field(gt=0, lt=1)
    coverage_present: float | None = Field(default=None, ge=0, le=1)
    coverage_absent: float | None = Field(default=None, ge=0, le=1)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"an uncertain band from {self.low} to {self.high}")
        return self

    def includes(self, probability: float) -> bool:
        """Return whether a probability lies in the band."""
        return self.low <= probability <= self.high


class FindingSpec(_Strict):
    """One finding: an output of the network, for one population.

    ``priority`` is what a probability at or above ``flag`` makes of the picture; at or above
    ``critical``, where there is one, the picture is CRITICAL. A probability in the ``uncertain``
    band is said to be uncertain; that changes no priority.
    """

    key: str = Field(pattern=r"^[A-Za-z_]+(:[a-z]+)?$")
    label: str
    population: Population = Population()
    calibration: Calibration
    flag: OperatingPoint
    critical: OperatingPoint | None = None
    priority: Literal[Priority.URGENT, Priority.ROUTINE] = Priority.URGENT
    experimental: bool = False
    uncertain: UncertainBand | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.label not in CONCEPTS:
            raise ValueError(f"finding {self.key}: unknown label {self.label}")
        if self.critical is not None and self.critical.threshold < self.flag.threshold:
            raise ValueError(f"finding {self.key}: the critical threshold is below the flag's")
        return self


class AttributeSpec(_Strict):
    """Something the network says about the picture itself, as a probability, for the gate."""

    name: AttributeName
    threshold: float = Field(ge=0, le=1)


class UnfamiliaritySpec(_Strict):
    """When a picture is too unlike the training films to be judged.

    The graph's ``unfamiliarity`` is a distance of the embedding, not a probability. Above
    ``notice`` a result says so, above ``refuse`` the picture is not analysed.
    """

    notice: float = Field(ge=0)
    refuse: float = Field(ge=0)


class Preprocessing(_Strict):
    """The version and size of :func:`vigil.preprocess.to_model_input`."""

    version: int
    size: int

    def spec(self) -> PreprocessingSpec:
        """Return the specification, or raise ValueError if this software does not know it."""
        return PreprocessingSpec(self.version, self.size)


class ModelFile(_Strict):
    """The network's file and its SHA-256."""

    file: str = Field(pattern=r"^[A-Za-z0-9_.-]+$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class BundleManifest(_Strict):
    """``bundle.json``.

    The order of ``findings``, ``attributes`` and ``structures`` is that of the outputs' channels.
    ``model_int8`` is used instead of ``model`` where the processor multiplies 8-bit integers fast.
    """

    format: Literal[2] = 2
    id: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")
    created: str
    description: str
    architecture: str
    model: ModelFile
    model_int8: ModelFile | None = None
    preprocessing: Preprocessing
    findings: tuple[FindingSpec, ...] = Field(min_length=1)
    attributes: tuple[AttributeSpec, ...] = ()
    structures: tuple[StructureName, ...] = ()
    """What the graph's ``structures`` (N, structures, h, w) outlines, as probabilities a pixel."""
    unfamiliarity: UnfamiliaritySpec | None = None
    training: dict[str, str | int | float] = Field(default_factory=dict)
    """Where the weights came from: configuration, seed, commit, data; for people."""
    notice: str
    digest: str = ""

    @model_validator(mode="after")
    def _check(self) -> Self:
        keys = [finding.key for finding in self.findings]
        if len(set(keys)) != len(keys):
            raise ValueError("two findings have the same key")
        for i, first in enumerate(self.findings):
            for second in self.findings[i + 1 :]:
                if first.label == second.label and first.population.overlaps(second.population):
                    raise ValueError(
                        f"findings {first.key} and {second.key} share a label and a population"
                    )
        return self

    def computed_digest(self) -> str:
        """Return the SHA-256 of the manifest without its own digest, as canonical JSON."""
        body = self.model_dump(mode="json", exclude={"digest"})
        canonical = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return hashlib.sha256(canonical.encode()).hexdigest()


class Bundle:
    """A bundle that was read from a folder and found whole.

    Attributes
    ----------
    folder
        Where it lies.
    manifest
        What it says.
    preprocessing
        The input's specification, known to this software.
    """

    def __init__(self, folder: Path, manifest: BundleManifest) -> None:
        self.folder = folder
        self.manifest = manifest
        self.preprocessing = manifest.preprocessing.spec()

    @property
    def id(self) -> str:
        """The bundle's name."""
        return self.manifest.id

    @property
    def digest(self) -> str:
        """SHA-256 over the manifest and the network."""
        return self.manifest.digest

    @property
    def model_path(self) -> Path:
        """The ONNX file."""
        return self.folder / self.manifest.model.file

    @property
    def int8_path(self) -> Path | None:
        """The ONNX file in 8-bit integers, None if the bundle brings none."""
        network = self.manifest.model_int8
        return None if network is None else self.folder / network.file


def load_bundle(folder: Path) -> Bundle:
    """Read a bundle and refuse it unless it is whole and made for this software.

    Parameters
    ----------
    folder
        The bundle's folder.

    Raises
    ------
    BundleError
        If a file is missing, the manifest does not fit its schema, the preprocessing version is
        unknown, or a digest differs from what was recorded.
    """
    path = folder / MANIFEST_NAME
    try:
        manifest = BundleManifest.model_validate_json(path.read_bytes())
    except OSError as error:
        raise BundleError(f"{path}: no bundle can be read there ({error.strerror})") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise BundleError(f"{path}: {where}: {first['msg']}") from error
    if manifest.digest != manifest.computed_digest():
        raise BundleError(
            f"{path}: the manifest was altered: its digest should be "
            f"{manifest.digest[:12] or 'recorded'}…, found {manifest.computed_digest()[:12]}…"
        )
    try:
        bundle = Bundle(folder, manifest)
    except ValueError as error:
        raise BundleError(f"{path}: {error}") from error
    for network in (manifest.model, manifest.model_int8):
        if network is not None:
            _check_network(folder / network.file, network)
    return bundle


def _check_network(path: Path, network: ModelFile) -> None:
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BundleError(f"{path}: cannot be read ({error.strerror})") from error
    if found != network.sha256:
        raise BundleError(
            f"{path}: the network was altered: expected SHA-256 "
            f"{network.sha256[:12]}…, found {found[:12]}…"
        )


def default_bundle() -> Path:
    """Return the folder of the bundle that is used unless another is named.

    That is ``$VIGIL_BUNDLE``; else the one in ``models/`` below the working directory or, in a
    checkout, below the project's root. Where there are several, ``models/DEFAULT`` names one.

    Raises
    ------
    BundleError
        If there is none, or several and nothing to choose by.
    """
    if named := os.environ.get("VIGIL_BUNDLE"):
        return Path(named)
    places = (Path("models"), Path(__file__).parents[2] / "models")
    for models in places:
        choice = models / "DEFAULT"
        if choice.is_file():
            return models / choice.read_text(encoding="utf-8").strip()
        folders = sorted(path.parent for path in models.glob(f"*/{MANIFEST_NAME}"))
        if len(folders) == 1:
            return folders[0]
        if folders:
            names = ", ".join(folder.name for folder in folders)
            raise BundleError(f"{models} holds several bundles ({names}); name one with --bundle")
    raise BundleError("no model bundle was found in models/; name one with --bundle")


def write_manifest(folder: Path, manifest: BundleManifest) -> BundleManifest:
    """Write ``bundle.json`` with its digest and return the manifest as written."""
    signed = manifest.model_copy(update={"digest": manifest.computed_digest()})
    (folder / MANIFEST_NAME).write_text(
        json.dumps(signed.model_dump(mode="json"), indent=2, ensure_ascii=False) + "\n",
        encoding="utf-8",
    )
    return signed
