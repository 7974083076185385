"""Which probabilities are uncertain: split conformal prediction within each class.

A film's set holds *present* if its score is not among the lowest of the films with the finding,
and *absent* if it is not among the highest of those without (class-conditional, "Mondrian":
Vovk 2012, arXiv 1209.2673). With the correction for a finite sample, the truth of a new patient
is in the set in at least the target part of cases of each class, provided that the patient is
drawn as these were: at another hospital nothing is promised.

A patient counts once, however many films there are: each film weighs 1 / films of that patient in
that class.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vigil.bundle import UncertainBand
from vigil_training.statistics import Floats, patient_folds, patient_mean

TARGET_COVERAGE = 0.9
FOLDS = 10


class Ends(NamedTuple):
    """*present* is in the set from this score on, *absent* up to that one."""

    present: float
    absent: float


class Sets(NamedTuple):
    """(n,) whether each film's set holds its truth, and whether it is not a single answer."""

    covered: NDArray[np.bool_]
    uncertain: NDArray[np.bool_]


def highest_usual(scores: Floats, patients: NDArray[np.str_], coverage: float) -> float | None:
    """Return the score up to which a new patient's lies with at least this probability.

    The ceil((n + 1) coverage)-th smallest of n patients; None if there are too few of them.
    """
    if scores.size == 0:
        return None
    _, member, films = np.unique(patients, return_inverse=True, return_counts=True)
    order = np.argsort(scores, kind="stable")
    below = np.cumsum(1 / films[member[order]])
    needed = np.ceil((films.size + 1) * coverage - 1e-9)
    if needed > films.size:
        return None
    rank = int(np.searchsorted(below, needed - 1e-9))
    return float(scores[order[min(rank, scores.size - 1)]])


def ends_of(
    scores: Floats, truth: NDArray[np.bool_], patients: NDArray[np.str_], coverage: float
) -> Ends | None:
    """Return both ends, or None if a class has too few patients for a finite one."""
    present = highest_usual(-scores[truth], patients[truth], coverage)
    absent = highest_usual(scores[~truth], patients[~truth], coverage)
    return None if present is None or absent is None else Ends(-present, absent)


def sets_of(scores: Floats, truth: NDArray[np.bool_], ends: Ends) -> Sets:
    """Return what the sets of some films say."""
    present, absent = scores >= ends.present, scores <= ends.absent
    return Sets(np.where(truth, present, absent), present == absent)


def cross_conformal(
    scores: Floats,
    truth: NDArray[np.bool_],
    patients: NDArray[np.str_],
    sources: NDArray[np.str_],
    coverage: float = TARGET_COVERAGE,
) -> Sets | None:
    """Return the sets of all films, each by ends that the other folds' patients chose.

    None if the other folds of one are too few for finite ends.
    """
    folds = patient_folds(patients, truth, sources, FOLDS)
    covered, uncertain = np.zeros(truth.size, np.bool_), np.zeros(truth.size, np.bool_)
    for fold in np.unique(folds):
        own = folds == fold
        ends = ends_of(scores[~own], truth[~own], patients[~own], coverage)
        if ends is None:
            return None
        covered[own], uncertain[own] = sets_of(scores[own], truth[own], ends)
    return Sets(covered, uncertain)


def uncertain_band(
    probabilities: Floats,
    truth: NDArray[np.bool_],
    patients: NDArray[np.str_],
    sources: NDArray[np.str_],
    coverage: float = TARGET_COVERAGE,
) -> UncertainBand | None:
    """Return the band between the ends that all patients choose, with its measured coverage.

    Parameters
    ----------
    probabilities, truth, patients, sources
        (n,) the validation films that know the finding.
    coverage
        The part of each class's patients whose set is to hold the truth.

    Returns
    -------
    UncertainBand or None
        None if a class has fewer than coverage / (1 - coverage) patients: then no finite score
        is unusual for it. The coverage is measured by :func:`cross_conformal`, and unknown where
        the folds leave too few patients.
    """
    ends = ends_of(probabilities, truth, patients, coverage)
    if ends is None:
        return None
    crossed = cross_conformal(probabilities, truth, patients, sources, coverage)
    held = None if crossed is None else crossed.covered
    return UncertainBand(
        low=min(ends),
        high=max(ends),
        target_coverage=coverage,
        coverage_present=None if held is None else patient_mean(held[truth], patients[truth]),
        coverage_absent=None if held is None else patient_mean(held[~truth], patients[~truth]),
    )
