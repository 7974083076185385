"""Measures the gate through the served code: what it refuses, puts right and lets pass wrongly."""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from vigil.gate import ANTEROPOSTERIOR_NOTE, MIRRORED_NOTE
from vigil.reading import read_radiograph
from vigil.triager import Triager, TriageResult
from vigil_training.manifest import GateRow, ManifestRow
from vigil_training.split import Side, side_of_row

_TURNS = {"turned 90°": 1, "turned 180°": 2, "turned 270°": 3}
_MANNERS = ("as it is", "inverted", "mirrored", *_TURNS)
_VIEWS = ("AP", "PA")
_NON_CHEST = "not a chest film"


class GateFigures(BaseModel):
    """How the gate treated one kind of picture.

    ``passed`` were analysed as they are, ``put_right`` after a correction, the others refused.
    For what is no chest film, and for a film that was inverted or turned, ``passed`` is the error.
    A mirrored film is analysed as it is: ``noted_mirrored`` of the pictures were said to look so,
    which is the error for every other kind. ``noted_anteroposterior`` were said to look like AP
    films, which is the error for PA films. None where the bundle does not tell.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    group: str
    kind: str
    pictures: int
    passed: int
    put_right: int
    refused: dict[str, int]
    noted_mirrored: int | None = None
    noted_anteroposterior: int | None = None


def check_gate(
    bundle: Path,
    films: Sequence[ManifestRow],
    others: Sequence[GateRow],
    *,
    split: Side | None,
    limit: int = 300,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[GateFigures, ...]:
    """Show the service other pictures, good films, and these inverted, mirrored and turned.

    Parameters
    ----------
    films
        Chest films; at most ``limit`` of them, spread evenly, are shown in each manner.
    others
        Pictures that are no upright frontal chest film.
    split
        The side of the bundle's own split to keep; None for all.
    """
    triager = Triager.load(bundle)
    training = triager.bundle.manifest.training
    if split is not None:
        seed, fraction = int(training["split_seed"]), float(training["validation_fraction"])
        films = [row for row in films if side_of_row(row, seed, fraction) == split]
        others = [row for row in others if side_of_row(row, seed, fraction) == split]
    films = [films[i] for i in np.linspace(0, len(films) - 1, min(limit, len(films))).astype(int)]
    total, done = len(films) * len(_MANNERS) + len(others), 0
    found: dict[tuple[str, str], list[TriageResult]] = defaultdict(list)
    for other in others:
        found[_NON_CHEST, other.kind].append(triager.triage(other.path))
        progress(done := done + 1, total)
    for film in films:
        radiograph = read_radiograph(film.path)
        for manner in _MANNERS:
            shown = replace(radiograph, pixels=_shown(radiograph.pixels, manner))
            answer = triager.judge(shown, age_years=film.age_years)
            found["chest film", manner].append(answer)
            if manner == "as it is" and film.view in _VIEWS:
                found["chest film", f"{film.view} by its manifest"].append(answer)
            progress(done := done + 1, total)
    told = frozenset(attribute.name for attribute in triager.bundle.manifest.attributes)
    return tuple(
        _figures(group, kind, answers, told) for (group, kind), answers in sorted(found.items())
    )


def _shown(pixels: NDArray[np.uint16], manner: str) -> NDArray[np.uint16]:
    if manner == "inverted":
        return np.uint16(65535) - pixels
    if manner == "mirrored":
        return np.ascontiguousarray(pixels[:, ::-1])
    return np.ascontiguousarray(np.rot90(pixels, _TURNS.get(manner, 0)))


def _figures(
    group: str, kind: str, answers: Sequence[TriageResult], told: frozenset[str]
) -> GateFigures:
    refused = Counter(str(answer.code) for answer in answers if answer.code is not None)
    put_right = sum(
        answer.code is None and any("before it was analysed" in note for note in answer.notes)
        for answer in answers
    )
    return GateFigures(
        group=group,
        kind=kind,
        pictures=len(answers),
        passed=len(answers) - sum(refused.values()) - put_right,
        put_right=put_right,
        refused=dict(sorted(refused.items())),
        noted_mirrored=_noted(MIRRORED_NOTE, answers) if "mirrored" in told else None,
        noted_anteroposterior=(
            _noted(ANTEROPOSTERIOR_NOTE, answers) if "anteroposterior" in told else None
        ),
    )


def _noted(note: str, answers: Sequence[TriageResult]) -> int:
    return sum(note in answer.notes for answer in answers)
