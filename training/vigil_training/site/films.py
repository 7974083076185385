"""A bundle's answers on the site's films, finding by finding."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vigil.bundle import BundleManifest, FindingSpec
from vigil.errors import ConfigurationError, ManifestError
from vigil_training.manifest import ManifestRow
from vigil_training.merits import Answer

LEAST_PATIENTS = 10
"""With fewer patients of either class there is nothing to fit."""
ENOUGH_PATIENTS = 30
"""With fewer a warning says how little is known."""
_SHOWN_ROWS = 5
_SATURATED = 1e-7
"""Beyond this a probability in single precision says no more of its logit."""


@dataclass(frozen=True, eq=False)
class SiteFilms:
    """(n,) films that have one finding in scope and got a probability for it.

    Attributes
    ----------
    finding
        The bundle's finding.
    logits
        The network's own, before any calibration.
    truth, patients
        Whether the finding is there, and whose film it is (source and patient).
    rows
        Their rows of the manifest.
    refused
        Films in scope without a probability: how many, by code.
    """

    finding: FindingSpec
    logits: NDArray[np.float64]
    truth: NDArray[np.bool_]
    patients: NDArray[np.str_]
    rows: tuple[ManifestRow, ...]
    refused: dict[str, int]

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """What the bundle says of them by itself."""
        own = self.finding.calibration
        return 1 / (1 + np.exp(-(own.slope * self.logits + own.intercept)))

    @property
    def people(self) -> int:
        """How many patients they are of."""
        return int(np.unique(self.patients).size)

    @property
    def sick(self) -> int:
        """How many patients have a film with the finding."""
        return int(np.unique(self.patients[self.truth]).size)

    @property
    def well(self) -> int:
        """How many patients have a film without it."""
        return int(np.unique(self.patients[~self.truth]).size)


def site_films(manifest: BundleManifest, key: str, answers: Sequence[Answer]) -> SiteFilms:
    """Collect the answers on one finding.

    Raises
    ------
    ManifestError
        If the bundle's probability of a film is no number; the message names the rows.
    """
    finding = next(finding for finding in manifest.findings if finding.key == key)
    label = finding.label
    scoped = [answer for answer in answers if label in answer.row.label_scope]
    said = [answer for answer in scoped if answer.keys.get(label) == key]
    refused = Counter(answer.code for answer in scoped if answer.code is not None)
    shown: NDArray[np.float64] = np.asarray([a.probabilities[label] for a in said], np.float64)
    if (broken := np.flatnonzero(~np.isfinite(shown))).size:
        numbers = ", ".join(str(said[i].row.number) for i in broken[:_SHOWN_ROWS])
        more = f" and {broken.size - _SHOWN_ROWS} more" if broken.size > _SHOWN_ROWS else ""
        raise ManifestError(
            f"{key}: the probability of row {numbers}{more} is no number; look at these pictures "
            "with `vigil triage`, and leave them out or mend them"
        )
    clipped = np.clip(shown, _SATURATED, 1 - _SATURATED)
    own = finding.calibration
    return SiteFilms(
        finding=finding,
        logits=(np.log(clipped / (1 - clipped)) - own.intercept) / own.slope,
        truth=np.asarray([label in answer.row.labels for answer in said], np.bool_),
        patients=np.asarray([f"{a.row.source}/{a.row.patient_id}" for a in said], np.str_),
        rows=tuple(answer.row for answer in said),
        refused=dict(sorted((str(code), count) for code, count in refused.items())),
    )


def chosen_keys(
    manifest: BundleManifest, answers: Sequence[Answer], labels: Sequence[str]
) -> list[str]:
    """Return the keys of the findings to look at: those named, or all that some film has in scope.

    Raises
    ------
    ConfigurationError
        If a label is unknown to the bundle, or no film has any of its findings in scope.
    """
    known = {finding.label for finding in manifest.findings} | {f.key for f in manifest.findings}
    if unknown := [label for label in labels if label not in known]:
        raise ConfigurationError(
            f"--finding {unknown[0]}: {manifest.id} has no such finding, expected one of "
            f"{', '.join(sorted(known))}"
        )
    scoped = {(label, key) for a in answers for label, key in a.keys.items()
              if label in a.row.label_scope}  # fmt: skip
    keys = [
        finding.key
        for finding in manifest.findings
        if (finding.label in labels or finding.key in labels)
        or (not labels and (finding.label, finding.key) in scoped)
    ]
    if not keys:
        raise ConfigurationError(
            f"no film of the manifest has a finding of {manifest.id} in label_scope and was judged"
        )
    return keys


def refuse_too_few(films: SiteFilms) -> None:
    """Raise ConfigurationError unless both classes have enough patients to fit anything.

    The message says what is missing, and how many films would tell something.
    """
    name, total = films.finding.key, films.truth.size
    if films.sick and films.well and min(films.sick, films.well) >= LEAST_PATIENTS:
        return
    judged = f"{name}: {total} films of {films.people} patients were judged"
    if films.refused:
        refused = ", ".join(f"{count} {code}" for code, count in films.refused.items())
        judged += f" (refused: {refused})"
    missing = []
    for what, count in (("with", films.sick), ("without", films.well)):
        if count < LEAST_PATIENTS:
            missing.append(f"{count or 'no'} patients {what} it")
    raise ConfigurationError(
        f"{judged}, {' and '.join(missing)}; at least {LEAST_PATIENTS} patients with and "
        f"{LEAST_PATIENTS} without it are needed to fit anything, and about 70 with it to know a "
        "sensitivity of 90 % to within 7 points. Add films, or take other findings with --finding"
    )
