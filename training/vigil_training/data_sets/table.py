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

    @property
    def scope(self) -> frozenset[str]:
        """All labels that the set can make positive."""
        return frozenset(label for ours in self.labels.values() for label in _tuple(ours))

    def of(self, word: str) -> tuple[str, ...]:
        """Return our labels of a word that makes them positive; none if it does not."""
        return _tuple(_folded(self.labels).get(_key(word), ()))

    def marks(self, words: Iterable[str], where: str, passed: Passed) -> Marks:
        """Return the marks of a film whose set names what is there, and is silent of the rest.

        Parameters
        ----------
        words
            What the set says of the film.
        where, passed
            Where it says so, and where unknown words are noted.
        """
        labels, open_ = _folded(self.labels), _folded(self.uncertain)
        healthy, unused = ({_key(word) for word in words_} for words_ in
                           (self.healthy, self.not_used))  # fmt: skip
        positive: set[str] = set()
        uncertain: set[str] = set()
        normal = False
        for word in words:
            key = _key(word)
            if key in labels:
                positive.update(_tuple(labels[key]))
            elif key in open_:
                uncertain.update(_tuple(open_[key]))
            elif key in healthy:
                normal = True
            elif key and key not in unused:
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
        labels = _folded(self.labels)
        healthy = {_key(word) for word in self.healthy}
        positive: set[str] = set()
        negative: set[str] = set()
        uncertain: set[str] = set()
        normal = any(cells[word] == 1 for word in cells if _key(word) in healthy)
        for word, value in cells.items():
            ours = _tuple(labels.get(_key(word), ()))
            if value is not None and ours:
                side = positive if value == 1 else negative if value == 0 else uncertain
                side.update(ours)
        if normal:
            negative |= self.scope
        uncertain -= positive
        negative -= positive | uncertain
        said = any(_key(word) in healthy and value is not None for word, value in cells.items())
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


def _folded(words: Mapping[str, _Ours]) -> dict[str, _Ours]:
    return {_key(word): ours for word, ours in words.items()}
