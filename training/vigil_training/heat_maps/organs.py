"""How much of what a map emphasises lies in the organ that its finding belongs to?"""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from vigil.findings import CONCEPTS, HEART, LUNG, PLEURA
from vigil_training.dataset import read_pixels
from vigil_training.heat_maps.figures import OrganFigures
from vigil_training.heat_maps.film_maps import SIDE, FilmMap, interval_of_mean, maps_of_others

_ORGANS = {LUNG: "lungs", PLEURA: "lungs", HEART: "heart"}

_Masked = tuple[FilmMap, NDArray[np.bool_]]


def measure_organs(maps: Sequence[FilmMap], samples: int) -> tuple[OrganFigures, ...]:
    """Measure maps against lungs and hearts that somebody outlined, by organ and source."""
    groups: dict[tuple[str, str, Literal["all", "flagged"]], list[_Masked]] = defaultdict(list)
    masks: dict[Path, NDArray[np.bool_]] = {}
    for one in maps:
        organ = _ORGANS.get(CONCEPTS[one.label].site)
        path = one.row.heart_mask if organ == "heart" else one.row.mask
        if organ is None or path is None:
            continue
        if path not in masks:
            drawn = (read_pixels(path) > 0).astype(np.float32)
            masks[path] = cv2.resize(drawn, (SIDE, SIDE), interpolation=cv2.INTER_AREA) >= 0.5
        groups[organ, one.row.source, "all"].append((one, masks[path]))
        if one.flagged:
            groups[organ, one.row.source, "flagged"].append((one, masks[path]))
    return tuple(
        _organ(organ, source, findings, members, samples)
        for (organ, source, findings), members in sorted(groups.items())
    )


def _organ(
    organ: str,
    source: str,
    findings: Literal["all", "flagged"],
    members: Sequence[_Masked],
    samples: int,
) -> OrganFigures:
    maps = [one for one, _ in members]
    patients = [one.patient for one in maps]
    inside = np.asarray([_share(one.emphasis, mask) for one, mask in members])
    other = np.asarray(
        [
            np.mean([_share(m.emphasis, mask) for m in others]) if others else np.nan
            for one, mask in members
            for others in [maps_of_others(one, maps)]
        ]
    )
    known = ~np.isnan(other)
    more = interval_of_mean(
        (inside - other)[known], [p for p, k in zip(patients, known, strict=True) if k], samples
    )
    tops = [mask.ravel()[int(one.emphasis.argmax())] for one, mask in members]
    return OrganFigures(
        organ=organ,
        findings=findings,
        source=source,
        maps=len(members),
        films=len({one.row.path for one in maps}),
        inside=float(inside.mean()),
        inside_interval=interval_of_mean(inside, patients, samples),
        area=float(np.mean([mask.mean() for _, mask in members])),
        other_film=float(other[known].mean()) if known.any() else None,
        more_than_other_film_interval=more,
        hottest_inside=float(np.mean(tops)),
    )


def _share(emphasis: NDArray[np.float32], mask: NDArray[np.bool_]) -> float:
    positive = emphasis.clip(0)
    return float(positive[mask].sum() / max(float(positive.sum()), 1e-9))
