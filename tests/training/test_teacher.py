from pathlib import Path

import numpy as np
import pytest
import torch

from vigil.errors import ConfigurationError
from vigil_training.config import RunConfig, TeacherConfig, load_config
from vigil_training.dataset import PictureCache
from vigil_training.generated import generated_examples
from vigil_training.network import make_network
from vigil_training.targets import Example
from vigil_training.teacher import soften, softened

CONFIGS = Path(__file__).parents[2] / "training" / "configs"


def _config(weights: Path) -> RunConfig:
    teacher = TeacherConfig(
        weights=(str(weights),), findings=("Effusion",), share=0.5, unknown_weight=0.25
    )
    return load_config(CONFIGS / "smoke.toml").model_copy(update={"teacher": teacher})


def _example(target: float, known: float) -> Example:
    targets, mask = np.array([target, 1, 0], np.float32), np.array([known, 1, 0], np.float32)
    return Example(None, "nih", "p", True, targets, mask)


def test_a_known_label_is_met_half_way_and_an_unknown_one_is_answered_quietly() -> None:
    teacher = TeacherConfig(weights=("w",), findings=("a",), share=0.5, unknown_weight=0.25)
    answer = np.array([0.2, 0.9, 0.9], np.float32)
    known = softened(_example(1.0, 1.0), answer, [0], teacher)
    np.testing.assert_allclose(known.targets, [0.6, 1, 0])
    np.testing.assert_allclose(known.mask, [1, 1, 0])
    unknown = softened(_example(0.0, 0.0), answer, [0], teacher)
    np.testing.assert_allclose(unknown.targets, [0.2, 1, 0])
    np.testing.assert_allclose(unknown.mask, [0.25, 1, 0])


def test_a_teacher_speaks_of_adults_films_and_of_its_findings_only(tmp_path: Path) -> None:
    config = _config(tmp_path / "best.pt")
    network = make_network(config.network, len(config.outputs)).eval()
    torch.save(network.state_dict(), tmp_path / "best.pt")
    train, _ = generated_examples(config)
    films = [e for e in train if e.chest][:4] + [e for e in train if not e.chest][:2]
    cache = PictureCache(films, config.network.size)
    soften(cache, config)
    images = torch.from_numpy(cache.pictures[:4].astype(np.float32)[:, np.newaxis])
    with torch.no_grad():
        seen = torch.sigmoid(network(images).logits) + torch.sigmoid(network(images.flip(3)).logits)
    for index, (before, after) in enumerate(zip(films, cache.examples, strict=True)):
        if before.chest:
            expected = 0.5 * before.targets[0] + 0.5 * float(seen[index, 0]) / 2
            assert after.targets[0] == pytest.approx(expected, abs=1e-4)
            np.testing.assert_array_equal(after.targets[1:], before.targets[1:])
        else:
            np.testing.assert_array_equal(after.targets, before.targets)
            np.testing.assert_array_equal(after.mask, before.mask)


def test_several_teachers_answer_with_their_mean(tmp_path: Path) -> None:
    config = _config(tmp_path / "0.pt")
    films = [e for e in generated_examples(config)[0] if e.chest][:3]
    answers = []
    for seed in range(2):
        torch.manual_seed(seed)
        network = make_network(config.network, len(config.outputs))
        torch.save(network.state_dict(), tmp_path / f"{seed}.pt")
        answers.append(_softened(films, _config(tmp_path / f"{seed}.pt")))
    assert np.abs(answers[0] - answers[1]).max() > 1e-3
    assert config.teacher is not None
    both = config.teacher.model_copy(
        update={"weights": tuple(str(tmp_path / f"{seed}.pt") for seed in range(2))}
    )
    together = _softened(films, config.model_copy(update={"teacher": both}))
    np.testing.assert_allclose(together, np.mean(answers, axis=0), atol=1e-6)


def test_a_teacher_of_another_backbone_is_built_as_its_own_configuration_says(
    tmp_path: Path,
) -> None:
    text = (CONFIGS / "smoke.toml").read_text(encoding="utf-8")
    (tmp_path / "config.toml").write_text(
        text.replace('backbone = "efficientnet-lite0"', 'backbone = "efficientnet-lite2"'),
        encoding="utf-8",
    )
    larger = load_config(tmp_path / "config.toml")
    assert larger.network.backbone == "efficientnet-lite2"
    network = make_network(larger.network, len(larger.outputs)).eval()
    torch.save(network.state_dict(), tmp_path / "best.pt")
    config = _config(tmp_path / "best.pt")
    films = [e for e in generated_examples(config)[0] if e.chest][:2]
    images = torch.from_numpy(PictureCache(films, 64).pictures.astype(np.float32)[:, np.newaxis])
    with torch.no_grad():
        seen = torch.sigmoid(network(images).logits) + torch.sigmoid(network(images.flip(3)).logits)
    for row, (film, targets) in enumerate(zip(films, _softened(films, config), strict=True)):
        expected = 0.5 * film.targets[0] + 0.5 * float(seen[row, 0]) / 2
        assert targets[0] == pytest.approx(expected, abs=1e-4)


def _softened(films: list[Example], config: RunConfig) -> np.ndarray:
    cache = PictureCache(films, config.network.size)
    soften(cache, config)
    return np.stack([example.targets for example in cache.examples])


def test_a_teacher_that_is_not_there_or_teaches_what_no_run_asks_is_refused(
    tmp_path: Path,
) -> None:
    config = _config(tmp_path / "none.pt")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        soften(PictureCache(generated_examples(config)[0][:2], 64), config)
    text = (CONFIGS / "smoke.toml").read_text(encoding="utf-8")
    text += '\n[teacher]\nweights = ["w"]\nfindings = ["Hernia"]\n'
    (tmp_path / "run.toml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigurationError, match="finding Hernia is none of this run's"):
        load_config(tmp_path / "run.toml")
