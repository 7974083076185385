"""What is simulated: a reading room, described in a TOML file."""

import tomllib
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from vigil.errors import ConfigurationError
from vigil.triage import Priority

DAY_SECONDS = 86400.0
THE_REST = "the rest"
"""The films with none of the conditions."""
DEFAULT_SCENARIO = Path(__file__).with_name("provincial.toml")

Weekday = Annotated[int, Field(ge=0, le=6)]
Share = Annotated[float, Field(ge=0, le=1)]
_EVERY_DAY: tuple[Weekday, ...] = (0, 1, 2, 3, 4, 5, 6)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Arrivals(_Strict):
    """When films come: at random (Poisson), with a rate that changes by the hour.

    ``by_hour`` holds 24 weights from midnight on, ``by_weekday`` seven from Monday on; only their
    proportions count. ``films_a_day`` is the mean over a week.
    """

    films_a_day: float = Field(gt=0, le=100_000)
    by_hour: tuple[Annotated[float, Field(ge=0)], ...] = (1.0,) * 24
    by_weekday: tuple[Annotated[float, Field(ge=0)], ...] = (1.0,) * 7

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name, weights, count in (
            ("by_hour", self.by_hour, 24),
            ("by_weekday", self.by_weekday, 7),
        ):
            if len(weights) != count:
                raise ValueError(f"{name} holds {len(weights)} weights, expected {count}")
            if not sum(weights) > 0:
                raise ValueError(f"{name}: at least one weight must be over 0")
        return self


class Reading(_Strict):
    """How reading times scatter around a reader's mean."""

    distribution: Literal["exponential", "lognormal"] = "lognormal"
    coefficient_of_variation: float = Field(default=0.8, gt=0, le=5)


class Shift(_Strict):
    """Readers who come and go together; a film that was begun is finished.

    Hours count from midnight; an end at or before the start is on the next day.
    """

    name: str = Field(min_length=1)
    start_hour: float = Field(ge=0, lt=24)
    end_hour: float = Field(ge=0, le=24)
    readers: int = Field(ge=0, le=500)
    films_an_hour: float = Field(gt=0)
    weekdays: tuple[Weekday, ...] = _EVERY_DAY

    @property
    def hours(self) -> float:
        """How long it lasts."""
        length = self.end_hour - self.start_hour
        return length if length > 0 else length + 24

    @property
    def is_round_the_clock(self) -> bool:
        """Whether its readers never leave."""
        return self.hours == 24 and len(set(self.weekdays)) == 7

    def includes(self, hour: float) -> bool:
        """Return whether an hour of the day lies in it."""
        return (hour - self.start_hour) % 24 < self.hours


class Condition(_Strict):
    """Something that a film may show, and how pressing it is.

    ``prevalence`` is the part of all films whose most pressing condition it is: a film counts
    under one only. ``sensitivity`` and ``specificity`` take the place of the bundle's own.
    """

    name: str = Field(min_length=1)
    finding: str = ""
    """The bundle's label; left out: the name."""
    prevalence: float = Field(gt=0, lt=1)
    order: Literal[Priority.CRITICAL, Priority.URGENT] = Priority.URGENT
    target_minutes: float | None = Field(default=None, gt=0)
    sensitivity: Share | None = None
    specificity: Share | None = None

    @property
    def label(self) -> str:
        """The bundle's label for it."""
        return self.finding or self.name


class Variant(_Strict):
    """The same room with something changed.

    ``sensitivity`` and ``specificity`` hold for all conditions, ``readers`` names shifts.
    """

    name: str = Field(min_length=1)
    sensitivity: Share | None = None
    specificity: Share | None = None
    readers: dict[str, int] = Field(default_factory=dict)

    @property
    def changes_the_room(self) -> bool:
        """Whether the orders that know nothing of Vigil come out differently too."""
        return bool(self.readers)


class Scenario(_Strict):
    """A reading room, the films that come to it, and what is asked."""

    name: str = Field(min_length=1)
    days: int = Field(default=365, ge=1, le=3660)
    warm_up_days: int = Field(default=2, ge=0)
    """Films of the first days are read but not counted: the room starts empty."""
    replications: int = Field(default=10, ge=1, le=1000)
    seed: int = Field(default=0, ge=0)
    analysis_seconds: float = Field(default=5.0, ge=0)
    """From arrival until Vigil's priority is known."""
    not_analysed: Share = 0.02
    """Part of the films that Vigil refuses; they wait among the routine ones."""
    patient_age_years: float = Field(default=40.0, ge=0, le=120)
    """Findings that are not for this age raise no alarm."""
    arrivals: Arrivals
    reading: Reading = Reading()
    shifts: tuple[Shift, ...] = Field(min_length=1)
    conditions: tuple[Condition, ...] = Field(min_length=1)
    variants: tuple[Variant, ...] = ()

    @model_validator(mode="after")
    def _check(self) -> Self:
        _unique("shift", [shift.name for shift in self.shifts])
        _unique("condition", [condition.name for condition in self.conditions])
        _unique("variant", [variant.name for variant in self.variants])
        total = sum(condition.prevalence for condition in self.conditions)
        if total >= 1:
            raise ValueError(f"the prevalences add up to {total:g}, expected less than 1")
        if self.warm_up_days >= self.days:
            raise ValueError(f"warm_up_days is {self.warm_up_days} of {self.days} days")
        known = {shift.name for shift in self.shifts}
        for variant in self.variants:
            for name, readers in variant.readers.items():
                if name not in known:
                    raise ValueError(
                        f"variant {variant.name}: there is no shift {name}, expected one of "
                        f"{', '.join(sorted(known))}"
                    )
                if readers < 0:
                    raise ValueError(f"variant {variant.name}: {readers} readers in {name}")
        rooms: list[Scenario] = [self, *(self.with_variant(variant) for variant in self.variants)]
        for room in rooms:
            if not any(shift.readers and shift.weekdays for shift in room.shifts):
                raise ValueError("nobody ever reads: every shift has 0 readers")
        return self

    def with_variant(self, variant: Variant) -> "Scenario":
        """Return the scenario with a variant's readers."""
        shifts = tuple(
            shift.model_copy(update={"readers": variant.readers.get(shift.name, shift.readers)})
            for shift in self.shifts
        )
        return self.model_copy(update={"shifts": shifts, "variants": ()})

    @property
    def groups(self) -> tuple[str, ...]:
        """The conditions' names, in the order of the films' codes, and the rest."""
        return (*(condition.name for condition in self.conditions), THE_REST)

    @property
    def load(self) -> float:
        """Work that comes over work that can be done, in a week; 1 and more never catches up."""
        films = self.arrivals.films_a_day * 7
        capacity = sum(
            shift.readers * shift.films_an_hour * shift.hours * len(set(shift.weekdays))
            for shift in self.shifts
        )
        return films / capacity


def _unique(what: str, names: list[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"two {what}s are called {twice[0]}")
    if what == "condition" and THE_REST in names:
        raise ValueError(f"a condition may not be called {THE_REST}")


def load_scenario(path: Path | None = None, **changes: object) -> Scenario:
    """Read a scenario.

    Parameters
    ----------
    path
        A TOML file; None for the provincial reading room that comes with the package.
    **changes
        Fields of the scenario that take the file's place; None means as it is.

    Raises
    ------
    ConfigurationError
        If the file cannot be read or a field is unknown or wrong; the message names it.
    """
    path = DEFAULT_SCENARIO if path is None else path
    try:
        with path.open("rb") as file:
            content = tomllib.load(file)
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: is not TOML: {error}") from error
    content |= {name: value for name, value in changes.items() if value is not None}
    try:
        return Scenario.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the scenario"
        message = first["msg"].removeprefix("Value error, ")
        raise ConfigurationError(f"{path}: {where}: {message}") from error
