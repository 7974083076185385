"""A set's words for findings and ours, as TOML that a radiologist can read and dispute.

::

    title = "…"
    terms = "…"              where it comes from, what may be done with it
    healthy = ["normal"]     the words that call a film normal
    not_used = ["kyphosis"]  words that say nothing of our labels
    [labels]                 word = ours, or a list
    [uncertain]              word = ours that the word leaves open

A word that is in none of these is reported, so that a new release's label is not lost unseen.
"""

import tomllib
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from vigil.errors import ConfigurationError
from vigil.findings import CONCEPTS
from vigil_training.data_sets.film import Marks, Passed

_FOLDER = Path(__file__).with_name("tables")
_Ours = str | tuple[str, ...]


class LabelTable(BaseModel):
    """A set's table; words are compared without regard to case and outer space."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str
    terms: str
    healthy: tuple[str, ...] = ()
    not_used: tuple[str, ...] = ()
    labels: dict[str, _Ours]
    uncertain: dict[str, _Ours] = {}

    @model_validator(mode="after")
    def _check(self) -> Self:
        for ours in (*self.labels.values(), *self.uncertain.values()):
            for label in _tuple(ours):
                if label not in CONCEPTS:
                    raise ValueError(f"unknown label {label}")
        words = [_key(word) for word in self._words()]
        twice = sorted({word for word in words if words.count(word) > 1})
        if twice:
            raise ValueError(f"the word {twice[0]} stands in two places")
        return self

    def _words(self) -> list[str]:
        return [*self.labels, *self.uncertain, *self.healthy, *self.not_used]

    @cached_property
    def scope(self) -> frozenset[str]:
        """All labels that the set can make positive."""
        return frozenset(label for ours in self.labels.values() for label in _tuple(ours))

    @cached_property
    def _positive(self) -> dict[str, tuple[str, ...]]:
        return _folded(self.labels)

    @cached_property
    def _open(self) -> dict[str, tuple[str, ...]]:
        return _folded(self.uncertain)

    @cached_property
    def _normal(self) -> frozenset[str]:
        return frozenset(_key(word) for word in self.healthy)

    @cached_property
    def _unused(self) -> frozenset[str]:
        return frozenset(_key(word) for word in self.not_used)

    def of(self, word: str) -> tuple[str, ...]:
        """Return our labels of a word that makes them positive; none if it does not."""
        return self._positive.get(_key(word), ())

    def marks(self, words: Iterable[str], where: str, passed: Passed) -> Marks:
        """Return the marks of a film whose set names what is there, and is silent of the rest.

        Parameters
        ----------
        words
            What the set says of the film.
        where, passed
            Where it says so, and where unknown words are noted.
        """
        positive: set[str] = set()
        uncertain: set[str] = set()
        normal = False
        for word in words:
            key = _key(word)
            if key in self._positive:
                positive.update(self._positive[key])
            elif key in self._open:
                uncertain.update(self._open[key])
            elif key in self._normal:
                normal = True
            elif key and key not in self._unused:
                passed.word(word.strip(), where)
        uncertain -= positive
        negative = self.scope - positive - uncertain
        is_healthy = (normal and not positive) if self.healthy else None
        return Marks(
            frozenset(positive), frozenset(negative), frozenset(uncertain), healthy=is_healthy
        )

    def marks_of_cells(self, cells: Mapping[str, float | None]) -> Marks:
        """Return the marks of a film whose set says 1, 0, −1 (uncertain) or nothing of each word.

        A film that is called normal has none of the labels. Where two words mean one label, a 1
        goes before a −1, and that before a 0.
        """
        positive: set[str] = set()
        negative: set[str] = set()
        uncertain: set[str] = set()
        normal = any(cells[word] == 1 for word in cells if _key(word) in self._normal)
        for word, value in cells.items():
            ours = self.of(word)
            if value is not None and ours:
                side = positive if value == 1 else negative if value == 0 else uncertain
                side.update(ours)
        if normal:
            negative |= self.scope
        uncertain -= positive
        negative -= positive | uncertain
        said = any(cells[word] is not None for word in cells if _key(word) in self._normal)
        is_healthy = normal and not positive if said or positive else None
        return Marks(
            frozenset(positive), frozenset(negative), frozenset(uncertain), healthy=is_healthy
        )


def load_table(name: str) -> LabelTable:
    """Read the table of a set that comes with the package, or of a file.

    Raises
    ------
    ConfigurationError
        If a file of one's own cannot be read or is no table.
    """
    path = _FOLDER / f"{name}.toml" if "." not in name else Path(name)
    try:
        with path.open("rb") as file:
            return LabelTable.model_validate(tomllib.load(file))
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: is not TOML: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the table"
        message = first["msg"].removeprefix("Value error, ")
        raise ConfigurationError(f"{path}: {where}: {message}") from error


def _tuple(ours: _Ours) -> tuple[str, ...]:
    return (ours,) if isinstance(ours, str) else ours


def _key(word: str) -> str:
    return " ".join(word.split()).casefold()


def _folded(words: Mapping[str, _Ours]) -> dict[str, tuple[str, ...]]:
    return {_key(word): _tuple(ours) for word, ours in words.items()}
