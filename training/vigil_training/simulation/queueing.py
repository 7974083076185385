"""What queueing theory says of the waiting, where it has a closed form: to check the simulation.

Arrivals are Poisson, reading times exponential with one mean, readers alike and always there.
Rates are films per unit of time, and waits come in that unit.
"""

import math
from collections.abc import Sequence


def waits_at_all(arrival_rate: float, reading_rate: float, readers: int) -> float:
    """Return the probability that a film finds all readers busy (Erlang's C formula, 1917).

    Raises
    ------
    ValueError
        If more comes than the readers can read: the queue then grows without end.
    """
    load = arrival_rate / reading_rate
    if not load < readers:
        raise ValueError(f"a load of {load:g} on {readers} readers has no steady state")
    blocked = 1.0  # Erlang's B, by its recursion over the number of readers
    for count in range(1, readers + 1):
        blocked = load * blocked / (count + load * blocked)
    return blocked / (1 - load / readers * (1 - blocked))


def mean_wait(arrival_rate: float, reading_rate: float, readers: int) -> float:
    """Return the mean wait in an M/M/c queue, first come first served."""
    spare = readers * reading_rate - arrival_rate
    return waits_at_all(arrival_rate, reading_rate, readers) / spare


def part_waiting_over(time: float, arrival_rate: float, reading_rate: float, readers: int) -> float:
    """Return the part of films that waits longer than a time in an M/M/c queue, in order."""
    spare = readers * reading_rate - arrival_rate
    return waits_at_all(arrival_rate, reading_rate, readers) * math.exp(-spare * time)


def mean_waits_by_priority(
    arrival_rates: Sequence[float], reading_rate: float, readers: int
) -> tuple[float, ...]:
    """Return the mean wait of each class in an M/M/c queue with non-preemptive priorities.

    Cobham, *Priority assignment in waiting line problems*, Operations Research 2 (1954) 70-76.

    Parameters
    ----------
    arrival_rates
        Of each class, the most pressing first.
    """
    capacity = readers * reading_rate
    # The mean time until some reader is free, given to a film that always is next.
    residual = waits_at_all(sum(arrival_rates), reading_rate, readers) / capacity
    waits, before = [], 0.0
    for rate in arrival_rates:
        until = before + rate / capacity
        waits.append(residual / ((1 - before) * (1 - until)))
        before = until
    return tuple(waits)
