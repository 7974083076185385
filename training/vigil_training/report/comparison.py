"""Two bundles on the same films: paired DeLong tests, corrected by Holm for how many there are."""

from collections.abc import Sequence

import numpy as np

from vigil.bundle import BundleManifest
from vigil_training.delong import compare_areas, holm
from vigil_training.evaluate import Judged, learnt_sources
from vigil_training.manifest import ManifestRow
from vigil_training.merits import Answer, scores_of
from vigil_training.report.contents import Against, ComparedArea
from vigil_training.report.findings import LEAST_OF_A_SOURCE, answers_of, too_few
from vigil_training.split import side_of_row


def compare(first: Judged, second: Judged) -> Against:
    """Compare two bundles' AUROCs; only films that both gave a probability count."""
    own, other = _by_row(first.answers), _by_row(second.answers)
    shared = [number for number in own if number in other]
    refused = sum((own[n].code is None) != (other[n].code is None) for n in shared)
    labels = [
        label
        for label in dict.fromkeys(finding.label for finding in first.manifest.findings)
        if any(finding.label == label for finding in second.manifest.findings)
    ]
    sources = sorted({own[number].row.source for number in shared})
    rows = [
        row
        for label in labels
        for source in sources
        if (row := _area(label, source, [(own[n], other[n]) for n in shared])) is not None
    ]
    corrected = holm([row.p for row in rows])
    return Against(
        bundle=second.manifest.id,
        digest=second.manifest.digest,
        areas=tuple(
            row.model_copy(update={"p_corrected": p})
            for row, p in zip(rows, corrected, strict=True)
        ),
        one_refused=refused,
        learnt_from=len(learnt_rows(second.manifest, [own[n].row for n in shared])),
    )


def learnt_rows(bundle: BundleManifest, rows: Sequence[ManifestRow]) -> list[ManifestRow]:
    """Return the rows on a bundle's own training side, as far as it says how it was split."""
    seed, fraction = (bundle.training.get(key) for key in ("split_seed", "validation_fraction"))
    learnt = learnt_sources(bundle)
    if not isinstance(seed, int) or not isinstance(fraction, float) or learnt is None:
        return []
    return [
        row for row in rows if row.source in learnt and side_of_row(row, seed, fraction) == "train"
    ]


def _by_row(answers: Sequence[Answer]) -> dict[int, Answer]:
    return {answer.row.number: answer for answer in answers}


def _area(label: str, source: str, pairs: Sequence[tuple[Answer, Answer]]) -> ComparedArea | None:
    both = [
        (one, two)
        for one, two in pairs
        if answers_of(label, source, [one]) and answers_of(label, source, [two])
    ]
    if not both:
        return None
    one, two = (scores_of(label, [pair[i] for pair in both]) for i in (0, 1))
    reason = too_few(one, LEAST_OF_A_SOURCE)
    found = (
        None if reason else compare_areas(one.truth, one.probability, two.probability, one.patients)
    )
    return ComparedArea(
        label=label,
        source=source,
        n=one.truth.size,
        positives=int(one.truth.sum()),
        patients=int(np.unique(one.patients).size),
        first=found.areas[0] if found else None,
        second=found.areas[1] if found else None,
        difference=found.difference if found else None,
        interval=found.interval if found else None,
        p=found.p if found else None,
        p_corrected=None,
        withheld=reason,
    )
