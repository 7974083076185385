"""A weights file, read safely and found to be what its name says."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import safetensors.numpy
import torch
from safetensors import SafetensorError
from torch import Tensor

from vigil.errors import ConfigurationError
from vigil_training.open_models.networks import expected_shapes
from vigil_training.open_models.pickles import Array, Saved, read_pickle
from vigil_training.open_models.registry import ORDER, OpenModel

_POINTS = "op_threshs"
_COUNTER = "num_batches_tracked"


class CheckedWeights(NamedTuple):
    """Weights that fit their model.

    Attributes
    ----------
    state
        Name to tensor, in the names of :func:`.networks.build_network`; float32.
    operating_points
        Label to operating point, where the file itself carries them; else empty.
    """

    state: dict[str, Tensor]
    operating_points: dict[str, float]


def sha256_of(path: Path) -> str:
    """Return a file's SHA-256 in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_weights(path: Path) -> Saved:
    """Read a file of ``torch.save`` or of safetensors; nothing that it holds is run.

    Raises
    ------
    PickleRefusedError
        If it asks for more than weights need.
    ConfigurationError
        If it cannot be read, or is damaged or cut short.
    """
    if not _is_safetensors(path):
        return read_pickle(path)
    try:
        return Saved(None, dict(safetensors.numpy.load_file(path)))
    except (SafetensorError, OSError, ValueError) as error:
        raise ConfigurationError(f"{path}: expected a whole safetensors file: {error}") from error


def _is_safetensors(path: Path) -> bool:
    """Return whether a file begins as safetensors do: a length, then a JSON object."""
    try:
        with path.open("rb") as file:
            start = file.read(9)
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read ({error.strerror})") from error
    return start[8:] == b"{" and int.from_bytes(start[:8], "little") < 1 << 27


def check_weights(saved: Saved, model: OpenModel, where: str) -> CheckedWeights:
    """Return the weights of a model, or say what does not fit.

    Parameters
    ----------
    saved
        What was read.
    model
        What it should be.
    where
        The file, for the message.

    Raises
    ------
    ConfigurationError
        If a weight is missing, is of another shape, is not finite, or is one too many.
    """
    arrays = dict(saved.arrays)
    points = arrays.pop(_POINTS, None)
    if model.architecture == "resnet50" and all(name.startswith("model.") for name in arrays):
        # torchxrayvision's ResNet keeps torchvision's under this name.
        arrays = {name.removeprefix("model."): value for name, value in arrays.items()}
    _check_shapes(arrays, model, f"{where}: expected {model.name}", saved.origin)
    state = {name: _as_tensor(name, value, where) for name, value in arrays.items()}
    for name in expected_shapes(model.architecture):
        # torch before 0.4.1 did not count batches; nothing that is served depends on it.
        state.setdefault(name, torch.zeros((), dtype=torch.long))
    return CheckedWeights(state, {} if points is None else _points(points, model, where))


def _check_shapes(
    arrays: Mapping[str, Array], model: OpenModel, expected: str, origin: str | None
) -> None:
    shapes = expected_shapes(model.architecture)
    found = f"found {origin or 'a state dictionary'} with"
    for name, shape in shapes.items():
        if name.endswith(_COUNTER) and name not in arrays:
            continue
        if name not in arrays:
            raise ConfigurationError(
                f"{expected} ({model.architecture}) with {name} {shape}, {found}out it"
            )
        if arrays[name].shape != shape:
            raise ConfigurationError(
                f"{expected} ({model.architecture}) with {name} {shape}, "
                f"{found} {name} {arrays[name].shape}"
            )
    if extra := sorted(set(arrays) - set(shapes)):
        raise ConfigurationError(
            f"{expected} ({model.architecture}) with {len(shapes)} tensors, "
            f"{found} {len(extra)} more, such as {extra[0]}"
        )


def _as_tensor(name: str, value: Array, where: str) -> Tensor:
    if name.endswith(_COUNTER):
        return torch.from_numpy(np.array(value, np.int64))
    if not np.issubdtype(value.dtype, np.floating):
        raise ConfigurationError(f"{where}: {name} is {value.dtype}, expected floating point")
    values = np.array(value, np.float32)
    if not np.isfinite(values).all():
        raise ConfigurationError(f"{where}: {name} holds a value that is not finite")
    if name.endswith("running_var") and (values < 0).any():
        raise ConfigurationError(f"{where}: {name} holds a negative variance")
    return torch.from_numpy(values)


def _points(points: Array, model: OpenModel, where: str) -> dict[str, float]:
    """Return the file's own operating points of the labels that were trained."""
    if points.shape != (len(ORDER),):
        raise ConfigurationError(
            f"{where}: expected {len(ORDER)} operating points, found {points.shape}"
        )
    values = {label: float(point) for label, point in zip(ORDER, points, strict=True)}
    known = {label: values[label] for label in model.labels if not np.isnan(values[label])}
    if not all(0 < point < 1 for point in known.values()):
        raise ConfigurationError(f"{where}: expected operating points between 0 and 1")
    return known


def to_safetensors(weights: CheckedWeights) -> bytes:
    """Return the file in which weights are kept: the same for the same weights."""
    arrays = {name: value.contiguous().numpy() for name, value in weights.state.items()}
    if weights.operating_points:
        points = [weights.operating_points.get(label, np.nan) for label in ORDER]
        arrays[_POINTS] = np.array(points, np.float32)
    return safetensors.numpy.save(dict(sorted(arrays.items())))
