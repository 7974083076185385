"""Two AUROCs of the same films, compared: DeLong's test, with patients who have several films.

DeLong, DeLong and Clarke-Pearson 1988 (doi 10.2307/2531595), by midranks as Sun and Xu 2014 (doi
10.1109/LSP.2014.2337313): n log n instead of every pair. Films of one patient are not independent:
their structural components are added up by patient (Obuchowski 1997, doi 10.2307/2533958), which
with one film a patient is DeLong's own variance. No kept library does the latter.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, rankdata

from vigil_training.statistics import Floats, Interval


class Paired(NamedTuple):
    """Two areas on the same films.

    ``interval`` (95 %) and ``z`` are of ``difference``, the second's minus the first's; ``p`` is
    two-sided. They are None where the difference has no variance, as that of equal orders.
    """

    areas: tuple[float, float]
    difference: float
    standard_error: float
    interval: Interval | None
    z: float | None
    p: float | None


class _Parts(NamedTuple):
    """(k,) areas; (k, m) and (k, n) structural components of the positives and the negatives."""

    areas: Floats
    positive: Floats
    negative: Floats


def _components(truth: NDArray[np.bool_], scores: Floats) -> _Parts:
    """Return the structural components of (k, films) scores by midranks."""
    ill, well = scores[:, truth], scores[:, ~truth]
    m, n = ill.shape[1], well.shape[1]
    together = rankdata(np.hstack([ill, well]), axis=1)
    positive = (together[:, :m] - rankdata(ill, axis=1)) / n
    negative = 1 - (together[:, m:] - rankdata(well, axis=1)) / m
    return _Parts(positive.mean(1), positive, negative)


def area_covariance(
    truth: NDArray[np.bool_], scores: Sequence[NDArray[np.floating]], patients: NDArray[np.str_]
) -> tuple[Floats, Floats]:
    """Return (k,) areas of k scores of the same films and their (k, k) covariance.

    Parameters
    ----------
    truth
        (n,) with two patients of each class at least.
    scores
        k arrays of (n,).
    patients
        (n,) whose film it is.

    Raises
    ------
    ValueError
        With fewer than two patients of a class there is no variance.
    """
    parts = _components(truth, np.asarray(scores, np.float64))
    names, member = np.unique(patients, return_inverse=True)
    ill, well = (np.bincount(member[own], minlength=names.size) for own in (truth, ~truth))
    if min((ill > 0).sum(), (well > 0).sum()) < 2:
        raise ValueError("expected two patients with and two without the finding at least")
    # (k, patients): how far each patient's films lie from the area that as many would share.
    positive = _by_patient(parts.positive, member[truth], names.size) - np.outer(parts.areas, ill)
    negative = _by_patient(parts.negative, member[~truth], names.size) - np.outer(parts.areas, well)
    m, n = int(truth.sum()), int((~truth).sum())
    of_ill, of_well = int((ill > 0).sum()), int((well > 0).sum())
    covariance = of_ill / (of_ill - 1) * (positive @ positive.T) / m**2
    covariance += of_well / (of_well - 1) * (negative @ negative.T) / n**2
    crossed = positive @ negative.T
    covariance += names.size / (names.size - 1) * (crossed + crossed.T) / (m * n)
    return parts.areas, covariance


def _by_patient(components: Floats, member: NDArray[np.int64], people: int) -> Floats:
    return np.stack([np.bincount(member, row, minlength=people) for row in components])


def compare_areas(
    truth: NDArray[np.bool_],
    first: NDArray[np.floating],
    second: NDArray[np.floating],
    patients: NDArray[np.str_],
) -> Paired:
    """Compare two scores of the same films; arguments and errors as :func:`area_covariance`."""
    areas, covariance = area_covariance(truth, [first, second], patients)
    difference = float(areas[1] - areas[0])
    variance = float(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    error = float(np.sqrt(max(variance, 0.0)))
    if error < 1e-12:
        return Paired((float(areas[0]), float(areas[1])), difference, 0.0, None, None, None)
    z = difference / error
    half = float(norm.ppf(0.975)) * error
    return Paired(
        areas=(float(areas[0]), float(areas[1])),
        difference=difference,
        standard_error=error,
        interval=Interval(difference - half, difference + half),
        z=z,
        p=float(2 * norm.sf(abs(z))),
    )


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Return the p values corrected for how many there are (Holm 1979); None stays None."""
    known = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    corrected: list[float | None] = [None] * len(p_values)
    highest = 0.0
    for rank, (p, place) in enumerate(known):
        highest = max(highest, min(1.0, (len(known) - rank) * p))
        corrected[place] = highest
    return corrected
