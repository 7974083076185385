"""What Vigil says of the simulated films: from operating points, or from its answers on real ones.

Both carry their uncertainty into the intervals: each replication draws the operating points anew
from what the validation patients left open, or draws the patients anew.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vigil.bundle import BundleManifest, FindingSpec, OperatingPoint
from vigil.errors import ConfigurationError
from vigil.triage import Priority
from vigil_training.merits import Answer
from vigil_training.simulation.films import Films
from vigil_training.simulation.scenario import THE_REST, Condition, Scenario, Variant

_LEAST_FILMS = 10
_ADULT_YEARS = 15
"""From here on films are adults': the age that the WHO's guidance on tuberculosis takes."""

Ranks = NDArray[np.int8]
"""(n,) :attr:`vigil.triage.Priority.reading_order` of each film."""


class Operation(Protocol):
    """Something that gives films their place."""

    @property
    def source(self) -> str:
        """Where the answers come from, for people."""
        ...

    @property
    def columns(self) -> int:
        """How many draws a film it needs, see :attr:`Films.draws`."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """What has to be known about the answers, one sentence each."""
        ...

    def ranks(self, films: Films, random: np.random.Generator) -> Ranks:
        """Return the films' places; ``random`` draws what is uncertain about the answers."""
        ...


@dataclass(frozen=True)
class Chance:
    """A probability, and on how many cases it was seen; None is taken as certain."""

    value: float
    cases: int | None = None

    def draw(self, random: np.random.Generator) -> float:
        """Draw it from its posterior under Jeffreys' prior, or return what is certain."""
        if self.cases is None:
            return self.value
        hits = self.value * self.cases
        return float(random.beta(hits + 0.5, self.cases - hits + 0.5))


@dataclass(frozen=True)
class Alarm:
    """How often one finding raises a film, and to what.

    ``group`` is the index of the condition that it is for, None of a finding that is for none.
    ``critical_*`` are the parts of flagged films that become CRITICAL.
    """

    group: int | None
    priority: Priority
    sensitivity: Chance
    false_alarms: Chance
    critical_if_present: Chance
    critical_if_absent: Chance


@dataclass(frozen=True)
class PointOperation:
    """Vigil as its operating points: findings err independently of each other."""

    alarms: tuple[Alarm, ...]
    not_analysed: float
    source: str
    notes: tuple[str, ...] = ()

    @property
    def columns(self) -> int:
        """One draw a finding, and one for whether a film is refused."""
        return len(self.alarms) + 1

    def ranks(self, films: Films, random: np.random.Generator) -> Ranks:
        """Return the highest priority that any finding asks for."""
        ranks = np.full(films.arrivals.size, Priority.ROUTINE.reading_order, np.int8)
        for column, alarm in enumerate(self.alarms):
            present = films.groups == alarm.group if alarm.group is not None else False
            flagged = np.where(
                present, alarm.sensitivity.draw(random), alarm.false_alarms.draw(random)
            )
            critical = flagged * np.where(
                present,
                alarm.critical_if_present.draw(random),
                alarm.critical_if_absent.draw(random),
            )
            draws = films.draws[:, column]
            raised = np.where(
                draws < critical,
                Priority.CRITICAL.reading_order,
                np.where(draws < flagged, alarm.priority.reading_order, ranks),
            )
            ranks = np.minimum(ranks, raised).astype(np.int8)
        ranks[films.draws[:, -1] < self.not_analysed] = Priority.NOT_ANALYSED.reading_order
        return ranks


def point_operation(
    manifest: BundleManifest, scenario: Scenario, variant: Variant | None = None
) -> PointOperation:
    """Return Vigil as a bundle's measured operating points.

    A ``sensitivity`` or ``specificity`` of the variant, else of the condition, takes the place of
    the bundle's; the finding then asks for the condition's own place in the order.

    Raises
    ------
    ConfigurationError
        If a condition's finding carries no figures and the scenario gives none.
    """
    applicable = [
        finding
        for finding in manifest.findings
        if finding.population.includes_age(scenario.patient_age_years)
    ]
    by_label = {finding.label: finding for finding in applicable}
    alarms, notes = [], []
    for group, condition in enumerate(scenario.conditions):
        changed = variant or Variant(name="as it is")
        sensitivity = _first(changed.sensitivity, condition.sensitivity)
        specificity = _first(changed.specificity, condition.specificity)
        finding = by_label.pop(condition.label, None)
        if sensitivity is None and specificity is None:
            if finding is None or not _raises(finding):
                why = "no such finding" if finding is None else "no priority for it (experimental)"
                notes.append(
                    f"{condition.name}: {manifest.id} has {why}; its films wait like the rest"
                )
            else:
                alarms.append(_measured(finding, group))
        else:
            alarms.append(_assumed(condition, group, finding, sensitivity, specificity))
    for finding in by_label.values():
        if not _raises(finding):
            continue
        if finding.flag.specificity is None:
            notes.append(
                f"{finding.key}: its false alarms are not counted, since {manifest.id} does not "
                "say its specificity"
            )
        else:
            alarms.append(_measured(finding, None))
    return PointOperation(
        tuple(alarms), scenario.not_analysed, f"operating points of {manifest.id}", tuple(notes)
    )


def _first(*values: float | None) -> float | None:
    return next((value for value in values if value is not None), None)


def _raises(finding: FindingSpec) -> bool:
    return finding.priority is not Priority.ROUTINE or finding.critical is not None


def _measured(finding: FindingSpec, group: int | None) -> Alarm:
    flag, critical = finding.flag, finding.critical
    missing = [
        name
        for name, value in (("sensitivity", flag.sensitivity), ("specificity", flag.specificity))
        if value is None and (group is not None or name == "specificity")
    ]
    if missing:
        raise ConfigurationError(
            f"finding {finding.key}: the bundle does not say its {missing[0]}; give `sensitivity` "
            "and `specificity` to the condition in the scenario, or judge films with --manifest"
        )
    present = _part_of(critical, flag, "sensitivity")
    absent = _part_of(critical, flag, "specificity")
    return Alarm(
        group=group,
        priority=Priority(finding.priority),
        sensitivity=Chance(flag.sensitivity or 0.0, flag.positives or None),
        false_alarms=Chance(1 - (flag.specificity or 0.0), flag.negatives or None),
        critical_if_present=present,
        critical_if_absent=absent,
    )


def _part_of(critical: OperatingPoint | None, flag: OperatingPoint, name: str) -> Chance:
    """Return the part of flagged films that a critical threshold raises further."""
    if critical is None:
        return Chance(0.0)
    if name == "sensitivity":
        shares, cases = (critical.sensitivity, flag.sensitivity), flag.positives
        above, over = ((value or 0.0) for value in shares)
    else:
        shares, cases = (critical.specificity, flag.specificity), flag.negatives
        above, over = (1 - (1.0 if value is None else value) for value in shares)
    if not over:
        return Chance(0.0)
    return Chance(min(above / over, 1.0), round(over * cases) or None)


def _assumed(
    condition: Condition,
    group: int,
    finding: FindingSpec | None,
    sensitivity: float | None,
    specificity: float | None,
) -> Alarm:
    flag = OperatingPoint(threshold=0.5) if finding is None else finding.flag
    seen = sensitivity if sensitivity is not None else flag.sensitivity
    spared = specificity if specificity is not None else flag.specificity
    if seen is None or spared is None:
        missing = "sensitivity" if seen is None else "specificity"
        raise ConfigurationError(
            f"condition {condition.name}: its {missing} is not given and the bundle does not say it"
        )
    return Alarm(
        group=group,
        priority=Priority(condition.order),
        sensitivity=Chance(seen, None if sensitivity is not None else flag.positives or None),
        false_alarms=Chance(
            1 - spared, None if specificity is not None else flag.negatives or None
        ),
        critical_if_present=Chance(0.0),
        critical_if_absent=Chance(0.0),
    )


@dataclass(frozen=True, eq=False)
class _Pool:
    """The films of one group: (m,) places and patients."""

    ranks: Ranks
    patients: NDArray[np.int64]

    def resampled(self, random: np.random.Generator) -> Ranks:
        """Return the places of as many patients, drawn with replacement."""
        people = int(self.patients.max()) + 1
        counts = np.bincount(random.integers(people, size=people), minlength=people)
        return np.repeat(self.ranks, counts[self.patients])


@dataclass(frozen=True, eq=False)
class AnsweredOperation:
    """Vigil as its answers on labelled films: each simulated film is one of its group's."""

    pools: tuple[_Pool, ...]
    source: str
    notes: tuple[str, ...] = ()
    columns: int = 1

    def ranks(self, films: Films, random: np.random.Generator) -> Ranks:
        """Return the places that the service gave to films of the same groups."""
        ranks = np.zeros(films.arrivals.size, np.int8)
        for group, pool in enumerate(self.pools):
            own = films.groups == group
            answers = pool.resampled(random)
            ranks[own] = answers[(films.draws[own, 0] * answers.size).astype(np.int64)]
        return ranks


def answered_operation(
    answers: Sequence[Answer], scenario: Scenario, source: str
) -> AnsweredOperation:
    """Return Vigil as what it said of labelled films.

    A film with several conditions counts under the most pressing one; one with none of them, of
    which at least one is in scope, belongs to the rest. Films of the other age (children's for an
    adult scenario, from 15 years on) are left out.

    Raises
    ------
    ConfigurationError
        If a group has fewer than 10 films.
    """
    adult = scenario.patient_age_years >= _ADULT_YEARS
    films = [
        answer
        for answer in answers
        if answer.row.age_years is None or (answer.row.age_years >= _ADULT_YEARS) == adult
    ]
    pressing = sorted(
        range(len(scenario.conditions)),
        key=lambda index: (Priority(scenario.conditions[index].order).reading_order, index),
    )
    groups: list[list[Answer]] = [[] for _ in scenario.groups]
    asked = {condition.label for condition in scenario.conditions}
    for answer in films:
        shown = [i for i in pressing if scenario.conditions[i].label in answer.row.labels]
        if shown:
            groups[shown[0]].append(answer)
        elif asked & answer.row.label_scope:
            groups[-1].append(answer)
    counts = []
    for name, own in zip(scenario.groups, groups, strict=True):
        if len(own) < _LEAST_FILMS:
            advice = (
                "add films without any of the conditions"
                if name == THE_REST
                else "add films, or leave the condition out of the scenario"
            )
            raise ConfigurationError(
                f"{name}: {source} holds {len(own)} such films, at least {_LEAST_FILMS} are "
                f"needed; {advice}"
            )
        counts.append(f"{name} {len(own)}")
    note = f"films that stand for each group: {', '.join(counts)}"
    return AnsweredOperation(tuple(_pool(own) for own in groups), source, (note,))


def _pool(answers: Sequence[Answer]) -> _Pool:
    names = [f"{answer.row.source}/{answer.row.patient_id}" for answer in answers]
    _, patients = np.unique(names, return_inverse=True)
    ranks = [Priority(answer.priority).reading_order for answer in answers]
    return _Pool(np.asarray(ranks, np.int8), patients.astype(np.int64))
