"""What the interface says of two bundles on the same pictures."""

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

import vigil
from vigil.triage import Priority
from vigil_inference.promotion.stages import Stage
from vigil_inference.reading.statistics import Agreement, Figure

MOST_POINTS = 800
MOST_STUDIES = 500


class _View(BaseModel):
    model_config = ConfigDict(frozen=True)


class ComparedBundle(_View):
    """One of the two."""

    bundle_id: str
    bundle_digest: str
    stage: Stage
    site_calibration: str


class ThresholdUse(_View):
    """How often a bundle flags at a threshold, its own or the other's."""

    bundle: str = Field(description="`reference` or `candidate`.")
    threshold_of: str = Field(description="Whose threshold it is.")
    flagged: int
    share: Figure


class AgainstReadings(_View):
    """Both bundles' flags against signed readings of the same pictures."""

    pictures: int
    present: int = Field(description="Pictures in which the first reader saw it.")
    reference_sensitivity: Figure | None
    candidate_sensitivity: Figure | None
    reference_specificity: Figure | None
    candidate_specificity: Figure | None
    saw_the_model: int = Field(description="Readings whose reader saw the serving bundle's answer.")


class FindingComparison(_View):
    """One finding on the pictures in which both bundles speak of it."""

    key: str
    label: str
    reference_threshold: float = Field(description="Of the newest picture.")
    candidate_threshold: float
    uses: tuple[ThresholdUse, ...]
    agreement: Agreement = Field(description="Of the flags, first the reference's.")
    distance: float = Field(description="Greatest gap of the two score distributions, 0 to 1.")
    quantiles: tuple[tuple[float, float, float], ...] = Field(
        description="Level, reference's score, candidate's score."
    )
    points: tuple[tuple[float, float], ...] = Field(
        description=f"Scores of pictures, reference's first; at most {MOST_POINTS}, evenly taken."
    )
    readings: AgainstReadings | None = None


class PriorityCell(_View):
    """How many pictures got one priority from the one and another from the other."""

    reference: Priority
    candidate: Priority
    pictures: int


class StudyMoves(_View):
    """Studies whose place in the worklist the candidate would change."""

    studies: int
    study_instance_uids: tuple[str, ...] = Field(
        description=f"The newest {MOST_STUDIES}, for review."
    )


class RefusalCount(_View):
    """How often each refused pictures with a code."""

    code: str
    reference: int
    candidate: int


class Latency(_View):
    """Milliseconds a picture. One in shadow has one thread and the lowest priority."""

    pictures: int
    median: float
    percentile_95: float


class Drift(_View):
    """The serving bundle's scores of a finding: its first week here, and the last."""

    key: str
    first_pictures: int
    last_pictures: int
    first_flagged: Figure | None
    last_flagged: Figure | None
    distance: float | None = Field(description="None where a week has too few pictures.")
    by_chance: float | None = Field(description="A distance that chance exceeds once in 20.")


class ModelComparison(_View):
    """What the pictures that were read in shadow say."""

    generated_at: datetime
    reference: ComparedBundle
    candidate: ComparedBundle
    pictures: int
    patients: int
    candidate_served: int = Field(description="Pictures of these that the candidate answered.")
    findings: tuple[FindingComparison, ...]
    only_in_reference: tuple[str, ...] = Field(description="Findings that the candidate has not.")
    only_in_candidate: tuple[str, ...]
    priorities: tuple[PriorityCell, ...]
    raised: StudyMoves = Field(description="The candidate puts them higher.")
    no_longer_raised: StudyMoves = Field(description="The candidate puts them lower.")
    refusals: tuple[RefusalCount, ...]
    refused_by_one: int = Field(description="Pictures that one refuses and the other analyses.")
    reference_milliseconds: tuple[Latency, Latency] | None = Field(
        description="While it served, and in shadow."
    )
    candidate_milliseconds: tuple[Latency, Latency] | None
    drift_of: str = Field(description="The serving bundle, since it serves.")
    drift_since: datetime | None
    drift: tuple[Drift, ...]
    dropped: int = Field(description="Pictures that were passed over in shadow.")
    caveats: tuple[str, ...]
    notice: str = vigil.RESEARCH_USE
