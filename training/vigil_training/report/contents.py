"""What ``vigil evaluate --json`` writes: ``metrics.json`` and what the page shows beside it."""

from typing import Literal

from vigil_training.data_sets.inspection import LabelSummary, SourceSummary
from vigil_training.figures import Figures, Group
from vigil_training.model_card import Metrics

SCHEMA = "vigil-evaluation-report/1"
Points = tuple[tuple[float, float], ...]
Bounds = tuple[float, float]


class Caution(Figures):
    """Something to know before a figure is believed."""

    what: str
    count: int
    rows: tuple[str, ...]
    """Where, at most five."""
    advice: str


class Withheld(Figures):
    """A figure that is not shown, and why. ``group`` and ``part`` are empty for a whole source."""

    label: str
    source: str
    group: Group | Literal[""]
    part: str
    n: int
    positives: int
    positive_patients: int
    negative_patients: int
    reason: str


class AtThreshold(Figures):
    """Films at or over a threshold. ``threshold`` is None where the films' findings differ in it.

    Intervals are Wilson's over patients. The predictive values are those of these films.
    """

    name: str
    threshold: float | None
    true_positives: int
    false_positives: int
    false_negatives: int
    true_negatives: int
    sensitivity: float
    sensitivity_interval: Bounds
    specificity: float
    specificity_interval: Bounds
    positive_predictive_value: float | None
    negative_predictive_value: float | None


class DecisionPoint(Figures):
    """Net benefit at one threshold; acting on nobody has 0."""

    threshold: float
    model: float
    interval: Bounds | None
    treat_all: float


class LabelCurves(Figures):
    """One finding on one source: what is drawn of it. Curves are thinned to 200 points."""

    label: str
    source: str
    roc: Points
    """False positive rate, true positive rate."""
    precision_recall: Points
    """Recall, precision."""
    histogram_positive: tuple[int, ...]
    """Films with the finding, by twentieths of the probability."""
    histogram_negative: tuple[int, ...]
    decision: tuple[DecisionPoint, ...]
    thresholds: tuple[AtThreshold, ...]


class FoundAt(Figures):
    """The part of boxes found at no more than so many false marks a film."""

    false_marks: float
    found: float
    interval: Bounds | None


class FreeResponse(Figures):
    """A finding's maps against boxes; ``withheld`` says why there is no curve."""

    label: str
    source: str
    boxes: int
    boxed_films: int
    boxed_patients: int
    films_without: int
    positive_without_box: int
    found_by_other_maps: float | None
    """Part of the boxes that the marks of another patient's boxed film would find, in the mean."""
    curve: Points
    """False marks a film, part of boxes found."""
    at: tuple[FoundAt, ...]
    withheld: str


class ComparedArea(Figures):
    """One finding of two bundles on the same films of one source; the second's minus the first's.

    ``p_corrected`` is Holm's over all rows that have a p. ``withheld`` says why there is none.
    """

    label: str
    source: str
    n: int
    positives: int
    patients: int
    first: float | None
    second: float | None
    difference: float | None
    interval: Bounds | None
    p: float | None
    p_corrected: float | None
    withheld: str


class Against(Figures):
    """Another bundle on the same films."""

    bundle: str
    digest: str
    areas: tuple[ComparedArea, ...]
    one_refused: int
    """Films that one of the two refused; they are left out."""
    learnt_from: int
    """Films on the other bundle's own training side, which flatter it."""


class Shift(Figures):
    """How one characteristic differs between two manifests, over one film a patient.

    ``size`` is an effect: the population stability index (psi), the difference of two shares, or
    the energy coefficient (0 alike, 1 apart). ``by_chance`` is what 95 % of random divisions of
    the same films stay below. ``p_corrected`` is Holm's over all characteristics.
    """

    characteristic: str
    kind: Literal["psi", "difference of shares", "energy coefficient"]
    before: str
    now: str
    n_before: int
    n_now: int
    size: float | None
    by_chance: float | None
    interval: Bounds | None
    test: str
    p: float | None
    p_corrected: float | None
    withheld: str


class Drift(Figures):
    """Two manifests compared."""

    before: str
    now: str
    patients_before: int
    patients_now: int
    pictures_before: int
    pictures_now: int
    """Pictures that were read, spread evenly."""
    shifts: tuple[Shift, ...]


class Failure(Figures):
    """One of the worst misses or false alarms; the picture itself is on the page only."""

    kind: Literal["missed", "false alarm"]
    key: str
    """The bundle's finding: adults and children may have one each of the same label."""
    label: str
    source: str
    row: int
    image_id: str
    probability: float
    threshold: float
    has_map: bool


class ChecklistItem(Figures):
    """One item of a reporting guideline."""

    number: str
    topic: str
    answer: Literal["here", "partly", "not here"]
    where: str
    """The section's anchor, empty if it is not here."""
    note: str
    earlier: str | None = None
    """Its number in the edition before, None if it is the same, empty if it had none."""


class Checklist(Figures):
    """A reporting guideline."""

    name: str
    citation: str
    edition: str
    """Which edition it is, and how it differs from the one before."""
    items: tuple[ChecklistItem, ...]


class Model(Figures):
    """What the bundle says of itself."""

    description: str
    architecture: str
    created: str
    input_pixels: int
    preprocessing_version: int
    networks: tuple[str, ...]
    training: dict[str, str | int | float]
    findings: tuple[str, ...]
    experimental: tuple[str, ...]


class Population(Figures):
    """Who the films are of, source by source and label by label."""

    films: int
    patients: int
    sources: tuple[SourceSummary, ...]
    labels: tuple[LabelSummary, ...]


class Report(Metrics):
    """The whole report. New fields may come with the same ``schema_version``; none goes."""

    schema_version: Literal["vigil-evaluation-report/1"]
    command: str
    libraries: dict[str, str]
    """What judged and counted, by version."""
    rows_in_manifest: int
    model: Model
    evaluated: Population
    others: Population | None
    """The manifest's other films: those that the split leaves out."""
    cautions: tuple[Caution, ...]
    withheld: tuple[Withheld, ...]
    not_measured: tuple[str, ...]
    """The bundle's labels that no film has in scope."""
    curves: tuple[LabelCurves, ...]
    free_response: tuple[FreeResponse, ...]
    against: Against | None
    drift: Drift | None
    failures: tuple[Failure, ...]
    checklists: tuple[Checklist, ...]
    least_patients: int
    """Of either class; with fewer a source's figures are withheld."""
    least_patients_of_a_part: int
    seconds_by_part: dict[str, float]
