"""How much some films let one be sure of, and how many films it takes.

A threshold that is chosen on films is luckier on them than on the next ones. If it lies below all
but k - 1 of n patients with the disease, the part of further patients above it follows the beta
distribution with parameters n - k + 1 and k, whatever the scores' own distribution (Wilks 1941).
So certainty can be stated without assuming anything about the network.
"""

import math

from scipy import stats

from vigil_training.figures import Figures

_Z = 1.959964
_MOST = 100_000


class Certainty(Figures):
    """How sure some films make one of a sensitivity.

    ``at_least`` is the sensitivity asked for, ``probability`` that further patients meet it at the
    chosen threshold. ``needed`` is how many patients with the finding would make it 95 % sure, and
    ``films_needed`` about how many films that is at the stated prevalence.
    """

    positives: int
    target: float
    at_least: float
    probability: float
    half_width: float
    needed: int
    films_needed: int | None


def certainty_of(positives: int, target: float, at_least: float) -> float:
    """Return the probability that further patients are found in at least this part.

    Parameters
    ----------
    positives
        Patients with the finding that chose the threshold.
    target
        The sensitivity that it was chosen to reach on them.
    at_least
        The sensitivity that is asked for.
    """
    missed = positives - math.ceil(target * positives - 1e-9)
    found = positives - missed
    return float(stats.beta.sf(at_least, found, missed + 1)) if found else 0.0


def positives_needed(target: float, at_least: float, certainty: float = 0.95) -> int:
    """Return the fewest patients with the finding from which on the certainty is reached.

    From which on: the certainty moves in teeth as patients may be missed one by one, so the count
    is that after which it is never missed again.
    """
    if not at_least < target:
        raise ValueError(f"at_least is {at_least}, expected less than the target, {target}")
    # Past this the normal approximation has reached it with much to spare.
    spare = 4 * (_Z / (target - at_least)) ** 2 * max(target * (1 - target), 0.01) + 50
    last = 0
    for count in range(1, min(int(spare), _MOST)):
        if certainty_of(count, target, at_least) < certainty:
            last = count
    return last + 1


def half_width(share: float, patients: int) -> float:
    """Return half the width of Wilson's 95 % interval of a share of some patients."""
    if patients <= 0:
        return 0.5
    inside = share * (1 - share) / patients + _Z**2 / (4 * patients**2)
    return float(_Z / (1 + _Z**2 / patients) * math.sqrt(inside))


def certainty(
    positives: int, target: float, prevalence: float | None, tolerance: float = 0.05
) -> Certainty:
    """Return how sure the films make one that the sensitivity is not far below its target."""
    at_least = round(target - tolerance, 6)
    needed = positives_needed(target, at_least)
    return Certainty(
        positives=positives,
        target=target,
        at_least=at_least,
        probability=certainty_of(positives, target, at_least),
        half_width=half_width(target, positives),
        needed=needed,
        films_needed=math.ceil(needed / prevalence) if prevalence else None,
    )
