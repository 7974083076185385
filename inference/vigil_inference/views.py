"""What the HTTP interface says, as typed documents: they make the OpenAPI description."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from vigil.anatomy import Line, NoRatio
from vigil.localisation import Localisation
from vigil.triage import Priority
from vigil_inference.tables import State


class _View(BaseModel):
    model_config = ConfigDict(frozen=True)


class PatientView(_View):
    """Whose study it is. Text is what the sender wrote, in Unicode."""

    name: str = Field(description="As in DICOM, all component groups: `Nguyễn^Văn An`.")
    display_name: str = Field(description="The same for reading: `Nguyễn Văn An`.")
    id: str
    sex: str = Field(description="`F`, `M`, `O` or empty.")
    birth_date: str = Field(description="`YYYYMMDD` or empty.")
    age: str = Field(description="In DICOM's form, such as `045Y`; from the birth date if absent.")


class FlagView(_View):
    """A finding at or over its threshold."""

    key: str
    label: str
    probability: float = Field(description="Calibrated, 0 to 1.")
    threshold: float | None
    priority: Priority
    experimental: bool
    uncertain: bool = Field(
        description="In the band where the validation patients do not let present and absent be "
        "told."
    )


class MarkView(_View):
    """Who took a study, or reads it now."""

    account: str
    name: str = Field(description="As people read it; empty where nobody signs in.")
    moment: datetime = Field(description="Taken since then; being read until then, if unrenewed.")


class RefusalView(_View):
    """Why pictures of a study were not analysed."""

    code: str
    reason: str
    pictures: int


class RaisedView(_View):
    """That somebody raised a study's priority by hand; the last time, if several."""

    priority: Priority
    reason: str
    by: str = Field(description="As people read the name; the account's where it has no other.")
    at: datetime


class StudySummary(_View):
    """A row of the worklist."""

    study_instance_uid: str
    patient: PatientView
    accession_number: str
    study_description: str
    study_date: str
    institution_name: str
    source: str = Field(description="The sender's application entity title, or the door.")
    received_at: datetime
    waiting_seconds: float
    state: State
    priority: Priority = Field(
        description="The highest that any of its pictures ever had, or that somebody raised it to."
    )
    pictures: int
    pending: int = Field(description="Pictures that still wait for their analysis.")
    flags: tuple[FlagView, ...]
    reason: str = Field(description="What made the priority, or why there is none; a sentence.")
    refusals: tuple[RefusalView, ...]
    identity_conflict: bool = Field(
        description="A later picture of the study named another patient."
    )
    conflicts: int = Field(
        description="How often other bytes came under the UIDs of its pictures; the first are kept."
    )
    preview_sop_instance_uid: str | None = Field(description="Which picture to show in the row.")
    raised: RaisedView | None = Field(description="Where somebody raised the priority by hand.")
    modalities: tuple[str, ...]
    reading_order: int = Field(description="What the list is ordered by, then by arrival.")
    target_seconds: float | None = Field(description="The site's target for this priority.")
    overdue: bool
    read_at: datetime | None = Field(description="When its reading was signed.")
    read_by: str
    assigned: MarkView | None
    being_read: MarkView | None


class ModelView(_View):
    """The bundle that is served now."""

    available: bool
    code: str | None = Field(description="`MODEL_UNAVAILABLE` while pictures cannot be analysed.")
    reason: str
    bundle_id: str
    bundle_digest: str


class WorklistPage(_View):
    """A page of the worklist, in reading order."""

    order: Literal["priority", "arrival"]
    total: int = Field(description="Studies that match, over all pages.")
    everything: int = Field(description="All studies that were ever received, without filters.")
    offset: int
    limit: int
    counts: dict[Priority, int] = Field(
        description="Studies by priority, under the other filters, over all pages."
    )
    statuses: dict[str, int] = Field(
        description="Studies by status, under the other filters, over all pages."
    )
    pending: int = Field(description="Studies with pictures that wait for their analysis.")
    generated_at: datetime
    model: ModelView
    studies: tuple[StudySummary, ...]


class ChoicesView(_View):
    """What there is to filter the worklist by."""

    findings: tuple[str, ...]
    institutions: tuple[str, ...]
    sources: tuple[str, ...]
    modalities: tuple[str, ...]


class RowsChanged(_View):
    """What a live update tells the worklist: the rows that changed, and how many there are."""

    rows: tuple[StudySummary, ...]
    gone: tuple[str, ...] = Field(description="Studies that are not known any more.")
    everything: int
    counts: dict[Priority, int] = Field(description="Unread studies by priority.")
    statuses: dict[str, int] = Field(description="All studies by status; not of one reader.")
    pending: int
    generated_at: datetime
    model: ModelView


class FindingView(_View):
    """One finding of a picture. A withheld one has no probability and must not read as negative."""

    key: str
    label: str
    probability: float | None
    threshold: float | None
    critical_threshold: float | None
    sensitivity: float | None
    specificity: float | None
    flagged: bool
    priority: Priority
    experimental: bool
    withheld: str | None = Field(description="Why nothing is said of it.")
    heat_map: bool = Field(description="Whether `heatmap/{label}.png` will answer.")
    uncertain: tuple[float, float] | None = Field(
        description="Between these, the validation patients do not let present and absent be told."
    )


class AnatomyView(_View):
    """Lungs and heart, in fractions of the width and height of the picture as it is shown."""

    lungs: tuple[tuple[tuple[float, float], ...], ...] = Field(description="Closed outlines.")
    heart: tuple[tuple[float, float], ...] | None = Field(description="Its closed outline.")
    heart_line: Line | None = Field(description="The heart's greatest transverse diameter.")
    thorax_line: Line | None = Field(description="The thorax's greatest inner one.")
    cardiothoracic_ratio: float | None = Field(description="The first over the second.")
    no_ratio: NoRatio | None = Field(description="Why there is no ratio.")


class InstanceView(_View):
    """A picture, or another object, of a study."""

    sop_instance_uid: str
    series_instance_uid: str
    sop_class: str
    modality: str
    transfer_syntax: str
    received_at: datetime
    door: str
    size_bytes: int
    conflicts: int = Field(
        description="How often other bytes came under its UID; the first are kept."
    )
    removed_at: datetime | None = Field(
        description="When its pixels were removed by rule; None while they are held."
    )
    removal_reason: str
    state: State
    code: str | None
    reason: str
    priority: Priority
    findings: tuple[FindingView, ...]
    notes: tuple[str, ...]
    is_supervised: bool = Field(
        False, description="Whether the bundle was on trial when it judged this picture."
    )
    rows: int | None
    columns: int | None
    view: str
    has_preview: bool
    bundle_id: str
    bundle_digest: str
    bundle_notice: str
    software_version: str
    milliseconds: float | None
    analysed_at: datetime | None
    localisation: Localisation | None = Field(
        description="How far this bundle's heat maps lie from a radiologist's boxes, if measured."
    )
    anatomy: AnatomyView | None = Field(
        description="None where the bundle outlines nothing, or the site shows no regions."
    )


class StudyDetail(StudySummary):
    """A study with all that is known of its pictures."""

    instances: tuple[InstanceView, ...]
    notice: str
    software_version: str


class Problem(_View):
    """An error: a stable word for programs and a sentence for people."""

    code: str
    message: str


class ResultView(_View):
    """One of a study's results as a DICOM object, and where to fetch it."""

    sop_class_uid: str
    sop_class: str
    sop_instance_uid: str
    series_instance_uid: str
    url: str


class Health(_View):
    """The process lives."""

    status: Literal["ok"]
    software_version: str


class Readiness(_View):
    """Whether pictures are received and analysed; each check says "ok" or what is wrong."""

    ready: bool
    checks: dict[str, str]


class PageConfiguration(_View):
    """What the page needs to know before it asks for anything."""

    site: str
    language: Literal["auto", "vi", "en", "fr"]
    heat_maps: bool
    case_level: bool = Field(description="The profile `cadt`: no finding, score, region or map.")
    software_version: str
    notice: str
    accounts: Literal["required", "off"] = Field(description="Whether people must sign in.")
    oidc_name: str = Field(description="What the OpenID provider is called; empty: there is none.")
