"""From a run's configuration to its training and validation examples."""

from dataclasses import dataclass
from pathlib import Path

from vigil.errors import ConfigurationError
from vigil_training.config import RunConfig
from vigil_training.manifest import read_gate_manifest, read_manifest
from vigil_training.split import Side, side_of_row
from vigil_training.targets import Example, chest_examples, gate_examples


@dataclass(frozen=True)
class Examples:
    """A run's examples; no patient of the chest films is on both sides."""

    train: tuple[Example, ...]
    val: tuple[Example, ...]


def load_examples(config: RunConfig, data: Path | None) -> Examples:
    """Read the manifests of a run, or generate its pictures, and split them by patient.

    Parameters
    ----------
    config
        The run.
    data
        The folder that the manifests' paths are relative to; None for generated pictures.

    Raises
    ------
    ConfigurationError
        If the run reads manifests and no folder was given, or a source that it names is not there.
    ManifestError
        If a manifest is wrong.
    """
    options = config.data
    if options.manifest is None:
        from vigil_training.generated import generated_examples

        return Examples(*generated_examples(config))
    if data is None:
        raise ConfigurationError(
            f"the run {config.name} reads {options.manifest}: name its folder with --data"
        )
    rows = read_manifest(data / options.manifest)
    present = {row.source for row in rows}
    for source in options.sources:
        if source.name not in present:
            raise ConfigurationError(
                f"the source {source.name} is not in {data / options.manifest}"
            )
    named = {source.name for source in options.sources}
    kept = [row for row in rows if row.source in named]
    sides: dict[Side, list[Example]] = {"train": [], "val": [], "test": []}
    for row, example in zip(kept, chest_examples(kept, config), strict=True):
        side = side_of_row(row, options.split_seed, options.validation_fraction)
        sides[side].append(example)
    if options.gate_manifest is not None:
        gate = read_gate_manifest(data / options.gate_manifest)
        for gate_row, example in zip(gate, gate_examples(gate, config), strict=True):
            side = side_of_row(gate_row, options.split_seed, options.validation_fraction)
            sides[side].append(example)
    return Examples(tuple(sides["train"]), tuple(sides["val"]))
