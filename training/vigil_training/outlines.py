"""How well the served outlines, and the ratio measured on them, agree with a person's."""

from collections import Counter
from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from vigil.image_file import image_format, read_image
from vigil.preprocess import onto_picture
from vigil.radiograph import Radiograph
from vigil.triager import Triager
from vigil_training.figures import OutlineFigures, RatioFigures
from vigil_training.manifest import ManifestRow
from vigil_training.statistics import Interval, auroc, auroc_interval, patient_weights, percentiles

CARDIOMEGALY = "Cardiomegaly"


def dice(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    """Return Dice's coefficient of two masks of one shape: 1 is agreement, also of two empty."""
    total = int(one.sum()) + int(other.sum())
    return 2 * int((one & other).sum()) / total if total else 1.0


def outline_agreement(
    triager: Triager, radiograph: Radiograph, row: ManifestRow
) -> dict[str, float]:
    """Return structure to Dice's coefficient, for the masks that a row has.

    Parameters
    ----------
    radiograph
        The film as it was read, neither turned nor mirrored; it may be reduced.

    Returns
    -------
    dict[str, float]
        Compared at the mask's own size; empty if the bundle outlines nothing.
    """
    spec = triager.bundle.preprocessing
    drawn = {"lungs": row.mask, "heart": row.heart_mask}
    found = triager.predict(radiograph.pixels, radiograph.shape).structures
    agreement = {}
    for name, path in drawn.items():
        file_format = None if path is None or name not in found else image_format(path)
        if path is None or file_format is None:
            continue
        mask = read_image(path, file_format).pixels > 0
        map_ = onto_picture(found[name], *radiograph.shape, spec)
        enlarged = cv2.resize(map_, mask.shape[::-1], interpolation=cv2.INTER_LINEAR)
        agreement[name] = dice(enlarged >= 0.5, mask)
    return agreement


def outline_figures(
    found: Sequence[tuple[ManifestRow, Mapping[str, float]]], samples: int
) -> tuple[OutlineFigures, ...]:
    """Return the agreement per source and structure, with intervals over patients."""
    keys = sorted({(row.source, name) for row, agreement in found for name in agreement})
    figures = []
    for source, structure in keys:
        own = [(r, a[structure]) for r, a in found if r.source == source and structure in a]
        values = np.asarray([value for _, value in own])
        interval = _mean_interval(values, [row.patient_id for row, _ in own], samples)
        figures.append(
            OutlineFigures(
                source=source,
                structure=structure,
                pictures=values.size,
                mean=float(values.mean()),
                interval=interval,
                median=float(np.median(values)),
                lowest_tenth=float(np.quantile(values, 0.1)),
            )
        )
    return tuple(figures)


def ratio_figures(
    found: Sequence[tuple[ManifestRow, float | None, str | None]], samples: int
) -> tuple[RatioFigures, ...]:
    """Return the cardiothoracic ratio's figures per source.

    Parameters
    ----------
    found
        Row, its ratio if it has one, and the code of why it has none; rows with neither were not
        outlined and do not count. Sources where nothing is known of the heart are left out.
    """
    figures = []
    for source in sorted({row.source for row, _, _ in found}):
        own = [
            (row, ratio) for row, ratio, _ in found if row.source == source and ratio is not None
        ]
        refused = Counter(code for row, _, code in found if row.source == source and code)
        pairs = [(r, ratio - r.cardiothoracic_ratio) for r, ratio in own if r.cardiothoracic_ratio]
        asked = [(row, ratio) for row, ratio in own if CARDIOMEGALY in row.label_scope]
        if not (own or refused) or not (pairs or asked):
            continue
        errors = np.asarray([error for _, error in pairs])
        truth = np.asarray([CARDIOMEGALY in row.labels for row, _ in asked], np.bool_)
        ratios = np.asarray([ratio for _, ratio in asked])
        people = np.asarray([row.patient_id for row, _ in asked], np.str_)
        mixed = bool(samples) and 0 < int(truth.sum()) < truth.size
        figures.append(
            RatioFigures(
                source=source,
                measured=len(own),
                not_measured=dict(sorted(refused.items())),
                known=errors.size,
                mean_absolute_error=float(np.abs(errors).mean()) if errors.size else None,
                error_interval=_mean_interval(
                    np.abs(errors), [row.patient_id for row, _ in pairs], samples
                ),
                mean_error=float(errors.mean()) if errors.size else None,
                judged=truth.size,
                positives=int(truth.sum()),
                auroc=auroc(truth, ratios),
                auroc_interval=auroc_interval(truth, ratios, people, samples) if mixed else None,
            )
        )
    return tuple(figures)


def _mean_interval(
    values: NDArray[np.float64], patients: Sequence[str], samples: int
) -> Interval | None:
    if not samples or not values.size:
        return None
    weights = patient_weights(np.asarray(patients), samples)
    return percentiles(weights @ values / weights.sum(1))
