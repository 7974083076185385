"""From a run's best weights to a bundle: calibration, one ONNX graph, parity, ``bundle.json``."""

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vigil import RESEARCH_USE
from vigil.bundle import (
    AttributeSpec,
    BundleManifest,
    FindingSpec,
    ModelFile,
    Preprocessing,
    UnfamiliaritySpec,
    write_manifest,
)
from vigil.errors import ConfigurationError
from vigil.reference import write_reference_outputs
from vigil.triage import Priority
from vigil_training.augment import Corruption, apply_corruption
from vigil_training.calibrate import (
    EXPERIMENTAL_RULE,
    AttributePoint,
    Goals,
    Operation,
    Validation,
    attribute_point,
    background_logits,
    operate,
)
from vigil_training.config import ATTRIBUTES, STRUCTURES, Attribute, RunConfig, load_config
from vigil_training.dataset import PictureCache
from vigil_training.network import Network, make_network
from vigil_training.onnx_graph import MODEL_NAME, parity, to_onnx
from vigil_training.open_models.initial import write_run_weights
from vigil_training.picture_store import Pictures
from vigil_training.sources import load_examples
from vigil_training.unfamiliarity import Unfamiliarity, fit

OUTPUT_NAMES = ("logits", "probabilities", "cams", "embedding", "attributes")
STRUCTURES_NAME = "structures"
UNFAMILIARITY_NAME = "unfamiliarity"
_BATCH = 32
_CORRUPTED_FILMS = 300


@dataclass(frozen=True)
class Exported:
    """What an export made."""

    folder: Path
    manifest: BundleManifest
    operations: tuple[Operation, ...]
    attributes: tuple[AttributePoint, ...]
    greatest_difference: float


class _Seen(NamedTuple):
    """(n, outputs) logits and (n, C) embeddings."""

    logits: NDArray[np.float64]
    embeddings: NDArray[np.float32]


class _Chosen(NamedTuple):
    """What the validation patients chose."""

    operations: tuple[Operation, ...]
    attributes: tuple[AttributePoint, ...]
    unfamiliarity: UnfamiliaritySpec


class ServedNetwork(nn.Module):
    """The network as it is served: calibrated probabilities and maps come out of the graph."""

    def __init__(
        self,
        network: Network,
        operations: tuple[Operation, ...],
        unfamiliarity: Unfamiliarity | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.unfamiliarity = unfamiliarity
        self.findings = len(operations)
        slopes = [operation.calibration.slope for operation in operations]
        intercepts = [operation.calibration.intercept for operation in operations]
        self.register_buffer("slope", torch.tensor(slopes))
        self.register_buffer("intercept", torch.tensor(intercepts))

    @property
    def output_names(self) -> tuple[str, ...]:
        """What the graph gives, in order."""
        structures = (STRUCTURES_NAME,) if self.network.decoder else ()
        unfamiliarity = (UNFAMILIARITY_NAME,) if self.unfamiliarity else ()
        return (*OUTPUT_NAMES, *structures, *unfamiliarity)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Return the graph's outputs in the order of ``output_names``."""
        outputs, features, embedding, pyramid = self.network(image)
        logits = outputs[:, : self.findings]
        maps = self.network.maps(features, self.findings)
        probabilities = torch.sigmoid(logits * self.slope + self.intercept)
        attributes = torch.sigmoid(outputs[:, self.findings :])
        served = [logits, probabilities, maps, embedding, attributes]
        if self.network.decoder is not None:
            served.append(torch.sigmoid(self.network.structures(pyramid)))
        if self.unfamiliarity is not None:
            served.append(self.unfamiliarity(embedding))
        return tuple(served)


def export(run: Path, data: Path | None, to: Path, samples: int = 1000) -> Exported:
    """Make a bundle of a run's best weights.

    Parameters
    ----------
    run
        The run's folder, as ``vigil train`` left it.
    data
        The folder of its manifests: the validation patients calibrate the bundle.
    to
        The bundle's folder; its name is the bundle's id.
    samples
        Bootstrap samples of the intervals.

    Raises
    ------
    ConfigurationError
        If the run has no weights yet.
    BundleError
        If torch and onnxruntime differ by more than ``GREATEST_DIFFERENCE``.
    """
    if not (run / "best.pt").is_file():
        raise ConfigurationError(f"{run}: holds no best.pt: train it first, at least one epoch")
    config = load_config(run / "config.toml")
    unloaded = config.network.model_copy(update={"init": "random"})
    network = make_network(unloaded, len(config.outputs))
    network.load_state_dict(torch.load(run / "best.pt", map_location="cpu", weights_only=True))
    network.eval()
    examples = load_examples(config, data)
    cache = PictureCache(examples.val, config.network.size)
    logits, embeddings = _seen(network, cache.pictures)
    operations = _operate(config, cache, logits, samples)
    attributes = _attributes(config, network, cache, logits)
    learnt_from = PictureCache([e for e in examples.train if e.chest], config.network.size)
    chest = np.asarray([example.chest for example in cache.examples])
    unfamiliarity = fit(
        _seen(network, learnt_from.pictures)[1],
        embeddings[chest],
        [example.source for example in cache.examples if example.chest],
    )

    served = ServedNetwork(network, operations, unfamiliarity.module).eval()
    graph = to_onnx(served, served.output_names, config.network.size)
    probes = cache.pictures[:: max(1, len(cache) // 16)][:16].astype(np.float32)[:, np.newaxis]
    difference = parity(served, served.output_names, graph, probes)
    to.mkdir(parents=True, exist_ok=True)
    (to / MODEL_NAME).write_bytes(graph)
    chosen = _Chosen(operations, attributes, unfamiliarity.spec)
    weights_sha256 = write_run_weights(to, network.state_dict())
    manifest = write_manifest(to, _manifest(config, run, to.name, graph, chosen, weights_sha256))
    write_reference_outputs(to)
    return Exported(to, manifest, operations, attributes, difference)


@torch.no_grad()
def _seen(network: Network, pictures: Pictures) -> _Seen:
    """Return what a network says of (n, S, S) pictures."""
    logits, embeddings = [], []
    for start in range(0, len(pictures), _BATCH):
        part = pictures[start : start + _BATCH].astype(np.float32)[:, np.newaxis]
        images = torch.from_numpy(part).contiguous(memory_format=torch.channels_last)
        outputs = network(images)
        logits.append(outputs.logits.numpy().astype(np.float64))
        embeddings.append(outputs.embedding.numpy())
    return _Seen(np.concatenate(logits), np.concatenate(embeddings))


def _operate(
    config: RunConfig, cache: PictureCache, logits: NDArray[np.float64], samples: int
) -> tuple[Operation, ...]:
    mask = np.stack([example.mask for example in cache.examples]) > 0.5
    targets = np.stack([example.targets for example in cache.examples]) > 0.5
    patients = np.asarray([example.patient for example in cache.examples])
    sources = np.asarray([example.source for example in cache.examples])
    chest = np.asarray([example.chest for example in cache.examples])
    child = len(config.findings) + ATTRIBUTES.index("child")
    adult = chest & mask[:, child] & ~targets[:, child]
    operations = []
    for index, finding in enumerate(config.findings):
        known = mask[:, index]
        validation = Validation(
            logits[known, index], targets[known, index], patients[known], sources[known]
        )
        goals = Goals(
            target_sensitivity=finding.target_sensitivity,
            least_specificity=finding.least_specificity,
            greatest_background_share=finding.greatest_background_share,
            critical_specificity=finding.critical_specificity if finding.critical else None,
            experimental_specificity=finding.experimental_specificity,
        )
        background = background_logits(logits[:, index], known, adult, sources)
        operations.append(operate(validation, goals, samples, background))
    return tuple(operations)


def _attributes(
    config: RunConfig, network: Network, cache: PictureCache, logits: NDArray[np.float64]
) -> tuple[AttributePoint, ...]:
    """Choose the attributes' thresholds; inverted and turned films are made from the good ones."""
    first = len(config.findings)
    column = {name: first + index for index, name in enumerate(ATTRIBUTES)}
    chest = np.asarray([example.chest for example in cache.examples])
    child = np.asarray([e.targets[column["child"]] for e in cache.examples]) > 0.5
    known_age = np.asarray([e.mask[column["child"]] for e in cache.examples]) > 0.5
    view = column["anteroposterior"]
    from_the_front = np.asarray([e.targets[view] for e in cache.examples]) > 0.5
    known_view = np.asarray([e.mask[view] for e in cache.examples]) > 0.5
    films = np.flatnonzero(chest)
    films = films[np.linspace(0, films.size - 1, min(films.size, _CORRUPTED_FILMS)).astype(int)]

    def corrupted(corruption: Corruption) -> NDArray[np.float64]:
        changed = [
            apply_corruption(cache.pictures[i].astype(np.float32), cache.boxes[i], corruption)
            for i in films
        ]
        return _seen(network, np.stack(changed)).logits

    inverted = corrupted(Corruption(inverted=True))[:, column["inverted"]]
    mirrored = corrupted(Corruption(mirrored=True))[:, column["mirrored"]]
    turns = [corrupted(Corruption(quarter_turns=n)) for n in (1, 2, 3)]
    turned = [turn[:, column["rotated"]] for turn in turns]

    def seen(name: Attribute, rows: NDArray[np.bool_]) -> NDArray[np.float64]:
        chosen: NDArray[np.float64] = logits[rows, column[name]]
        return chosen

    aged, rate = chest & known_age, config.attributes.false_alarm
    adults, children = seen("child", aged & ~child), seen("child", aged & child)
    films_seen, others_seen = seen("frontal_chest", chest), seen("frontal_chest", ~chest)
    return (
        attribute_point("frontal_chest", films_seen, others_seen, config.attributes.refuse_chest),
        attribute_point("child", adults, children, rate),
        attribute_point("inverted", seen("inverted", chest), inverted, rate),
        attribute_point("rotated", seen("rotated", chest), np.concatenate(turned), rate),
        attribute_point("mirrored", seen("mirrored", chest), mirrored, rate),
        attribute_point(
            "anteroposterior",
            seen("anteroposterior", known_view & ~from_the_front),
            seen("anteroposterior", known_view & from_the_front),
            config.attributes.false_anteroposterior,
        ),
    )


def _manifest(
    config: RunConfig,
    run: Path,
    name: str,
    graph: bytes,
    chosen: _Chosen,
    weights_sha256: str,
) -> BundleManifest:
    checkpoint = torch.load(run / "checkpoint.pt", map_location="cpu", weights_only=True)
    position = checkpoint["position"]
    return BundleManifest(
        id=name,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        description=config.description,
        architecture=f"{config.network.backbone}, mean over the map, linear",
        model=ModelFile(file=MODEL_NAME, sha256=hashlib.sha256(graph).hexdigest()),
        preprocessing=Preprocessing(version=1, size=config.network.size),
        findings=tuple(
            FindingSpec(
                key=finding.key,
                label=finding.label,
                population=finding.population,
                calibration=operation.calibration,
                flag=operation.flag,
                critical=operation.critical,
                # What was not shown to see a disease must not reorder a worklist.
                priority=Priority.ROUTINE if operation.experimental else finding.priority,
                experimental=operation.experimental,
                uncertain=operation.uncertain,
            )
            for finding, operation in zip(config.findings, chosen.operations, strict=True)
        ),
        attributes=tuple(
            AttributeSpec(name=p.name, threshold=p.threshold) for p in chosen.attributes
        ),
        unfamiliarity=chosen.unfamiliarity,
        structures=STRUCTURES if config.network.structures else (),
        training={
            "run": config.name,
            "configuration_sha256": hashlib.sha256((run / "config.toml").read_bytes()).hexdigest(),
            "commit": checkpoint["commit"],
            "seed": config.seed,
            "split_seed": config.data.split_seed,
            "validation_fraction": config.data.validation_fraction,
            "sources": ", ".join(source.name for source in config.data.sources),
            "epochs": position["epoch"],
            "best_epoch": position["best_epoch"],
            "keep": config.optimisation.keep,
            "seconds": round(position["seconds"]),
            "experimental_rule": EXPERIMENTAL_RULE,
            "weights_sha256": weights_sha256,
        },
        notice=RESEARCH_USE,
    )
