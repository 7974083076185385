import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType, SimpleNamespace

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from vigil.errors import BundleError, ConfigurationError, ManifestError
from vigil.triager import Triager
from vigil_training import evaluate as module
from vigil_training.evaluate import evaluate, judge
from vigil_training.gate_check import check_gate
from vigil_training.manifest import GateRow, read_manifest
from vigil_training.model_card import write_card, write_metrics
from vigil_training.split import side_of


class _Oracle:
    """A triager that answers by the file's number: it says p = number / 100, or refuses."""

    refused = frozenset({3})
    anatomies: Mapping[int, SimpleNamespace] = MappingProxyType({})

    def __init__(self, bundle: Path) -> None:
        self.bundle = Triager.load(bundle, threads=1).bundle

    def triage(self, path: Path, *, age_years: float | None = None) -> SimpleNamespace:
        number = int(path.stem)
        if number in self.refused:
            return SimpleNamespace(
                code="NOT_CHEST", findings={}, keys={}, flags=(), notes=(),
                priority="NOT_ANALYSED", anatomy=None,
            )  # fmt: skip
        flags = (SimpleNamespace(label="Effusion"),) if number >= 12 else ()
        return SimpleNamespace(
            code=None, findings={"Effusion": number / 100}, keys={"Effusion": "Effusion"},
            flags=flags,
            notes=("the picture was inverted before it was analysed",) if number == 5 else (),
            priority="URGENT" if flags else "ROUTINE",
            anatomy=self.anatomies.get(number),
        )  # fmt: skip


@pytest.fixture
def oracle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "Triager", SimpleNamespace(load=_Oracle))


@pytest.mark.usefixtures("oracle")
def test_the_cardiothoracic_ratio_is_taken_from_the_answers(
    smoke_bundle: Path, phantom_manifest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    anatomies = {
        1: SimpleNamespace(ratio=0.5, no_ratio=None),
        2: SimpleNamespace(ratio=None, no_ratio="CUT_OFF"),
    }
    monkeypatch.setattr(_Oracle, "anatomies", anatomies)
    rows = read_manifest(phantom_manifest)
    known = [replace(row, cardiothoracic_ratio=0.48) for row in rows]
    monkeypatch.setattr(module, "read_manifest", lambda path: tuple(known))
    (figures,) = evaluate(smoke_bundle, phantom_manifest, samples=0).ratios
    assert (figures.measured, figures.not_measured) == (1, {"CUT_OFF": 1})
    assert figures.mean_error == pytest.approx(0.02)


@pytest.mark.usefixtures("oracle")
def test_figures_are_those_of_the_answers_and_refused_films_are_left_out(
    smoke_bundle: Path, phantom_manifest: Path
) -> None:
    found = evaluate(smoke_bundle, phantom_manifest, samples=200)
    (figures,) = found.results
    numbers = np.asarray([n for n in range(24) if n != 3])
    truth = numbers % 2 == 1
    assert (figures.label, figures.source) == ("Effusion", "phantom")
    assert (figures.n, figures.positives, figures.refused, figures.withheld) == (23, 11, 1, 0)
    assert figures.auroc == pytest.approx(roc_auc_score(truth, numbers / 100), abs=1e-12)
    low, high = figures.intervals["auroc"]
    assert low < figures.auroc < high
    expected = average_precision_score(truth, numbers / 100)
    assert figures.average_precision == pytest.approx(expected, abs=1e-12)
    low, high = figures.intervals["sensitivity"]
    assert low < figures.sensitivity < high
    assert figures.sensitivity == pytest.approx((numbers[truth] >= 12).mean())
    assert figures.specificity == pytest.approx((numbers[~truth] < 12).mean())
    assert figures.brier == pytest.approx(np.mean((numbers / 100 - truth) ** 2))
    assert figures.prevalence == pytest.approx(11 / 23)
    (source,) = found.sources
    assert (source.pictures, source.analysed, source.corrected) == (24, 23, 1)
    assert source.refused == {"NOT_CHEST": 1}
    assert source.mean_auroc is None  # 11 positive patients are too few for a mean


@pytest.mark.usefixtures("oracle")
def test_only_rows_with_the_label_in_scope_count(smoke_bundle: Path, write_manifest) -> None:
    rows = [{"labels": "Effusion"}, {}, {"label_scope": "Mass"}, {"label_scope": ""}]
    found = evaluate(smoke_bundle, write_manifest(rows), samples=10)
    assert [(r.label, r.n, r.positives) for r in found.results] == [("Effusion", 2, 1)]


@pytest.mark.usefixtures("oracle")
def test_the_bundles_own_split_says_who_was_held_out(
    smoke_bundle: Path, phantom_manifest: Path
) -> None:
    held_out = [n for n in range(24) if side_of("phantom", f"p{n}", 0, 0.4) == "val"]
    assert 2 < len(held_out) < 20
    val = evaluate(smoke_bundle, phantom_manifest, split="val", samples=10)
    train = evaluate(smoke_bundle, phantom_manifest, split="train", samples=10)
    assert val.sources[0].pictures == len(held_out)
    assert train.sources[0].pictures == 24 - len(held_out)
    assert evaluate(smoke_bundle, phantom_manifest, limit=5, samples=10).sources[0].pictures == 5


def test_the_served_code_answers_for_real_files(smoke_bundle: Path, phantom_manifest: Path) -> None:
    found = evaluate(smoke_bundle, phantom_manifest, samples=20)
    assert found.digest == Triager.load(smoke_bundle, threads=1).bundle.digest
    assert found.sources[0].pictures == 24
    for figures in found.results:
        assert figures.n + figures.refused + figures.withheld == 24
    assert found.manifest == "manifest.csv"


def test_the_gate_is_measured_and_the_card_says_what_the_metrics_say(
    smoke_bundle: Path, phantom_manifest: Path
) -> None:
    films = read_manifest(phantom_manifest)
    others = [GateRow(n, film.path, "hand", "x", str(n)) for n, film in enumerate(films[:4])]
    seen = []
    figures = check_gate(
        smoke_bundle, films, others, split=None, limit=3,
        progress=lambda done, total: seen.append((done, total)),
    )  # fmt: skip
    assert seen[-1] == (4 + 6 * 3, 4 + 6 * 3)
    assert [(f.group, f.kind, f.pictures) for f in figures] == [
        ("chest film", "PA by its manifest", 3),
        ("chest film", "as it is", 3), ("chest film", "inverted", 3),
        ("chest film", "mirrored", 3), ("chest film", "turned 180°", 3),
        ("chest film", "turned 270°", 3), ("chest film", "turned 90°", 3),
        ("not a chest film", "hand", 4),
    ]  # fmt: skip
    for row in figures:
        assert row.passed + row.put_right + sum(row.refused.values()) == row.pictures

    found = evaluate(smoke_bundle, phantom_manifest, samples=20)
    metrics = smoke_bundle / "metrics.json"
    write_metrics(metrics, found, figures)
    content = json.loads(metrics.read_text(encoding="utf-8"))
    card = write_card(smoke_bundle).read_text(encoding="utf-8")
    for row in found.results:
        assert f"| {row.label} | {row.source} | {row.n} | {row.positives} |" in card
        if row.auroc is not None:
            assert f"{row.auroc:.3f} (" in card
    assert "Research use only, not a medical device" in card
    assert "| not a chest film | hand | 4 |" in card
    assert "experimental" in card
    metrics.write_text(json.dumps(content | {"digest": "0" * 64}), encoding="utf-8")
    with pytest.raises(ConfigurationError, match="was measured on 000000000000"):
        write_card(smoke_bundle)
    metrics.unlink()
    with pytest.raises(ConfigurationError, match="cannot be read"):
        write_card(smoke_bundle)


def test_what_cannot_be_evaluated_is_one_sentence(
    smoke_bundle: Path, phantom_manifest: Path, tmp_path: Path, stand_in_bundle: Path
) -> None:
    with pytest.raises(BundleError, match="no bundle can be read there"):
        evaluate(tmp_path / "none", phantom_manifest)
    with pytest.raises(ManifestError, match="cannot be read"):
        evaluate(smoke_bundle, tmp_path / "none.csv")
    with pytest.raises(ConfigurationError, match="does not record how its patients were split"):
        evaluate(stand_in_bundle, phantom_manifest, split="val")


def test_every_analysed_film_has_a_ratio_or_a_reason_for_none(
    smoke_bundle: Path, phantom_manifest: Path
) -> None:
    judged = judge(smoke_bundle, phantom_manifest)
    analysed = [answer for answer in judged.answers if answer.code is None]
    assert analysed
    assert all((a.ratio is None) != (a.no_ratio is None) for a in analysed)
