"""How the films of two manifests differ: who they are of, what is known of them, how they look.

One film a patient (the first), so that what is tested is independent. Every difference has an
effect size, what random divisions of the same films give (200), a test, and Holm's correction.
"""

from collections import Counter
from collections.abc import Callable, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2_contingency, fisher_exact, ks_2samp

from vigil.errors import ImageRefused
from vigil.findings import LABELS
from vigil.preprocess import least_side_of
from vigil.reading import read_radiograph
from vigil.triager import Triager
from vigil_training.delong import holm
from vigil_training.manifest import ManifestRow
from vigil_training.report.contents import Drift, Shift
from vigil_training.statistics import Floats, wilson

LEAST_PATIENTS = 20
"""Of each manifest; with fewer a difference says nothing."""
_PICTURES = 200
_DIVISIONS = 200
_TENTHS = 10
_LOOKS = ("mean brightness", "contrast", "sharpness", "height by width")


def measure_drift(
    names: tuple[str, str],
    before: Sequence[ManifestRow],
    now: Sequence[ManifestRow],
    triager: Triager,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Drift:
    """Compare two manifests; at most 200 pictures of each, spread evenly, are read.

    Parameters
    ----------
    names
        What the two are called.
    before, now
        The films that one looks back to, and those evaluated.
    triager
        Its network's embedding stands for what a picture looks like.
    """
    first, second = _one_a_patient(before), _one_a_patient(now)
    chosen = [_spread(first), _spread(second)]
    total, done = sum(map(len, chosen)), 0
    looks: list[list[Floats]] = [[], []]
    embeddings: list[list[NDArray[np.float32]]] = [[], []]
    for place, rows in enumerate(chosen):
        for row in rows:
            if (seen := _look(row, triager)) is not None:
                looks[place].append(seen[0])
                embeddings[place].append(seen[1])
            progress(done := done + 1, total)
    shifts = [
        _numbers("age in years", *(_ages(rows) for rows in (first, second))),
        _categories("sex", *([r.sex for r in rows if r.sex] for rows in (first, second))),
        _categories("view", *([r.view for r in rows] for rows in (first, second))),
        *_labels(first, second),
        *(
            _numbers(name, *(np.asarray([look[i] for look in part]) for part in looks))
            for i, name in enumerate(_LOOKS)
        ),
        _embeddings(*embeddings),
    ]
    corrected = holm([shift.p for shift in shifts])
    return Drift(
        before=names[0],
        now=names[1],
        patients_before=len(first),
        patients_now=len(second),
        pictures_before=len(looks[0]),
        pictures_now=len(looks[1]),
        shifts=tuple(
            shift.model_copy(update={"p_corrected": p})
            for shift, p in zip(shifts, corrected, strict=True)
        ),
    )


def _one_a_patient(rows: Sequence[ManifestRow]) -> list[ManifestRow]:
    return list({(r.source, r.patient_id): r for r in reversed(rows)}.values())[::-1]


def _spread(rows: Sequence[ManifestRow]) -> list[ManifestRow]:
    kept = np.linspace(0, len(rows) - 1, min(len(rows), _PICTURES)).round().astype(int)
    return [rows[i] for i in kept]


def _ages(rows: Sequence[ManifestRow]) -> Floats:
    return np.asarray([row.age_years for row in rows if row.age_years is not None], np.float64)


def _look(row: ManifestRow, triager: Triager) -> tuple[Floats, NDArray[np.float32]] | None:
    """Return brightness, contrast, sharpness and shape of a picture, and its embedding."""
    try:
        film = read_radiograph(row.path, least=least_side_of(triager.bundle.preprocessing))
    except (ImageRefused, OSError):
        return None
    small = cv2.resize(film.pixels, (256, 256), interpolation=cv2.INTER_AREA) / np.float32(65535)
    contrast = float(small.std())
    edges = float(cv2.Laplacian(small, cv2.CV_32F).std()) / max(contrast, 1e-6)
    rows, columns = film.shape
    looks = np.asarray([float(small.mean()), contrast, edges, rows / columns])
    return looks, triager.predict(film.pixels, film.shape).embedding


def stability_index(before: NDArray[np.int64], now: NDArray[np.int64]) -> float:
    """Return the population stability index of two rows of counts; half a film is never none."""
    p, q = ((counts + 0.5) / (counts.sum() + 0.5 * counts.size) for counts in (before, now))
    return float(((q - p) * np.log(q / p)).sum())


def _by_chance(members: NDArray[np.int64], n_before: int, bins: int) -> float:
    """Return the index that 95 % of random divisions of all films stay below."""
    random = np.random.default_rng(0)
    found = []
    for _ in range(_DIVISIONS):
        drawn = random.permutation(members)
        parts = (np.bincount(p, minlength=bins) for p in (drawn[:n_before], drawn[n_before:]))
        found.append(stability_index(*parts))
    return float(np.percentile(found, 95))


def _too_few(before: int, now: int) -> str:
    if min(before, now) >= LEAST_PATIENTS:
        return ""
    return f"{before} and {now} patients are known; at least {LEAST_PATIENTS} of each are asked for"


def _shift(characteristic: str, kind: str, n: tuple[int, int], **said: object) -> Shift:
    empty = dict.fromkeys(("size", "by_chance", "interval", "p", "p_corrected"))
    named = {"before": "", "now": "", "test": "", "withheld": ""}
    told = {"characteristic": characteristic, "kind": kind, "n_before": n[0], "n_now": n[1]}
    return Shift.model_validate({**empty, **named, **told, **said})


def _numbers(name: str, before: Floats, now: Floats) -> Shift:
    n = before.size, now.size
    if reason := _too_few(*n):
        return _shift(name, "psi", n, withheld=reason)
    cuts = np.unique(np.quantile(before, np.linspace(0, 1, _TENTHS + 1)[1:-1]))
    members: NDArray[np.int64] = np.digitize(np.r_[before, now], cuts).astype(np.int64)
    bins = cuts.size + 1
    parts = (np.bincount(p, minlength=bins) for p in (members[: n[0]], members[n[0] :]))
    return _shift(
        name,
        "psi",
        n,
        before=f"median {np.median(before):.3g}",
        now=f"median {np.median(now):.3g}",
        size=stability_index(*parts),
        by_chance=_by_chance(members, n[0], bins),
        test="Kolmogorov-Smirnov",
        p=float(ks_2samp(before, now).pvalue),
    )


def _categories(name: str, before: Sequence[str], now: Sequence[str]) -> Shift:
    n = len(before), len(now)
    if reason := _too_few(*n):
        return _shift(name, "psi", n, withheld=reason)
    names = sorted({*before, *now})
    counted = [Counter(before), Counter(now)]
    table = np.asarray([[counts[one] for one in names] for counts in counted])
    members = np.asarray([names.index(one) for one in (*before, *now)], np.int64)
    p = float(chi2_contingency(table).pvalue) if len(names) > 1 else 1.0
    said = [
        ", ".join(f"{one} {counts[one] / sum(counts.values()):.0%}" for one in names)
        for counts in counted
    ]
    return _shift(
        name, "psi", n, before=said[0], now=said[1], size=stability_index(*table),
        by_chance=_by_chance(members, n[0], len(names)), test="chi squared", p=p,
    )  # fmt: skip


def _labels(before: Sequence[ManifestRow], now: Sequence[ManifestRow]) -> list[Shift]:
    shifts = []
    for label in LABELS:
        known = [[r for r in rows if label in r.label_scope] for rows in (before, now)]
        n = len(known[0]), len(known[1])
        if not any(n):
            continue
        if reason := _too_few(*n):
            shifts.append(_shift(label, "difference of shares", n, withheld=reason))
            continue
        ill = [sum(label in row.labels for row in rows) for rows in known]
        one, two = ill[0] / n[0], ill[1] / n[1]
        (low_1, high_1), (low_2, high_2) = wilson(one, n[0]), wilson(two, n[1])
        # Newcombe 1998: the difference's interval from those of the two shares.
        interval = (
            two - one - float(np.hypot(two - low_2, high_1 - one)),
            two - one + float(np.hypot(high_2 - two, one - low_1)),
        )
        table = [[ill[0], n[0] - ill[0]], [ill[1], n[1] - ill[1]]]
        shifts.append(
            _shift(
                label, "difference of shares", n, before=f"{one:.1%}", now=f"{two:.1%}",
                size=two - one, interval=interval, test="Fisher",
                p=float(fisher_exact(table).pvalue),
            )
        )  # fmt: skip
    return shifts


def _embeddings(before: Sequence[NDArray[np.float32]], now: Sequence[NDArray[np.float32]]) -> Shift:
    """Compare what the network sees by the energy distance (Székely and Rizzo 2013)."""
    n, name = (len(before), len(now)), "what the network sees"
    if reason := _too_few(*n):
        return _shift(name, "energy coefficient", n, withheld=reason)
    films = np.vstack([*before, *now]).astype(np.float64)
    films /= np.maximum(np.linalg.norm(films, axis=1, keepdims=True), 1e-12)
    distances = np.sqrt(np.maximum(2 - 2 * films @ films.T, 0))
    own = np.arange(len(films)) < n[0]
    found = energy_coefficient(distances, own)
    random = np.random.default_rng(0)
    drawn = [energy_coefficient(distances, random.permutation(own)) for _ in range(_DIVISIONS)]
    return _shift(
        name, "energy coefficient", n, size=found, by_chance=float(np.percentile(drawn, 95)),
        test="permutation", p=(1 + sum(one >= found for one in drawn)) / (1 + _DIVISIONS),
    )  # fmt: skip


def energy_coefficient(distances: Floats, first: NDArray[np.bool_]) -> float:
    """Return how far two groups lie apart: 0 where they are distributed alike, at most 1."""
    between = float(distances[np.ix_(first, ~first)].mean())
    within = sum(float(distances[np.ix_(own, own)].mean()) for own in (first, ~first))
    return max(0.0, (2 * between - within) / (2 * between)) if between else 0.0
