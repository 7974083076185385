"""What two bundles said of the same pictures: how they differ, and what that would have changed.

Without truth a difference is no error: a bundle that flags more may see more, or alarm more. Where
readings were signed, both are held against them.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

import numpy as np

from vigil.triage import Priority
from vigil_inference.promotion.comparison_views import (
    MOST_POINTS,
    MOST_STUDIES,
    AgainstReadings,
    ComparedBundle,
    Drift,
    FindingComparison,
    Latency,
    ModelComparison,
    PriorityCell,
    RefusalCount,
    StudyMoves,
    ThresholdUse,
)
from vigil_inference.promotion.pairs import (
    Answer,
    Compared,
    PicturePair,
    compared_of,
    read_pairs,
    served_since,
)
from vigil_inference.promotion.record import Entry, models_of
from vigil_inference.reading.observations import signed_readings
from vigil_inference.reading.statistics import Figure, Judged, agreement, wilson
from vigil_inference.store import Store
from vigil_inference.tables import RANK

_LEVELS = tuple(round(level, 2) for level in np.linspace(0, 1, 21))
_WINDOW = timedelta(days=7)
_MOST_IN_A_WINDOW = 5000
_LEAST_IN_A_WINDOW = 50
_CHANCE = 1.358
"""Of the two-sample Kolmogorov-Smirnov distance at 5 %, times sqrt(1/n + 1/m) (Smirnov 1948)."""


def read_comparison(store: Store) -> ModelComparison:
    """Compare the bundle in shadow with the one that serves, or the last two that were so.

    Raises
    ------
    MoveRefused
        If no bundle was ever in shadow here.
    """
    now = store.now()
    with store.reading() as session:
        models = models_of(session)
        compared = compared_of(models)
        pairs = read_pairs(session, compared)
        words = {
            (word.sop_instance_uid, word.label): (word.is_present, word.model.was_shown)
            for own in signed_readings(session)
            for one in own[:1]
            for word in one.observations
        }
        serving = models.serving
        drift: tuple[Drift, ...] = ()
        if serving is not None:
            drift = tuple(
                _drift(
                    served_since(
                        session,
                        serving.digest,
                        serving.since,
                        min(now, serving.since + _WINDOW),
                        _MOST_IN_A_WINDOW,
                    ),
                    served_since(
                        session,
                        serving.digest,
                        max(serving.since, now - _WINDOW),
                        now,
                        _MOST_IN_A_WINDOW,
                    ),
                )
            )
    return ModelComparison(
        generated_at=now,
        **_said(compared, pairs, words),
        drift_of="" if serving is None else serving.name,
        drift_since=None if serving is None else serving.since,
        drift=drift,
        dropped=compared.reference.dropped + compared.candidate.dropped,
    )


def _said(
    compared: Compared,
    pairs: Sequence[PicturePair],
    words: Mapping[tuple[str, str], tuple[bool, bool]],
) -> dict[str, Any]:
    keys = [_keys(pair.reference for pair in pairs), _keys(pair.candidate for pair in pairs)]
    shared = [key for key in keys[0] if key in keys[1]]
    cells = Counter((pair.reference.priority, pair.candidate.priority) for pair in pairs)
    up, down = _study_moves(pairs)
    findings = tuple(_finding(key, pairs, words) for key in shared)
    return {
        "reference": _bundle(compared.reference),
        "candidate": _bundle(compared.candidate),
        "pictures": len(pairs),
        "patients": len({pair.patient for pair in pairs}),
        "candidate_served": sum(pair.candidate_served for pair in pairs),
        "findings": findings,
        "only_in_reference": tuple(key for key in keys[0] if key not in keys[1]),
        "only_in_candidate": tuple(key for key in keys[1] if key not in keys[0]),
        "priorities": tuple(
            PriorityCell(reference=one, candidate=other, pictures=count)
            for (one, other), count in sorted(
                cells.items(), key=lambda cell: (-RANK[cell[0][0]], -RANK[cell[0][1]])
            )
        ),
        "raised": up,
        "no_longer_raised": down,
        "refusals": tuple(_refusals(pairs)),
        "refused_by_one": sum(
            (pair.reference.code is None) != (pair.candidate.code is None) for pair in pairs
        ),
        "reference_milliseconds": _latencies(
            [(pair.reference, not pair.candidate_served) for pair in pairs]
        ),
        "candidate_milliseconds": _latencies(
            [(pair.candidate, pair.candidate_served) for pair in pairs]
        ),
        "caveats": tuple(_caveats(pairs, findings)),
    }


def _bundle(entry: Entry) -> ComparedBundle:
    return ComparedBundle(
        bundle_id=entry.bundle_id,
        bundle_digest=entry.digest,
        stage=entry.stage,
        site_calibration=entry.calibration_name,
    )


def _keys(answers: Iterator[Answer]) -> list[str]:
    return list(dict.fromkeys(key for answer in answers for key in answer.scores))


def _finding(
    key: str,
    pairs: Sequence[PicturePair],
    words: Mapping[tuple[str, str], tuple[bool, bool]],
) -> FindingComparison:
    both = [pair for pair in pairs if key in pair.reference.scores and key in pair.candidate.scores]
    ones = [pair.reference.scores[key] for pair in both]
    others = [pair.candidate.scores[key] for pair in both]
    patients = max(1, len({pair.patient for pair in both}))
    before = np.array([score.probability for score in ones])
    after = np.array([score.probability for score in others])
    own = np.array([score.threshold for score in ones])
    new = np.array([score.threshold for score in others])
    uses = tuple(
        ThresholdUse(
            bundle=bundle,
            threshold_of=of,
            flagged=int(flags.sum()),
            share=wilson(float(flags.mean()), patients) if flags.size else _NOTHING,
        )
        for bundle, of, flags in (
            ("reference", "reference", before >= own),
            ("candidate", "candidate", after >= new),
            ("candidate", "reference", after >= own),
            ("reference", "candidate", before >= new),
        )
    )
    step = max(1, -(-len(both) // MOST_POINTS))
    return FindingComparison(
        key=key,
        label=ones[-1].label if ones else key,
        reference_threshold=float(own[-1]) if ones else 0.0,
        candidate_threshold=float(new[-1]) if ones else 0.0,
        uses=uses,
        agreement=agreement(
            [
                Judged(pair.patient, one.flagged, other.flagged)
                for pair, one, other in zip(both, ones, others, strict=True)
            ]
        ),
        distance=_distance(before, after),
        quantiles=tuple(
            (level, float(np.quantile(before, level)), float(np.quantile(after, level)))
            for level in _LEVELS
            if ones
        ),
        points=tuple(
            (float(a), float(b)) for a, b in zip(before[::step], after[::step], strict=True)
        ),
        readings=_against_readings(key, both, words),
    )


_NOTHING = Figure(value=0.0, low=0.0, high=1.0)


def _against_readings(
    key: str, pairs: Sequence[PicturePair], words: Mapping[tuple[str, str], tuple[bool, bool]]
) -> AgainstReadings | None:
    told = [
        (pair, *words[place])
        for pair in pairs
        if (place := (pair.sop_instance_uid, pair.reference.scores[key].label)) in words
    ]
    if not told:
        return None

    def share(of: str, *, present: bool) -> Figure | None:
        cases = [pair for pair, is_present, _ in told if is_present is present]
        if not cases:
            return None
        right = [getattr(pair, of).scores[key].flagged is present for pair in cases]
        return wilson(sum(right) / len(right), len({pair.patient for pair in cases}))

    return AgainstReadings(
        pictures=len(told),
        present=sum(present for _, present, _ in told),
        reference_sensitivity=share("reference", present=True),
        candidate_sensitivity=share("candidate", present=True),
        reference_specificity=share("reference", present=False),
        candidate_specificity=share("candidate", present=False),
        saw_the_model=sum(saw for _, _, saw in told),
    )


def _distance(one: "np.ndarray", other: "np.ndarray") -> float:
    """Return the greatest gap of two distributions (Kolmogorov and Smirnov)."""
    if not one.size or not other.size:
        return 0.0
    places = np.concatenate([one, other])
    below = [np.searchsorted(np.sort(x), places, "right") / x.size for x in (one, other)]
    return float(np.abs(below[0] - below[1]).max())


def _study_moves(pairs: Sequence[PicturePair]) -> tuple[StudyMoves, StudyMoves]:
    """Return the studies that the candidate puts higher, and those that it puts lower."""
    # What was not analysed stands among the routine: a refusal moves none of these.
    last = Priority.ROUTINE.reading_order
    places: dict[str, tuple[int, int]] = {}
    for pair in pairs:
        before, after = places.get(pair.study_instance_uid, (last, last))
        places[pair.study_instance_uid] = (
            min(before, pair.reference.priority.reading_order),
            min(after, pair.candidate.priority.reading_order),
        )
    up = [uid for uid, (before, after) in places.items() if after < before]
    down = [uid for uid, (before, after) in places.items() if after > before]
    moved = [
        StudyMoves(studies=len(uids), study_instance_uids=tuple(uids[::-1][:MOST_STUDIES]))
        for uids in (up, down)
    ]
    return moved[0], moved[1]


def _refusals(pairs: Sequence[PicturePair]) -> Iterator[RefusalCount]:
    before = Counter(pair.reference.code for pair in pairs if pair.reference.code)
    after = Counter(pair.candidate.code for pair in pairs if pair.candidate.code)
    for code in sorted(before.keys() | after.keys()):
        yield RefusalCount(code=code, reference=before[code], candidate=after[code])


def _latencies(answers: Sequence[tuple[Answer, bool]]) -> tuple[Latency, Latency] | None:
    if not answers:
        return None
    serving = [answer.milliseconds for answer, served in answers if served]
    silent = [answer.milliseconds for answer, served in answers if not served]
    return _latency(serving), _latency(silent)


def _latency(values: Sequence[float]) -> Latency:
    return Latency(
        pictures=len(values),
        median=float(np.median(values)) if values else 0.0,
        percentile_95=float(np.quantile(values, 0.95)) if values else 0.0,
    )


def _drift(first: Sequence[Answer], last: Sequence[Answer]) -> Iterator[Drift]:
    for key in _keys(iter([*first, *last])):
        before = [answer.scores[key] for answer in first if key in answer.scores]
        after = [answer.scores[key] for answer in last if key in answer.scores]
        is_enough = min(len(before), len(after)) >= _LEAST_IN_A_WINDOW
        scores = [np.array([score.probability for score in part]) for part in (before, after)]
        yield Drift(
            key=key,
            first_pictures=len(before),
            last_pictures=len(after),
            first_flagged=_flagged([score.flagged for score in before]),
            last_flagged=_flagged([score.flagged for score in after]),
            distance=_distance(*scores) if is_enough else None,
            by_chance=_CHANCE * (1 / len(before) + 1 / len(after)) ** 0.5 if is_enough else None,
        )


def _flagged(flags: Sequence[bool]) -> Figure | None:
    return wilson(sum(flags) / len(flags), len(flags)) if flags else None


def _caveats(pairs: Sequence[PicturePair], findings: Sequence[FindingComparison]) -> Iterator[str]:
    yield (
        "Without truth a difference is no error: a bundle that flags more may see more or alarm "
        "more. Review the studies that would move."
    )
    if not any(finding.readings for finding in findings):
        yield (
            "No reading of these pictures is signed: nothing here says which of the two is right."
        )
    else:
        yield (
            "Signed readings are of studies that somebody read, and flagged ones are read first; "
            "readers who saw the serving bundle's answer agree with it more often."
        )
    if any(finding.reference_threshold != finding.candidate_threshold for finding in findings):
        yield (
            "A threshold belongs to the bundle that it was set for: at the other's threshold a "
            "bundle is another test."
        )
    if any(finding.agreement.patients < 100 for finding in findings):
        yield "Fewer than 100 patients: the intervals are wide, and rare findings are hardly in it."
    if any(pair.candidate_served for pair in pairs) and not all(
        pair.candidate_served for pair in pairs
    ):
        yield "Pictures from before and after the promotion are taken together."
