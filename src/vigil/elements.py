"""Tolerant access to a data set's elements: a value that cannot be read counts as not there.

pydicom converts a value when it is asked for, and raises whatever a damaged one makes it meet
(an unknown VR, a length that does not fit). None of that is a reason to refuse a picture.
"""

import re
from typing import Any

import numpy as np
from pydicom import Dataset, Sequence
from pydicom.multival import MultiValue

# ISO/IEC 2022: intermediate characters and a final one after ESC.
_ESCAPE = re.compile(r"\x1b[\x20-\x2f]+[\x30-\x7e]")


def value_of(dataset: Dataset, keyword: str) -> Any:
    """Return an element's value, None if it is absent, empty or damaged."""
    try:
        return dataset.get(keyword)
    except Exception:  # see the module's text
        return None


def items(dataset: Dataset, keyword: str) -> list[Dataset]:
    """Return a sequence's items, none if it is no sequence."""
    value = value_of(dataset, keyword)
    return list(value) if isinstance(value, Sequence) else []


def texts(dataset: Dataset, keyword: str) -> tuple[str, ...]:
    """Return all values of an element as stripped text, without the empty ones."""
    value = value_of(dataset, keyword)
    if value is None or isinstance(value, Sequence):
        return ()
    values = value if isinstance(value, MultiValue | list | tuple) else [value]
    return tuple(text for item in values if (text := without_escapes(str(item)).strip()))


def without_escapes(value: str) -> str:
    """Return a text without the sequences that announce a character set (PS3.5 6.1.2.5).

    pydicom leaves those of ISO 2022 IR 58 in what it has decoded.
    """
    return _ESCAPE.sub("", value) if "\x1b" in value else value


def text(dataset: Dataset, keyword: str) -> str:
    """Return an element's first value as stripped text, empty if there is none."""
    return next(iter(texts(dataset, keyword)), "")


def numbers(dataset: Dataset, keyword: str) -> list[float]:
    """Return those values of an element that are finite numbers."""
    found = []
    for item in texts(dataset, keyword):
        try:
            number = float(item)
        except ValueError:
            continue
        if np.isfinite(number):
            found.append(number)
    return found


def number(dataset: Dataset, keyword: str) -> float | None:
    """Return an element's first number, None if there is none."""
    return next(iter(numbers(dataset, keyword)), None)


def integer(dataset: Dataset, keyword: str, default: int = 0) -> int:
    """Return an element's first number as an integer, ``default`` if there is none."""
    found = number(dataset, keyword)
    return default if found is None else int(found)
