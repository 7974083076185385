"""The whole way of one picture: file, gate, network, decision.

The service, the command line and the evaluation all go through :class:`Triager`, so a published
figure is a figure of the served code.
"""

import logging
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from vigil import gate
from vigil.anatomy import Anatomy, anatomy_notes, for_patient, measure_anatomy
from vigil.bundle import Bundle, FindingSpec, load_bundle
from vigil.classifier import Classifier, Prediction
from vigil.errors import ImageRefused, RefusalCode
from vigil.heat_map import shows_place
from vigil.preprocess import (
    fit_to_input,
    least_side_of,
    onto_picture,
    to_model_input,
    unseen_fraction,
)
from vigil.processor import Network, NetworkChoice
from vigil.radiograph import ImageDescription, LeastSide, Radiograph, View
from vigil.reading import read_again, read_radiograph
from vigil.site_calibration import AtSite, SiteCalibration, at_site, load_site_calibration
from vigil.triage import Decision, Flag, Priority, assign_priority

_log = logging.getLogger(__name__)
_MAP_SIZE = 64
_TURNS = {1: "90° clockwise", 2: "180°", 3: "90° anticlockwise"}


@dataclass(frozen=True, eq=False)
class TriageResult:
    """What Vigil says of one picture. Research use, not a medical device.

    Attributes
    ----------
    status
        ``analysed`` or ``not_analysed``.
    code, reason
        Why it was not analysed; when it was, ``code`` is None and ``reason`` says what made the
        priority.
    findings
        Label to calibrated probability, for the findings that may be said of this patient.
    flags
        The findings at or over their thresholds, the most pressing first.
    keys
        Label to the key of the bundle's finding that spoke, of those in ``findings``.
    withheld
        Label to the reason why nothing is said of it; never to be shown as negative.
    notes
        What was assumed or put right, one sentence each.
    radiograph
        The picture as it was analysed (upright, bone bright), or as it was read if it was then
        refused; None if it was not read. It may be reduced to what the network needs: its
        ``sampling`` says so, and :func:`vigil.reading.read_again` gives more of it.
    network
        Which of the bundle's networks answers here, in floating point or 8-bit integers; the
        digest covers both.
    maps
        Label to (h, w) float32 in 0…1 over the whole picture: what the probability would be if
        all of the picture looked like this place; 0 where the network saw nothing. A finding
        whose map shows no place (:func:`vigil.heat_map.emphasis_of`) has none.
    anatomy
        Lungs, heart and the cardiothoracic ratio; None if the bundle outlines them not.
    site_calibration
        Name and digest of the site calibration that was in force, empty without one; a note of
        the result says so too.
    """

    status: Literal["analysed", "not_analysed"]
    priority: Priority
    reason: str
    bundle_id: str
    bundle_digest: str
    milliseconds: float
    network: Network = Network.FLOAT32
    code: RefusalCode | None = None
    findings: Mapping[str, float] = field(default_factory=dict)
    keys: Mapping[str, str] = field(default_factory=dict)
    flags: tuple[Flag, ...] = ()
    withheld: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    description: ImageDescription | None = None
    radiograph: Radiograph | None = field(default=None, repr=False)
    maps: Mapping[str, NDArray[np.float32]] = field(default_factory=dict, repr=False)
    anatomy: Anatomy | None = None
    site_calibration: str = ""

    def to_json(self, path: Path | str) -> dict[str, Any]:
        """Return the object that ``vigil triage --json`` prints for a file."""
        answer: dict[str, Any] = {
            "path": str(path),
            "status": self.status,
            "priority": str(self.priority),
            "findings": {label: round(value, 6) for label, value in self.findings.items()},
            "flags": [flag.label for flag in self.flags],
            "reason": self.reason,
            "withheld": dict(self.withheld),
            "notes": list(self.notes),
            "bundle": {"id": self.bundle_id, "digest": self.bundle_digest},
            "network": str(self.network),
            "milliseconds": round(self.milliseconds, 2),
        }
        if self.anatomy is not None:
            ratio = self.anatomy.ratio
            answer["cardiothoracic_ratio"] = None if ratio is None else round(ratio, 4)
            if self.anatomy.no_ratio is not None:
                answer["cardiothoracic_ratio_reason"] = self.anatomy.reason
        if self.site_calibration:
            answer["site_calibration"] = self.site_calibration
        if self.code is not None:
            answer["code"] = str(self.code)
        return answer


class _Look(NamedTuple):
    """What the network says of a picture, what that picture looks like, and as it was seen."""

    prediction: Prediction
    appearance: gate.Appearance
    pixels: NDArray[np.uint16]


class Triager:
    """A bundle, ready to judge pictures; safe to share between threads.

    Making one lets OpenCV work without threads of its own, in the whole process: pictures are to be
    judged at the same time, not parts of one.

    With a site calibration ``bundle`` holds the site's thresholds under the bundle's own digest.
    """

    def __init__(
        self,
        bundle: Bundle,
        threads: int | None = None,
        network: NetworkChoice | None = None,
        *,
        for_processing: bool = False,
        least_shown: LeastSide | None = None,
        site: SiteCalibration | None = None,
    ) -> None:
        self._site: AtSite | None = None if site is None else at_site(bundle, site)
        self.bundle = bundle if self._site is None else self._site.bundle
        self._least = least_side_of(bundle.preprocessing)
        self._least_shown = least_shown
        self._for_processing = for_processing
        self._classifier = Classifier(bundle, threads, network)
        # As onnxruntime's, OpenCV's threads would spin between the steps of a picture: on a core
        # that has other pictures to judge they cost twice what they spare.
        cv2.setNumThreads(1)
        self._thresholds: dict[str, float] = {
            attribute.name: attribute.threshold for attribute in bundle.manifest.attributes
        }

    @property
    def network(self) -> Network:
        """Which of the bundle's networks answers."""
        return self._classifier.network

    @property
    def site_calibration(self) -> str:
        """Name and digest of the site calibration in force, empty without one."""
        return "" if self._site is None else self._site.name

    @classmethod
    def load(
        cls,
        folder: Path,
        threads: int | None = None,
        network: NetworkChoice | None = None,
        *,
        for_processing: bool = False,
        least_shown: LeastSide | None = None,
        site_calibration: Path | None = None,
    ) -> Self:
        """Load and check the bundle in a folder.

        Parameters
        ----------
        folder
            The bundle's folder.
        threads
            Of one picture's forward pass; all available cores by default.
        network
            Which of the bundle's networks answers; by default what ``$VIGIL_NETWORK`` says, and
            else the one that suits the processor.
        for_processing
            Whether DX for processing is judged; see :func:`vigil.gate.check_header`.
        least_shown
            How small the pictures in the results may be, for whoever shows them; by default as
            small as the network needs. The scores do not depend on it.
        site_calibration
            File of the site's own calibration and thresholds.

        Raises
        ------
        BundleError
            If the bundle is not whole or not made for this software, or the site calibration
            cannot be read or was made for another bundle.
        """
        site = None if site_calibration is None else load_site_calibration(site_calibration)
        return cls(
            load_bundle(folder),
            threads,
            network,
            for_processing=for_processing,
            least_shown=least_shown,
            site=site,
        )

    def triage(self, path: Path, *, age_years: float | None = None) -> TriageResult:
        """Judge one file.

        Parameters
        ----------
        path
            A DICOM, PNG or JPEG file.
        age_years
            The patient's age where the caller knows better than the file.

        Returns
        -------
        TriageResult
            Always; a picture that cannot be judged comes back with its code and reason.
        """
        start = time.perf_counter()
        try:
            radiograph = read_radiograph(
                path, for_processing=self._for_processing, least=self._least
            )
        except ImageRefused as refusal:
            return self._refused(refusal.code, refusal.reason, start)
        except Exception as error:
            return self._failed(error, start)
        result = self.judge(radiograph, age_years=age_years, start=start)
        return result if self._least_shown is None else self._with_shown(result, path, start)

    def _with_shown(self, result: TriageResult, path: Path, start: float) -> TriageResult:
        """Return the result with a picture as large as it is to be shown.

        Where its details turn out to be damaged the picture is refused: a reader would judge
        another one than the network did.
        """
        if result.radiograph is None:
            return result
        try:
            shown = read_again(path, result.radiograph, self._least_shown)
        except ImageRefused as refusal:
            return self._refused(refusal.code, refusal.reason, start, result.radiograph)
        except Exception as error:
            return self._failed(error, start, result.radiograph)
        return replace(result, radiograph=shown)

    def judge(
        self,
        radiograph: Radiograph,
        *,
        age_years: float | None = None,
        start: float | None = None,
    ) -> TriageResult:
        """Judge a radiograph that was read before, as :meth:`triage` does.

        ``start`` is the ``time.perf_counter()`` from which the milliseconds count.
        """
        start = time.perf_counter() if start is None else start
        try:
            return self._judge(radiograph, age_years, start)
        except ImageRefused as refusal:
            return self._refused(refusal.code, refusal.reason, start, radiograph)
        except Exception as error:
            return self._failed(error, start, radiograph)

    def _failed(
        self, error: Exception, start: float, radiograph: Radiograph | None = None
    ) -> TriageResult:
        """Answer for a picture that met an error nobody foresaw, so that the next one is read.

        The error's message may quote the file, so only its type and place are told.
        """
        place = traceback.extract_tb(error.__traceback__)[-1]
        _log.error("%s in %s, line %s", type(error).__name__, place.name, place.lineno)
        reason = f"the software failed on this picture ({type(error).__name__})"
        return self._refused(RefusalCode.INTERNAL_ERROR, reason, start, radiograph)

    def _judge(self, radiograph: Radiograph, age_years: float | None, start: float) -> TriageResult:
        gate.check_pixels(radiograph.pixels, radiograph.shape)
        radiograph, (prediction, looks, fitted) = self._upright(radiograph)
        if self._site is not None:
            own = self._site.probabilities(prediction.probabilities, prediction.logits)
            prediction = replace(prediction, probabilities=own)
        unlike = gate.check_familiar(prediction.unfamiliarity, self.bundle.manifest.unfamiliarity)
        age = radiograph.description.patient_age_years if age_years is None else age_years
        notes = list(radiograph.notes)
        if age is None:
            notes.append(_age_note(looks.child))
        rows, columns = radiograph.shape
        if unseen := unseen_fraction(rows, columns, self.bundle.preprocessing):
            notes.append(f"the model sees the central square only; {unseen:.0%} was not analysed")
        if unlike is not None:
            notes.append(unlike)
        if looks.mirrored:
            notes.append(gate.MIRRORED_NOTE)
        if looks.anteroposterior and radiograph.description.view is View.UNKNOWN:
            notes.append(gate.ANTEROPOSTERIOR_NOTE)
        admitted, withheld = _by_population(
            self.bundle.manifest.findings, radiograph.description, age, looks.child
        )
        notes.extend(self._site_notes(admitted))
        if not admitted:
            reason = "the bundle has no finding for a patient of this age or for this view"
            is_child = _is_child(age, looks.child)
            code = RefusalCode.PAEDIATRIC if is_child else RefusalCode.NOT_FRONTAL
            raise ImageRefused(code, reason)
        decision = assign_priority(
            {finding.key: prediction.probabilities[finding.key] for finding in admitted}, admitted
        )
        anatomy = measure_anatomy(
            prediction.structures, fitted, self.bundle.preprocessing, radiograph.shape
        )
        if anatomy is not None:
            anatomy = for_patient(anatomy, age, looks.child)
            notes.extend(anatomy_notes(anatomy, radiograph.description.view))
        result = self._analysed(radiograph, prediction, admitted, withheld, notes, decision, start)
        return replace(result, anatomy=anatomy)

    def _site_notes(self, admitted: list[FindingSpec]) -> list[str]:
        """Say which findings the site itself calibrated."""
        if self._site is None:
            return []
        own = [f.label.replace("_", " ") for f in admitted if f.key in self._site.calibrations]
        if not own:
            return []
        return [f"probability and threshold of {', '.join(own)} are those of {self._site.name}"]

    def _analysed(
        self,
        radiograph: Radiograph,
        prediction: Prediction,
        admitted: list[FindingSpec],
        withheld: Mapping[str, str],
        notes: list[str],
        decision: Decision,
        start: float,
    ) -> TriageResult:
        return TriageResult(
            status="analysed",
            priority=decision.priority,
            reason=_reason(decision, withheld, len(admitted)),
            bundle_id=self.bundle.id,
            bundle_digest=self.bundle.digest,
            network=self.network,
            site_calibration=self.site_calibration,
            findings={f.label: prediction.probabilities[f.key] for f in admitted},
            keys={f.label: f.key for f in admitted},
            flags=decision.flags,
            withheld=withheld,
            notes=tuple(notes),
            description=radiograph.description,
            radiograph=radiograph,
            maps=self._maps(radiograph, prediction, admitted),
            milliseconds=1000 * (time.perf_counter() - start),
        )

    def _refused(
        self, code: RefusalCode, reason: str, start: float, radiograph: Radiograph | None = None
    ) -> TriageResult:
        return TriageResult(
            status="not_analysed",
            code=code,
            reason=reason,
            priority=Priority.NOT_ANALYSED,
            bundle_id=self.bundle.id,
            bundle_digest=self.bundle.digest,
            network=self.network,
            site_calibration=self.site_calibration,
            description=None if radiograph is None else radiograph.description,
            radiograph=radiograph,
            milliseconds=1000 * (time.perf_counter() - start),
        )

    def predict(
        self, pixels: NDArray[np.uint16], shape: tuple[int, int] | None = None
    ) -> Prediction:
        """Return what the network says of (rows, columns) display values, without the gate.

        ``shape`` is the whole picture's, if they are a reduced one's.
        """
        return self._classifier.predict(to_model_input(pixels, self.bundle.preprocessing, shape))

    def _look(self, radiograph: Radiograph) -> _Look:
        spec, pixels = self.bundle.preprocessing, radiograph.pixels
        if spec.version == 1:
            pixels = fit_to_input(pixels, spec.size, radiograph.shape)
        prediction = self.predict(pixels, radiograph.shape)
        looks = gate.appearance(prediction.attributes, self._thresholds)
        return _Look(prediction, looks, pixels)

    def _upright(self, radiograph: Radiograph) -> tuple[Radiograph, _Look]:
        """Return the picture upright and bone bright, put right if it has to be.

        Every candidate is shown to the network again; a correction counts only if the corrected
        picture then passes as an upright frontal chest film.
        """
        look = self._look(radiograph)
        looks = look.appearance
        if looks.frontal_chest and not (looks.inverted or looks.rotated):
            return radiograph, look
        if not (looks.inverted or looks.rotated):
            reason = "the picture does not look like a frontal chest radiograph"
            raise ImageRefused(RefusalCode.NOT_CHEST, reason)
        best: tuple[float, Radiograph, _Look] | None = None
        is_chest = looks.frontal_chest
        for candidate in _corrections(radiograph, looks):
            look = self._look(candidate)
            appears, attributes = look.appearance, look.prediction.attributes
            is_chest |= appears.frontal_chest
            if not appears.frontal_chest or appears.inverted or appears.rotated:
                continue
            doubt = attributes.get("rotated", 0.0) + attributes.get("inverted", 0.0)
            if best is None or doubt < best[0]:
                best = doubt, candidate, look
        if best is not None:
            return best[1:]
        if not is_chest:
            reason = (
                "the picture does not look like a frontal chest radiograph, however it is turned"
            )
            raise ImageRefused(RefusalCode.NOT_CHEST, reason)
        if looks.rotated:
            reason = "the picture looks rotated and no turn makes it an upright chest film"
            raise ImageRefused(RefusalCode.ROTATED, reason)
        reason = "the picture looks inverted, and does not look right the other way round either"
        raise ImageRefused(RefusalCode.INVERTED_UNCERTAIN, reason)

    def _maps(
        self, radiograph: Radiograph, prediction: Prediction, admitted: list[FindingSpec]
    ) -> dict[str, NDArray[np.float32]]:
        rows, columns = radiograph.shape
        indices = {f.key: i for i, f in enumerate(self.bundle.manifest.findings)}
        cams = prediction.cams[[indices[f.key] for f in admitted]]
        logits = np.array([prediction.logits[f.key] for f in admitted])[:, None, None]
        slopes = np.array([f.calibration.slope for f in admitted])[:, None, None]
        intercepts = np.array([f.calibration.intercept for f in admitted])[:, None, None]
        # A class activation map averages to the logit (without its bias).
        local = cams + (logits - cams.mean(axis=(1, 2), keepdims=True))
        probabilities = 1 / (1 + np.exp(-np.clip(slopes * local + intercepts, -60, 60)))
        squares = (
            cv2.resize(grid, (_MAP_SIZE, _MAP_SIZE)) for grid in probabilities.astype(np.float32)
        )
        laid = [onto_picture(s, rows, columns, self.bundle.preprocessing) for s in squares]
        # Maps are stored in half precision: whether one shows a place is asked of what is kept.
        kept = np.stack(laid).astype(np.float16).astype(np.float32)
        return {f.label: map_ for f, map_ in zip(admitted, kept, strict=True) if shows_place(map_)}


def _corrections(radiograph: Radiograph, looks: gate.Appearance) -> list[Radiograph]:
    """Return the ways in which the picture could be put right."""
    turns = _TURNS if looks.rotated else {0: ""}
    candidates = []
    for quarter_turns, name in turns.items():
        turned = f"turned {name}" if name else ""
        # A picture seen as inverted is put right by inverting; a rotated one may be either.
        for invert in (True,) if looks.inverted else (False, True):
            what = " and ".join(filter(None, (turned, "inverted" if invert else "")))
            note = f"the picture was {what} before it was analysed"
            candidates.append(radiograph.corrected(quarter_turns, invert=invert, note=note))
    return candidates


def _reason(decision: Decision, withheld: Mapping[str, str], judged: int) -> str:
    """Return what made the priority; a quiet picture says how much of it was not judged."""
    if decision.flags or not withheld:
        return decision.reason
    return f"{decision.reason}; {len(withheld)} of {judged + len(withheld)} findings not judged"


def _age_note(looks_child: bool | None) -> str:
    if looks_child is None:
        return "the patient's age is unknown; an adult was assumed"
    return (
        "the patient's age is unknown; "
        f"{'a child' if looks_child else 'an adult'} was assumed from the picture"
    )


def _is_child(age_years: float | None, looks_child: bool | None) -> bool:
    return age_years < 18 if age_years is not None else bool(looks_child)


def _by_population(
    findings: tuple[FindingSpec, ...],
    description: ImageDescription,
    age_years: float | None,
    looks_child: bool | None,
) -> tuple[list[FindingSpec], dict[str, str]]:
    """Split the findings into those that may be said of this patient and those withheld.

    With an unknown age a finding is for children if its population ends before 18.
    """
    admitted, withheld = [], {}
    for finding in findings:
        population = finding.population
        if age_years is not None:
            fits = population.includes_age(age_years)
        else:
            ends = population.max_age_years
            for_children = ends is not None and ends < 18
            unlimited = ends is None and population.min_age_years is None
            fits = unlimited or for_children == bool(looks_child)
        if fits and description.view.value in population.views:
            admitted.append(finding)
        elif fits:
            withheld[finding.label] = f"not validated on {description.view} films"
        else:
            withheld.setdefault(finding.label, _ages(finding))
    for finding in admitted:
        withheld.pop(finding.label, None)
    return admitted, withheld


def _ages(finding: FindingSpec) -> str:
    low, high = finding.population.min_age_years, finding.population.max_age_years
    if low is not None and high is not None:
        return f"validated on patients of {low:g} to {high:g} years only"
    if low is not None:
        return f"validated on patients of {low:g} years and over only"
    return f"validated on patients of at most {high:g} years only"
