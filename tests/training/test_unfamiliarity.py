import warnings
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from tests.core.conftest import build_bundle

from vigil.bundle import UnfamiliaritySpec
from vigil.errors import BundleError, ConfigurationError
from vigil.reading import read_radiograph
from vigil.triager import Triager
from vigil_training.manifest import GateRow, read_manifest
from vigil_training.unfamiliarity import Unfamiliarity, fit, measure_unfamiliarity


def _films(random: np.random.Generator, count: int, hospital: int) -> np.ndarray:
    """(count, 32) embeddings, not negative: those of one hospital point into one direction."""
    middle = np.zeros(32)
    middle[4 * hospital : 4 * hospital + 4] = 3
    return np.abs(middle + 0.4 * random.standard_normal((count, 32))).astype(np.float32)


@pytest.fixture
def films() -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Training films, validation films and the latter's sources, of three hospitals."""
    random = np.random.default_rng(5)
    training = np.concatenate([_films(random, 300, hospital) for hospital in range(3)])
    validation = np.concatenate([_films(random, 400, hospital) for hospital in range(3)])
    return training, validation, list(np.repeat(["a", "b", "c"], 400))


def test_the_distance_is_the_cosine_distance_to_the_nearest_code() -> None:
    codes = np.eye(3, dtype=np.float32)[:2]
    embeddings = torch.tensor([[5.0, 0, 0], [3, 4, 0], [0, 0, 2], [-1, -1, 0]])
    distances = Unfamiliarity(codes)(embeddings)
    np.testing.assert_allclose(distances, [0, 0.2, 1, 1 + 0.5**0.5], atol=1e-6)


def test_validation_films_stay_quiet_and_another_body_part_is_refused(films) -> None:
    training, validation, sources = films
    module, spec = fit(training, validation, sources, codes=24)
    distances = module(torch.from_numpy(validation)).numpy()
    for source in "abc":
        assert (distances[np.asarray(sources) == source] > spec.notice).mean() <= 0.01
    assert (distances > spec.refuse).mean() <= 0.001
    other = _films(np.random.default_rng(6), 100, 7)
    assert (module(torch.from_numpy(other)).numpy() > spec.refuse).all()
    assert 0 < spec.notice <= spec.refuse


def test_films_that_took_no_part_stay_as_quiet_as_those_that_chose_the_limits(films) -> None:
    training, validation, sources = films
    module, spec = fit(training, validation, sources, codes=24)
    fresh = np.concatenate([_films(np.random.default_rng(7), 1000, h) for h in range(3)])
    distances = module(torch.from_numpy(fresh)).numpy()
    assert (distances > spec.notice).mean() <= 0.02
    assert (distances > spec.refuse).mean() <= 0.001


def test_the_same_seed_gives_the_same_codes_and_lengths_do_not_matter(films) -> None:
    training, validation, sources = films
    one, again = (fit(training, validation, sources, codes=8) for _ in range(2))
    torch.testing.assert_close(one.module.codes, again.module.codes, rtol=0, atol=0)
    assert one.spec == again.spec
    stretched = fit(training * 7, validation * 0.1, sources, codes=8)
    assert stretched.spec.refuse == pytest.approx(one.spec.refuse, abs=1e-4)


def test_without_films_there_is_nothing_to_be_unlike(films) -> None:
    with pytest.raises(ConfigurationError, match="0 training"):
        fit(films[0][:0], films[1], films[2])


def test_onnxruntime_tells_the_same_distance(films, tmp_path: Path) -> None:
    module, _ = fit(*films, codes=16)
    path = tmp_path / "unfamiliarity.onnx"
    example = torch.from_numpy(films[1][:2])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter by tracing is deprecated
        torch.onnx.export(
            module, (example,), path, input_names=["embedding"], output_names=["unfamiliarity"],
            dynamic_axes={"embedding": {0: "N"}, "unfamiliarity": {0: "N"}}, opset_version=17,
            dynamo=False,
        )  # fmt: skip
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"embedding": films[1]})
    np.testing.assert_allclose(found, module(torch.from_numpy(films[1])).numpy(), atol=1e-6)
    # A picture without any activation is as far as can be, not an error.
    (nothing,) = session.run(None, {"embedding": np.zeros((1, 32), np.float32)})
    assert nothing.tolist() == [1.0]


def test_figures_are_the_served_networks_distances(tmp_path: Path, phantom_manifest: Path) -> None:
    limits = UnfamiliaritySpec(notice=1.6, refuse=1.8)
    build_bundle(tmp_path / "tiny", unfamiliarity=limits, training={"sources": "phantom"})
    rows = read_manifest(phantom_manifest)
    others = [GateRow(2, rows[0].path, "hand", "x", "1")]
    found = measure_unfamiliarity(tmp_path / "tiny", rows, others, split=None, limit=5)
    triager = Triager.load(tmp_path / "tiny", threads=1)
    told = np.asarray([triager.predict(read_radiograph(r.path).pixels).unfamiliarity for r in rows])
    by_kind = {(row.group, row.kind): row for row in found.rows}
    own = by_kind["source learnt from", "phantom"]
    assert (own.pictures, own.auroc) == (24, None)
    assert own.median == pytest.approx(np.median(told))
    assert own.noticed == (told > 1.6).sum()
    assert own.refused == (told > 1.8).sum()
    hand = by_kind["not a chest film", "hand"]
    above = (told < told[0]).mean() + (told == told[0]).mean() / 2
    assert hand.auroc == pytest.approx(above)
    assert by_kind["chest film", "inverted"].pictures == 5
    lines = "\n".join(found.card_lines())
    assert "| not a chest film | hand | 1 |" in lines
    assert "over 1.600" in lines


def test_a_bundle_that_tells_no_distance_cannot_be_measured(
    tmp_path: Path, phantom_manifest: Path
) -> None:
    build_bundle(tmp_path / "tiny")
    with pytest.raises(BundleError, match="does not say how unfamiliar"):
        measure_unfamiliarity(tmp_path / "tiny", read_manifest(phantom_manifest), [], split=None)
