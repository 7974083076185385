"""Does a map change with shuffled weights, and does it fit its own film best?"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vigil.errors import ImageRefused
from vigil.preprocess import onto_picture, to_model_input
from vigil.reading import read_radiograph
from vigil.triager import Triager
from vigil_training.heat_maps.figures import ShuffleFigures
from vigil_training.heat_maps.film_maps import SIDE, interval_of_mean
from vigil_training.heat_maps.shuffled_weights import shuffled_networks
from vigil_training.manifest import ManifestRow

_BLUR = 1.5


def measure_shuffles(
    triager: Triager,
    rows: Sequence[ManifestRow],
    samples: int,
    progress: Callable[[int], None],
) -> tuple[ShuffleFigures, ...]:
    """Compare each film's maps with those of another film and of shuffled weights."""
    spec = triager.bundle.preprocessing
    networks = list(shuffled_networks(triager.bundle.model_path))
    found: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
    patients: dict[str, list[str]] = defaultdict(list)
    before: NDArray[np.float32] | None = None
    for done, row in enumerate(rows, 1):
        progress(done)
        try:
            pixels = read_radiograph(row.path).pixels
        except ImageRefused:
            continue

        def shown(cams: NDArray[np.float32], shape: tuple[int, ...] = pixels.shape) -> Any:
            squares = [cv2.resize(cam, (SIDE, SIDE)) for cam in cams]
            return np.stack([onto_picture(square, shape[0], shape[1], spec) for square in squares])

        model_input = to_model_input(pixels, spec)
        cams = triager.predict(pixels).cams
        compared = {stage: network.maps(model_input) for stage, network in networks}
        if before is not None:
            compared["nothing, another film"] = before
        before = cams
        own = shown(cams)
        for stage, others in compared.items():
            found[stage].append(_likeness(own, shown(others)))
            patients[stage].append(f"{row.source}/{row.patient_id}")
    return tuple(
        ShuffleFigures(
            shuffled=stage,
            films=len(found[stage]),
            rank_correlation=float(values[:, 0].mean()),
            rank_correlation_interval=interval_of_mean(values[:, 0], patients[stage], samples),
            magnitude=float(values[:, 1].mean()),
            structural_similarity=float(values[:, 2].mean()),
        )
        for stage in ("nothing, another film", *(name for name, _ in networks))
        if stage in found
        for values in [np.asarray(found[stage])]
    )


def _likeness(own: NDArray[np.float32], other: NDArray[np.float32]) -> tuple[float, float, float]:
    """Return rank correlation, its magnitude and structural similarity, means over findings."""
    ranks = [rank_correlation(a, b) for a, b in zip(own, other, strict=True)]
    alike = [structural_similarity(a, b) for a, b in zip(own, other, strict=True)]
    return float(np.mean(ranks)), float(np.mean(np.abs(ranks))), float(np.mean(alike))


def rank_correlation(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Return Spearman's correlation of two maps; 0 where one is flat and so orders nothing."""
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return 0.0
    ranks = [np.argsort(np.argsort(m.ravel(), kind="stable")) for m in (one, other)]
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def structural_similarity(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Return the mean structural similarity (Wang et al. 2004) of two maps stretched to 0…1."""

    def blurred(values: NDArray[np.float64]) -> NDArray[np.float64]:
        smooth: NDArray[np.float64] = cv2.GaussianBlur(values, (0, 0), _BLUR)
        return smooth

    a, b = ((m - m.min()) / max(float(np.ptp(m)), 1e-12) for m in (one, other))
    a, b = a.astype(np.float64), b.astype(np.float64)
    mean_a, mean_b = blurred(a), blurred(b)
    var_a, var_b = blurred(a * a) - mean_a**2, blurred(b * b) - mean_b**2
    shared = blurred(a * b) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    index = ((2 * mean_a * mean_b + c1) * (2 * shared + c2)) / (
        (mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2)
    )
    return float(index.mean())
