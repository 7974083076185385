"""What ``metrics.json`` holds: figures per label and source, each with what it rests on."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, JsonValue

Split = Literal["all", "train", "val", "test"]
Group = Literal["sex", "age", "view"]
Measure = Literal["auroc", "average_precision", "sensitivity", "specificity", "flagged"]


class Figures(BaseModel):
    """A part of ``metrics.json``; what is not known here is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Merits(Figures):
    """How well some films of one source were judged for one label.

    ``n`` and what follows count films with a probability only. ``intervals`` are 95 %: AUROC and
    average precision by bootstrap over patients, shares by Wilson's formula over patients.
    """

    label: str
    source: str
    n: int
    positives: int
    patients: int
    positive_patients: int
    auroc: float | None
    average_precision: float | None
    sensitivity: float | None
    specificity: float | None
    flagged: float | None
    mean_probability: float | None
    prevalence: float | None
    expected_calibration_error: float | None
    brier: float | None
    intervals: dict[Measure, tuple[float, float]]


class Reliability(Figures):
    """How far probabilities can be believed, see :mod:`vigil_training.reliability`.

    ``by_chance`` and ``by_chance_high`` are the mean and the 95 % quantile of the calibration
    error that perfect probabilities would give on as many films. Slope and intercept are unknown
    with fewer than 20 positive and 20 negative patients.
    """

    calibration_error: float
    calibration_error_interval: tuple[float, float] | None
    by_chance: float
    by_chance_high: float
    debiased: float | None
    brier: float
    slope: float | None
    slope_interval: tuple[float, float] | None
    intercept: float | None
    intercept_interval: tuple[float, float] | None


class Bin(Figures):
    """A tenth of the films, by probability: what was promised and what was seen."""

    films: int
    mean_probability: float
    frequency: float
    low: float
    high: float


class Certainty(Figures):
    """What the uncertain band says on one source; a patient counts once, however many films.

    ``present_held`` and ``absent_held`` are the parts of patients with and without the finding of
    whom the opposite is not said with certainty, ``uncertain`` the part of whom nothing is.
    ``cross_conformal`` says that ends which other patients chose judged each patient; else these
    are the shipped ends, which no patient here helped to choose.
    """

    target_coverage: float
    cross_conformal: bool
    present_held: float | None
    absent_held: float | None
    uncertain: float | None


class LabelFigures(Merits):
    """How one label does on one source.

    ``refused`` and ``withheld`` say how many more films have the label in scope but got no
    probability. ``keys`` are the bundle's findings that gave one, that of most films first.
    ``cross_fitted`` is the reliability of the same calibration fitted on other patients, where
    these patients fitted the shipped one.
    """

    refused: int
    withheld: int
    reliability: Reliability | None = None
    cross_fitted: Reliability | None = None
    bins: tuple[Bin, ...] = ()
    certainty: Certainty | None = None
    keys: tuple[str, ...] = ()


class PartFigures(Merits):
    """The same for one sex, age group or view."""

    group: Group
    part: str


class BackgroundFigures(Figures):
    """How often a label is flagged on films of a source that nobody looked at for it."""

    label: str
    source: str
    films: int
    patients: int
    flagged: float
    flagged_interval: tuple[float, float]
    uncertain: float | None


class SourceFigures(Figures):
    """How the pictures of one source fared at the gate, and the mean over its labels."""

    source: str
    pictures: int
    analysed: int
    refused: dict[str, int]
    corrected: int
    """Pictures that were inverted or turned before they were analysed."""
    priorities: dict[str, int]
    flagged: float | None
    """Part of the analysed pictures with any flag."""
    trained_on: bool | None
    """Whether the bundle's run names the source; None if the bundle does not say."""
    mean_auroc: float | None
    labels_in_mean: int


class OutlineFigures(Figures):
    """How well an outline agrees with the one that a person drew, in Dice's coefficient."""

    source: str
    structure: str
    pictures: int
    mean: float
    interval: tuple[float, float] | None
    median: float
    lowest_tenth: float


class RatioFigures(Figures):
    """How well the cardiothoracic ratio of the served outlines does on one source.

    ``measured`` and ``not_measured`` count analysed films. The error is over ``known`` films that
    a person measured too; the AUROC is that of the ratio alone for the label Cardiomegaly, over
    ``judged`` measured films that have it in scope.
    """

    source: str
    measured: int
    not_measured: dict[str, int]
    known: int
    mean_absolute_error: float | None
    error_interval: tuple[float, float] | None
    mean_error: float | None
    judged: int
    positives: int
    auroc: float | None
    auroc_interval: tuple[float, float] | None


class Section(Figures):
    """What another measurement adds to ``metrics.json`` and to the card."""

    title: str
    lines: tuple[str, ...]
    """Markdown, one line each."""
    figures: JsonValue = None


class Evaluation(Figures):
    """What ``vigil evaluate`` writes as JSON."""

    bundle: str
    digest: str
    software: str
    created: str
    manifest: str
    split: Split
    bootstrap_samples: int
    seconds: float
    sources: tuple[SourceFigures, ...]
    results: tuple[LabelFigures, ...]
    parts: tuple[PartFigures, ...] = ()
    background: tuple[BackgroundFigures, ...] = ()
    outlines: tuple[OutlineFigures, ...] = ()
    ratios: tuple[RatioFigures, ...] = ()
    notes: tuple[str, ...]
    notice: str
