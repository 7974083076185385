"""One run is one TOML file; this module says what may stand in it and what it means."""

import tomllib
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from vigil.bundle import Population
from vigil.errors import ConfigurationError
from vigil.findings import CONCEPTS, COVID_19
from vigil.triage import Priority

AgeGroup = Literal["adult", "child", "unknown"]
Attribute = Literal["frontal_chest", "child", "inverted", "rotated", "mirrored", "anteroposterior"]
ATTRIBUTES: tuple[Attribute, ...] = (
    "frontal_chest",
    "child",
    "inverted",
    "rotated",
    "mirrored",
    "anteroposterior",
)
Structure = Literal["lungs", "heart"]
STRUCTURES: tuple[Structure, ...] = ("lungs", "heart")
Precision = Literal["float32", "bf16", "fp16"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SourceConfig(_Strict):
    """One source of a manifest: how much of an epoch it is, and whom its films show.

    Attributes
    ----------
    share
        Its part of an epoch's pictures, relative to the other sources' shares.
    age_group
        What its rows without an age are taken for: ``adult`` (15 or more), ``child`` (1 to 5) or
        ``unknown`` (outside every population that has an age limit).
    """

    name: str
    share: float = Field(gt=0)
    age_group: AgeGroup = "unknown"


class DataConfig(_Strict):
    """Where the pictures come from. Paths are relative to the data folder of the run.

    Attributes
    ----------
    manifest
        The chest films' manifest; left out for generated pictures.
    gate_manifest
        Pictures that are no upright frontal chest film; None trains no such attribute.
    phantoms
        How many pictures to generate instead of reading a manifest.
    sources
        The sources that are trained on. A source that is not named is left out.
    gate_share
        The part of an epoch that is no chest film, in the same measure as the shares.
    validation_fraction
        The part of the patients that is held out.
    split_seed
        Seed of the split by patient; kept apart from the run's seed, so that runs compare.
    """

    manifest: str | None = None
    gate_manifest: str | None = None
    phantoms: int = Field(default=0, ge=0)
    sources: tuple[SourceConfig, ...] = Field(min_length=1)
    gate_share: float = Field(default=0.0, ge=0)
    validation_fraction: float = Field(default=0.2, gt=0, lt=0.9)
    split_seed: int = 0

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.manifest is None) == (self.phantoms == 0):
            raise ValueError("expected either `manifest` or `phantoms`, not both")
        if self.gate_share > 0 and self.gate_manifest is None and self.phantoms == 0:
            raise ValueError("`gate_share` is set but `gate_manifest` is not")
        names = [source.name for source in self.sources]
        if len(set(names)) != len(names):
            raise ValueError("a source is named twice")
        return self


class FindingConfig(_Strict):
    """One output of the network: a label in one population, and what it asks for when flagged.

    Attributes
    ----------
    priority
        What a flag asks for; an experimental finding never asks for more than ROUTINE.
    target_sensitivity
        What the flag's threshold must reach on the validation patients, at the smallest loss of
        specificity.
    least_specificity
        What it must not fall below for that: a finding that is seen weakly would flag every film.
    critical
        Whether there is a second threshold, at ``critical_specificity`` or better, that makes a
        picture CRITICAL.
    greatest_background_share
        The part of adults' films of sources where nobody looked for the finding that the flag may
        take: elsewhere it would make every other film urgent.
    experimental_specificity
        Where the flag of an experimental finding lies instead.
    """

    key: str
    label: str
    min_age: float | None = None
    max_age: float | None = None
    priority: Literal[Priority.URGENT, Priority.ROUTINE] = Priority.URGENT
    critical: bool = False
    target_sensitivity: float = Field(default=0.8, gt=0, le=1)
    least_specificity: float = Field(default=0.75, ge=0, lt=1)
    greatest_background_share: float = Field(default=0.25, gt=0, le=1)
    experimental_specificity: float = Field(default=0.95, ge=0, lt=1)
    critical_specificity: float = Field(default=0.95, gt=0, lt=1)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.label == COVID_19:
            raise ValueError("COVID-19 cannot be a finding: no source holds negatives for it")
        if self.label not in CONCEPTS:
            raise ValueError(f"unknown label {self.label}; expected one of {', '.join(CONCEPTS)}")
        return self

    @property
    def population(self) -> Population:
        """The population as the bundle says it."""
        return Population(min_age_years=self.min_age, max_age_years=self.max_age)


class NetworkConfig(_Strict):
    """The backbone and where its weights start."""

    backbone: Literal["efficientnet-lite0", "efficientnet-lite2", "densenet121"] = (
        "efficientnet-lite0"
    )
    init: str = "imagenet"
    """``random``; ``imagenet``; ``efficientnet-lite0``; ``xrv:NAME`` of `vigil models list`; a
    bundle's folder; or a file with a dictionary of weights and nothing else."""
    size: int = Field(default=224, ge=32, le=1024)
    dropout: float = Field(default=0.2, ge=0, lt=1)
    stochastic_depth: float = Field(default=0.2, ge=0, lt=1)
    structures: bool = False
    """Whether lungs and heart are outlined too; EfficientNet-Lite only."""
    normalisation: Literal["batch", "frozen"] = "batch"
    """``frozen`` keeps the means and deviations that the first weights came with."""
    normalisation_momentum: float = Field(default=0.1, gt=0, le=1)
    """How fast batch normalisation's means follow; EfficientNet-Lite's own 0.01 is too slow for a
    run of some hundred steps."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.structures and not self.backbone.startswith("efficientnet-lite"):
            raise ValueError("`structures` needs a backbone of efficientnet-lite")
        if self.size % 32:
            raise ValueError(f"size is {self.size}, expected a multiple of 32")
        return self


class OptimisationConfig(_Strict):
    """How the weights are changed."""

    epochs: int = Field(ge=1)
    pictures_per_epoch: int = Field(ge=1)
    batch: int = Field(default=32, ge=2)
    """Pictures of a step, over all processes together."""
    precision: Precision = "float32"
    """What forward and backward passes are computed in; weights, their average, losses and
    validation stay in float32. ``fp16`` scales the loss and needs a GPU."""
    learning_rate: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=0.02, ge=0)
    warm_up_steps: int = Field(default=100, ge=0)
    gradient_norm: float = Field(default=5.0, gt=0)
    ema_decay: float = Field(default=0.99, ge=0, lt=1)
    positive_weight_power: float = Field(default=0.5, ge=0, le=1)
    """A finding's positives weigh (negatives / positives) to this power; 0 is no weighting."""
    positive_weight_limit: float = Field(default=5.0, ge=1)
    attribute_weight: float = Field(default=0.5, ge=0)
    structure_weight: float = Field(default=1.0, ge=0)
    mixup_share: float = Field(default=0.0, ge=0, le=1)
    """The part of the steps whose pictures are blended in pairs (Zhang et al. 2018, arXiv
    1710.09412); such a step teaches no outlines."""
    first_size: int | None = Field(default=None, ge=32, multiple_of=32)
    """Pictures are reduced to this size in the first ``first_size_epochs`` epochs, which costs
    less; the others, and all validation, see the network's own size."""
    first_size_epochs: int = Field(default=0, ge=0)
    keep: Literal["best", "last"] = "best"
    """Which epoch's weights the run leaves: those with the highest mean validation AUROC, or the
    last, which the validation patients did not choose."""
    patience: int = Field(default=4, ge=1)
    """With ``best``: epochs without a better mean validation AUROC before the run stops."""
    validation_limit_per_source: int = Field(default=0, ge=0)
    """How many validation pictures of a source are scored after each epoch; 0 is all of them."""
    workers: int = Field(default=1, ge=0)
    """Processes beside each training process that augment the next pictures while it computes; the
    same figures with any number. A GPU wants several, 0 is for machines that allow none."""


class AugmentationConfig(_Strict):
    """What may happen to a picture after ``to_model_input``. Probabilities are per picture."""

    rotate_degrees: float = Field(default=8.0, ge=0)
    scale: float = Field(default=0.1, ge=0, lt=0.5)
    translate: float = Field(default=0.05, ge=0, lt=0.5)
    affine_probability: float = Field(default=0.9, ge=0, le=1)
    gamma: float = Field(default=1.4, ge=1)
    gamma_probability: float = Field(default=0.5, ge=0, le=1)
    noise: float = Field(default=0.1, ge=0)
    noise_probability: float = Field(default=0.2, ge=0, le=1)
    dropout_probability: float = Field(default=0.3, ge=0, le=1)
    shrink_probability: float = Field(default=0.06, ge=0, le=1)
    """Shrinks a chest film to 64 to 96 pixels and back, so that blur does not mean "no chest"."""
    crop_probability: float = Field(default=0.5, ge=0, le=1)
    """Crops a picture that is no chest film, so that a narrow strip does not mean "no chest"."""
    invert_probability: float = Field(default=0.06, ge=0, le=1)
    rotate_quarter_probability: float = Field(default=0.06, ge=0, le=1)
    mirror_probability: float = Field(default=0.0, ge=0, le=1)
    """A mirrored film teaches its findings and that it is mirrored."""


class AttributeConfig(_Strict):
    """How often each attribute may raise a false alarm on the validation pictures."""

    refuse_chest: float = Field(default=0.005, gt=0, lt=0.5)
    false_alarm: float = Field(default=0.005, gt=0, lt=0.5)
    false_anteroposterior: float = Field(default=0.05, gt=0, lt=0.5)
    """Of PA films; it only adds a remark, where the file names no view."""


class TeacherConfig(_Strict):
    """Earlier runs whose answers stand beside labels that a program mined from reports.

    A label that is wrong in one film of ten is learnt by heart by whoever sees it ten times; the
    mean probability of earlier networks is a softer target (Furlanello et al. 2018, arXiv
    1805.04770).

    Attributes
    ----------
    weights
        The earlier runs' ``best.pt``; their outputs are those of this run.
    findings
        The keys that they teach, on adults' chest films of the training side only.
    share
        Their part of the target where the label is known.
    unknown_weight
        How much their answer counts where the label is not known, against 1 for a known label.
    """

    weights: tuple[str, ...] = Field(min_length=1)
    findings: tuple[str, ...] = Field(min_length=1)
    share: float = Field(default=0.5, gt=0, le=1)
    unknown_weight: float = Field(default=0.0, ge=0, le=1)


class RunConfig(_Strict):
    """A whole run."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")
    description: str
    seed: int = 0
    data: DataConfig
    findings: tuple[FindingConfig, ...] = Field(min_length=1)
    network: NetworkConfig = NetworkConfig()
    optimisation: OptimisationConfig
    augmentation: AugmentationConfig = AugmentationConfig()
    attributes: AttributeConfig = AttributeConfig()
    teacher: TeacherConfig | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        keys = [finding.key for finding in self.findings]
        unknown = sorted(set(self.teacher.findings if self.teacher else ()) - set(keys))
        if unknown:
            raise ValueError(f"the teacher's finding {unknown[0]} is none of this run's")
        if len(set(keys)) != len(keys):
            raise ValueError("two findings have the same key")
        return self

    @property
    def outputs(self) -> tuple[str, ...]:
        """The linear layer's outputs in order: the findings' keys, then the attributes."""
        return (*(finding.key for finding in self.findings), *ATTRIBUTES)


def load_config(path: Path) -> RunConfig:
    """Read a run's TOML file.

    Raises
    ------
    ConfigurationError
        If it cannot be read, is no TOML, or says something that is not known here; the message
        names the field.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
        return RunConfig.model_validate(content)
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: is not TOML: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise ConfigurationError(f"{path}: {where}: {first['msg']}") from error
