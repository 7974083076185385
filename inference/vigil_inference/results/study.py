"""What the result objects are built from: one study's facts, frozen.

Everything that reaches an object stands in a :class:`StudyResult`, so that the same one always
gives the same bytes. Nothing here reads a clock, a file or a database.
"""

import hashlib
import json
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import Comprehensive3DSRStorage

import vigil
from vigil.errors import RefusalCode
from vigil.heat_map import REGION_LEVEL
from vigil.triage import Flag, Priority, highest

if TYPE_CHECKING:
    from vigil.anatomy import Anatomy
    from vigil.triager import TriageResult

NO_FRONTAL_FILM = frozenset(
    {
        RefusalCode.NOT_RADIOGRAPH,
        RefusalCode.NO_PIXELS,
        RefusalCode.FOR_PROCESSING,
        RefusalCode.DERIVED,
        RefusalCode.NOT_FRONTAL,
    }
)
"""Refusals by what the object is, such as a lateral: nothing frontal was missed there. What only
looked like no chest film is not among them, for it may have been a bad one."""


class Profile(StrEnum):
    """How much a site lets the results say (21 CFR 892.2080 and its special controls)."""

    FINDINGS = "findings"
    """Calibrated findings, regions and heat maps, for research."""
    CADT = "cadt"
    """A case-level flag only: no finding, region, heat map or score, and never a "normal"."""


class Language(StrEnum):
    """The site's language (RFC 5646)."""

    VIETNAMESE = "vi"
    ENGLISH = "en"
    FRENCH = "fr"


class Presence(StrEnum):
    """What is said of a finding in a study (DICOM PS3.16 CID 240, without its "absent")."""

    PRESENT = "present"
    UNDETERMINED = "undetermined"


@dataclass(frozen=True)
class ResultOptions:
    """What a site wants built; a part of every UID.

    Attributes
    ----------
    profile, language
        See there.
    regions
        Whether a finding's place is outlined in the report.
    captures
        Whether pictures with flags get a secondary capture with their heat map.
    key_objects
        Whether a key object selection marks the pictures with flags.
    negatives
        Whether a study without a flag gets a report; in :attr:`Profile.CADT` it never does.
    refusals
        Whether a study of which nothing could be analysed gets a report that says why.
    region_level
        Where a region ends: this share of the way from its map's median to its highest place, in
        logits.
    """

    profile: Profile = Profile.FINDINGS
    language: Language = Language.ENGLISH
    regions: bool = True
    captures: bool = True
    key_objects: bool = False
    negatives: bool = True
    refusals: bool = True
    region_level: float = REGION_LEVEL

    def __post_init__(self) -> None:
        if not 0 < self.region_level < 1:
            raise ValueError(f"region_level is {self.region_level}, expected between 0 and 1")

    @property
    def digest(self) -> str:
        """SHA-256 of the options as canonical JSON."""
        canonical = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()


@dataclass(frozen=True)
class Predecessor:
    """An earlier report that a new one replaces (DICOM PS3.3 C.17.2.3)."""

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    instance_number: int = 1
    sop_class_uid: str = str(Comprehensive3DSRStorage)


@dataclass(frozen=True, eq=False)
class PictureResult:
    """What was found in one picture.

    Attributes
    ----------
    source
        The picture's header, without pixels.
    analysed_at
        When it was analysed or refused, with its time zone: the only clock that its objects know.
    priority, code, reason, findings, flags, withheld, notes
        As in :class:`vigil.triager.TriageResult`.
    maps
        Label to (h, w) floats in 0…1 over the whole picture as analysed.
    pixels
        (rows, columns) uint16 or uint8 display values as analysed, of any size; None where no
        capture is to be drawn.
    anatomy
        Lungs, heart and the cardiothoracic ratio, over the picture as analysed; None where the
        bundle outlines them not.

    Raises
    ------
    ValueError
        If the time has no zone.
    """

    source: Dataset = field(repr=False)
    analysed_at: datetime
    priority: Priority
    code: RefusalCode | None = None
    reason: str = ""
    findings: Mapping[str, float] = field(default_factory=dict)
    flags: tuple[Flag, ...] = ()
    withheld: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    maps: Mapping[str, NDArray[np.floating[Any]]] = field(default_factory=dict, repr=False)
    pixels: NDArray[np.uint16] | NDArray[np.uint8] | None = field(default=None, repr=False)
    anatomy: "Anatomy | None" = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.analysed_at.tzinfo is None:
            raise ValueError("the time of the analysis has no time zone, expected one")

    @classmethod
    def from_triage(
        cls, source: Dataset, result: "TriageResult", analysed_at: datetime
    ) -> "PictureResult":
        """Take what the core said of the picture with this header."""
        return cls(
            source=source,
            analysed_at=analysed_at,
            priority=result.priority,
            code=result.code,
            reason=result.reason,
            findings=result.findings,
            flags=result.flags,
            withheld=result.withheld,
            notes=result.notes,
            maps=result.maps,
            pixels=None if result.radiograph is None else result.radiograph.pixels,
            anatomy=result.anatomy,
        )

    @property
    def sop_instance_uid(self) -> str:
        """The picture's SOP Instance UID."""
        return str(self.source.SOPInstanceUID)

    @property
    def is_analysed(self) -> bool:
        """Whether the network was asked."""
        return self.code is None


@dataclass(frozen=True, eq=False)
class StudyResult:
    """One study's facts, from which all its result objects are built.

    Attributes
    ----------
    pictures
        At least one, of one study; held in the order of their numbers in the study, so that the
        order of arrival makes no difference.
    bundle_id, bundle_digest
        The bundle that judged.
    namespace
        The installation's own UUID, from which its UIDs are derived.
    options
        What the site wants.
    predecessor
        The report that this study's new one replaces, after a later picture.
    software_version
        The version of Vigil.
    device_serial_number
        The installation's name for itself; by default made from ``namespace``.

    Raises
    ------
    ValueError
        If there is no picture, or the pictures are of several studies.
    """

    pictures: tuple[PictureResult, ...]
    bundle_id: str
    bundle_digest: str
    namespace: uuid.UUID
    options: ResultOptions = ResultOptions()
    predecessor: Predecessor | None = None
    software_version: str = vigil.__version__
    device_serial_number: str = ""

    def __post_init__(self) -> None:
        if not self.pictures:
            raise ValueError("the study has no picture, expected at least one")
        if len({picture.source.StudyInstanceUID for picture in self.pictures}) > 1:
            raise ValueError("the pictures are of several studies, expected one")
        object.__setattr__(self, "pictures", tuple(sorted(self.pictures, key=_place)))
        if not self.device_serial_number:
            object.__setattr__(self, "device_serial_number", self.namespace.hex[:16])

    @property
    def study_instance_uid(self) -> str:
        """The study's UID."""
        return str(self.pictures[0].source.StudyInstanceUID)

    @property
    def timestamp(self) -> datetime:
        """When the last of the pictures was analysed; the documents' date and time."""
        return max(picture.analysed_at for picture in self.pictures)

    @property
    def analysed(self) -> tuple[PictureResult, ...]:
        """The pictures that the network was asked about."""
        return tuple(picture for picture in self.pictures if picture.is_analysed)

    @property
    def refused(self) -> tuple[PictureResult, ...]:
        """The pictures that were not analysed."""
        return tuple(picture for picture in self.pictures if not picture.is_analysed)

    @property
    def flagged(self) -> tuple[PictureResult, ...]:
        """The pictures with at least one flag."""
        return tuple(picture for picture in self.pictures if picture.flags)

    @property
    def has_unread(self) -> bool:
        """Whether a picture was refused that may be a frontal chest film."""
        return any(picture.code not in NO_FRONTAL_FILM for picture in self.refused)

    @property
    def withheld(self) -> frozenset[str]:
        """The labels that at least one analysed picture was not judged for."""
        return frozenset(label for picture in self.analysed for label in picture.withheld)

    @property
    def priority(self) -> Priority:
        """The highest priority of any picture."""
        return highest(picture.priority for picture in self.pictures)

    @property
    def presence(self) -> dict[str, Presence]:
        """Label to what may be said of it, in the order of the labels' names.

        A finding without a flag is undetermined, never absent: a threshold may miss most of those
        who have it.
        """
        flagged = {flag.label for picture in self.pictures for flag in picture.flags}
        judged = {label for picture in self.analysed for label in picture.findings}
        return {
            label: Presence.PRESENT if label in flagged else Presence.UNDETERMINED
            for label in sorted(flagged | judged | self.withheld)
        }


def _place(picture: PictureResult) -> tuple[int, int, str]:
    source = picture.source
    return (
        _number(source.get("SeriesNumber")),
        _number(source.get("InstanceNumber")),
        picture.sop_instance_uid,
    )


def _number(value: object) -> int:
    try:
        return int(str(value))
    except ValueError:
        return 0
