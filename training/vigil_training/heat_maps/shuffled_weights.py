"""The served graph with shuffled weights: a map that does not notice shows edges, not findings.

Adebayo et al. 2018, "Sanity Checks for Saliency Maps": weights are shuffled layer by layer from
the output towards the picture, and the maps must change.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import numpy_helper

from vigil.errors import BundleError

STAGES = (("head", 0.0), ("last quarter of the layers", 0.25), ("last half", 0.5), ("all", 1.0))
_LAYERS = frozenset({"Conv", "Gemm", "MatMul"})
_OUTPUT = "cams"


class MapNetwork:
    """A graph, as the bytes of its file, of which only class activation maps are asked."""

    def __init__(self, model: onnx.ModelProto) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        self.content: bytes = model.SerializeToString()
        self._session = onnxruntime.InferenceSession(
            self.content, options, providers=["CPUExecutionProvider"]
        )

    def maps(self, model_input: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return (findings, h, w) of a (1, 1, S, S) input."""
        (cams,) = self._session.run([_OUTPUT], {"image": model_input})
        found: NDArray[np.float32] = cams[0]
        return found


def shuffled_networks(path: Path, seed: int = 0) -> Iterator[tuple[str, MapNetwork]]:
    """Yield each of ``STAGES`` with its graph; every stage adds to the one before.

    A layer keeps its own values in another order, so that its scale stays.

    Parameters
    ----------
    path
        The bundle's ONNX file.
    seed
        Of the shuffling.

    Raises
    ------
    BundleError
        If no layer with weights leads to the maps.
    """
    model = onnx.load(path)
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    layers = _weights_of_the_maps(model, weights)
    if not layers:
        raise BundleError(f"{path}: no layer with weights leads to the output {_OUTPUT}")
    random = np.random.default_rng(seed)
    done = 0
    for stage, share in STAGES:
        upto = max(1, round(share * len(layers)))
        for name in layers[done:upto]:
            values = numpy_helper.to_array(weights[name])
            shuffled = random.permutation(values.ravel()).reshape(values.shape)
            weights[name].CopyFrom(numpy_helper.from_array(shuffled, name))
        done = max(done, upto)
        yield stage, MapNetwork(model)


def _weights_of_the_maps(model: onnx.ModelProto, weights: dict[str, onnx.TensorProto]) -> list[str]:
    """Return the names of the weights that lead to the maps, the last layer's first."""
    wanted, found = {_OUTPUT}, []
    # A graph's nodes stand in the order in which they are computed.
    for node in reversed(model.graph.node):
        if not wanted.intersection(node.output):
            continue
        wanted.update(node.input)
        if node.op_type in _LAYERS:
            found += [
                name
                for name in node.input
                if name in weights and len(weights[name].dims) > 1 and name not in found
            ]
    return found
