"""Priorities, and the pure rules that make them from calibrated probabilities.

Nothing here reads a file or a clock. A priority is only ever raised: a higher probability never
lowers it, and neither does a second picture of the same study.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vigil.bundle import FindingSpec


class Priority(StrEnum):
    """In which order a radiologist should read. Research use, not a medical device."""

    CRITICAL = "CRITICAL"
    URGENT = "URGENT"
    ROUTINE = "ROUTINE"
    NOT_ANALYSED = "NOT_ANALYSED"

    @property
    def reading_order(self) -> int:
        """0 is read first; what was not analysed waits among the routine, by its arrival."""
        return _READING_ORDER[self]


_READING_ORDER = {
    Priority.CRITICAL: 0,
    Priority.URGENT: 1,
    Priority.ROUTINE: 2,
    Priority.NOT_ANALYSED: 2,
}
# ROUTINE says more than NOT_ANALYSED (a picture was read), so a study with both shows ROUTINE.
_RANK = {
    Priority.NOT_ANALYSED: 0,
    Priority.ROUTINE: 1,
    Priority.URGENT: 2,
    Priority.CRITICAL: 3,
}


@dataclass(frozen=True)
class Flag:
    """A finding at or over its threshold, and what that asks for."""

    key: str
    label: str
    probability: float
    threshold: float
    priority: Priority


@dataclass(frozen=True)
class Decision:
    """A priority and the findings that made it, the most pressing first."""

    priority: Priority
    flags: tuple[Flag, ...]

    @property
    def reason(self) -> str:
        """One sentence that says why."""
        if not self.flags:
            return "no finding reached its threshold"
        return "; ".join(
            f"{flag.label.replace('_', ' ')} {flag.probability:.2f} "
            f"(threshold {flag.threshold:.2f})"
            for flag in self.flags
        )


def highest(priorities: Iterable[Priority]) -> Priority:
    """Return the most pressing of some priorities, NOT_ANALYSED if there are none."""
    return max(priorities, key=_RANK.__getitem__, default=Priority.NOT_ANALYSED)


def assign_priority(
    probabilities: Mapping[str, float], findings: "Iterable[FindingSpec]"
) -> Decision:
    """Turn calibrated probabilities into a priority.

    Parameters
    ----------
    probabilities
        Finding key to calibrated probability; a finding that was withheld is absent.
    findings
        The bundle's findings with their thresholds.

    Returns
    -------
    Decision
        The highest priority that any finding asks for, ROUTINE if none does.
    """
    flags = []
    for finding in findings:
        probability = probabilities.get(finding.key)
        if probability is None or probability < finding.flag.threshold:
            continue
        priority, threshold = Priority(finding.priority), finding.flag.threshold
        if finding.critical is not None and probability >= finding.critical.threshold:
            priority, threshold = Priority.CRITICAL, finding.critical.threshold
        flags.append(Flag(finding.key, finding.label, probability, threshold, priority))
    flags.sort(key=lambda f: (-_RANK[f.priority], f.threshold - f.probability, f.key))
    return Decision(highest([Priority.ROUTINE, *(flag.priority for flag in flags)]), tuple(flags))
