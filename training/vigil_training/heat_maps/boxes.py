"""How far is a map from where a radiologist drew a box?"""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vigil.heat_map import REGION_LEVEL, hottest_point
from vigil.localisation import Localisation
from vigil_training.heat_maps.figures import HELD_OUT, BoxFigures, BoxGroup, PointerFigures
from vigil_training.heat_maps.film_maps import SIDE, FilmMap, interval_of_mean, maps_of_others

_OTHER_MAP = "another film's map"


def measure_against_boxes(
    group: BoxGroup,
    marked: Sequence[FilmMap],
    maps: Sequence[FilmMap],
    without_map: int,
    samples: int,
) -> BoxFigures:
    """Measure a group's maps of boxed findings, beside pointers that know less.

    ``marked`` are the group's, each with its boxes; ``maps`` are all films', for comparison;
    ``without_map`` boxed findings of the group have no map.
    """
    pointers: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
    y, x = (np.mgrid[0:SIDE, 0:SIDE] + 0.5) / SIDE
    for one in marked:
        pointers["the film's map"].append(_point(one, one.emphasis, one.region))
        others = maps_of_others(one, maps)
        if others:
            each = [_point(one, other.emphasis, other.region) for other in others]
            mean = np.mean([other.emphasis for other in others], axis=0).astype(np.float32)
            columns = np.mean(each, axis=0)
            pointers[_OTHER_MAP].append((columns[0], columns[1], columns[2]))
            pointers["the mean map"].append(_point(one, mean, mean >= REGION_LEVEL * mean.max()))
        middle = (one.hit((0.5, 0.5)), float(one.distance(0.5, 0.5)), np.nan)
        pointers["the picture's middle"].append(middle)
        anywhere = (float(one.boxed.mean()), float(one.distance(x, y).mean()), np.nan)
        pointers["anywhere"].append(anywhere)
    values = {name: np.asarray(points) for name, points in pointers.items()}
    own, patients = values["the film's map"], [one.patient for one in marked]
    other = values.get(_OTHER_MAP)
    labels = sorted({one.label for one in marked})
    return BoxFigures(
        group=group,
        films=len(marked),
        without_map=without_map,
        flagged=sum(one.flagged for one in marked),
        labels={label: sum(one.label == label for one in marked) for label in labels},
        hit_interval=interval_of_mean(own[:, 0], patients, samples),
        distance_interval=interval_of_mean(own[:, 1], patients, samples),
        overlap_interval=interval_of_mean(own[:, 2], patients, samples),
        more_hits_than_other_film_interval=(
            None
            if other is None or len(other) != len(own)
            else interval_of_mean(own[:, 0] - other[:, 0], patients, samples)
        ),
        pointers=tuple(
            PointerFigures(
                pointer=name,
                hits=float(points[:, 0].mean()),
                distance=float(points[:, 1].mean()),
                overlap=None if np.isnan(points[:, 2]).any() else float(points[:, 2].mean()),
            )
            for name, points in values.items()
        ),
    )


def headline_of(boxes: Sequence[BoxFigures]) -> Localisation | None:
    """Return what is said beside a map of how well it points, where held-out films have boxes."""
    for group in boxes:
        if group.group == HELD_OUT:
            own = group.pointers[0]
            other = next((p for p in group.pointers if p.pointer == _OTHER_MAP), None)
            return Localisation(
                films=group.films,
                without_map=group.without_map,
                hits=round(own.hits * group.films),
                hits_by_other_maps=None if other is None else other.hits * group.films,
                centre_distance=own.distance,
                centre_distance_interval=group.distance_interval,
            )
    return None


def _point(
    film: FilmMap, emphasis: NDArray[np.float32], region: NDArray[np.bool_]
) -> tuple[float, float, float]:
    """Return whether the hottest point hits, the distance and the overlap, on a film's boxes."""
    top = hottest_point(emphasis)
    x, y = top
    if region.any():
        rows, columns = np.nonzero(region)
        x, y = (columns.mean() + 0.5) / SIDE, (rows.mean() + 0.5) / SIDE
    overlap = (region & film.boxed).sum() / max(1, (region | film.boxed).sum())
    return film.hit(top), float(film.distance(x, y)), float(overlap)
