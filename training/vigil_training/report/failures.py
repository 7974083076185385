"""The worst misses and false alarms of each finding, with pictures and maps."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from vigil.bundle import FindingSpec
from vigil.heat_map import REGION_LEVEL, emphasis_of, outline_of
from vigil.triager import Triager
from vigil_training.drawing import jpeg_address, shrunk
from vigil_training.merits import Answer
from vigil_training.report.contents import Failure

_SHOWN = 3
_SIDE = 220
_OPACITY = 0.45


class Shown(NamedTuple):
    """A failure with its pictures as data addresses, empty where there is none."""

    failure: Failure
    picture: str
    map: str


def worst(
    answers: Sequence[Answer],
    shown: Sequence[tuple[str, str]],
    findings: Mapping[str, FindingSpec],
) -> Iterator[tuple[Answer, Failure]]:
    """Yield, for each finding, the films that were missed and falsely flagged by most.

    Three of a kind, a patient once. ``shown`` are the labels and sources that have figures.
    """
    for key, finding in findings.items():
        label = finding.label
        sources = {source for other, source in shown if other == label}
        own = [
            a
            for a in answers
            if a.row.source in sources and label in a.row.label_scope and a.keys.get(label) == key
        ]
        own.sort(key=lambda a: a.probabilities[label])
        missed = [a for a in own if label in a.row.labels and label not in a.flagged]
        alarms = [a for a in own[::-1] if label not in a.row.labels and label in a.flagged]
        for kind, films in (("missed", missed), ("false alarm", alarms)):
            people: set[tuple[str, str]] = set()
            for answer in films:
                person = answer.row.source, answer.row.patient_id
                if person in people or len(people) == _SHOWN:
                    continue
                people.add(person)
                yield (
                    answer,
                    Failure(
                        kind=kind,  # type: ignore[arg-type]  # one of the two above
                        key=key,
                        label=label,
                        source=answer.row.source,
                        row=answer.row.number,
                        image_id=answer.row.image_id,
                        probability=answer.probabilities[label],
                        threshold=finding.flag.threshold,
                        has_map=False,
                    ),
                )


def with_pictures(triager: Triager, answer: Answer, failure: Failure) -> Shown:
    """Judge a film again and return it small, and with its map over it."""
    result = triager.triage(answer.row.path, age_years=answer.row.age_years)
    if result.radiograph is None:
        return Shown(failure, "", "")
    small = shrunk(result.radiograph.pixels, _SIDE)
    map_ = result.maps.get(failure.label)
    if map_ is None:
        return Shown(failure, jpeg_address(small), "")
    return Shown(
        failure.model_copy(update={"has_map": True}),
        jpeg_address(small),
        jpeg_address(_overlay(small, map_)),
    )


def _overlay(small: NDArray[np.uint8], map_: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return (rows, columns, 3) BGR: warm where the map speaks for the finding, with its region."""
    emphasis = emphasis_of(map_)
    assert emphasis is not None  # a triager gives no other maps
    rows, columns = small.shape
    strength = cv2.resize(emphasis, (columns, rows)).clip(0, 1)
    colour = cv2.applyColorMap((255 * strength).astype(np.uint8), cv2.COLORMAP_INFERNO)
    grey = np.repeat(small[:, :, np.newaxis], 3, axis=2).astype(np.float32)
    share = (_OPACITY * strength)[:, :, np.newaxis]
    drawn: NDArray[np.uint8] = (grey * (1 - share) + colour * share).astype(np.uint8)
    outline = outline_of(map_, REGION_LEVEL)
    if outline is not None:
        corners = np.rint(outline * (columns, rows)).astype(np.int32)
        cv2.polylines(drawn, [corners], isClosed=True, color=(80, 220, 255), thickness=1)
    return drawn
