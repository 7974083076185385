"""Which destinations a study's results go to, and why: pure functions of rules and facts."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from vigil.triage import Priority
from vigil_inference.delivery.destinations import AnyDestination, DeliveryRule


@dataclass(frozen=True)
class StudyFacts:
    """What rules may ask of a study.

    Attributes
    ----------
    sources
        Calling AE titles of its pictures' senders, or the door where there was none.
    institution
        Institution Name (0008,0080).
    findings
        Labels with a flag.
    priority
        The study's.
    """

    sources: frozenset[str]
    institution: str
    findings: frozenset[str]
    priority: Priority


@dataclass(frozen=True)
class Condition:
    """One condition of a rule and whether it holds, as a sentence for people."""

    holds: bool
    sentence: str


@dataclass(frozen=True)
class Judgement:
    """What a rule says of a study; a rule without conditions is always met."""

    rule: DeliveryRule
    conditions: tuple[Condition, ...]

    @property
    def is_met(self) -> bool:
        """Whether all conditions hold."""
        return all(condition.holds for condition in self.conditions)


def judge(rule: DeliveryRule, facts: StudyFacts) -> Judgement:
    """Return which of a rule's conditions a study meets."""
    conditions = []
    if rule.sources:
        met = [s for s in facts.sources if _matches(s, rule.sources)]
        conditions.append(_condition("source", sorted(facts.sources), rule.sources, bool(met)))
    if rule.institutions:
        patterns = [pattern.casefold() for pattern in rule.institutions]
        holds = _matches(facts.institution.casefold(), patterns)
        conditions.append(_condition("institution", [facts.institution], rule.institutions, holds))
    if rule.findings:
        holds = not facts.findings.isdisjoint(rule.findings)
        conditions.append(_condition("finding", sorted(facts.findings), rule.findings, holds))
    if rule.priorities:
        holds = facts.priority in rule.priorities
        conditions.append(_condition("priority", [facts.priority], rule.priorities, holds))
    return Judgement(rule, tuple(conditions))


def destinations_of(
    destinations: Sequence[AnyDestination], rules: Sequence[DeliveryRule], facts: StudyFacts
) -> tuple[str, ...]:
    """Return the names of the destinations that a study's results go to.

    Without any rule that is all of them.
    """
    if not rules:
        return tuple(destination.name for destination in destinations)
    named = {name for rule in rules if judge(rule, facts).is_met for name in rule.to}
    return tuple(destination.name for destination in destinations if destination.name in named)


def _matches(text: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(text, pattern) for pattern in patterns)


def _condition(what: str, found: Sequence[str], expected: Sequence[str], holds: bool) -> Condition:
    said = ", ".join(part or "(empty)" for part in found) or "none"
    verb = "is" if holds else "is not"
    return Condition(holds, f"{what} {said} {verb} among {', '.join(expected)}")
