from pathlib import Path

import pytest

from vigil.errors import ConfigurationError
from vigil_training.config import ATTRIBUTES, load_config

CONFIGS = sorted((Path(__file__).parents[2] / "training" / "configs").glob("*.toml"))
SMOKE = next(path for path in CONFIGS if path.name == "smoke.toml")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_shipped_configuration_is_valid_and_named_as_its_file(path: Path) -> None:
    config = load_config(path)
    assert config.name == path.stem
    assert config.outputs[len(config.findings) :] == ATTRIBUTES
    assert len(set(config.outputs)) == len(config.outputs)


def test_the_committed_run_has_sixteen_findings_and_keeps_children_apart() -> None:
    config = load_config(SMOKE.with_name("lite0-256.toml"))
    assert len(config.findings) == 16
    by_key = {finding.key: finding for finding in config.findings}
    assert by_key["Pneumonia"].population.includes_age(15)
    assert not by_key["Pneumonia"].population.includes_age(14)
    assert by_key["Pneumonia:child"].population.includes_age(5)
    assert not by_key["Pneumonia:child"].population.overlaps(by_key["Pneumonia"].population)
    assert "hannover" not in {source.name for source in config.data.sources}


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("epochs = 2", "epoch = 2", "optimisation.epoch"),
        ("epochs = 2", "epochs = 0", "optimisation.epochs"),
        ('label = "Effusion"', 'label = "Covfefe"', "unknown label Covfefe"),
        ('label = "Effusion"', 'label = "COVID-19"', "no source holds negatives"),
        ('key = "Effusion"', 'key = "Cardiomegaly"', "same key"),
        ("phantoms = 120", 'phantoms = 120\nmanifest = "m.csv"', "either `manifest` or `phantoms`"),
        ("[network]", "[network", "is not TOML"),
    ],
)
def test_a_wrong_configuration_is_refused_and_the_field_named(
    tmp_path: Path, old: str, new: str, said: str
) -> None:
    text = SMOKE.read_text(encoding="utf-8")
    assert old in text
    path = tmp_path / "run.toml"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(ConfigurationError, match=said):
        load_config(path)


def test_a_missing_configuration_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"none\.toml: cannot be read"):
        load_config(tmp_path / "none.toml")
